"""vLLM beside our own sampler of language models: building, pushing weights, tokens per second, and the mismatch.

    python benchmarks/vllm_engine.py --out evidence/vllm/engine.json [--rounds 5]

One thread each, the two engines in turn; speeds are per CPU-second, which other jobs on the machine change least. The
model has random weights; ``--init-std`` says how peaked its distributions are. The mismatch is that of the engine's
log-probabilities against the fp32 learner's full forward pass, on the engine's own tokens, over all rounds. For int8
the weights have 7 bits on an x86 processor without VNNI, and the line ``int8-full`` shows what 8 bits do there.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from frugalrl.nets.config import TokenNetConfig
from frugalrl.nets.token_model import TokenModel, build_token_model
from frugalrl.policies.tokens import TokenPolicy, log_policy, log_probs
from frugalrl.sampling.vllm.engine import VllmEngine
from frugalrl.sampling.vllm.find import find_python
from frugalrl.types import PolicySnapshot

VOCAB = 128


def build(args: argparse.Namespace) -> TokenModel:
    torch.manual_seed(0)
    net = TokenNetConfig(
        layers=args.layers, width=args.width, heads=args.width // 32, mlp_width=2 * args.width, init_std=args.init_std
    )
    return build_token_model(net, vocabulary=VOCAB, longest=args.prompt + args.response)


def own_sampler(args: argparse.Namespace, model: TokenModel) -> TokenPolicy:
    policy = TokenPolicy(
        lambda: build(args), torch.device("cpu"), prompt_tokens=args.prompt, response_tokens=args.response, end=None,
        temperature=1.0, seed=0,
    )  # fmt: skip
    policy.load(PolicySnapshot(version=0, parameters=dict(model.named_parameters())))
    return policy


def measure(args: argparse.Namespace, name: str, python: Path) -> dict[str, Any]:
    """One engine beside our own sampler."""
    model = build(args)
    weights, config = dict(model.lm.named_parameters()), model.lm.config.to_dict()
    own, full = own_sampler(args, model), name == "int8-full"
    engine = VllmEngine(python, "int8" if full else name, max_length=args.prompt + args.response)
    if full:
        engine._levels = 127
    rng, result = np.random.default_rng(0), {"engine": name, "parameters": sum(w.numel() for w in weights.values())}
    try:
        engine.load(config, weights)
        result |= {"start_s": engine.last_load_s, "build_s": engine.build_s}
        started = engine.take_costs()["startup"].cpu_s
        theirs_s, ours_s, pairs, walls_s = [], [], [], []
        for turn in range(args.rounds + 1):
            prompts = rng.integers(VOCAB, size=(args.rows, args.prompt))
            began_s = time.perf_counter()
            done = engine.generate(
                prompts, np.full(args.rows, args.prompt), turn * args.rows + np.arange(args.rows),
                max_tokens=args.response,
            )  # fmt: skip
            walls_s.append(time.perf_counter() - began_s)
            theirs_s.append(engine.take_costs()["inference"].cpu_s)
            began_s = time.process_time()
            own.generate(prompts, turn * args.rows)
            ours_s.append(time.process_time() - began_s)
            with torch.no_grad():
                response = torch.as_tensor(done.tokens)
                log_pi = log_probs(log_policy(model, torch.as_tensor(prompts), response, 1.0), response)
            pairs.append((log_pi.numpy(), done.log_mu))
        pushes_s, pushes_cpu_s = [], []
        for _ in range(args.pushes):
            began_s = time.process_time()
            engine.load(config, weights)
            pushes_s.append(engine.last_load_s)
            spent = sum(cost.cpu_s for cost in engine.take_costs().values())
            pushes_cpu_s.append(time.process_time() - began_s + spent)
    finally:
        engine.close()
    tokens = args.rows * args.response
    return result | {
        "startup_cpu_s": started,
        "first_call_s": walls_s[0],
        "first_call_cpu_s": theirs_s[0],
        "tokens_per_cpu_s": tokens / statistics.median(theirs_s[1:]),
        "own_tokens_per_cpu_s": tokens / statistics.median(ours_s[1:]),
        "speedup": statistics.median(b / a for a, b in zip(theirs_s[1:], ours_s[1:], strict=True)),
        "push_s": statistics.median(pushes_s),
        "push_cpu_s": statistics.median(pushes_cpu_s),
        "mismatch": mismatch(pairs),
    }


def mismatch(pairs: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    log_pi, log_mu = (np.concatenate(side).astype(np.float64) for side in zip(*pairs, strict=True))
    d = log_pi - log_mu
    p, ratio, whole = np.abs(np.exp(log_pi) - np.exp(log_mu)), np.exp(d), np.exp(d.sum(1))
    return {
        "max_prob": p.max(), "mean_prob": p.mean(), "k1": -d.mean(), "k3": (ratio - 1 - d).mean(),
        "ratio_min": ratio.min(), "ratio_max": ratio.max(), "sequence_min": whole.min(), "sequence_max": whole.max(),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--engines", nargs="+", default=["fp32", "bf16", "int8", "int8-full"])
    for name, value in (("rows", 64), ("prompt", 12), ("response", 64), ("layers", 3), ("width", 128), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--pushes", type=int, default=3)
    parser.add_argument("--init-std", type=float, default=0.06)
    parser.add_argument("--python", default=None, help="vLLM's interpreter; .venvs/vllm/bin/python if left out")
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = [measure(args, name, find_python(args.python)) for name in args.engines]
    settings = {name: value for name, value in vars(args).items() if name not in ("out", "python")}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    partial = args.out.with_suffix(".part")
    partial.write_text(json.dumps({"settings": settings, "engines": found}, indent=1) + "\n", encoding="utf-8")
    partial.replace(args.out)
    for one in found:
        m = one["mismatch"]
        print(
            f"{one['engine']:9s} start {one['start_s']:.1f} s ({one['startup_cpu_s']:.1f} CPU-s), "
            f"first call {one['first_call_s']:.1f} s ({one['first_call_cpu_s']:.1f}), "
            f"{one['tokens_per_cpu_s']:,.0f} tokens per CPU-s (own {one['own_tokens_per_cpu_s']:,.0f}), "
            f"push {one['push_s']:.3f} s ({one['push_cpu_s']:.3f}); "
            f"max dp {m['max_prob']:.1e}, mean {m['mean_prob']:.1e}, k1 {m['k1']:.1e}, k3 {m['k3']:.1e}, "
            f"ratio {m['ratio_min']:.4f}-{m['ratio_max']:.4f}, "
            f"sequence {m['sequence_min']:.3f}-{m['sequence_max']:.3f}"
        )


if __name__ == "__main__":
    main()
