"""Runs that shared what was measured: seeds that one process trained, each charged its share of the process's clocks.

Whatever slows that process down is in all of its shares alike, so they say nothing about how another process would have
done. The unit of such a quantity is the process: its runs are added up before a spread is taken.

Where more is known than sums, fewer processes will do. What a run takes until a target is its work times the pace of
its process until then. The pace of each is seen beside that of the others at the same steps, and how far paces vary is
a property of the machine that methods have in common (`Paces`); what is left when the pace is divided out is each
seed's own.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from frugalrl.stats.estimate import Floats

SHARED_CLOCK = "no interval: the seeds shared one process's clock"
"""Why there is no interval where all runs are one unit."""
_NEAR = 0.1
"""How far from the first or last reading of a run, as a share of its steps, its use still counts as known."""
PERCENTILE_SHARED = "method 'percentile' draws runs anew, which paces say are not independent; use 't'"

Units = NDArray[np.intp]
"""[runs] the unit of each: 0, 1, ..."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """What the runs of one method had used of a quantity on their way, where they shared processes."""

    units: Units
    steps: Sequence[Floats]
    """[runs] of each: the steps at which it was read, rising."""
    use: Sequence[Floats]
    """[runs] of each: what it had used then, in the same order."""

    def at(self, steps: Floats) -> Floats:
        """[processes, steps] what runs of each had used on average; nan where none of them was looked at so early or
        so late, or where it is 0 or not known."""
        found = np.stack([self._run(i, steps) for i in range(len(self.units))])
        there = np.isfinite(found)
        total, count = (np.zeros((int(self.units.max()) + 1, len(steps))) for _ in range(2))
        np.add.at(total, self.units, np.where(there, found, 0.0))
        np.add.at(count, self.units, there)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = total / count
        return np.where(mean > 0.0, mean, np.nan)

    def _run(self, i: int, steps: Floats) -> Floats:
        mine = self.steps[i]
        if not len(mine):
            return np.full(len(steps), np.nan)
        near = (steps >= mine[0] * (1 - _NEAR)) & (steps <= mine[-1] * (1 + _NEAR))
        return np.where(near, np.interp(steps, mine, self.use[i]), np.nan)


@dataclass(frozen=True, slots=True)
class Paces:
    """Of the processes that runs of one method shared, in one quantity."""

    units: Units
    pace: Floats
    """[runs] what the run's process had used when the run was read, over what those of the method had on average."""
    variance: float
    """Of log pace between processes of one method, as `paces_of` estimates it from several methods."""
    freedom: int
    """Degrees of freedom of ``variance``; 0: nothing is known of it."""

    def spread(self, costs: Floats) -> float:
        """Variance of the logarithm of the sum of costs [runs] that the paces alone cause, to first order."""
        return self.variance * float(((summed(costs, self.units) / costs.sum()) ** 2).sum())


def paces_of(mine: Clocks, others: Sequence[Clocks], steps: ArrayLike, runs: ArrayLike | None = None) -> Paces:
    """Paces of the processes of one method at the steps [runs] at which its runs were read; ``runs``: only these of
    them, by their places in ``mine``.

    A pace may change on the way, so each is taken until there. How far paces differ until there is taken to be the same
    in all methods, and is estimated from all of them. A process that was not looked at near most of these steps, as one
    that failed at its start, says nothing of the spread: what starting takes would pass for slowness. Runs of such a
    process have the pace of the others.
    """
    at = np.asarray(steps, np.float64)
    units = mine.units if runs is None else mine.units[np.asarray(runs, np.intp)]
    squares, freedom, pace = 0.0, 0, np.ones(len(at))
    for clocks in (mine, *others):
        used = clocks.at(at)
        known = np.isfinite(used).mean(1) > 0.5
        if not known.any():
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # steps near which no process was looked at
            logs = np.log(used) - np.nanmean(np.log(used[known]), 0)
            means = np.nanmean(logs[known], 1)
        squares += float(((means - means.mean()) ** 2).sum())
        freedom += int(known.sum()) - 1
        if clocks is mine:
            own = logs[units, np.arange(len(at))]
            pace = np.exp(np.where(known[units] & np.isfinite(own), own, 0.0))
    return Paces(linked(units), pace, squares / max(freedom, 1), freedom)


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
