"""Runs that shared what was measured: seeds that one process trained, each charged its share of the process's clocks.

Whatever slows that process down is in all of its shares alike, so they say nothing about how another process would have
done. The unit of such a quantity is the process: its runs are added up before a spread is taken.

Where more is known than sums, fewer processes will do. What a run takes until a target is its work times the pace of
its process. The pace of each is known from all that it did, and how far paces vary is a property of the machine that
methods have in common (`Paces`); what is left when the pace is divided out is each seed's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from frugalrl.stats.estimate import Floats

SHARED_CLOCK = "no interval: the seeds shared one process's clock"
"""Why there is no interval where all runs are one unit."""
PERCENTILE_SHARED = "method 'percentile' draws runs anew, which paces say are not independent; use 't'"

Units = NDArray[np.intp]
"""[runs] the unit of each: 0, 1, ..."""


@dataclass(frozen=True, slots=True)
class Paces:
    """Of the processes that runs of one method shared, in one quantity."""

    units: Units
    pace: Floats
    """[runs] what its process took for a step, the same for all of its runs."""
    variance: float
    """Of log pace between processes of one method, as `paces_of` estimates it from several methods."""
    freedom: int
    """Degrees of freedom of ``variance``; 0: nothing is known of it."""

    def among(self, at: NDArray[np.intp]) -> Paces:
        """Only these runs, in this order."""
        return replace(self, units=linked(self.units[at]), pace=self.pace[at])

    def spread(self, costs: Floats) -> float:
        """Variance of the logarithm of the sum of costs [runs] that the paces alone cause, to first order."""
        return self.variance * float(((summed(costs, self.units) / costs.sum()) ** 2).sum())


def paces_of(methods: Sequence[tuple[Units, ArrayLike, ArrayLike]]) -> list[Paces]:
    """Paces of the processes of several methods, whose spread is taken to be the same in all of them.

    Args:
        methods: (units, use [runs] at the end of each run, steps [runs] until then) of each.

    A process that used nothing, or whose runs got less than half as far on average as those of the method that got
    furthest, has no pace: starting is no step, and what it takes would pass for slowness. It says nothing of the
    spread, and its own runs have the geometric mean of the others' paces, which leaves their costs apart as they are.
    """
    found, squares, freedom = [], 0.0, 0
    for units, use, steps in methods:
        used, made = summed(use, units), summed(steps, units)
        far = made / np.bincount(units)
        known = (used > 0) & (made > 0) & (far >= far.max() / 2)
        pace = np.ones(len(used))
        if known.any():
            logs = np.log(used[known] / made[known])
            squares += float(((logs - logs.mean()) ** 2).sum())
            freedom += len(logs) - 1
            pace[:] = np.exp(logs.mean())
            pace[known] = used[known] / made[known]
        found.append((units, pace[units]))
    return [Paces(units, pace, squares / max(freedom, 1), freedom) for units, pace in found]


def linked(*sides: ArrayLike) -> Units:
    """Units of runs that must stay together because they have a label in common on any side, directly or in a chain.

    Two methods that are paired by seed have two sides: what shared a process with one or with the other is one unit.
    """
    labels = [np.asarray(side) for side in sides]
    found = np.arange(len(labels[0]))
    while True:
        before = found.copy()
        for side in labels:
            for label in np.unique(side):
                found[side == label] = found[side == label].min()
        if (found == before).all():
            return np.asarray(np.unique(found, return_inverse=True)[1], np.intp)


def summed(values: ArrayLike, units: ArrayLike | None) -> Floats:
    """[units] sums of the runs of each unit; the runs as they are where each is its own (None)."""
    numbers = np.asarray(values, np.float64)
    if units is None:
        return numbers
    return np.asarray(np.bincount(np.asarray(units, np.intp), weights=numbers), np.float64)


def by_unit(values: ArrayLike, units: ArrayLike | None) -> Floats:
    """[units] numbers with the mean of all runs, and the spread of that mean when units are drawn instead of runs."""
    numbers = np.asarray(values, np.float64)
    if units is None:
        return numbers
    mean, sums = numbers.mean(), summed(numbers - numbers.mean(), units)
    return np.asarray(mean + sums * len(sums) / len(numbers))


def count_of(units: ArrayLike | None, runs: int) -> int:
    """How many units there are; as many as runs without any."""
    return runs if units is None else int(np.asarray(units).max()) + 1
