"""How near training comes to its own limit: update, environment and forward measured alone, against the whole loop.

    python benchmarks/own_limit.py --precision fp32 --rounds 40

The limit of one block (4 agent steps, 1 update) is 4 environment steps + 4 forward passes + 1 update, each measured in
a loop of its own. Parts and whole are measured in turn, each for the same time, and the best round of each counts: what
varies on a shared machine only ever adds, and a longer measurement would meet more of it. Beside it stands the median
over rounds of each round's own ratio, with the sign-test interval of `side_by_side.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from itertools import islice
from typing import Any

os.environ["OMP_WAIT_POLICY"] = "passive"
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
from frugal_dqn import TASKS, WORK, settings
from side_by_side import machine, sign_interval

from frugalrl import build_config, override
from frugalrl.cost import LapTimer
from frugalrl.run.assemble import assemble
from frugalrl.run.loop import Counters, serial

WINDOW_S = 0.1
"""CPU-seconds of one measurement."""


def cpu_ms(work: Callable[[], Any], calls: int) -> float:
    start = time.process_time()
    for _ in range(calls):
        work()
    return (time.process_time() - start) / calls * 1e3


def limit_of(cpu: dict[str, float]) -> float:
    """Of one block, from its parts."""
    return 4 * cpu["environment"] + 4 * cpu["forward"] + cpu["update"]


def is_kernel(operator: str) -> bool:
    """Convolutions and matrix products: what oneDNN and MKL compute, and no code of ours can make shorter."""
    return "conv" in operator or operator in ("aten::mm", "aten::addmm")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--operators", type=int, default=3, help="how many of the costliest are named")
    args = parser.parse_args()
    args.steps, args.warmup, args.explorer, args.epsilon, args.seed = 10_000, 1_000, "epsilon-greedy", 0.05, 0
    args.lag_blocks, args.threads = 0, 1
    config = override(build_config("ALE/Pong-v5"), settings({**WORK, **TASKS["pong"]}, args))
    timer = LapTimer()
    timer.start()
    loop, alone = assemble(config, timer), assemble(config, timer)
    events = serial(
        loop.sampler, loop.learner, loop.replay, config.schedule, Counters(), num_rows=1, batch_size=32, row_bytes=0,
        batch_bytes=lambda: 0, timer=timer,
    )  # fmt: skip
    for _ in islice(events, 300):  # past the warm-up
        pass
    obs = alone.worlds.reset().obs
    alone.sampler.load(alone.learner.snapshot())
    policy = alone.sampler._policy
    batch = loop.replay.sample(32, env_step=0)
    action = np.zeros(1, np.int64)
    parts: dict[str, Callable[[], Any]] = {
        "environment": lambda: alone.worlds.step(action),
        "forward": lambda: policy.q_values(obs),
        "update": lambda: alone.learner.update(batch),
        "block": lambda: next(events),
    }
    calls = {name: max(1, round(WINDOW_S * 1e3 / cpu_ms(work, 5))) for name, work in parts.items()}
    rounds = [{name: cpu_ms(work, calls[name]) for name, work in parts.items()} for _ in range(args.rounds)]
    best = {name: min(found[name] for found in rounds) for name in parts}
    limit, ratios = limit_of(best), [found["block"] / limit_of(found) for found in rounds]
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        for _ in range(10):
            alone.learner.update(batch)
    operators = sorted(profile.key_averages(), key=lambda e: -e.self_cpu_time_total)
    named = operators[: args.operators]
    whole = sum(e.self_cpu_time_total for e in operators)
    result = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "precision": args.precision,
        "cpu_ms": {k: round(v, 3) for k, v in best.items()},
        "limit_ms_per_block": round(limit, 3),
        "loop_over_limit": round(best["block"] / limit, 4),
        "loop_over_limit_by_round": {
            "median": round(statistics.median(ratios), 4),
            "interval": {k: round(v, 4) for k, v in sign_interval(ratios).items()},
        },
        "rounds": args.rounds,
        "window_s": WINDOW_S,
        "update_in_kernels": round(sum(e.self_cpu_time_total for e in operators if is_kernel(e.key)) / whole, 3),
        "costliest_operators": {e.key: f"{e.self_cpu_time_total / whole:.0%} of an update" for e in named},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
