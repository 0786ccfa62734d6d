#!/usr/bin/env python3
"""What the engine and its in-process transport cost beside the work itself, in CPU-seconds of one run.

    python benchmarks/engine_overhead.py --repeats 5 --out evidence/bench/engine-overhead.json

On a quiet machine: beside other jobs the figures scatter by more than what is measured.

The work alone: environments stepped by one loop, a forward pass, a row stored, each timed by itself over the same
number of group steps. Then the same work through `BackgroundSampler` with threads, unrolls thrown away by the main
thread. Both are repeated in turn, so that a machine that slows down slows down both. Overhead = whole / (step + forward
+ record) - 1: choosing actions, draws, queues, clocks and the copy of complete unrolls are all overhead.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

os.environ["OMP_WAIT_POLICY"] = "passive"  # must be set before the OpenMP runtime is loaded
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch

from frugalrl.cost.meters import LapTimer, NativeThreads
from frugalrl.envs import RowEnv, default_protocol, make_env, named_protocol
from frugalrl.math.explore import EXPLORERS
from frugalrl.math.schedules import Schedule
from frugalrl.nets.config import NetConfig
from frugalrl.nets.q_network import build_q_network
from frugalrl.policies.value import ValuePolicy
from frugalrl.replay.unrolls import UnrollStore
from frugalrl.sampling.background import BackgroundSampler
from frugalrl.sampling.config import SamplerConfig
from frugalrl.sampling.exploration import ExploreConfig
from frugalrl.sampling.threads import ThreadTransport
from frugalrl.types import Cost, EnvSpec, PolicySnapshot

UNROLL = 20
CASES: dict[str, dict[str, Any]] = {
    "ALE/Pong-v5, 2 groups x 16": {"env": "ALE/Pong-v5", "groups": (16, 16), "steps": 400},
    "CartPole-v1, 2 groups x 32": {"env": "CartPole-v1", "groups": (32, 32), "steps": 6000},
    "CartPole-v1, 1 group x 64": {"env": "CartPole-v1", "groups": (64,), "steps": 3000},
}


def rows_of(env_id: str, first_row: int, num_rows: int) -> RowEnv:
    return make_env(
        env_id,
        protocol=named_protocol(default_protocol(env_id)),
        num_rows=num_rows,
        seed=1,
        training=True,
        first_row=first_row,
    )


def policy_for(spec: EnvSpec) -> tuple[ValuePolicy, PolicySnapshot]:
    def build() -> Any:
        return build_q_network(spec, NetConfig())

    torch.manual_seed(0)
    policy = ValuePolicy(build, torch.device("cpu"))
    snapshot = PolicySnapshot(version=1, parameters=dict(build().requires_grad_(False).named_parameters()))
    policy.load(snapshot)
    return policy, snapshot


def alone(env_id: str, num_rows: int, steps: int) -> dict[str, float]:
    """CPU-seconds of each part for ``steps`` steps of one group."""
    env = rows_of(env_id, 0, num_rows)
    step = env.reset()
    policy, _ = policy_for(env.spec)
    rng = np.random.default_rng(0)
    actions = rng.integers(env.spec.num_actions, size=(steps, num_rows))
    spent = {}
    seen = []
    began = time.process_time()
    for action in actions:
        step = env.step(action)
        if len(seen) < 50:
            seen.append(step)
    spent["environment"] = time.process_time() - began
    env.close()
    began = time.process_time()
    for at in range(steps):
        policy.values(seen[at % len(seen)].obs, {})
    spent["forward"] = time.process_time() - began
    store, rows = UnrollStore(env.spec, num_rows, length=UNROLL), np.arange(num_rows)
    fields = {
        "action": actions[0], "log_mu": np.zeros(num_rows, np.float32), "version": np.zeros(num_rows, np.int64),
        "explored": np.zeros(num_rows, np.bool_),
    }  # fmt: skip
    began = time.process_time()
    for at in range(steps):
        s = seen[at % len(seen)]
        own = {"reward": s.reward, "discount": s.discount, "last": s.last, "valid": s.valid}
        store.append(rows, s.obs, fields | own, {})
    spent["record"] = time.process_time() - began
    return spent


def through_engine(env_id: str, groups: tuple[int, ...], steps: int) -> dict[str, Any]:
    """CPU-seconds for ``steps`` steps of each group, and what the engine said."""
    firsts = {0: 0, 1: groups[0]}
    transport = ThreadTransport(lambda group, first, rows, life: rows_of(env_id, firsts[group], rows), groups)
    policy, snapshot = policy_for(transport.spec)
    timer = LapTimer()
    sampler = BackgroundSampler(
        transport,
        policy,
        EXPLORERS["epsilon-greedy"],
        ExploreConfig(epsilon=Schedule(kind="constant", start=1.0)),  # the episodes of the part alone
        SamplerConfig(kind="central", groups=len(groups)),
        unroll_steps=UNROLL,
        batch_unrolls=8,
        prefill_env_steps=0,
        seed=1,
        forward_cost=lambda rows: Cost(flop=0.0, bytes_min=0.0),
        timer=timer,
    )
    sampler.load(snapshot)
    sampler.start()
    seen: set[int] = set()
    while len(seen) < sum(groups):  # the resets of the last group are over
        seen.update(sampler.get(8)[1].tolist())
    rows, wanted = sum(groups), steps * sum(groups)
    before, began, wall = sampler.statistics().rows, time.process_time(), time.perf_counter()
    timer.take()
    environments, main = NativeThreads("environment", transport.thread_ids()), time.thread_time()
    until = sampler.env_steps + wanted
    while sampler.env_steps < until:
        sampler.get(8, 0.05)
    now = sampler.statistics()
    cpu, wall = time.process_time() - began, time.perf_counter() - wall
    in_environments, in_main = environments.take().cpu_s, time.thread_time() - main
    laps = {role: cost.cpu_s for role, cost in timer.take().items()}
    sampler.close()
    done = now.rows - before
    per = steps * rows / done
    return {
        "cpu_s": cpu * per,
        "steps_per_s": done / wall,
        "steps_per_cpu_s": done / cpu,
        "engine_thread_cpu_s": {role: (cpu or 0.0) * per for role, cpu in laps.items()},
        "environment_threads_cpu_s": None if in_environments is None else in_environments * per,
        "main_thread_cpu_s": in_main * per,
        "fill": now.fill,
        "by_rule": now.by_rule,
        "queue_s": None if now.queue_s is None else vars_of(now.queue_s),
        "forward_s": None if now.forward_s is None else vars_of(now.forward_s),
    }


def vars_of(quantiles: Any) -> dict[str, float]:
    return {name: getattr(quantiles, name) for name in ("p50", "p95", "p99")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--case", default="", help=f"part of a name: {'; '.join(CASES)}")
    parser.add_argument("--share", type=float, default=1.0, help="share of the steps")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if not any(given.case in name for name in CASES):
        parser.error(f"--case {given.case!r} is part of none of: {'; '.join(CASES)}")
    torch.set_num_threads(1)
    results: dict[str, Any] = {"date": datetime.date.today().isoformat(), "torch": torch.__version__, "cases": {}}
    for name, case in CASES.items():
        if given.case not in name:
            continue
        steps = int(case["steps"] * given.share)
        rounds = []
        for _ in range(given.repeats):
            parts = alone(case["env"], case["groups"][0], steps)
            parts = {part: cpu * len(case["groups"]) for part, cpu in parts.items()}
            whole = through_engine(case["env"], case["groups"], steps)
            rounds.append({"alone": parts, "engine": whole, "overhead": whole["cpu_s"] / sum(parts.values()) - 1})
        results["cases"][name] = rounds
        shares = [r["overhead"] for r in rounds]
        print(f"{name}: overhead {statistics.median(shares):.1%} ({', '.join(f'{s:.1%}' for s in shares)})")
        print("   ", json.dumps(rounds[-1]))
    if given.out:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
