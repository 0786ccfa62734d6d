"""Each method over all environments, on normalised scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from frugalrl import stats
from frugalrl.report.figure import figure
from frugalrl.report.groups import Floats, Group, Setting
from frugalrl.report.references import Reference
from frugalrl.report.results import Figure, Overall

_STATISTICS: tuple[tuple[str, Callable[[Any], Floats]], ...] = (
    ("mean", stats.mean),
    ("median", stats.median),
    ("iqm", stats.iqm),
    ("optimality_gap", stats.optimality_gap),
)


def overall_of(
    groups: Mapping[str, Mapping[str, Group]],
    references: Mapping[str, Reference | None],
    methods: Sequence[str],
    setting: Setting,
) -> tuple[tuple[Overall, ...], tuple[str, ...]]:
    """(one entry per method, notes). Empty with fewer than two environments that have references and all methods."""
    if len(groups) < 2:
        return (), ()
    tasks = [env for env in groups if _usable(env, groups, references, methods)]
    left_out = [env for env in groups if env not in tasks]
    notes: tuple[str, ...] = ()
    if left_out:
        notes = (
            f"The figures over all environments leave out {', '.join(left_out)}: no reference score, or a method "
            f"without a completed run.",
        )
    if len(tasks) < 2:
        return (), notes
    scores = {m: [_scores(groups[env][m], references[env]) for env in tasks] for m in methods}
    return tuple(_entry(m, scores, methods[0], len(tasks), setting) for m in methods), notes


def _usable(
    env: str,
    groups: Mapping[str, Mapping[str, Group]],
    references: Mapping[str, Reference | None],
    methods: Sequence[str],
) -> bool:
    reference = references[env]
    there = all(m in groups[env] and groups[env][m].finished for m in methods)
    return reference is not None and reference.reference is not None and there


def _scores(group: Group, reference: Reference | None) -> Floats:
    assert reference is not None
    return reference.normalized(np.array([run.points[-1].mean_return for run in group.finished]))


def _entry(method: str, scores: Mapping[str, list[Floats]], baseline: str, tasks: int, setting: Setting) -> Overall:
    ways: dict[str, Any] = {"rng": setting.rng, "draws": setting.draws, "level": setting.level}
    source = f"last evaluations of completed runs on {tasks} environments, 0 is random, 1 is the reference"
    made: dict[str, Figure] = {
        name: figure(stats.stratified(scores[method], statistic, **ways), "normalised", "measured", source)
        for name, statistic in _STATISTICS
    }
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
