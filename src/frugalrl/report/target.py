"""What a target costs with one method, and next to the baseline."""

from __future__ import annotations

from typing import Any

from frugalrl import stats
from frugalrl.report.check import pairs
from frugalrl.report.figure import figure, unknown
from frugalrl.report.groups import Reached, Setting, unless_tied
from frugalrl.report.results import QUANTITIES, Figure, Quantity, ToTarget
from frugalrl.report.use import origin, unit_of

_AT = "read at the first evaluation that reached the target, so no finer than the time between two"


def to_target(mine: Reached, baseline: Reached | None, setting: Setting) -> ToTarget | None:
    """Cost of the target; ``baseline`` is None for the baseline itself. None where no run has an evaluation."""
    runs, reached = len(mine.seeds), int(mine.reached.sum())
    if runs == 0:
        return None
    share = stats.share_reached(reached, runs, setting.level)
    median = stats.median_time(mine.watched, mine.reached, rng=setting.rng, draws=setting.draws, level=setting.level)
    how, source = origin("env_steps", setting.rates)
    return ToTarget(
        target=mine.target,
        reached=reached,
        runs=runs,
        share_reached=figure(share, "share", "counted", f"{reached} of {runs} runs"),
        median_steps=figure(median, "steps", how, f"{source}, Kaplan-Meier median, {_AT}"),
        expected={q: _expected(mine, q, setting) for q in QUANTITIES},
        ratio={} if baseline is None else {q: _ratio(mine, baseline, q, setting) for q in QUANTITIES},
    )


def _expected(mine: Reached, quantity: Quantity, setting: Setting) -> Figure:
    how, source = origin(quantity, setting.rates)
    cost = mine.use[quantity]
    if cost is None:
        return unknown(unit_of(quantity), how, _why_unknown(quantity, setting))
    found = stats.expected_cost(cost, mine.reached, paces=mine.clocks(quantity, setting), **_ways(setting))
    found = unless_tied(found, stats.expected_cost(mine.due, mine.reached, **_ways(setting)))
    return figure(found, unit_of(quantity), how, f"{source}; sum over all runs / runs that reached it, {_AT}")


def _ratio(mine: Reached, baseline: Reached, quantity: Quantity, setting: Setting) -> Figure:
    how, source = origin(quantity, setting.rates)
    seeds = pairs(mine.seeds, baseline.seeds)
    ours, theirs = (mine, baseline) if seeds is None else (mine.among(seeds), baseline.among(seeds))
    a, b = ours.use[quantity], theirs.use[quantity]
    if a is None or b is None or not len(b):
        return unknown("ratio", how, _why_unknown(quantity, setting))
    ways = _ways(setting) | {"paired": seeds is not None}
    paces: dict[str, Any] = {"paces_a": ours.clocks(quantity, setting), "paces_b": theirs.clocks(quantity, setting)}
    found = stats.expected_cost_ratio(a, ours.reached, b, theirs.reached, **paces, **ways)
    found = unless_tied(found, stats.expected_cost_ratio(ours.due, ours.reached, theirs.due, theirs.reached, **ways))
    return figure(found, "ratio", how, f"expected cost over that of the baseline; {source}")


def _ways(setting: Setting) -> dict[str, Any]:
    return {"rng": setting.rng, "draws": setting.draws, "level": setting.level}


def _why_unknown(quantity: Quantity, setting: Setting) -> str:
    if not setting.shown(quantity):
        return "not compared: the runs were made on different machines"
    if quantity == "gpu_s" and not setting.rates.has_gpu:
        return "no GPU"
    return "not measured in every run"
