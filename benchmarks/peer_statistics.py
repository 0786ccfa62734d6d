#!/usr/bin/env python3
"""Aggregates and bootstrap intervals as rliable computes them: fixtures for our tests.

    benchmarks/peers make statistics
    benchmarks/.venvs/statistics/bin/python benchmarks/peer_statistics.py > tests/fixtures/statistics.json

rliable 1.2.0 (Agarwal et al. 2021): ``metrics`` for the values, ``library.get_interval_estimates`` for stratified
percentile bootstrap intervals, ``library.create_performance_profile`` for run-score distributions.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import sys
from typing import Any

import numpy as np
from rliable import library, metrics

RUNS, TASKS = 8, 6
THRESHOLDS = [0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0]
AGGREGATES = {
    "mean": metrics.aggregate_mean,
    "median": metrics.aggregate_median,
    "iqm": metrics.aggregate_iqm,
    "optimality_gap": metrics.aggregate_optimality_gap,
}


def scores() -> dict[str, Any]:
    """Two methods on tasks of different spread, with ties inside of a method and between both."""
    rng = np.random.default_rng(20261125)
    spread = np.linspace(0.2, 1.2, TASKS)
    a = rng.lognormal(0.1, spread, (RUNS, TASKS))
    b = rng.lognormal(-0.2, spread, (RUNS, TASKS))
    a[:3, 0], b[:2, 0] = 1.25, 1.25
    return {"a": a.round(4), "b": b.round(4), "one_task": rng.normal(0.6, 0.3, (5, 1)).round(4)}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--reps", type=int, default=50_000, help="bootstrap resamples (50,000)")
    args = parser.parse_args()
    data = scores()
    values = {name: {k: float(f(x)) for k, f in AGGREGATES.items()} for name, x in data.items()}
    intervals: dict[str, dict[str, list[float]]] = {name: {} for name in data}
    for k, f in AGGREGATES.items():
        _, found = library.get_interval_estimates(
            data, lambda x, f=f: np.array([f(x)]), reps=args.reps, random_state=np.random.RandomState(1)
        )
        for name in data:
            intervals[name][k] = found[name][:, 0].tolist()
    pair = {"a,b": (data["a"], data["b"])}
    value, ends = library.get_interval_estimates(
        pair,
        lambda x, y: np.array([metrics.probability_of_improvement(x, y)]),
        reps=args.reps // 10,
        random_state=np.random.RandomState(2),
    )
    # the values do not depend on the resamples that come with them
    profile, _ = library.create_performance_profile(data, np.array(THRESHOLDS), reps=10)
    json.dump(
        {
            "made_by": "benchmarks/peer_statistics.py",
            "date": "2026-11-25",
            "versions": {p: importlib.metadata.version(p) for p in ("rliable", "arch", "numpy", "scipy", "pandas")},
            "python": sys.version.split()[0],
            "reps": args.reps,
            "scores": {name: x.tolist() for name, x in data.items()},
            "values": values,
            "intervals": intervals,
            "probability_of_improvement": {
                "value": float(value["a,b"][0]),
                "interval": ends["a,b"][:, 0].tolist(),
                "reps": args.reps // 10,
            },
            "thresholds": THRESHOLDS,
            "profile": {name: np.asarray(p).tolist() for name, p in profile.items()},
        },
        sys.stdout,
        indent=1,
    )
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
