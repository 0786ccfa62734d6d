"""One number for many runs on many tasks, with the definitions of rliable 1.2.0 (Agarwal et al. 2021, NeurIPS).

``scores`` is an array [..., runs, tasks], or a list with one array [..., runs] per task where tasks have different
numbers of runs. Each function maps over the leading axes and returns [...].
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from frugalrl.stats.estimate import Floats

Scores = Floats | Sequence[Floats]


def _checked(scores: Scores) -> Floats | list[Floats]:
    """Float arrays of the right rank; raises ValueError that says which score is not a number."""
    if isinstance(scores, np.ndarray):
        if scores.ndim < 2 or 0 in scores.shape[-2:]:
            raise ValueError(f"scores have the shape [..., runs, tasks], not {list(scores.shape)}")
        _refuse_nan(scores, "scores")
        return scores
    tasks = [np.asarray(task, np.float64) for task in scores]
    if not tasks or any(task.ndim < 1 or not task.shape[-1] for task in tasks):
        raise ValueError("scores need one task or more, each with one run or more")
    for t, task in enumerate(tasks):
        _refuse_nan(task, f"scores of task {t}")
    return tasks


def _refuse_nan(array: Floats, what: str) -> None:
    bad = np.isnan(array)
    if bad.any():
        where = [int(i) for i in np.argwhere(bad)[0]]
        raise ValueError(f"{what} hold nan at index {where}; a run without a score has to be looked at, not averaged")


def _task_means(scores: Scores) -> Floats:
    checked = _checked(scores)
    if isinstance(checked, list):
        return np.stack([task.mean(-1) for task in checked], -1)
    return np.asarray(checked.mean(-2))


def _pooled(scores: Scores) -> Floats:
    """All run scores in one axis: [..., runs of all tasks]."""
    checked = _checked(scores)
    if isinstance(checked, list):
        return np.concatenate(checked, -1)
    return checked.reshape(*checked.shape[:-2], -1)


def mean(scores: Scores) -> Floats:
    """Mean over tasks of the mean over runs."""
    return np.asarray(_task_means(scores).mean(-1))


def median(scores: Scores) -> Floats:
    """Median over **tasks** of the mean over runs, as rliable has it; with one task that is the mean over its runs."""
    return np.asarray(np.median(_task_means(scores), -1))


def iqm(scores: Scores) -> Floats:
    """Interquartile mean: the mean without the lowest and the highest quarter of **all** run scores.

    Of N scores, floor(N / 4) are cut at each end (``scipy.stats.trim_mean``), so below 4 scores it is the mean.
    """
    pooled = _pooled(scores)
    size = pooled.shape[-1]
    cut = size // 4
    if cut:
        pooled = np.partition(pooled, (cut, size - cut - 1), -1)[..., cut : size - cut]
    return np.asarray(pooled.mean(-1))


def optimality_gap(scores: Scores, threshold: float = 1.0) -> Floats:
    """Mean amount by which a score misses the threshold; scores above it count as no miss. Smaller is better."""
    checked = _checked(scores)
    if isinstance(checked, list):
        return np.asarray(threshold - mean([np.minimum(task, threshold) for task in checked]))
    return np.asarray(threshold - mean(np.minimum(checked, threshold)))


def performance_profile(scores: Scores, thresholds: ArrayLike) -> Floats:
    """Share of all runs with a score above each threshold: [..., thresholds] (rliable's run-score distribution)."""
    ordered = np.sort(_pooled(scores), -1)
    at: NDArray[np.float64] = np.atleast_1d(np.asarray(thresholds, np.float64))
    above = np.stack([(ordered > tau).mean(-1) for tau in at], -1)
    return np.asarray(above)
