#!/usr/bin/env python3
"""Figures of the mismatch grid: final score and largest fall against bits and against age, a line per correction.

python benchmarks/mismatch_figures.py evidence/mismatch-grid docs/images
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from mismatch_cells import AGES, BITS, CORRECTIONS, FIGURES, NONE
from mismatch_results import Grid, Run, drawdown, judged, read

# colours after Okabe and Ito; the main three are drawn thick
STYLES: dict[str, dict[str, Any]] = {
    "none": {"color": "#000000", "linewidth": 2.2, "marker": "o"},
    "token-tis:2": {"color": "#d55e00", "linewidth": 2.2, "marker": "s"},
    "ppo-denominator": {"color": "#0072b2", "linewidth": 2.2, "marker": "D"},
    "sequence-tis:2": {"color": "#009e73", "linestyle": "--", "marker": "^"},
    "vanilla": {"color": "#999999", "linestyle": "--", "marker": "v"},
    "token-mask:0.5,5": {"color": "#cc79a7", "linestyle": ":", "marker": "x"},
    "sequence-mask:2": {"color": "#56b4e9", "linestyle": ":", "marker": "+"},
    "token-tis:1": {"color": "#b8860b", "linestyle": "-.", "marker": "<"},
    "token-tis:5": {"color": "#8a63a8", "linestyle": "-.", "marker": ">"},
}
TICKS = {"none": "fp32\n(0)", "stale:1": "1", "stale:4": "4", "stale:8": "8", "stale:16": "16"}


def draw(axis: Any, grid: Grid, samplers: Sequence[str], of: Callable[[Run], float | None]) -> None:
    """Means with intervals over seeds, a little apart so that they can be told."""
    there = [s for s in samplers if any(grid.runs(s, c) for c in CORRECTIONS)]
    shown = [c for c in CORRECTIONS if any(grid.runs(s, c) for s in there)]
    for number, correction in enumerate(shown):
        found = [(x, e) for x, s in enumerate(there) if (e := grid.estimate(s, correction, of)) is not None]
        x = np.array([at for at, _ in found]) + (number - (len(shown) - 1) / 2) * 0.045
        y = np.array([e.value for _, e in found])
        ends = np.array([(e.value, e.value) if e.interval is None else e.interval for _, e in found]).T
        style = {"linewidth": 1.0, "markersize": 5, **STYLES[correction]}
        axis.errorbar(x, y, np.abs(ends - y), label=correction, elinewidth=0.9, capsize=2, **style)
    base = grid.estimate("none", NONE, of)
    if base is not None:
        axis.axhline(base.value, color="#000000", linewidth=0.7, alpha=0.5)
    axis.set_xticks(
        range(len(there)), [TICKS.get(s, s) if "stale:1" in samplers else s.replace("none", "fp32") for s in there]
    )
    axis.grid(alpha=0.25)


def figure_of(grid: Grid, path: Path) -> None:
    """Score above, largest fall below; precision on the left, age on the right."""
    score, of = judged(grid.env)
    sides = [
        (names, words)
        for names, words in ((BITS, "precision of the sampler"), (AGES, "age of the sampler's weights, updates"))
        if sum(any(grid.runs(s, c) for c in CORRECTIONS) for s in names) > 1
    ]
    figure, axes = plt.subplots(
        2, len(sides), figsize=(6.6 * len(sides), 8.2), squeeze=False, sharey="row", sharex="col", layout="constrained",
        height_ratios=(2, 1),
    )  # fmt: skip
    for column, (samplers, words) in enumerate(sides):
        draw(axes[0, column], grid, samplers, of)
        draw(axes[1, column], grid, samplers, drawdown)
        axes[1, column].set_xlabel(words)
    axes[0, 0].set_ylabel(f"{score} of the fp32 learner")
    axes[1, 0].set_ylabel("largest fall from a peak")
    handles, labels = max((axis.get_legend_handles_labels() for axis in axes[0]), key=lambda found: len(found[1]))
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    figure.suptitle(f"{grid.env}: mean and 95 % interval, up to {grid.seeds()} seeds a cell", fontsize=10)
    figure.savefig(path, dpi=100, metadata={"Software": None})
    plt.close(figure)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("evidence", type=Path)
    parser.add_argument("images", type=Path)
    args = parser.parse_args()
    args.images.mkdir(parents=True, exist_ok=True)
    for env, grid in read(args.evidence).items():
        if len({run["sampler"] for run in grid.all()}) > 1:
            figure_of(grid, args.images / f"{FIGURES[env]}.png")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
