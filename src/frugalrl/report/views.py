"""Fair views: all methods at the same amount of samples, FLOPs or money."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from frugalrl import stats
from frugalrl.report.check import pairs
from frugalrl.report.curves import rising
from frugalrl.report.figure import figure, unknown
from frugalrl.report.groups import Group, Setting
from frugalrl.report.method import over_runs
from frugalrl.report.results import Figure, Verdict, View, ViewRow
from frugalrl.report.shared import units_of
from frugalrl.report.use import COUNTS, unit_of
from frugalrl.report.words import short
from frugalrl.stats.shared import Units

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
    clocks = {m: _clocks(groups[m], axis) for m in scores}
    source = f"at {short(amount)} {unit_of(axis)} of each run, linear between two evaluations"
    rows = []
    for method, mine in scores.items():
        row = _row(method, mine, method == baseline, source, _units(mine, clocks[method]), setting)
        theirs = scores.get(baseline, {})
        if method != baseline and mine and theirs:
            seeds = pairs(tuple(mine), tuple(theirs))
            if seeds is not None:
                a, b = ({s: scores[m][s] for s in seeds} for m in (method, baseline))
                made = _paired(a, b, _units(a, clocks[method], clocks[baseline]), setting)
            else:
                units = _units(mine, clocks[method]), _units(theirs, clocks[baseline])
                made = _not_paired(mine, theirs, units, setting)
            row = _against(row, made, source)
        rows.append(row)
    return View(axis=axis, amount=amount, rows=tuple(rows))


def _clocks(group: Group, axis: ViewAxis) -> dict[int, int]:
    """By seed, which of them shared the clock that the axis is read from; empty where none did."""
    units = None if axis in COUNTS else units_of(group.finished)
    return {} if units is None else {run.seed: int(unit) for run, unit in zip(group.finished, units, strict=True)}


def _units(scores: Scores, *clocks: Mapping[int, int]) -> Units | None:
    """[seeds] those that must stay together for the clocks of one method, or of two that are paired."""
    shared = [[units[seed] for seed in scores] for units in clocks if units]
    return stats.linked(*shared) if shared and scores else None


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


def _row(method: str, mine: Scores, is_baseline: bool, source: str, units: Units | None, setting: Setting) -> ViewRow:
    """A method by itself, without a difference."""
    verdict: Verdict = "baseline" if is_baseline else "no difference shown"
    if not mine:
        score = unknown("return", "measured", f"not known {source}: that is before its first evaluation")
    else:
        score = over_runs(np.array(list(mine.values())), "return", source, setting, units=units)
    return ViewRow(method=method, score=score, difference=None, verdict=verdict)


def _paired(mine: Scores, baseline: Scores, units: Units | None, setting: Setting) -> stats.Estimate:
    """The difference of the means of the same seeds in the same order."""
    a, b = np.array(list(mine.values())), np.array(list(baseline.values()))
    if len(a) > 1 and stats.count_of(units, len(a)) < 2:
        return stats.Estimate(float(a.mean() - b.mean()), None, len(a), setting.level, stats.SHARED_CLOCK)
    made = stats.paired([stats.by_unit(a, units)], [stats.by_unit(b, units)], stats.mean, **_ways(setting))
    return replace(made, n=len(a))


def _not_paired(
    mine: Scores, baseline: Scores, units: tuple[Units | None, Units | None], setting: Setting
) -> stats.Estimate:
    """The difference of the means of runs that have no seed in common and count as independent."""
    sides = [np.array(list(scores.values())) for scores in (baseline, mine)]
    low, high = (stats.by_unit(side, unit) for side, unit in zip(sides, reversed(units), strict=True))
    n = min(len(side) for side in sides)
    if n > 1 and min(len(low), len(high)) < 2:
        value = float(sides[1].mean() - sides[0].mean())
        return stats.Estimate(value, None, n, setting.level, stats.SHARED_CLOCK)
    made = stats.score_effect({(0,): low, (1,): high}, (0,), paired=False, **_ways(setting))
    return replace(made, n=n)


def _ways(setting: Setting) -> dict[str, Any]:
    return {"rng": setting.rng, "draws": setting.draws, "level": setting.level}


def _against(row: ViewRow, made: stats.Estimate, source: str) -> ViewRow:
    """With its difference to the baseline."""
    difference = figure(made, "return", "measured", f"score minus that of the baseline, {source}")
    return replace(row, difference=difference, verdict=verdict_of(difference))


def verdict_of(difference: Figure) -> Verdict:
    """What an interval of a difference says."""
    if difference.interval is None:
        return "one seed" if difference.n < 2 else "no difference shown"
    low, high = difference.interval
    if low > 0:
        return "better"
    return "worse" if high < 0 else "no difference shown"
