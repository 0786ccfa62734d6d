"""Each method over all environments, on normalised scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from frugalrl import stats
from frugalrl.report.figure import figure
from frugalrl.report.groups import Floats, Group, Setting
from frugalrl.report.results import Figure, Overall

_STATISTICS: tuple[tuple[str, Callable[[Any], Floats]], ...] = (
    ("mean", stats.mean),
    ("median", stats.median),
    ("iqm", stats.iqm),
    ("optimality_gap", stats.optimality_gap),
)


def overall_of(
    groups: Mapping[str, Mapping[str, Group]],
    methods: Sequence[str],
    setting: Setting,
) -> tuple[tuple[Overall, ...], tuple[str, ...]]:
    """(one entry per method, notes). Empty with fewer than two environments that have references and all methods."""
    if len(groups) < 2:
        return (), ()
    tasks = [env for env in groups if _usable(groups[env], methods)]
    left_out = [env for env in groups if env not in tasks]
    notes: tuple[str, ...] = ()
    if left_out:
        notes = (
            f"The figures over all environments leave out {', '.join(left_out)}: no reference score, or a method "
            f"without a completed run.",
        )
    if len(tasks) < 2:
        return (), notes
    scores = {m: [_scores(groups[env][m]) for env in tasks] for m in methods}
    return tuple(_entry(m, scores, methods[0], len(tasks), setting) for m in methods), notes


def _usable(groups: Mapping[str, Group], methods: Sequence[str]) -> bool:
    """Every method has a completed run, and their scores have a scale."""
    references = [groups[m].reference for m in methods if m in groups and groups[m].finished]
    return len(references) == len(methods) and all(r is not None and r.reference is not None for r in references)


def _scores(group: Group) -> Floats:
    reference = group.reference
    assert reference is not None
    return reference.normalized(np.array([run.points[-1].mean_return for run in group.finished]))


def _entry(method: str, scores: Mapping[str, list[Floats]], baseline: str, tasks: int, setting: Setting) -> Overall:
    ways: dict[str, Any] = {"rng": setting.rng, "draws": setting.draws, "level": setting.level}
    source = f"last evaluations of completed runs on {tasks} environments, 0 is random, 1 is the reference"
    made: dict[str, Figure] = {}
    for name, statistic in _STATISTICS:
        bounds = (0.0, np.inf) if name == "optimality_gap" else (-np.inf, np.inf)
        estimate = stats.stratified(scores[method], statistic, bounds=bounds, **ways)
        made[name] = figure(estimate, "normalised", "measured", source)
    improvement = None
    if method != baseline:
        found = stats.probability_of_improvement(scores[method], scores[baseline], **ways)
        improvement = figure(found, "probability", "measured", f"a run of it beats a run of {baseline}; {source}")
    return Overall(
        method=method,
        mean=made["mean"],
        median=made["median"],
        iqm=made["iqm"],
        optimality_gap=made["optimality_gap"],
        improvement=improvement,
    )
