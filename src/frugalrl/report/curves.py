"""Learning curves against each axis, and the share of runs that reached a target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from frugalrl import stats
from frugalrl.report.figure import finite_or_none
from frugalrl.report.groups import Floats, Group, Reached, Setting, use_of
from frugalrl.report.records import RunRecord
from frugalrl.report.results import AXES, Axis, Curve, Survival
from frugalrl.report.shared import units_of
from frugalrl.report.use import COUNTS

POINTS = 60
"""At most so many points of a curve."""


def rising(run: RunRecord, axis: Axis, setting: Setting) -> tuple[Floats, Floats] | None:
    """(cost, score) of the evaluations, costs rising: of several at one cost the last stands; None if not known."""
    cost = use_of(run.points, setting)[axis]
    if cost is None:
        return None
    keep = np.append(np.diff(cost) > 0, True)
    return cost[keep], np.array([p.mean_return for p in run.points])[keep]


def curves_of(group: Group, setting: Setting) -> dict[Axis, Curve]:
    """One curve per axis that is known of every run; runs that did not complete count up to their last evaluation.

    Against a clock that seeds have shared there is no band: it would hold the seeds apart, but not the processes.
    """
    found: dict[Axis, Curve] = {}
    for axis in AXES:
        lines = [line for run in group.scored if (line := rising(run, axis, setting)) is not None]
        if lines and len(lines) == len(group.scored):
            made = _curve(axis, lines, setting)
            shared = axis not in COUNTS and units_of(group.scored) is not None
            found[axis] = replace(made, low=(None,) * len(made.n), high=(None,) * len(made.n)) if shared else made
    return found


def _curve(axis: Axis, lines: Sequence[tuple[Floats, Floats]], setting: Setting) -> Curve:
    grid = _grid([x for x, _ in lines])
    made = stats.efficiency_curve(
        [x for x, _ in lines],
        [y for _, y in lines],
        grid,
        statistic="mean",
        rng=setting.rng,
        draws=setting.draws,
        level=setting.level,
    )
    return Curve(
        axis=axis,
        grid=tuple(float(x) for x in made.grid),
        value=tuple(float(v) for v in made.value),
        low=tuple(finite_or_none(v) for v in made.low),
        high=tuple(finite_or_none(v) for v in made.high),
        n=tuple(int(n) for n in made.n),
    )


def _grid(costs: Sequence[Floats]) -> Floats:
    """The evaluations themselves where few are shared by the runs, else evenly spaced; where half of the runs are."""
    first, last = (np.array([x[i] for x in costs]) for i in (0, -1))
    every = np.unique(np.concatenate(list(costs)))
    grid = every if len(every) <= POINTS else np.linspace(every[0], every[-1], POINTS)
    there = ((grid[:, None] >= first) & (grid[:, None] <= last)).sum(1)
    return np.asarray(grid[there >= len(costs) / 2] if (there >= len(costs) / 2).any() else grid[there == there.max()])


def survival_of(mine: Reached, setting: Setting) -> Survival | None:
    """Share of runs that reached the target by a number of samples; None where no run has an evaluation."""
    if not len(mine.watched):
        return None
    made = stats.kaplan_meier(mine.watched, mine.reached, level=setting.level)
    return Survival(
        target=mine.target,
        env_steps=tuple(float(t) for t in made.times),
        share=tuple(float(s) for s in made.share_reached),
        low=tuple(finite_or_none(v) for v in made.low),
        high=tuple(finite_or_none(v) for v in made.high),
    )
