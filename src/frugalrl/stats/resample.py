"""Intervals from resampled runs: the one place where a bootstrap happens.

Runs are drawn with replacement within each stratum (a task), all strata independently. Two intervals are made of that:

- ``percentile``: quantiles of the resampled statistic (Efron & Tibshirani 1993, chapter 13). It cannot leave the range
  of the data, and is too narrow for few runs (docs/statistics.md has its measured coverage).
- ``t``: value +- t_nu * se. The standard error is that of the resampled statistic times sqrt(n / (n - 1)), because a
  resample spreads like the data divided by n, not by n - 1. nu is Satterthwaite's number of degrees of freedom over the
  strata, each one's share being the variance of the statistic when that stratum alone is resampled. For the mean of one
  task this is Student's interval.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from frugalrl.stats.estimate import Floats, check_draws, check_level, one_run

Indices = list[NDArray[np.intp]]
"""Per stratum [draws, runs of the stratum]: which runs a resample holds."""
Evaluate = Callable[[Indices], Floats]
"""The statistic of each resample: [draws]."""
Method = Literal["t", "percentile"]

SHARE_DRAWS = 200
"""Draws for the shares of all strata together; of many strata each needs fewer, as their errors average out."""
LEAST_SHARE_DRAWS = 30
BLOCK = 2_000_000
"""Scores held at a time, so that memory does not grow with the number of draws."""


def resampled(evaluate: Evaluate, sizes: Sequence[int], draws: int, rng: np.random.Generator) -> Floats:
    """The statistic of each of ``draws`` stratified resamples: [draws]."""
    step = max(1, BLOCK // sum(sizes))
    blocks = []
    for start in range(0, draws, step):
        count = min(step, draws - start)
        blocks.append(evaluate([rng.integers(n, size=(count, n)) for n in sizes]))
    return np.concatenate(blocks)


def of_the_data(evaluate: Evaluate, sizes: Sequence[int]) -> float:
    """The statistic of the runs as they are."""
    return float(evaluate([np.arange(n)[None] for n in sizes])[0])


def percentile_ends(low_values: Floats, high_values: Floats, level: float) -> tuple[float, float]:
    """Order statistics around the two quantiles, outwards, never interpolated: infinite values stay what they are."""
    tail = (1.0 - level) / 2.0 * (len(low_values) - 1)
    return float(np.sort(low_values)[int(np.floor(tail))]), float(np.sort(high_values)[::-1][int(np.floor(tail))])


def _degrees(evaluate: Evaluate, sizes: Sequence[int], rng: np.random.Generator) -> tuple[float, float]:
    """(degrees of freedom, factor on the resampled variance) from the variance that each stratum alone makes."""
    n = np.asarray(sizes, np.float64)
    if len(sizes) == 1:
        return float(n[0] - 1), float(n[0] / (n[0] - 1))
    shares = np.empty(len(sizes))
    count = max(LEAST_SHARE_DRAWS, SHARE_DRAWS // len(sizes))
    as_they_are = [np.broadcast_to(np.arange(m), (count, m)) for m in sizes]
    for t, size in enumerate(sizes):
        alone = rng.integers(size, size=(count, size))
        shares[t] = evaluate([*as_they_are[:t], alone, *as_they_are[t + 1 :]]).var()
    total = shares.sum()
    if total == 0.0:
        return float((n - 1).sum()), 1.0
    unbiased = shares * n / (n - 1)
    return float(unbiased.sum() ** 2 / (unbiased**2 / (n - 1)).sum()), float(unbiased.sum() / total)


def interval(
    evaluate: Evaluate,
    value: float,
    sizes: Sequence[int],
    *,
    rng: np.random.Generator,
    draws: int,
    level: float,
    method: Method,
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> tuple[tuple[float, float] | None, str]:
    """The interval of a statistic and how it was made, in words; None where a stratum holds one run only.

    Args:
        bounds: Smallest and largest possible value; a t interval is cut there.

    Raises:
        ValueError: a level outside of (0, 1), too few draws, or an unknown method.
    """
    check_level(level)
    check_draws(draws)
    if method not in ("t", "percentile"):
        raise ValueError(f"there is no interval method {method!r}; use 't' or 'percentile'")
    if min(sizes) < 2:
        return None, one_run(level)
    values = resampled(evaluate, sizes, draws, rng)
    if method == "percentile":
        return percentile_ends(values, values, level), f"stratified percentile bootstrap, {draws:,} draws"
    nu, factor = _degrees(evaluate, sizes, rng)
    half = float(special.stdtrit(nu, (1.0 + level) / 2.0)) * float(np.sqrt(values.var() * factor))
    how = f"t interval with {nu:.3g} degrees of freedom, standard error from a stratified bootstrap of {draws:,} draws"
    return (max(value - half, bounds[0]), min(value + half, bounds[1])), how
