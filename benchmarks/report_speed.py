#!/usr/bin/env python3
"""What the report of many runs costs: seconds, memory, bytes. The runs are made of nothing; no result is measured.

    python benchmarks/report_speed.py --out evidence/statistics/report_speed.json

Each run has evaluations with costs by role; the comparison of them is timed apart from writing the report.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ["OMP_WAIT_POLICY"] = "passive"  # must be set before the OpenMP runtime is loaded
os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np

from frugalrl import build_config
from frugalrl.cost.machine import find_facts
from frugalrl.cost.tables import load_tables
from frugalrl.report.comparison import compare
from frugalrl.report.records import Point, RunRecord
from frugalrl.report.write import write_report
from frugalrl.types import Cost

SHARES = {
    "environment": 0.35, "inference": 0.15, "learner": 0.3, "target": 0.08, "replay": 0.06, "evaluation": 0.06,
}  # fmt: skip


def records(methods: int, envs: int, seeds: int, points: int) -> list[RunRecord]:
    """Runs whose scores rise to a level that depends on the method, with noise."""
    rng = np.random.default_rng(0)
    config = build_config("CartPole-v1")
    found = []
    for e in range(envs):
        for m in range(methods):
            for seed in range(seeds):
                scores = (5 + m) * (1 - np.exp(-np.arange(1, points + 1) / 6)) + rng.normal(0, 0.5, points)
                made = replace(config, seed=seed, env=replace(config.env, id=f"synthetic/Game{e}-v0"))
                evaluations = tuple(_point((i + 1) * 10_000, float(s), 1 + 0.1 * m) for i, s in enumerate(scores))
                found.append(
                    RunRecord(
                        name=f"runs/Game{e}/method{m}/seed{seed}", method=f"method {m}", config=made,
                        points=evaluations, bill=None, outcome="completed", reason="the budget is used",
                        machine={"profile": "cloud-2vcpu", "cpu": "none", "cores": 2, "gpus": []},
                        code={"version": "0", "source_sha256": "0" * 64}, command=("frugal", "train", f"Game{e}"),
                    )
                )  # fmt: skip
    return found


def _point(steps: int, score: float, pace: float) -> Point:
    cpu_s = steps * 0.002 * pace
    costs = {role: Cost(cpu_s=share * cpu_s, flop=share * steps * 1e7) for role, share in SHARES.items()}
    return Point(
        env_steps=steps, mean_return=score, interval=None, episodes=10, cpu_s=cpu_s, wall_s=1.1 * cpu_s,
        updates=steps // 4, frames=steps, peak_rss_bytes=500_000_000, costs=costs,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--methods", type=int, default=5)
    parser.add_argument("--envs", type=int, default=26)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--points", type=int, default=40, help="evaluations of each run")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()

    runs = records(args.methods, args.envs, args.seeds, args.points)
    targets = {run.env: (2.0, 3.0, 4.0, 5.0) for run in runs}
    began = (time.perf_counter(), time.process_time())
    comparison = compare(runs, targets=targets, tables=load_tables(), rng=np.random.default_rng(0))
    compared = (time.perf_counter(), time.process_time())
    with tempfile.TemporaryDirectory() as folder:
        write_report(comparison, runs, Path(folder) / "report.html")
        written = (time.perf_counter(), time.process_time())
        files = list((Path(folder) / "figures").iterdir())
        size = (Path(folder) / "report.html").stat().st_size
        beside = sum(file.stat().st_size for file in files)
    facts = find_facts()
    document: dict[str, Any] = {
        "runs": len(runs), "methods": args.methods, "envs": args.envs, "seeds": args.seeds, "evaluations": args.points,
        "draws": comparison.draws, "compare_wall_s": compared[0] - began[0], "compare_cpu_s": compared[1] - began[1],
        "report_wall_s": written[0] - compared[0], "report_cpu_s": written[1] - compared[1],
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "report_bytes": size,
        "files_beside": len(files), "bytes_beside": beside, "cpu": facts.cpu, "cores": facts.cores,
        "date": datetime.date.today().isoformat(),
    }  # fmt: skip
    print(json.dumps(document))
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
