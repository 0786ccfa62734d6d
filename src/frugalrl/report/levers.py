"""What each lever saves, and whether the levers help each other: effects of the factorial on every cost of a target."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from frugalrl import stats
from frugalrl.report.figure import figure, unknown
from frugalrl.report.groups import Floats, Group, Reached, Setting, unless_tied
from frugalrl.report.lever_design import Design, design_of
from frugalrl.report.lever_steps import lever_lines
from frugalrl.report.results import QUANTITIES, Figure, LeverEffect, LeverQuantity, Levers, LeverTarget
from frugalrl.report.use import origin
from frugalrl.stats.factorial import Levels
from frugalrl.types import How

COSTS: tuple[LeverQuantity, ...] = (
    "env_steps", "frames", "updates", "flop", "sampler_s", "learner_s", "cpu_s", "gpu_s", "wall_s", "joules", "eur",
)  # fmt: skip
TITLES: Mapping[LeverQuantity, str] = {
    **{q: title for q, (title, _) in QUANTITIES.items()}, "frames": "frames", "score": "final score",
}  # fmt: skip
_FRAMES: tuple[How, str] = ("counted", "emulator frames of training, skipped ones included")


def levers_of(
    groups: Mapping[str, Group], reached: Mapping[str, list[Reached]], baseline: str, setting: Setting
) -> Levers | None:
    """The levers of an environment; None where its methods are no full factorial.

    ``reached``: by method, one entry per target.
    """
    design = design_of(groups, baseline)
    if design is None:
        return None
    count = len(next(iter(reached.values())))
    return Levers(
        learner=design.learner,
        levers=design.levers,
        cells={method: tuple(bool(x) for x in levels) for method, levels in design.cells.items()},
        targets=tuple(_target(design, {m: r[i] for m, r in reached.items()}, setting) for i in range(count)),
        score=tuple(_scores(design, groups, setting)),
    )


def _target(design: Design, reached: Mapping[str, Reached], setting: Setting) -> LeverTarget:
    first = next(iter(reached.values()))
    return LeverTarget(
        target=first.target,
        reached=sum(int(r.reached.sum()) for r in reached.values()),
        runs=sum(len(r.seeds) for r in reached.values()),
        effects=tuple(_costs(design, reached, setting)),
        by_step=lever_lines(design, *_by_cell(design, reached), setting),
    )


def _by_cell(design: Design, reached: Mapping[str, Reached]) -> tuple[dict[Levels, Reached], tuple[int, ...] | None]:
    """The runs of each cell, and the seeds where they are paired; then only those."""
    seeds = _paired({m: r.seeds for m, r in reached.items()})
    return {design.cells[m]: r if seeds is None else r.among(seeds) for m, r in reached.items()}, seeds


def _costs(design: Design, reached: Mapping[str, Reached], setting: Setting) -> Iterator[LeverEffect]:
    by_cell, seeds = _by_cell(design, reached)
    empty = [m for m, r in reached.items() if not len(r.seeds)]
    for quantity in COSTS:
        how, source = _FRAMES if quantity == "frames" else origin(quantity, setting.rates)  # type: ignore[arg-type]
        used = {c: _used(r, quantity) for c, r in by_cell.items()}
        for effect in stats.effects(len(design.levers)):
            names = tuple(design.levers[at].name for at in effect)
            if empty or any(values is None for values in used.values()):
                why = f"no run of {empty[0]} has an evaluation" if empty else "not measured in every run"
                nothing = unknown("ratio", how, why)
                yield LeverEffect(levers=names, quantity=quantity, effect=nothing, restricted=nothing)
                continue
            costs = {c: values for c, values in used.items() if values is not None}
            paces = _paces(by_cell, quantity, setting)
            made = [_effect(costs, by_cell, paces, effect, kind, seeds, setting) for kind in ("expected", "restricted")]
            due = {c: r.due for c, r in by_cell.items()}
            tied = [_effect(due, by_cell, {}, effect, kind, seeds, setting) for kind in ("expected", "restricted")]
            made = [(unless_tied(m, t), words) for (m, words), (t, _) in zip(made, tied, strict=True)]
            figures: list[Figure] = [figure(m, "ratio", how, f"{words}; {source}") for m, words in made]
            yield LeverEffect(levers=names, quantity=quantity, effect=figures[0], restricted=figures[1])


def _paces(cells: Mapping[Levels, Reached], quantity: LeverQuantity, setting: Setting) -> dict[Levels, stats.Paces]:
    """Of the cells whose runs shared clocks."""
    if quantity == "frames":
        return {}
    found = {c: r.clocks(quantity, setting) for c, r in cells.items()}  # type: ignore[arg-type]
    return {c: paces for c, paces in found.items() if paces is not None}


def _effect(
    costs: Mapping[Levels, Floats],
    cells: Mapping[Levels, Reached],
    paces: Mapping[Levels, stats.Paces],
    effect: tuple[int, ...],
    kind: Any,
    seeds: tuple[int, ...] | None,
    setting: Setting,
) -> tuple[stats.Estimate, str]:
    words = {
        "expected": "ratio of geometric means over cells of the expected cost",
        "restricted": "ratio of geometric means over runs of the cost until the target or the end of the budget",
    }
    made = stats.cost_effect(
        costs,
        {c: r.reached for c, r in cells.items()},
        effect,
        kind=kind,
        paired=seeds is not None,
        rng=setting.rng,
        draws=setting.draws,
        level=setting.level,
        paces=paces,
    )
    return made, words[kind]


def _used(reached: Reached, quantity: LeverQuantity) -> Floats | None:
    """[runs]; None where it is not known of every run."""
    if quantity != "frames":
        return reached.use[quantity]  # type: ignore[index]
    frames = [point.frames for point in reached.points]
    return None if None in frames else np.array(frames, np.float64)


def _scores(design: Design, groups: Mapping[str, Group], setting: Setting) -> Iterator[LeverEffect]:
    finals = {m: {run.seed: run.points[-1].mean_return for run in g.finished} for m, g in groups.items()}
    source = "difference of mean final scores: last evaluation of each run that completed"
    empty = [m for m, scores in finals.items() if not scores]
    seeds = _paired({m: tuple(scores) for m, scores in finals.items()})
    for effect in stats.effects(len(design.levers)):
        names = tuple(design.levers[at].name for at in effect)
        if empty:
            made = unknown("return", "measured", f"no run of {empty[0]} completed")
        else:
            estimate = stats.score_effect(
                {design.cells[m]: [scores[s] for s in seeds or scores] for m, scores in finals.items()},
                effect,
                paired=seeds is not None,
                rng=setting.rng,
                draws=setting.draws,
                level=setting.level,
            )
            made = figure(estimate, "return", "measured", source)
        yield LeverEffect(levers=names, quantity="score", effect=made, restricted=None)


def _paired(seeds: Mapping[str, tuple[int, ...]]) -> tuple[int, ...] | None:
    """The seeds that all cells have; None where they share fewer than two and have more: all runs are independent."""
    common = set.intersection(*(set(s) for s in seeds.values()))
    least = min(len(s) for s in seeds.values())
    return tuple(sorted(common)) if len(common) >= min(2, max(1, least)) else None
