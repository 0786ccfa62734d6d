"""Main effects of the levers on the time to a target, as a function of what one environment step costs.

The time of a run is modelled as in `report.crossover`: samples x cost of a step + everything else, one after another.
Where a step costs nothing the effect is that on everything else, where it costs very much it is that on samples, so the
lines say which lever is for a cheap simulator and which for an expensive one. Money is time at a price per second, so
the ratios are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from frugalrl import stats
from frugalrl.report.crossover import GRID_MS, Line, line_of
from frugalrl.report.groups import Reached, Setting, unless_tied
from frugalrl.report.lever_design import Design
from frugalrl.report.results import LeverLine
from frugalrl.stats.factorial import Levels


def lever_lines(
    design: Design, cells: Mapping[Levels, Reached], seeds: tuple[int, ...] | None, setting: Setting
) -> tuple[LeverLine, ...]:
    """One line per lever; empty where runs are of several machines, or the environment's share of one is not known.

    ``seeds``: of every cell, in the same order; None where they are not paired.
    """
    made = {levels: line_of("", reached, setting) for levels, reached in cells.items()}
    known = {levels: line for levels, line in made.items() if line is not None and len(line.steps)}
    if len(known) < len(cells) or not setting.same_machine:
        return ()
    paired = seeds is not None
    return tuple(_effect(lever.name, at, known, paired, setting) for at, lever in enumerate(design.levers))


def _effect(name: str, at: int, lines: Mapping[Levels, Line], paired: bool, setting: Setting) -> LeverLine:
    reached = {levels: line.mine.reached for levels, line in lines.items()}
    ways: dict[str, Any] = {"rng": setting.rng, "draws": setting.draws, "level": setting.level, "paired": paired}
    due = stats.cost_effect({levels: line.mine.due for levels, line in lines.items()}, reached, (at,), **ways)

    def effect(step_ms: float) -> stats.Estimate:
        costs = {levels: line.cost_s(step_ms) for levels, line in lines.items()}
        paces = {levels: found for levels, line in lines.items() if (found := line.paces(step_ms)) is not None}
        return unless_tied(stats.cost_effect(costs, reached, (at,), paces=paces, **ways), due)

    made = [effect(float(step_ms)) for step_ms in GRID_MS]
    return LeverLine(
        lever=name,
        step_ms=tuple(float(c) for c in GRID_MS),
        value=tuple(e.value if np.isfinite(e.value) else None for e in made),
        low=tuple(None if e.interval is None else e.interval[0] for e in made),
        high=tuple(None if e.interval is None else e.interval[1] for e in made),
    )
