"""What a sampler's mismatch costs in samples: the expected number of them to a score, beside that of fp32."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from mismatch_cells import AGES, BELOW, BITS, NONE, TIS
from mismatch_results import Grid, Run
from mismatch_words import label, number

from frugalrl.stats import expected_cost_ratio, first_reach

SHARE = 0.8
"""Of the mean final score without mismatch: the target."""


def samples_table(grid: Grid) -> Iterator[str]:
    """A sentence and a table; nothing while there are no runs without mismatch."""
    reference = list(grid.runs(*grid.reference()).values())
    if len(reference) < 2:
        return
    target = SHARE * float(np.mean([run["final"] for run in reference]))
    yield (
        f"**Samples** to a score of {number(target)}, {SHARE:.0%} of the mean final score without mismatch: expected "
        f"number (that of all runs over how many reached it, at one of the evaluations), and its ratio to fp32 without "
        f"correction, with a 95 % interval; above 1 costs samples.\n"
    )
    corrections = [c for c in (NONE, TIS, BELOW) if any(grid.runs(s, c) for s in (*BITS[1:], *AGES[1:]))]
    yield f"| sampler | {' | '.join(f'`{c}`' for c in corrections)} |"
    yield f"|---|{'---|' * len(corrections)}"
    for sampler in (*BITS, *AGES[1:]):
        cells = [_cell(list(grid.runs(sampler, c).values()), reference, target) for c in corrections]
        if any(cell != "-" for cell in cells):
            yield f"| {label(sampler)} | {' | '.join(cells)} |"
    yield ""


def _cell(runs: list[Run], reference: list[Run], target: float) -> str:
    if not runs:
        return "-"
    costs, reached = _reaches(runs, target)
    count = f"{int(reached.sum())} of {len(runs)}"
    expected = f"{costs.sum() / reached.sum() / 1000:.0f}k ({count})" if reached.any() else f"not reached ({count})"
    if runs == reference:
        return expected
    paired = [run["seed"] for run in runs] == [run["seed"] for run in reference]
    found = expected_cost_ratio(costs, reached, *_reaches(reference, target), paired=paired)
    ends = "" if found.interval is None else f" [{', '.join(_times(x) for x in found.interval)}]"
    return f"{expected}, x {_times(found.value)}{ends}"


def _reaches(runs: list[Run], target: float) -> tuple[np.ndarray, np.ndarray]:
    """Samples and whether the target was reached, [runs]."""
    curves = [np.array(run["curve"], float) for run in runs]
    found = [first_reach(curve[:, 0], curve[:, 1], target) for curve in curves]
    return np.array([f.cost for f in found]), np.array([f.reached for f in found])


def _times(x: float) -> str:
    return "∞" if math.isinf(x) else f"{x:.2f}"
