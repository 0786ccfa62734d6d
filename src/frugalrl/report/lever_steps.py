"""Main effects of the levers on the time to a target, as a function of what one environment step costs.

The time of a run is modelled as in `report.crossover`: samples x cost of a step + everything else, one after another.
Where a step costs nothing the effect is that on everything else, where it costs very much it is that on samples, so the
lines say which lever is for a cheap simulator and which for an expensive one. Money is time at a price per second, so
the ratios are the same.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from frugalrl import stats
from frugalrl.report.crossover import GRID_MS, serial_rest_s
from frugalrl.report.groups import Floats, Reached, Setting
from frugalrl.report.lever_design import Design
from frugalrl.report.results import LeverLine
from frugalrl.stats.factorial import Levels


def lever_lines(
    design: Design, cells: Mapping[Levels, Reached], seeds: tuple[int, ...] | None, setting: Setting
) -> tuple[LeverLine, ...]:
    """One line per lever; empty where runs are of several machines, or the environment's share of one is not known.

    ``seeds``: of every cell, in the same order; None where they are not paired.
    """
    found = {levels: _parts(reached, setting) for levels, reached in cells.items()}
    parts = {levels: part for levels, part in found.items() if part is not None}
    if len(parts) < len(cells) or not setting.same_machine:
        return ()
    return tuple(_line(lever.name, at, parts, cells, seeds, setting) for at, lever in enumerate(design.levers))


def _parts(reached: Reached, setting: Setting) -> tuple[Floats, Floats] | None:
    """Samples and other serial seconds of each run until the target or its end."""
    rest = [serial_rest_s(point, has_gpu=setting.rates.has_gpu) for point in reached.points]
    steps = reached.use["env_steps"]
    if steps is None or None in rest or not rest:
        return None
    return steps, np.array(rest, np.float64)


def _line(
    name: str,
    at: int,
    parts: Mapping[Levels, tuple[Floats, Floats]],
    cells: Mapping[Levels, Reached],
    seeds: tuple[int, ...] | None,
    setting: Setting,
) -> LeverLine:
    reached = {levels: r.reached for levels, r in cells.items()}
    made = [
        stats.cost_effect(
            {levels: steps * float(step_ms) / 1e3 + rest_s for levels, (steps, rest_s) in parts.items()},
            reached,
            (at,),
            paired=seeds is not None,
            rng=setting.rng,
            draws=setting.draws,
            level=setting.level,
        )
        for step_ms in GRID_MS
    ]
    return LeverLine(
        lever=name,
        step_ms=tuple(float(c) for c in GRID_MS),
        value=tuple(e.value if np.isfinite(e.value) else None for e in made),
        low=tuple(None if e.interval is None else e.interval[0] for e in made),
        high=tuple(None if e.interval is None else e.interval[1] for e in made),
    )
