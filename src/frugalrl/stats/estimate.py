"""What every estimator returns, and what it takes: numbers over runs, checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number over runs with its interval."""

    value: float
    """nan or inf only where the function that made it says so."""
    interval: tuple[float, float] | None
    """None: refused, and ``how`` says why (one run knows nothing of its spread). Ends may be infinite."""
    n: int
    """Runs (seeds) that it rests on; of several tasks, the fewest runs of a task."""
    level: float = 0.95
    """Coverage that the interval aims at."""
    how: str = ""
    """How the interval was made, in words."""


def check_level(level: float) -> None:
    """Raises ValueError unless 0 < level < 1."""
    if not 0.0 < level < 1.0:
        raise ValueError(f"a level lies between 0 and 1, not {level}; 0.95 is usual")


def check_draws(draws: int) -> None:
    """Raises ValueError for fewer than 100 draws: the ends of an interval would be noise."""
    if draws < 100:
        raise ValueError(f"{draws} bootstrap draws are too few for an interval; use 100 or more, 2,000 is usual")


def given(rng: np.random.Generator | None) -> np.random.Generator:
    """The generator; raises ValueError where a method that draws got none."""
    if rng is None:
        raise ValueError("the percentile method resamples runs; pass rng=numpy.random.default_rng(SEED)")
    return rng


def task_list(scores: ArrayLike | Sequence[ArrayLike], what: str = "scores") -> list[Floats]:
    """One array [runs] per task, of scores [runs, tasks] or of a list with one array per task.

    Raises:
        ValueError: no runs, another shape, or a score that is not finite: the message says which.
    """
    if isinstance(scores, np.ndarray):
        if scores.ndim != 2:
            raise ValueError(f"{what} have the shape [runs, tasks], not {list(scores.shape)}; one task is [runs, 1]")
        tasks = [np.asarray(column, np.float64) for column in scores.T]
    else:
        tasks = [np.asarray(task, np.float64) for task in scores]  # type: ignore[union-attr]
    if not tasks:
        raise ValueError(f"{what} hold no task")
    for t, task in enumerate(tasks):
        if task.ndim != 1 or not task.size:
            raise ValueError(f"{what} of task {t} have the shape {list(task.shape)}, not [runs] with one run or more")
        bad = np.flatnonzero(~np.isfinite(task))
        if bad.size:
            raise ValueError(f"{what} of run {bad[0]} in task {t} is {task[bad[0]]}; a score is a finite number")
    return tasks


def one_run(level: float, n: int = 1) -> str:
    """Why there is no interval."""
    return f"no {100 * level:g} % interval: {n} run says nothing about the spread between runs"


def unless_alike(
    ends: tuple[float, float],
    none: float,
    n: int,
    level: float,
    widest: tuple[float, float] = (-np.inf, np.inf),
    *,
    scale: float = 0.0,
    resampled: bool = False,
) -> tuple[tuple[float, float], str]:
    """The interval of a difference, ratio or cost, and a reason where it is taken back.

    Scores are discrete (answers of 512, points of a game), and so are samples to a target, which are read at
    evaluations: a few runs may differ by exactly the same amount, and Student's interval then has no width. That says
    something only from as many runs on as the sign test needs: with fewer, nothing is known of the spread, and the
    interval is ``widest``. A percentile bootstrap excludes no difference wherever all runs differ in the same
    direction, whatever their spread, so it needs as many.

    Args:
        none: The value of no difference; an interval that is just this claims nothing, and stays. nan: there is none.
        scale: Size of the numbers that were subtracted: what they are rounded by is no width.
        resampled: The ends are those of a percentile bootstrap.
    """
    low, high = ends
    rounding = 1e-12 * max(abs(low), abs(high), scale)
    alike = np.isfinite(rounding) and high - low <= rounding
    if alike and abs(low - none) <= rounding and abs(high - none) <= rounding:
        return (min(low, none), max(high, none)), ""
    if 2.0 * 0.5**n <= 1.0 - level:
        return ends, ""
    if alike:
        return widest, f"no bound: {n} runs that all differ by the same amount say nothing about the spread"
    if resampled:
        return widest, f"no bound: of {n} runs a percentile bootstrap shows a difference too often; method='t' does not"
    return ends, ""


def size_of(*groups: Sequence[Floats]) -> float:
    """The largest absolute value."""
    return max(float(np.abs(task).max()) for tasks in groups for task in tasks)
