"""Transforms and engines of a sampler: CPU time of a forward pass and of a sync, and how far their policy is off.

    python benchmarks/sampler_engines.py --rounds 11 --out evidence/bench/sampler-engines.json

One thread. All ways are measured in turn, round after round, by the CPU time of the thread, so that what else runs on
the machine meets all of them; a ratio is the median over rounds of own time by that of torch fp32 in the same round,
with the interval that covers the median with 95 % (order statistics). The logits are scaled to a standard deviation of
2, as those of a policy that has learned something: an untrained one is nearly uniform, and hides what rounding does.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_WAIT_POLICY"] = "passive"
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
from scipy.stats import binom
from side_by_side import machine

from frugalrl.nets.actor_critic import build_actor_critic
from frugalrl.nets.config import NetConfig
from frugalrl.nets.heads import PolicyValue
from frugalrl.policies.engines.onnx_graph import graph_of
from frugalrl.policies.engines.onnx_runtime import OnnxRuntime, quantized
from frugalrl.policies.engines.policy import EnginePolicy
from frugalrl.policies.sampler_policy import Member
from frugalrl.policies.sequence import SequencePolicy
from frugalrl.policies.transforms import parse
from frugalrl.types import EnvSpec, PolicySnapshot

ACTIONS = 6
NETS: dict[str, tuple[tuple[int, ...], NetConfig]] = {
    "64-512-512": ((64,), NetConfig(hidden_units=(512, 512))),
    "512-2048-512": ((512,), NetConfig(hidden_units=(2048, 512))),
    "nature": ((4, 84, 84), NetConfig(hidden_units=(512,))),
}
WAYS = (
    ("torch fp32", "none", "torch"),
    ("bf16", "bf16", "torch"),
    ("int8-dynamic", "int8-dynamic", "torch"),
    ("int8-weight", "int8-weight", "torch"),
    ("int4", "int4", "torch"),
    ("onnx", "none", "onnx"),
    ("onnx-int8", "none", "onnx-int8"),
)
BATCHES = (1, 16, 64)
MISMATCH_ROWS = 512


def spec_of(shape: tuple[int, ...]) -> EnvSpec:
    image = len(shape) == 3
    return EnvSpec(
        id="random", protocol="none", obs_kind="image" if image else "vector", obs_shape=shape,
        obs_dtype="uint8" if image else "float32", num_actions=ACTIONS,
    )  # fmt: skip


def observations(spec: EnvSpec, rows: int, rng: np.random.Generator) -> np.ndarray:
    if spec.obs_kind == "vector":
        return rng.standard_normal((rows, *spec.obs_shape), dtype=np.float32)
    coarse = rng.integers(0, 256, (rows, spec.obs_shape[0], 12, 12), dtype=np.uint8)  # patches, as of a game's screen
    return np.ascontiguousarray(coarse.repeat(7, 2).repeat(7, 3))


def network(name: str, rng: np.random.Generator) -> tuple[Any, EnvSpec]:
    shape, config = NETS[name]
    spec = spec_of(shape)
    torch.manual_seed(0)
    net: Any = build_actor_critic(spec, config).eval()
    with torch.no_grad():
        out = net(torch.from_numpy(observations(spec, 256, rng)))[:, :ACTIONS]
        net[-1].weight[:ACTIONS] *= 2.0 / (out - out.mean(1, keepdim=True)).std()
    return net, spec


def members(net: Any, spec: EnvSpec) -> dict[str, Member]:
    made = {}
    for label, transform, engine in WAYS:
        plan = parse(transform)
        config = next(c for s, c in NETS.values() if s == spec.obs_shape and len(c.hidden_units) == len(hidden(net)))
        policy: Any
        if engine == "torch":
            policy = SequencePolicy(
                lambda c=config: build_actor_critic(spec, c), PolicyValue(), torch.device("cpu"),
                plan.compute_name or "fp32", share=False,
            )  # fmt: skip
        else:
            policy = EnginePolicy(OnnxRuntime(net, spec, int8=engine == "onnx-int8"), PolicyValue())
        made[label] = Member(plan, policy, net, seed=0, engine=engine)
    return made


def hidden(net: Any) -> list[int]:
    return [m.out_features for m in net if isinstance(m, torch.nn.Linear)][:-1]


def thread_us(work: Callable[[], Any], at_least_s: float) -> float:
    """CPU microseconds of one call, repeated until it took so long."""
    calls, start = 0, time.thread_time()
    while (spent := time.thread_time() - start) < at_least_s or calls < 2:
        work()
        calls += 1
    return spent / calls * 1e6


def median_with_interval(values: list[float]) -> tuple[float, float, float]:
    ordered = sorted(values)
    k = int(binom.ppf(0.025, len(ordered), 0.5))
    return float(np.median(ordered)), ordered[max(k - 1, 0)], ordered[min(len(ordered) - k, len(ordered) - 1)]


def mismatch(fp32: np.ndarray, own: np.ndarray, rng: np.random.Generator) -> dict[str, float]:
    """pi: fp32, mu: the way's own; actions are drawn from mu."""
    log_pi, log_mu = (z - np.log(np.exp(z).sum(1, keepdims=True)) for z in (fp32.astype(float), own.astype(float)))
    difference = np.abs(np.exp(log_pi) - np.exp(log_mu))
    draws = rng.random((len(fp32), 64, 1))
    actions = (np.exp(log_mu).cumsum(1)[:, None, :-1] < draws).sum(-1)
    log_ratio = np.take_along_axis(log_pi - log_mu, actions, 1).ravel()
    ratio = np.exp(log_ratio)
    return {
        "max_dp": difference.max(), "mean_dp": difference.mean(), "k1": -log_ratio.mean(),
        "k3": (ratio - 1 - log_ratio).mean(), "p1": np.quantile(ratio, 0.01), "p99": np.quantile(ratio, 0.99),
        "other_argmax": (fp32.argmax(1) != own.argmax(1)).mean(),
    }  # fmt: skip


def fed(net: Any, spec: EnvSpec) -> Callable[[np.ndarray], Any]:
    """ONNX Runtime with weights as inputs of the graph, in place of initializers: a sync would cost nothing."""
    import onnxruntime
    from onnx import helper

    shape = spec.obs_shape
    graph = graph_of(net, shape, spec.obs_dtype if len(shape) == 3 else "")
    values = graph.values(dict(net.named_parameters()))
    kept = [i for i in graph.model.graph.initializer if i.name not in values]
    del graph.model.graph.initializer[:]
    graph.model.graph.initializer.extend(kept)
    for name, value in values.items():
        graph.model.graph.input.append(helper.make_tensor_value_info(name, 1, value.shape))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph.model.SerializeToString(), options)
    return lambda obs: session.run(["out"], {"obs": obs, **values})


def measure(name: str, rounds: int, at_least_s: float) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    net, spec = network(name, rng)
    ways = members(net, spec)
    published = {n: p.detach() for n, p in net.named_parameters()}
    for member in ways.values():
        member.load(PolicySnapshot(0, published))
    inputs = fed(net, spec)
    obs = {rows: observations(spec, rows, rng) for rows in BATCHES}
    times: dict[str, dict[str, list[float]]] = {label: {} for label in (*ways, "onnx, weights as inputs")}
    moved: dict[str, int] = {}
    for turn in range(rounds):
        for rows in BATCHES:
            for label, member in ways.items():
                us = thread_us(lambda m=member, r=rows: m.policy.values(obs[r], {}), at_least_s)
                times[label].setdefault(f"batch {rows}", []).append(us)
            us = thread_us(lambda r=rows: inputs(obs[r]), at_least_s)
            times["onnx, weights as inputs"].setdefault(f"batch {rows}", []).append(us)
        for label, member in ways.items():
            start = time.thread_time()
            moved[label] = member.load(PolicySnapshot(turn + 1, published))
            times[label].setdefault("sync", []).append((time.thread_time() - start) * 1e6)
        if turn < 3:
            start = time.thread_time()
            quantized(graph_of(net, spec.obs_shape, spec.obs_dtype if len(spec.obs_shape) == 3 else ""))
            times["onnx-int8"].setdefault("graph and quantize_dynamic anew", []).append(
                (time.thread_time() - start) * 1e6
            )
    many = observations(spec, MISMATCH_ROWS, rng)
    logits = {label: np.asarray(m.policy.values(many, {})[0], np.float64) for label, m in ways.items()}
    found: dict[str, Any] = {"parameters": sum(p.numel() for p in net.parameters()), "ways": {}}
    for label, of in times.items():
        row: dict[str, Any] = {}
        for what, values in of.items():
            row[what] = {"median_us": float(np.median(values))}
            if what in times["torch fp32"]:
                base = times["torch fp32"][what]
                row[what]["ratio"] = median_with_interval([a / b for a, b in zip(values, base, strict=True)])
        if label in logits:
            row["sync_bytes"] = moved[label]
            row["mismatch"] = mismatch(logits["torch fp32"], logits[label], np.random.default_rng(1))
        found["ways"][label] = row
    return found


def tables(results: dict[str, Any]) -> str:
    lines = []
    for name, found in results["nets"].items():
        lines += [
            f"\n{name} ({found['parameters']:,} parameters)\n",
            "| way | batch 1: us | by fp32 | batch 16: us | by fp32 | batch 64: us | by fp32 | sync: ms | sync: MB |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for label, row in found["ways"].items():
            cells = []
            for rows in BATCHES:
                at = row[f"batch {rows}"]
                mid, low, high = at["ratio"]
                cells += [f"{at['median_us']:,.0f}", f"{mid:.2f} [{low:.2f}, {high:.2f}]"]
            sync = f"{row['sync']['median_us'] / 1e3:.2f}" if "sync" in row else "-"
            size = f"{row['sync_bytes'] / 1e6:.1f}" if "sync_bytes" in row else "-"
            lines.append(f"| {label} | {' | '.join(cells)} | {sync} | {size} |")
        lines += [
            "", "| way | max dp | mean dp | k1 | k3 | ratio p1 / p99 | other argmax |", "|---|---|---|---|---|---|---|",
        ]  # fmt: skip
        for label, row in found["ways"].items():
            if "mismatch" in row:
                m = row["mismatch"]
                lines.append(
                    f"| {label} | {m['max_dp']:.2g} | {m['mean_dp']:.2g} | {m['k1']:.1e} | {m['k3']:.1e} | "
                    f"{m['p1']:.3f} / {m['p99']:.3f} | {100 * m['other_argmax']:.1f} % |"
                )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--at-least-ms", type=float, default=20.0, help="CPU time of one measurement")
    parser.add_argument("--nets", nargs="+", default=list(NETS), choices=list(NETS))
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    results = {
        "machine": machine(),
        "rounds": args.rounds,
        "nets": {name: measure(name, args.rounds, args.at_least_ms / 1e3) for name in args.nets},
    }
    print(tables(results))
    if args.out:
        args.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
