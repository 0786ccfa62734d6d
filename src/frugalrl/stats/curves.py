"""Score against cost, over runs: sample-efficiency curves with pointwise intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from frugalrl.stats import aggregates
from frugalrl.stats.estimate import Floats, check_draws, check_level
from frugalrl.stats.resample import BLOCK


@dataclass(frozen=True, slots=True)
class Curve:
    """A statistic over runs at each cost. Entries are nan where no run (value) or only one run (low, high) reaches."""

    grid: Floats
    value: Floats
    low: Floats
    """Pointwise: each point's interval alone has the level, not the whole curve."""
    high: Floats
    n: NDArray[np.intp]
    """Runs at each point."""
    level: float = 0.95
    how: str = ""


def _on_grid(x: Sequence[ArrayLike], y: Sequence[ArrayLike], grid: Floats) -> Floats:
    """[runs, points] piecewise linear between the evaluations of a run, nan before its first and after its last."""
    if len(x) != len(y) or not len(x):
        raise ValueError(f"a curve needs costs and scores of the same runs: got {len(x)} and {len(y)}")
    rows = []
    for i, (costs, scores) in enumerate(zip(x, y, strict=True)):
        c, s = np.asarray(costs, np.float64), np.asarray(scores, np.float64)
        if c.ndim != 1 or c.shape != s.shape or not c.size:
            raise ValueError(f"run {i} has costs {list(c.shape)} and scores {list(s.shape)}; both are [evaluations]")
        if not (np.isfinite(c).all() and np.isfinite(s).all()):
            at = int(np.flatnonzero(~(np.isfinite(c) & np.isfinite(s)))[0])
            raise ValueError(f"evaluation {at} of run {i} is {s[at]} at cost {c[at]}; both are finite numbers")
        if (np.diff(c) <= 0).any():
            at = int(np.flatnonzero(np.diff(c) <= 0)[0])
            raise ValueError(f"the costs of run {i} do not rise: {c[at]:g} is followed by {c[at + 1]:g}")
        rows.append(np.interp(grid, c, s, left=np.nan, right=np.nan))
    return np.stack(rows)


def _pieces(there: NDArray[np.bool_]) -> list[NDArray[np.intp]]:
    """Points of the grid, grouped by the runs that are there; groups without a run left out."""
    _, group = np.unique(there, axis=1, return_inverse=True)
    points = [np.flatnonzero(group.ravel() == g) for g in range(group.max() + 1)]
    return [p for p in points if there[:, p[0]].any()]


def efficiency_curve(
    x: Sequence[ArrayLike],
    y: Sequence[ArrayLike],
    grid: ArrayLike,
    *,
    rng: np.random.Generator,
    statistic: Literal["iqm", "mean"] = "iqm",
    draws: int = 2000,
    level: float = 0.95,
    method: Literal["t", "percentile"] = "t",
) -> Curve:
    """IQM or mean over runs of one task at each cost, with a pointwise interval.

    A run counts only between its first and its last evaluation: nothing is extrapolated, ``n`` falls instead. Whole
    runs are resampled, so neighbouring points move together; where the set of runs changes, they are drawn anew.

    Args:
        x: One array [evaluations] of costs per run, rising.
        y: The scores at those costs.
        grid: [points] costs at which to read the curve, rising.
        method: ``t`` or ``percentile``, see ``stats.resample``.

    Raises:
        ValueError: no runs, costs that do not rise, a value that is not finite, or a wrong option.
    """
    check_level(level)
    check_draws(draws)
    if statistic not in ("iqm", "mean") or method not in ("t", "percentile"):
        raise ValueError(f"no curve of {statistic!r} by {method!r}; use 'iqm' or 'mean', and 't' or 'percentile'")
    at = np.asarray(grid, np.float64)
    if at.ndim != 1 or not at.size or not np.isfinite(at).all() or (np.diff(at) <= 0).any():
        raise ValueError("the grid of a curve is [points], finite and rising, with one point or more")
    values = _on_grid(x, y, at)
    there = np.isfinite(values)
    centre, low, high = (np.full(at.shape, np.nan) for _ in range(3))
    function = aggregates.iqm if statistic == "iqm" else aggregates.mean
    for points in _pieces(there):
        runs = values[there[:, points[0]]][:, points].T
        n = runs.shape[1]
        centre[points] = function(runs[..., None])
        if n < 2:
            continue
        picked = rng.integers(n, size=(draws, n))
        for chunk in np.array_split(np.arange(len(points)), max(1, draws * n * len(points) // BLOCK)):
            drawn = function(runs[chunk][:, picked][..., None])
            if method == "percentile":
                low[points[chunk]], high[points[chunk]] = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=1)
            else:
                half = special.stdtrit(n - 1, (1 + level) / 2) * drawn.std(1) * np.sqrt(n / (n - 1))
                low[points[chunk]], high[points[chunk]] = (centre[points[chunk]] + sign * half for sign in (-1, 1))
    what = "t interval, bootstrap standard error" if method == "t" else "percentile bootstrap"
    return Curve(at, centre, low, high, there.sum(0), level, f"pointwise {what}, {draws:,} draws")
