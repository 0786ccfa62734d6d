"""What denormal numbers in the state cost a step of Adam, and what setting them to 0 saves.

    python benchmarks/adam_denormals.py --run RUN --rounds 40     # the state of a run's newest checkpoint
    python benchmarks/adam_denormals.py --share 0.1               # so many rows of the Nature network's dense layer

The mean gradient of a weight without gradient shrinks until it is a denormal number that rounding keeps. Two states
are stepped in turn, by torch's fused kernel and by ``torch.optim.Adam`` at its defaults, as other libraries use it:
``kept``, the state as it is, and ``cleared``, the same after `frugalrl.algos.adam.clear_denormals`. Gradients are the
mean gradients, 0 where those are denormal; before each step the state is put back. A figure is the median of its
CPU-milliseconds with one thread. The last line of the output is one JSON object.
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

from frugalrl.algos.adam import clear_denormals

SMALLEST = torch.finfo(torch.float32).smallest_normal


def of_run(run: Path) -> tuple[list[Tensor], list[Tensor]]:
    """The mean gradients and mean squares in the newest checkpoint."""
    newest = load_file(max((run / "checkpoints").glob("*/arrays.safetensors")))
    names = sorted(name for name in newest if name.endswith("/exp_avg"))
    return [newest[name] for name in names], [newest[f"{name}_sq"] for name in names]


def of_share(share: float) -> tuple[list[Tensor], list[Tensor]]:
    """Those of a dense layer of 3136 x 512 where this share of the units gets no gradient any more."""
    mean = torch.randn(512, 3136, generator=torch.Generator().manual_seed(0)) * 1e-4
    square = mean.square()
    mean[: round(512 * share)] = 5e-45
    return [mean], [square]


def denormal(x: Tensor) -> Tensor:
    return (x != 0) & (x.abs() < SMALLEST)


class Case:
    """A state that is stepped again and again from the same numbers."""

    def __init__(self, means: list[Tensor], squares: list[Tensor], *, fused: bool, cleared: bool) -> None:
        self._means, self._squares = [x.clone() for x in means], [x.clone() for x in squares]
        if cleared:
            for x in (*self._means, *self._squares):
                clear_denormals(x)
        self._parameters = [torch.full_like(x, 0.02).requires_grad_() for x in means]
        self._optimizer = torch.optim.Adam(self._parameters, lr=1e-4, eps=1.5e-4, fused=fused or None)
        for parameter, mean in zip(self._parameters, means, strict=True):
            parameter.grad = torch.where(denormal(mean), 0.0, mean)
        self._optimizer.step()  # makes the state
        self.ms: list[float] = []

    def step(self) -> list[Tensor]:
        """One timed step; the weights after it."""
        for parameter, mean, square in zip(self._parameters, self._means, self._squares, strict=True):
            state = self._optimizer.state[parameter]
            state["step"].fill_(24_750.0)
            state["exp_avg"].copy_(mean)
            state["exp_avg_sq"].copy_(square)
            parameter.data.fill_(0.02)
        start = time.thread_time()
        self._optimizer.step()
        self.ms.append((time.thread_time() - start) * 1e3)
        return [p.detach().clone() for p in self._parameters]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path)
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--rounds", type=int, default=40)
    args = parser.parse_args()
    torch.set_num_threads(1)
    means, squares = of_share(args.share) if args.run is None else of_run(args.run)
    cases = {
        f"{kernel}, {'cleared' if cleared else 'kept'}": Case(means, squares, fused=fused, cleared=cleared)
        for kernel, fused in (("fused", True), ("torch.optim.Adam", False))
        for cleared in (False, True)
    }
    for _ in range(args.rounds):
        after = {name: case.step() for name, case in cases.items()}
    count = sum(x.numel() for x in means)
    small = torch.cat([denormal(x).flatten() for x in means])
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "weights": count,
        "denormal_share": round(float(small.float().mean()), 4),
        "share_of_16_with_one": round(float(small[: count // 16 * 16].view(-1, 16).any(1).float().mean()), 4),
        "cpu_ms": {name: round(statistics.median(case.ms), 3) for name, case in cases.items()},
        "same_weights": all(map(torch.equal, after["fused, kept"], after["fused, cleared"])),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
