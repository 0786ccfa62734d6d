#!/usr/bin/env python3
"""Seconds for all statistics of a large comparison: by default 5 methods, 26 games, 10 seeds, 2,000 draws.

    python benchmarks/statistics_speed.py --out evidence/statistics/speed.json

Per method mean, median, IQM and optimality gap with intervals; per method but the first, probability of improvement and
paired difference of the IQM to the first. Scores are random: their values do not change the work. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import resource
import time
from pathlib import Path

import numpy as np
from side_by_side import machine

from frugalrl import stats


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--methods", type=int, default=5)
    parser.add_argument("--tasks", type=int, default=26)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--improvement", choices=("score", "percentile"), default="score", help="interval (score)")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.draws < 100:
        parser.error(f"--draws is {args.draws}; an interval needs 100 or more")
    rng = np.random.default_rng(0)
    scores = rng.lognormal(0.0, 1.0, (args.methods, args.seeds, args.tasks))
    cpu, wall = time.process_time(), time.perf_counter()
    estimates = 0
    for method in scores:
        for statistic in (stats.mean, stats.median, stats.iqm, stats.optimality_gap):
            stats.stratified(method, statistic, rng=rng, draws=args.draws)
            estimates += 1
    for method in scores[1:]:
        stats.probability_of_improvement(method, scores[0], rng=rng, draws=args.draws, method=args.improvement)
        stats.paired(method, scores[0], stats.iqm, rng=rng, draws=args.draws)
        estimates += 2
    record = {
        "command": "python benchmarks/statistics_speed.py",
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "numpy": np.__version__,
        "methods": args.methods,
        "tasks": args.tasks,
        "seeds": args.seeds,
        "draws": args.draws,
        "improvement": args.improvement,
        "estimates": estimates,
        "load_average": round(os.getloadavg()[0], 1),
        "wall_s": round(time.perf_counter() - wall, 3),
        "cpu_s": round(time.process_time() - cpu, 3),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    print(json.dumps(record))
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        partial = args.out.with_suffix(".part")
        partial.write_text(json.dumps(record) + "\n")
        partial.replace(args.out)


if __name__ == "__main__":
    main()
