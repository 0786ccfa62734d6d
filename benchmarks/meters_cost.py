#!/usr/bin/env python3
"""What the meters of the theory cost: their CPU-seconds as a share of the run's, measured inside one run each.

    python benchmarks/meters_cost.py --out evidence/bench/meters-cost.json

Every call into the meters is timed with the loop thread's CPU clock; they compute nothing in other threads. The share
is that of the CPU-seconds from the first update to the end of the budget: start-up and evaluation do not thin it out.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_WAIT_POLICY"] = "passive"  # must be set before the OpenMP runtime is loaded
os.environ["OMP_NUM_THREADS"] = "1"

TASKS: dict[str, tuple[str, int, list[str]]] = {
    "CartPole-v1, classic-dqn": ("CartPole-v1", 20_000, []),
    "CartPole-v1, classic-dqn, half-uniform": ("CartPole-v1", 20_000, ["explore.name=counteractive-mixed"]),
    "MinAtar/Breakout-v1, minatar-dqn, half-uniform": (
        "MinAtar/Breakout-v1", 8_000, ["explore.name=counteractive-mixed", "schedule.warmup_env_steps=1000"],
    ),
    "ALE/Pong-v5, atari100k-ddqn, half-uniform": (
        "ALE/Pong-v5", 4_000, ["explore.name=counteractive-mixed", "explore.epsilon.steps=1000"],
    ),
}  # fmt: skip


def measure(env: str, steps: int, settings: list[str]) -> dict[str, Any]:
    from frugalrl import build_config, override, train
    from frugalrl.run import train as module
    from frugalrl.run.status import Silent
    from frugalrl.run.theory import TheoryMeters

    spent, began = [0.0], [0.0, 0.0]

    def timed(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Any, *args: Any) -> Any:
            start = time.thread_time()
            answer = real(self, *args)
            spent[0] += time.thread_time() - start
            if not began[0] and getattr(self, "_updates", 0) > 0:
                began[:] = [time.process_time(), spent[0]]
            return answer

        return call

    class Timed(TheoryMeters):
        read = timed(TheoryMeters.read)
        close = timed(TheoryMeters.close)

    plain = module.theory_meters
    module.theory_meters = lambda config, spec: _as(Timed, plain(config, spec))
    never = ["evaluation.every_env_steps=10_000_000", "evaluation.episodes=1", "evaluation.rows=1", "device=cpu"]
    config = override(build_config(env), [*never, f"budget.env_steps={steps}", *settings])
    ended: list[float] = []

    class End(Silent):
        interval_s = 1.0

        def status(self, status: Any) -> None:
            if status.phase == "evaluating" and not ended:  # the last evaluation is not part of it
                ended.extend((time.process_time(), spent[0]))

    try:
        with tempfile.TemporaryDirectory() as folder:
            train(config, Path(folder) / "run", End())
    finally:
        module.theory_meters = plain
    cpu_s, meters_s = ended[0] - began[0], ended[1] - began[1]
    return {
        "steps": steps, "cpu_s": round(cpu_s, 3), "meters_cpu_s": round(meters_s, 4),
        "share": round(meters_s / cpu_s, 5),
    }  # fmt: skip


def _as(cls: type, instance: Any) -> Any:
    instance.__class__ = cls
    return instance


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    results = {}
    for name, task in TASKS.items():
        results[name] = measure(*task)
        print(f"{name}: {results[name]['share']:.2%} of {results[name]['cpu_s']} CPU-seconds", flush=True)
    sys.path.insert(0, str(Path(__file__).parent))
    from side_by_side import machine

    document = {
        "command": "python benchmarks/meters_cost.py", "date": datetime.date.today().isoformat(),
        "machine": machine(), "results": results,
    }  # fmt: skip
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
