"""Score against cost, over runs: sample-efficiency curves with pointwise intervals or a band for the whole curve."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from frugalrl.stats import aggregates
from frugalrl.stats.estimate import Floats, check_draws, check_level
from frugalrl.stats.resample import BLOCK

Options = tuple[str, str]
"""Method and band."""
BAND_RUNS = 10
"""Fewer runs move together at all points by chance alone, and a band made of them is too narrow."""
OPTIONS = (("t", "pointwise"), ("percentile", "pointwise"), ("t", "simultaneous"))


@dataclass(frozen=True, slots=True)
class Curve:
    """A statistic over runs at each cost. Entries are nan where no run (value) or too few runs (low, high) reach."""

    grid: Floats
    value: Floats
    low: Floats
    """``how`` says whether each point alone has the level (pointwise) or the whole curve (simultaneous)."""
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


def _ends(
    runs: Floats,
    function: Callable[[Floats], Floats],
    rng: np.random.Generator,
    draws: int,
    tail: float,
    options: Options,
) -> tuple[Floats, Floats]:
    """Low and high [points] of the statistic over runs [points, runs], the same runs drawn at all points.

    tail: the chance to miss, of one point or of the whole piece, as ``options`` say.
    """
    method, band = options
    n, centre = runs.shape[1], function(runs[..., None])
    picked = rng.integers(n, size=(draws, n))
    low, high, error = np.empty(len(runs)), np.empty(len(runs)), np.empty(len(runs))
    farthest = np.zeros(draws)
    for at in np.array_split(np.arange(len(runs)), max(1, draws * n * len(runs) // BLOCK)):
        drawn = function(runs[at][:, picked][..., None])
        low[at], high[at] = np.quantile(drawn, [tail / 2, 1 - tail / 2], axis=1)
        error[at] = drawn.std(1)
        moved = np.abs(drawn - centre[at, None]) / np.where(error[at] > 0, error[at], 1.0)[:, None]
        farthest = np.maximum(farthest, moved.max(0))
    if method == "percentile":
        return low, high
    # the pointwise tail whose normal quantile only a share `tail` of resampled curves exceeds anywhere
    miss = tail if band == "pointwise" else 2 * special.ndtr(-np.quantile(farthest, 1 - tail))
    half = special.stdtrit(n - 1, 1 - miss / 2) * error * np.sqrt(n / (n - 1))
    return centre - half, centre + half


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
    band: Literal["pointwise", "simultaneous"] = "pointwise",
) -> Curve:
    """IQM or mean over runs of one task at each cost, with an interval.

    A run counts only between its first and its last evaluation: nothing is extrapolated, ``n`` falls instead. Whole
    runs are resampled, so neighbouring points move together; where the set of runs changes, they are drawn anew.

    Args:
        x: One array [evaluations] of costs per run, rising.
        y: The scores at those costs.
        grid: [points] costs at which to read the curve, rising.
        method: ``t`` or ``percentile``, see ``stats.resample``.
        band: ``pointwise``: each point alone has the level. ``simultaneous``, with the t method: the whole curve lies
            inside with the level, by the largest deviation of resampled curves; nan where fewer than 10 runs are there.

    Raises:
        ValueError: no runs, costs that do not rise, a value that is not finite, or a wrong option.
    """
    check_level(level)
    check_draws(draws)
    if statistic not in ("iqm", "mean") or (method, band) not in OPTIONS:
        raise ValueError(
            f"no curve of {statistic!r} by {method!r}, {band!r}: use 'iqm' or 'mean', 't' or 'percentile', "
            "'pointwise', or 'simultaneous' with 't'"
        )
    at = np.asarray(grid, np.float64)
    if at.ndim != 1 or not at.size or not np.isfinite(at).all() or (np.diff(at) <= 0).any():
        raise ValueError("the grid of a curve is [points], finite and rising, with one point or more")
    values = _on_grid(x, y, at)
    there = np.isfinite(values)
    centre, low, high = (np.full(at.shape, np.nan) for _ in range(3))
    function = aggregates.iqm if statistic == "iqm" else aggregates.mean
    pieces = _pieces(there)
    tail = (1 - level) / (len(pieces) if band == "simultaneous" else 1)
    for points in pieces:
        runs = values[there[:, points[0]]][:, points].T
        centre[points] = function(runs[..., None])
        if runs.shape[1] >= (2 if band == "pointwise" else BAND_RUNS):
            low[points], high[points] = _ends(runs, function, rng, draws, tail, (method, band))
    what = "t interval, bootstrap standard error" if method == "t" else "percentile bootstrap"
    return Curve(at, centre, low, high, there.sum(0), level, f"{band} {what}, {draws:,} draws")
