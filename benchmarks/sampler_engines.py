"""Transforms and engines of a sampler: CPU time of a forward pass and of a sync, and how far their policy is off.

    python benchmarks/sampler_engines.py --rounds 11 --out evidence/bench/sampler-engines.json

One thread. All ways are measured in turn, round after round, by the CPU time of the thread, so that what else runs on
the machine meets all of them; a ratio is the median over rounds of own time by that of torch fp32 in the same round,
with the interval that covers the median with 95 % (order statistics). The logits are scaled to a standard deviation of
2, as those of a policy that has learned something: an untrained one is nearly uniform, and hides what rounding does.

A network with an LSTM is measured from the same state in all ways; for the mismatch each way carries its own state
through the same observations, last actions and rewards. "torch fp32, nn.LSTM" is the same step by ``nn.LSTM``, which
PyTorch computes by oneDNN on a CPU, in place of ``torch.lstm_cell``.
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
    "64-256-lstm256": ((64,), NetConfig(hidden_units=(256,), lstm_units=256)),
    "nature-lstm512": ((4, 84, 84), NetConfig(hidden_units=(512,), lstm_units=512)),
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
MISMATCH_STEPS = 20
"""Steps of a memory, of which the last is compared."""
FUSED = "torch fp32, nn.LSTM"
INPUTS = "onnx, weights as inputs"


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
        state = {n: torch.from_numpy(x) for n, x in remembered(net, 256, rng).items()}
        out = net.step(torch.from_numpy(observations(spec, 256, rng)), state)[0][:, :ACTIONS]
        last = net.out if net.recurrent else net[-1]
        last.weight[:ACTIONS] *= 2.0 / (out - out.mean(1, keepdim=True)).std()
    return net, spec


def remembered(net: Any, rows: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """A state in the middle of an episode; empty for a network without memory."""
    state = {name: x.numpy() for name, x in net.initial_state(rows).items()}
    for name in ("h", "c"):
        if name in state:
            state[name] = (0.3 * rng.standard_normal(state[name].shape)).astype(np.float32)
    if state:
        state |= happened(rows, rng)
    return state


def happened(rows: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    reward = rng.standard_normal(rows, dtype=np.float32)
    return {"action_tm1": rng.integers(0, ACTIONS, rows), "reward_tm1": reward}


class Fused:
    """A recurrent policy of PyTorch whose step is a sequence of one for ``nn.LSTM``."""

    def __init__(self, net: Any) -> None:
        self._net = net

    def values(self, obs: np.ndarray, state: dict[str, np.ndarray]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        with torch.inference_mode():
            at = {name: torch.from_numpy(x) for name, x in state.items()}
            hot = torch.nn.functional.one_hot(at["action_tm1"] + 1, ACTIONS + 1)[..., 1:]
            x = torch.cat([self._net.body(torch.from_numpy(obs)), at["reward_tm1"].unsqueeze(-1), hot.float()], -1)
            y, (h, c) = self._net.core.lstm(x[None], (at["h"][None], at["c"][None]))
            return self._net.out(y[0])[..., :-1].numpy(), {**state, "h": h[0].numpy(), "c": c[0].numpy()}


def members(name: str, net: Any, spec: EnvSpec) -> dict[str, Member]:
    made = {}
    for label, transform, engine in WAYS:
        plan = parse(transform)
        policy: Any
        if engine == "torch":
            policy = SequencePolicy(
                lambda: build_actor_critic(spec, NETS[name][1]), PolicyValue(), torch.device("cpu"),
                plan.compute_name or "fp32", share=False,
            )  # fmt: skip
        else:
            policy = EnginePolicy(OnnxRuntime(net, spec, int8=engine == "onnx-int8"), PolicyValue())
        made[label] = Member(plan, policy, net, seed=0, engine=engine)
    return made


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


def fed(net: Any, spec: EnvSpec) -> Callable[[np.ndarray, dict[str, np.ndarray]], Any]:
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
    outputs = [out.name for out in graph.model.graph.output]
    return lambda obs, state: session.run(outputs, {"obs": obs, **state, **values})


def at_the_end(policy: Any, seen: list[np.ndarray], said: list[dict[str, np.ndarray]]) -> np.ndarray:
    """Logits at the last of these observations, with the policy's own memory of those before."""
    state = policy.initial_state(len(seen[0]))
    for obs, between in zip(seen, said, strict=True):
        values, state = policy.values(obs, {**state, **between} if state else {})
    return np.asarray(values, np.float64)


def measure(name: str, rounds: int, at_least_s: float) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    net, spec = network(name, rng)
    ways = members(name, net, spec)
    published = {n: p.detach() for n, p in net.named_parameters()}
    for member in ways.values():
        member.load(PolicySnapshot(0, published))
    obs = {rows: observations(spec, rows, rng) for rows in BATCHES}
    states = {rows: remembered(net, rows, rng) for rows in BATCHES}
    calls: dict[str, Callable[..., Any]] = {label: member.policy.values for label, member in ways.items()}
    calls |= {FUSED: Fused(net).values} if net.recurrent else {}
    calls[INPUTS] = fed(net, spec)
    times: dict[str, dict[str, list[float]]] = {label: {} for label in calls}
    moved: dict[str, int] = {}
    for turn in range(rounds):
        for rows in BATCHES:
            for label, call in calls.items():
                us = thread_us(lambda f=call, r=rows: f(obs[r], states[r]), at_least_s)
                times[label].setdefault(f"batch {rows}", []).append(us)
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
    steps = MISMATCH_STEPS if net.recurrent else 1
    many = [observations(spec, MISMATCH_ROWS, rng) for _ in range(steps)]
    said = [happened(MISMATCH_ROWS, rng) for _ in range(steps)]
    logits = {label: at_the_end(m.policy, many, said) for label, m in ways.items()}
    found: dict[str, Any] = {"parameters": sum(p.numel() for p in net.parameters()), "ways": {}}
    for label, of in times.items():
        row: dict[str, Any] = {}
        for what, values in of.items():
            row[what] = {"median_us": float(np.median(values))}
            if what in times["torch fp32"]:
                row[what]["ratio"] = median_with_interval(
                    [a / b for a, b in zip(values, times["torch fp32"][what], strict=True)]
                )
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
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
