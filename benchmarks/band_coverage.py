#!/usr/bin/env python3
"""How often do the bands of efficiency curves hold the whole true curve, at all points at once?

    python benchmarks/band_coverage.py --reps 1000 --out evidence/statistics/band.json

Runs are random walks of 30 steps around a truth of 0: neighbouring points move together, as in learning curves.
"""

from __future__ import annotations

import argparse
import datetime
import json
from pathlib import Path
from typing import Literal

import numpy as np
from side_by_side import machine

from frugalrl import stats

Band = Literal["pointwise", "simultaneous"]
BANDS: tuple[Band, ...] = ("pointwise", "simultaneous")
POINTS, DRAWS = 30, 500


def held(runs: int, band: Band, reps: int, rng: np.random.Generator) -> float:
    grid = np.arange(1.0, POINTS + 1.0)
    inside = 0
    for _ in range(reps):
        walks = rng.normal(size=(runs, POINTS)).cumsum(1)
        curve = stats.efficiency_curve([grid] * runs, walks, grid, rng=rng, statistic="mean", draws=DRAWS, band=band)
        inside += bool(((curve.low <= 0) & (curve.high >= 0)).all())
    return inside / reps


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--reps", type=int, default=1000, help="simulated studies per cell (1,000)")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    rng = np.random.default_rng(20261125)
    record = {
        "command": f"python benchmarks/band_coverage.py --reps {args.reps}",
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "draws": DRAWS,
        "results": {band: {str(runs): held(runs, band, args.reps, rng) for runs in (10, 20)} for band in BANDS},
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    partial = args.out.with_suffix(".part")
    partial.write_text(json.dumps(record, indent=1) + "\n")
    partial.replace(args.out)
    print(json.dumps(record["results"]))


if __name__ == "__main__":
    main()
