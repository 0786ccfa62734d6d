"""Intervals of aggregates over runs and tasks, and of what two methods differ by on the same seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from frugalrl.stats import resample
from frugalrl.stats.estimate import Estimate, Floats, size_of, task_list, unless_alike
from frugalrl.stats.resample import Indices, Method

Statistic = Callable[[Any], Floats]
"""Maps scores [..., runs, tasks] to [...]; with tasks of different sizes, a list of [..., runs] per task."""
Combine = Literal["difference", "ratio", "of-difference"]


def _take(tasks: list[Floats], picked: Indices) -> Floats | list[Floats]:
    taken = [task[index] for task, index in zip(tasks, picked, strict=True)]
    return np.stack(taken, -1) if len({len(task) for task in tasks}) == 1 else taken


def stratified(
    scores: ArrayLike | Sequence[ArrayLike],
    statistic: Statistic,
    *,
    rng: np.random.Generator,
    draws: int = 2000,
    level: float = 0.95,
    method: Method = "t",
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> Estimate:
    """A statistic of scores with an interval over runs: runs are resampled within each task, tasks stay as they are.

    Args:
        scores: [runs, tasks], or a list with one array [runs] per task.
        statistic: One of ``stats.aggregates``, or any function with their signature.
        method: See ``stats.resample``; ``t`` by default, because it covers better with few runs.
        bounds: Smallest and largest possible value of the statistic.

    Raises:
        ValueError: a score that is not finite (the message says which), a wrong shape, level, draws or method.
    """
    tasks = task_list(scores)
    sizes = [len(task) for task in tasks]

    def evaluate(picked: Indices) -> Floats:
        return np.asarray(statistic(_take(tasks, picked)))

    value = resample.of_the_data(evaluate, sizes)
    ends, how = resample.interval(
        evaluate, value, sizes, rng=rng, draws=draws, level=level, method=method, bounds=bounds
    )
    return Estimate(value, ends, min(sizes), level, how)


def paired(
    a: ArrayLike | Sequence[ArrayLike],
    b: ArrayLike | Sequence[ArrayLike],
    statistic: Statistic,
    *,
    rng: np.random.Generator,
    combine: Combine = "difference",
    draws: int = 2000,
    level: float = 0.95,
    method: Method = "t",
) -> Estimate:
    """What a differs from b by, when run i of a and run i of b of a task used the same seed.

    A resample holds the same seeds for both (common random numbers), so what a seed does to both cancels. A few seeds
    that all differ by the same amount have no bounds, see `unless_alike`.

    Args:
        a, b: [seeds, tasks] in the same order, or lists with one array [seeds] per task.
        combine: ``difference``: statistic(a) - statistic(b). ``ratio``: statistic(a) / statistic(b), its interval made
            of logarithms with the t method, so both must be positive in every resample. ``of-difference``:
            statistic(a - b).

    Raises:
        ValueError: as ``stratified``; different shapes; an unknown ``combine``; a ratio of numbers not above 0.
    """
    ours, theirs = task_list(a, "scores of a"), task_list(b, "scores of b")
    sizes = [len(task) for task in ours]
    if sizes != [len(task) for task in theirs]:
        raise ValueError(
            f"paired methods have the same seeds: a has {sizes} runs per task, b has {[len(task) for task in theirs]}"
        )
    if combine not in ("difference", "ratio", "of-difference"):
        raise ValueError(f"there is no way to combine named {combine!r}; use 'difference', 'ratio' or 'of-difference'")
    apart = [x - y for x, y in zip(ours, theirs, strict=True)]

    def evaluate(picked: Indices) -> Floats:
        if combine == "of-difference":
            return np.asarray(statistic(_take(apart, picked)))
        of_a, of_b = statistic(_take(ours, picked)), statistic(_take(theirs, picked))
        if combine == "difference":
            return np.asarray(of_a - of_b)
        if not (np.all(of_a > 0) and np.all(of_b > 0)):
            raise ValueError("a ratio needs statistics above 0, also of resampled runs; use combine='difference'")
        return np.log(of_a) - np.log(of_b)

    value = resample.of_the_data(evaluate, sizes)
    ends, how = resample.interval(evaluate, value, sizes, rng=rng, draws=draws, level=level, method=method)
    if combine == "ratio":
        value = float(np.exp(value))
        ends = None if ends is None else (float(np.exp(ends[0])), float(np.exp(ends[1])))
    if ends is None:
        return Estimate(value, None, min(sizes), level, how)
    none, least = (1.0, 0.0) if combine == "ratio" else (0.0, -np.inf)
    ways: dict[str, Any] = {
        "scale": 0.0 if combine == "ratio" else size_of(ours, theirs), "resampled": method == "percentile",
    }  # fmt: skip
    ends, why = unless_alike(ends, none, sum(sizes), level, (least, np.inf), **ways)
    return Estimate(value, ends, min(sizes), level, why or f"{how}, seeds paired")
