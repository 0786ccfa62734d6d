"""Runs that shared a process: what follows for figures that come from its clocks.

Seeds that were trained together (docs/stacked.md) are each charged an even share of one process's clocks. What made it
slow is in all of them. For means and targets of CPU time, wall time, loads, joules and money the spread of the
processes' paces is added to that of the seeds (`stats.Paces`); for scores at equal money, and for memory, the process
is the unit. Steps, updates, FLOPs and scores are counted for each seed and stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from frugalrl import stats
from frugalrl.report.records import Point, RunRecord
from frugalrl.report.results import Figure, Quantity
from frugalrl.report.use import COUNTS, Rates, used_at
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


@dataclass(frozen=True, slots=True)
class Processes:
    """What the runs of one method shared, and with whom it is compared."""

    units: Units
    """[runs]"""
    ends: tuple[Point, ...]
    """[runs] all that each used."""
    others: tuple[Processes, ...] = ()
    """Of the other methods on this environment whose runs shared processes."""

    def paces(self, use: Callable[[Point], float | None], at: Sequence[int] | None = None) -> stats.Paces:
        """For one quantity, their spread from all methods, of the runs at ``at`` (None: all). A process of which a run
        does not tell says nothing of the spread."""
        sides = (self, *self.others)
        used = [[np.nan if (value := use(end)) is None else value for end in side.ends] for side in sides]
        steps = [[end.env_steps for end in side.ends] for side in sides]
        mine = stats.paces_of([(side.units, u, n) for side, u, n in zip(sides, used, steps, strict=True)])[0]
        return mine if at is None else mine.among(np.asarray(at, np.intp))


def paces_in(
    quantity: Quantity, processes: Processes | None, rates: Rates, at: Sequence[int] | None = None
) -> stats.Paces | None:
    """Of the runs at ``at``; None where they shared nothing, or where the quantity is counted for each of them."""
    if processes is None or quantity in COUNTS:
        return None
    return processes.paces(lambda point: used_at(point, rates)[quantity], at)


def processes_of(runs: Mapping[str, Sequence[RunRecord]]) -> dict[str, Processes]:
    """By method, of those whose runs shared processes; every run is one of which it is known what it used."""
    found = {}
    for method, mine in runs.items():
        units, ends = units_of(mine), tuple(end for run in mine if (end := run.spent) is not None)
        if units is not None:
            found[method] = Processes(units, ends)
    return {m: replace(p, others=tuple(o for n, o in found.items() if n != m)) for m, p in found.items()}


def mean_over(
    values: Floats, setting: Setting, units: Units | None = None, bounds: tuple[float, float] = (-np.inf, np.inf)
) -> stats.Estimate:
    """Mean over runs, its interval over units; none where all of several runs are one unit."""
    if len(values) > 1 and stats.count_of(units, len(values)) < 2:
        return stats.Estimate(float(values.mean()), None, len(values), setting.level, SHARED_CLOCK)
    ways: dict[str, Any] = {"rng": setting.rng, "draws": setting.draws, "level": setting.level}
    return replace(stats.stratified([stats.by_unit(values, units)], stats.mean, bounds=bounds, **ways), n=len(values))


def mean_use(values: Floats, setting: Setting, paces: stats.Paces | None) -> stats.Estimate:
    """Mean over runs of what they used; where they shared clocks, with the spread of the processes' paces."""
    if paces is None:
        return mean_over(values, setting, bounds=(0.0, np.inf))
    return stats.expected_cost(values, np.ones(len(values), np.bool_), level=setting.level, paces=paces)


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
        shared = processes_of({method: methods[method].runs for names in found.values() for method in names})
        freedom = next((p.paces(lambda end: end.cpu_s).freedom for p in shared.values()), 0)
        for count, names in found.items():
            who = f"The seeds of {listed(names)} on {env} shared"
            if freedom == 0:
                yield (
                    f"{who} one process's clock{' per method' if len(names) > 1 else ''}: CPU time, wall time, loads, "
                    f"energy, money and memory have no interval there and no difference in them is shown; samples, "
                    f"updates and FLOPs are counted for each seed. {_OWN}"
                )
            else:
                yield (
                    f"{who} {count} process{'es' if count > 1 else ''} per method: what the paces of processes differ "
                    f"by, in all methods together ({freedom} degree{'s' if freedom > 1 else ''} of freedom), is added "
                    f"to what the seeds differ by in intervals of CPU time, wall time, loads, energy and money; for "
                    f"memory, curves and scores at equal money a process counts as one run. {_OWN}"
                )
