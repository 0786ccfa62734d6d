"""Fair views: all methods at the same amount of samples, FLOPs or money."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from frugalrl import stats
from frugalrl.report.check import pairs
from frugalrl.report.curves import rising
from frugalrl.report.figure import figure, unknown
from frugalrl.report.groups import Group, Setting
from frugalrl.report.method import over_runs
from frugalrl.report.results import Figure, Verdict, View, ViewRow
from frugalrl.report.use import unit_of
from frugalrl.report.words import short

ViewAxis = Literal["env_steps", "flop", "eur"]
VIEWS: tuple[ViewAxis, ...] = ("env_steps", "flop", "eur")

Scores = dict[int, float]
"""By seed."""


def views_of(groups: Mapping[str, Group], baseline: str, setting: Setting) -> tuple[View, ...]:
    """The views that can be made: of the methods with completed runs, where the resource is known of each of them."""
    return tuple(view for axis in VIEWS if (view := _view(groups, baseline, axis, setting)) is not None)


def _view(groups: Mapping[str, Group], baseline: str, axis: ViewAxis, setting: Setting) -> View | None:
    amount = common_amount(groups, axis, setting)
    if amount is None:
        return None
    scores = {m: scores_at(g, axis, amount, setting) for m, g in groups.items() if g.finished}
    rows = [
        _row(method, mine, None if method == baseline else scores.get(baseline, {}), axis, amount, setting)
        for method, mine in scores.items()
    ]
    return View(axis=axis, amount=amount, rows=tuple(rows))


def common_amount(groups: Mapping[str, Group], axis: ViewAxis, setting: Setting) -> float | None:
    """The smallest over methods of the mean use at the end of the budget; None where it is not known of all."""
    means = []
    for group in groups.values():
        if not group.finished:
            continue
        lines = [line for run in group.finished if (line := rising(run, axis, setting)) is not None]
        if len(lines) < len(group.finished):
            return None
        means.append(float(np.mean([cost[-1] for cost, _ in lines])))
    return min(means, default=None)


def scores_at(group: Group, axis: ViewAxis, amount: float, setting: Setting) -> Scores:
    """Score of each completed run when it had used that much: linear between two evaluations, after the last one its.

    Before a run's first evaluation nothing is known of its score. If that is so of one of them there are no scores:
    those of the others would be a choice of runs.
    """
    found = {}
    for run in group.finished:
        line = rising(run, axis, setting)
        if line is None:
            continue
        if amount < line[0][0]:
            return {}
        found[run.seed] = float(np.interp(amount, *line))
    return found


def _row(
    method: str, mine: Scores, baseline: Scores | None, axis: ViewAxis, amount: float, setting: Setting
) -> ViewRow:
    """``baseline`` is None for the baseline itself, and empty where it has no completed run."""
    source = f"at {short(amount)} {unit_of(axis)} of each run, linear between two evaluations"
    if not mine:
        late = unknown("return", "measured", f"not known {source}: that is before its first evaluation")
        return ViewRow(
            method=method,
            score=late,
            difference=None,
            verdict="baseline" if baseline is None else "no difference shown",
        )
    score = over_runs(np.array(list(mine.values())), "return", source, setting)
    if baseline is None:
        return ViewRow(method=method, score=score, difference=None, verdict="baseline")
    seeds = pairs(tuple(mine), tuple(baseline))
    if seeds is None:
        return ViewRow(method=method, score=score, difference=None, verdict="no difference shown")
    made = stats.paired(
        [[mine[s] for s in seeds]],
        [[baseline[s] for s in seeds]],
        stats.mean,
        rng=setting.rng,
        draws=setting.draws,
        level=setting.level,
    )
    difference = figure(made, "return", "measured", f"score minus that of the baseline, {source}")
    return ViewRow(method=method, score=score, difference=difference, verdict=verdict_of(difference))


def verdict_of(difference: Figure) -> Verdict:
    """What an interval of a difference says."""
    if difference.interval is None:
        return "one seed"
    low, high = difference.interval
    if low > 0:
        return "better"
    return "worse" if high < 0 else "no difference shown"
