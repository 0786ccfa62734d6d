"""What denormal numbers in the state cost a step of Adam, and what setting them to 0 saves.

    python benchmarks/adam_denormals.py --run RUN --rounds 40     # the state of a run's newest checkpoint
    python benchmarks/adam_denormals.py --share 0.1               # so many rows of the Nature network's dense layer

The mean gradient of a weight without gradient shrinks until it is a denormal number that rounding keeps. States are
stepped in turn, with gradients of 0 where the mean gradient is 0 or denormal: ``kept`` (denormal numbers stay, as
torch's kernel alone does), ``flushed`` (what `frugalrl.algos.adam` does) and ``none`` (no denormal numbers at the
start; new ones appear). Then ``torch.optim.Adam`` as other libraries use it, with and without them. A figure is the
median of its CPU-milliseconds with one thread. The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path

os.environ["OMP_WAIT_POLICY"] = "passive"  # must be set before the OpenMP runtime is loaded
os.environ["OMP_NUM_THREADS"] = "1"

import torch
from safetensors.torch import load_file
from side_by_side import machine
from torch import Tensor

from frugalrl.algos.adam import fused_step

SMALLEST = torch.finfo(torch.float32).smallest_normal


def of_run(run: Path) -> list[Tensor]:
    """The mean gradients in the newest checkpoint."""
    newest = max((run / "checkpoints").glob("*/arrays.safetensors"))
    return [x for name, x in sorted(load_file(newest).items()) if name.endswith("/exp_avg")]


def of_share(share: float) -> list[Tensor]:
    """Those of a dense layer of 3136 x 512 where this share of the units gets no gradient any more."""
    mean = torch.randn(512, 3136, generator=torch.Generator().manual_seed(0)) * 1e-4
    mean[: round(512 * share)] = 5e-45
    return [mean]


def others_adam(state: tuple[list[Tensor], dict[str, list[Tensor]]], gradients: list[Tensor]) -> torch.optim.Adam:
    """torch's own with its default settings, from this state."""
    parameters = [x.clone().requires_grad_() for x in state[0]]
    optimizer = torch.optim.Adam(parameters, lr=1e-4, eps=1.5e-4)
    for i, (parameter, gradient) in enumerate(zip(parameters, gradients, strict=True)):
        parameter.grad = gradient.clone()
        optimizer.state[parameter] = {name: tensors[i].clone() for name, tensors in state[1].items()}
    return optimizer


def denormal(x: Tensor) -> Tensor:
    return (x != 0) & (x.abs() < SMALLEST)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path)
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--rounds", type=int, default=40)
    args = parser.parse_args()
    torch.set_num_threads(1)
    means = of_share(args.share) if args.run is None else of_run(args.run)
    gradients = [torch.where(x.abs() < SMALLEST, 0.0, x) for x in means]
    states = {
        name: (
            [torch.full_like(x, 0.02) for x in means],
            {
                "step": [torch.tensor(50_000.0) for _ in means],
                "exp_avg": [torch.where(denormal(x), 0.0, x) if name == "none" else x.clone() for x in means],
                "exp_avg_sq": [x.square() for x in gradients],
            },
        )
        for name in ("kept", "flushed", "none")
    }
    others = {name: others_adam(states[of], gradients) for name, of in (("optim", "kept"), ("optim, none", "none"))}
    ms: dict[str, list[float]] = {name: [] for name in (*states, *others)}
    for _ in range(args.rounds):
        for name, (parameters, state) in states.items():
            start = time.thread_time()
            if name == "flushed":
                fused_step(parameters, gradients, state, lr=1e-4, eps=1.5e-4)
            else:
                torch._foreach_add_(state["step"], 1)
                torch._fused_adam_(
                    parameters, gradients, state["exp_avg"], state["exp_avg_sq"], [], state["step"], lr=1e-4, beta1=0.9,
                    beta2=0.999, weight_decay=0.0, eps=1.5e-4, amsgrad=False, maximize=False,
                )  # fmt: skip
            ms[name].append((time.thread_time() - start) * 1e3)
        for name, optimizer in others.items():
            start = time.thread_time()
            optimizer.step()
            ms[name].append((time.thread_time() - start) * 1e3)
    count = sum(x.numel() for x in means)
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "weights": count,
        "denormal_share": round(sum(int(denormal(x).sum()) for x in means) / count, 4),
        "cpu_ms": {name: round(statistics.median(values), 3) for name, values in ms.items()},
        "same_weights": all(map(torch.equal, states["kept"][0], states["flushed"][0])),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
