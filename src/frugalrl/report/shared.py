"""Runs that shared a process: what follows for figures that come from its clocks.

Seeds that were trained together (docs/stacked.md) are each charged an even share of one process's clocks. What made it
slow is in all of them, so for CPU time, wall time, loads, joules, money and memory the process is the unit.
Steps, updates, FLOPs and scores are counted for each seed and stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from frugalrl import stats
from frugalrl.report.records import RunRecord
from frugalrl.report.results import Figure
from frugalrl.report.words import listed

if TYPE_CHECKING:
    from frugalrl.report.groups import Floats, Group, Setting
    from frugalrl.stats.shared import Units

SHARED_CLOCK = stats.SHARED_CLOCK
_OWN = "With `frugal compare --no-stack` every seed has its own process."


def units_of(runs: Sequence[RunRecord]) -> Units | None:
    """[runs] the unit of each, runs that shared a process having the same; None where each had a process of its own."""
    alone = np.arange(len(runs))
    sides = [
        np.where([name in run.stacks for run in runs], -1, alone)
        for name in dict.fromkeys(name for run in runs for name in run.stacks)
    ]
    units = stats.linked(alone, *sides) if sides else None
    return None if units is None or stats.count_of(units, len(runs)) == len(runs) else units


def mean_over(
    values: Floats, setting: Setting, units: Units | None = None, bounds: tuple[float, float] = (-np.inf, np.inf)
) -> stats.Estimate:
    """Mean over runs, its interval over units; none where all of several runs are one unit."""
    if len(values) > 1 and stats.count_of(units, len(values)) < 2:
        return stats.Estimate(float(values.mean()), None, len(values), setting.level, SHARED_CLOCK)
    ways: dict[str, Any] = {"rng": setting.rng, "draws": setting.draws, "level": setting.level}
    return replace(stats.stratified([stats.by_unit(values, units)], stats.mean, bounds=bounds, **ways), n=len(values))


def without_interval(figure: Figure) -> Figure:
    """The figure as it stands for runs that shared a clock."""
    if figure.interval is None:
        return figure
    return replace(figure, interval=None, source=f"{figure.source.rpartition('; ')[0]}; {SHARED_CLOCK}")


def no_interval(figure: Figure) -> str:
    """Why a figure that is known has no interval."""
    if figure.source.endswith(SHARED_CLOCK):
        return "the seeds shared one process's clock, so it has no interval"
    return "one seed has no interval"


def notes_of(groups: Mapping[str, Mapping[str, Group]]) -> Iterator[str]:
    """What a reader must know of the methods whose seeds shared processes, by environment."""
    for env, methods in groups.items():
        found: dict[int, list[str]] = {}
        for method, group in methods.items():
            units = units_of(group.runs)
            if units is not None:
                found.setdefault(stats.count_of(units, len(group.runs)), []).append(method)
        what = "CPU time, wall time, loads, energy, money and memory"
        for count, names in found.items():
            who = f"The seeds of {listed(names)} on {env} shared"
            if count == 1:
                yield (
                    f"{who} one process's clock{' per method' if len(names) > 1 else ''}: {what} have no interval "
                    f"there and no difference in them is shown; samples, updates and FLOPs are counted for each seed. "
                    f"{_OWN}"
                )
            else:
                yield (
                    f"{who} {count} processes per method: for {what} these are the unit of intervals, not the seeds. "
                    f"{_OWN}"
                )
