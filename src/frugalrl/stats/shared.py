"""Runs that shared what was measured: seeds that one process trained, each charged its share of the process's clocks.

Whatever slows that process down is in all of its shares alike, so they say nothing about how another process would have
done. The unit of such a quantity is the process: its runs are added up before a spread is taken.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from frugalrl.stats.estimate import Floats

SHARED_CLOCK = "no interval: the seeds shared one process's clock"
"""Why there is no interval where all runs are one unit."""

Units = NDArray[np.intp]
"""[runs] the unit of each: 0, 1, ..."""


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
