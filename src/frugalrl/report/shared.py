"""Runs that shared a process: what follows for figures that come from its clocks.

Seeds that were trained together (docs/stacked.md) are each charged an even share of one process's clocks. What made it
slow is in all of them. For means and targets of CPU time, wall time, loads, joules and money the spread of the
processes' paces is added to that of the seeds (`stats.Paces`); for scores at equal money, and for memory, the process
is the unit. Steps, updates, FLOPs and scores are counted for each seed and stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
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
    points: tuple[tuple[Point, ...], ...]
    """[runs] of each: its evaluations, and its end."""
    others: tuple[Processes, ...] = ()
    """Of the other methods on this environment whose runs shared processes."""
    known: dict[Quantity, list[stats.Clocks]] = field(default_factory=dict, compare=False, repr=False)
    """`clocks` of quantities that were asked for; each is asked for by every target, and by every ratio to it."""

    def clocks(self, use: Callable[[Point], float | None]) -> list[stats.Clocks]:
        """Of this method, then of the others, in one quantity."""
        return [side._clocks(use) for side in (self, *self.others)]

    def _clocks(self, use: Callable[[Point], float | None]) -> stats.Clocks:
        def read(points: Sequence[Point]) -> Floats:
            return np.array([np.nan if (value := use(point)) is None else value for point in points], np.float64)

        steps = [np.array([point.env_steps for point in points], np.float64) for points in self.points]
        return stats.Clocks(self.units, steps, [read(points) for points in self.points])


def paces_in(
    quantity: Quantity, processes: Processes | None, rates: Rates, read: Sequence[Point], at: Sequence[int]
) -> stats.Paces | None:
    """Of the runs at ``at``, which were read at the points ``read``; None where they shared nothing, or where the
    quantity is counted for each of them."""
    if processes is None or quantity in COUNTS:
        return None
    if quantity not in processes.known:
        processes.known[quantity] = processes.clocks(lambda point: used_at(point, rates)[quantity])
    mine, *others = processes.known[quantity]
    return stats.paces_of(mine, others, [point.env_steps for point in read], at)


def processes_of(runs: Mapping[str, Sequence[RunRecord]]) -> dict[str, Processes]:
    """By method, of those whose runs shared processes."""
    found = {}
    for method, mine in runs.items():
        units = units_of(mine)
        if units is not None:
            found[method] = Processes(units, tuple(_course(run) for run in mine))
    return {m: Processes(p.units, p.points, tuple(o for n, o in found.items() if n != m)) for m, p in found.items()}


def _course(run: RunRecord) -> tuple[Point, ...]:
    end, last = run.ended, run.last
    goes_on = end is not None and (last is None or end.env_steps > last.env_steps)
    return (*run.points, end) if goes_on and end is not None else run.points


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
        freedom = _freedom(processes_of({method: methods[method].charged for method in methods}))
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


def _freedom(shared: Mapping[str, Processes]) -> int:
    """Degrees of freedom of the spread of paces at the end of the budget."""
    first = next(iter(shared.values()), None)
    if first is None:
        return 0
    mine, *others = first.clocks(lambda point: point.cpu_s)
    return stats.paces_of(mine, others, [steps[-1] if len(steps) else 0.0 for steps in mine.steps]).freedom
