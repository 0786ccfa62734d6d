"""One method on one environment: final score, use, and what each target costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from frugalrl import stats
from frugalrl.report.curves import curves_of, survival_of
from frugalrl.report.figure import figure, unknown
from frugalrl.report.groups import Floats, Group, Reached, Setting, use_of
from frugalrl.report.records import Point
from frugalrl.report.references import Reference
from frugalrl.report.results import QUANTITIES, Figure, MethodResult, Quantity, ToTarget
from frugalrl.report.shared import Processes, mean_over, mean_use, paces_in, units_of
from frugalrl.report.target import to_target
from frugalrl.report.use import origin, unit_of
from frugalrl.stats.shared import Units

COVERAGE, CONFIDENCE = 0.9, 0.95
_SCORE = "return"
_LAST = "last evaluation of each run that completed, raw reward"
_NONE = "no run completed"


def method_result(
    group: Group,
    mine: Sequence[Reached],
    baseline: Sequence[Reached] | None,
    setting: Setting,
    processes: Processes | None,
) -> MethodResult:
    """``mine`` and ``baseline``: one entry per target, in order; ``baseline`` is None for the baseline itself.
    ``processes``: that the charged runs of the group shared."""
    finished = group.finished
    last = [run.points[-1] for run in finished]
    final = np.array([p.mean_return for p in last])
    others: Sequence[Reached | None] = [None] * len(mine) if baseline is None else baseline
    made = [to_target(m, b, setting) for m, b in zip(mine, others, strict=True)]
    survival = [s for m in mine if (s := survival_of(m, setting)) is not None]
    stacked = {run.stacked for run in group.runs}
    return MethodResult(
        method=group.method,
        seeds=tuple(run.seed for run in finished),
        failed=group.failed,
        stacked=stacked.pop() if len(stacked) == 1 else None,
        final_mean=over_runs(final, _SCORE, _LAST, setting),
        final_iqm=over_runs(final, _SCORE, f"interquartile mean; {_LAST}", setting, "iqm"),
        final_normalized=_normalized(final, group.reference, setting),
        tolerance=_tolerance(final),
        used=_used(group, setting, processes),
        peak_memory=_memory(last, setting, units_of(finished)),
        flop_by_role=_by_role(last, "flop"),
        cpu_s_by_role=_by_role(last, "cpu_s") if setting.same_machine else {},
        targets=tuple(t for t in made if isinstance(t, ToTarget)),
        curves=curves_of(group, setting),
        survival=tuple(survival),
    )


def over_runs(
    values: Floats, unit: str, source: str, setting: Setting, statistic: str = "mean", units: Units | None = None
) -> Figure:
    """Mean or IQM over runs with its interval, that of the mean over ``units``; not known where no run completed."""
    if not len(values):
        return unknown(unit, "measured", _NONE)
    ways: dict[str, Any] = {"rng": setting.rng, "draws": setting.draws, "level": setting.level}
    made = stats.stratified([values], stats.iqm, **ways) if statistic == "iqm" else mean_over(values, setting, units)
    return figure(made, unit, "measured", source)


def _normalized(final: Floats, reference: Reference | None, setting: Setting) -> Figure | None:
    if reference is None or reference.reference is None or not len(final):
        return None
    source = f"0 is random ({reference.random:g}), 1 is {reference.what} ({reference.reference:g}): {reference.source}"
    return over_runs(reference.normalized(final), "normalised", source, setting)


def _tolerance(final: Floats) -> Figure:
    if not len(final):
        return unknown(_SCORE, "measured", _NONE)
    made = stats.tolerance_interval(final, coverage=COVERAGE, confidence=CONFIDENCE)
    asked = f"{COVERAGE:.0%} of future runs with {CONFIDENCE:.0%} confidence"
    if made.coverage is None:
        source = f"worst of {made.n} runs; bounds for {asked} take {made.needed} runs, these bound {made.bounded:.0%}"
        interval = None
    else:
        source, interval = f"worst run; between the bounds lie {asked}", (made.low, made.high)
    return Figure(value=float(final.min()), unit=_SCORE, interval=interval, how="measured", source=source, n=len(final))


def _used(group: Group, setting: Setting, processes: Processes | None) -> Mapping[Quantity, Figure]:
    last = [run.points[-1] for run in group.finished]
    at = [i for i, run in enumerate(group.charged) if run.outcome == "completed" and run.points]
    found: dict[Quantity, Figure] = {}
    for quantity, values in use_of(last, setting).items():
        how, source = origin(quantity, setting.rates)
        if values is None:
            why = "not known of every run" if setting.shown(quantity) else "not compared: different machines"
            found[quantity] = unknown(unit_of(quantity), how, why if last else _NONE)
            continue
        made = mean_use(values, setting, paces_in(quantity, processes, setting.rates, last, at))
        found[quantity] = figure(made, unit_of(quantity), how, f"mean over runs at their last evaluation; {source}")
    return {q: found[q] for q in QUANTITIES}


def _memory(last: Sequence[Point], setting: Setting, units: Units | None) -> Figure:
    known = [p.peak_rss_bytes for p in last if p.peak_rss_bytes is not None]
    if not last or len(known) < len(last):
        return unknown("B", "measured", "not measured in every run" if last else _NONE)
    made = mean_over(np.array(known, np.float64), setting, units, bounds=(0.0, np.inf))
    return figure(made, "B", "measured", "most resident memory of a process, mean over runs")


def _by_role(last: Sequence[Point], name: str) -> dict[str, float]:
    """Mean over runs of what each role used; a role that one run does not know is left out."""
    if not last or any(p.costs is None for p in last):
        return {}
    found: dict[str, float] = {}
    for role in dict.fromkeys(role for p in last for role in p.costs or {}):
        values = [getattr((p.costs or {})[role], name) if role in (p.costs or {}) else 0.0 for p in last]
        if None not in values:
            found[role] = float(np.mean(values))
    return found
