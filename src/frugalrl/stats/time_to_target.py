"""What it costs to reach a target, when some runs never do: they are censored, not dropped.

A run that ends its budget without the target says "more than this". Dropping it would reward a method for failing.
``costs`` [runs] may be steps, FLOPs, CPU-seconds, joules or money: the cost at which a run reached the target, or
all that it spent. ``reached`` [runs] says which. Expected costs are in ``stats.expected_cost``.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from frugalrl.stats import resample
from frugalrl.stats.estimate import Estimate, Floats, check_level, given, one_run
from frugalrl.stats.resample import Indices

Bools = NDArray[np.bool_]
HALF = 0.5 - 1e-12
"""Half of the runs, less the rounding error of a product of survival factors."""


@dataclass(frozen=True, slots=True)
class Reach:
    """How one run met a target."""

    cost: float
    """Cost at the target, or all that was spent where it was not reached (right-censored)."""
    reached: bool


@dataclass(frozen=True, slots=True)
class Survival:
    """Share of runs that have reached the target, against cost: 0 before the first entry, constant between entries."""

    times: Floats
    """[events] costs at which a run reached the target, rising."""
    share_reached: Floats
    """[events] 1 - S, S the Kaplan-Meier estimate."""
    low: Floats
    """[events] pointwise interval; nan with one run."""
    high: Floats
    n: int
    level: float = 0.95


def first_reach(costs: ArrayLike, scores: ArrayLike, target: float) -> Reach:
    """The first evaluation with ``score >= target``, not interpolated; censored at the last cost where there is none.

    Args:
        costs, scores: [evaluations] of one run in order.
    """
    x, y = np.asarray(costs, np.float64), np.asarray(scores, np.float64)
    if x.ndim != 1 or x.shape != y.shape or not x.size:
        raise ValueError(f"costs and scores are [evaluations] of one run, not {list(x.shape)} and {list(y.shape)}")
    hit = np.flatnonzero(y >= target)
    return Reach(float(x[hit[0] if hit.size else -1]), bool(hit.size))


def checked(costs: ArrayLike, reached: ArrayLike, what: str = "") -> tuple[Floats, Bools]:
    """Costs [runs] and reached [runs].

    Raises:
        ValueError: no runs, different lengths, or a cost that is not a finite number of 0 or more.
    """
    c, r = np.asarray(costs, np.float64), np.asarray(reached)
    if c.ndim != 1 or c.shape != r.shape or not c.size:
        raise ValueError(f"costs{what} and reached{what} are [runs], not {list(c.shape)} and {list(r.shape)}")
    if r.dtype != np.bool_:
        raise ValueError(f"reached{what} holds true or false for each run, not {r.dtype}")
    bad = np.flatnonzero(~(np.isfinite(c) & (c >= 0)))
    if bad.size:
        raise ValueError(
            f"the cost{what} of run {bad[0]} is {c[bad[0]]}, not a finite number of 0 or more; "
            "a run that missed has what it spent as cost"
        )
    return c, r


def kaplan_meier(costs: ArrayLike, reached: ArrayLike, *, level: float = 0.95) -> Survival:
    """Share of runs that have reached the target by each cost (Kaplan and Meier 1958), with log-log intervals.

    ``scipy.stats.ecdf`` makes it. Its interval is undefined where the curve ends at 1: there the lower end of
    the event before stays, or 0, and the upper end is 1.
    """
    # scipy.stats alone takes longer to load than all else here
    from scipy import stats

    c, r = checked(costs, reached)
    check_level(level)
    survival = stats.ecdf(stats.CensoredData.right_censored(c, ~r)).sf
    event = np.isin(survival.quantiles, c[r])
    times, share = survival.quantiles[event], 1.0 - survival.probabilities[event]
    if len(c) < 2:
        nothing = np.full(len(times), np.nan)
        return Survival(times, share, nothing, nothing, len(c), level)
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)
        ends = survival.confidence_interval(level, method="log-log")
    low, high = 1.0 - ends.high.probabilities[event], 1.0 - ends.low.probabilities[event]
    if len(times) and np.isnan(low[-1]):
        low[-1], high[-1] = (low[-2] if len(low) > 1 else 0.0), 1.0
    return Survival(times, share, low, high, len(c), level)


def median_of(costs: Floats, reached: Bools) -> Floats:
    """Kaplan-Meier median of [..., runs]: the smallest cost by which half have reached; inf where fewer ever do."""
    # at equal costs events come before censorings
    order = np.lexsort((~reached, costs), -1)
    c, r = np.take_along_axis(costs, order, -1), np.take_along_axis(reached, order, -1)
    n = c.shape[-1]
    share = 1.0 - np.cumprod(1.0 - r / np.arange(n, 0, -1), -1)
    there = share >= HALF
    first = np.take_along_axis(c, there.argmax(-1)[..., None], -1)[..., 0]
    return np.where(there.any(-1), first, np.inf)


def _order_interval(c: Floats, r: Bools, level: float) -> tuple[tuple[float, float] | None, str]:
    """The sign test's interval of the median; a censored run counts as early for one end and as never for the other."""
    n = len(c)
    tail = special.bdtr(np.arange(n), n, 0.5)
    k = int((tail <= (1.0 - level) / 2.0).sum())
    if not k:
        needed = int(np.ceil(np.log2(2.0 / (1.0 - level)) - 1e-9))
        return None, (
            f"no {100 * level:g} % interval: not even the range of {n} runs holds a median that often; "
            f"it takes {needed} runs"
        )
    low, high = np.sort(c)[k - 1], np.sort(np.where(r, c, np.inf))[n - k]
    return (float(low), float(high)), f"order statistics {k} and {n - k + 1} of {n} (sign test)"


def median_time(
    costs: ArrayLike,
    reached: ArrayLike,
    *,
    rng: np.random.Generator | None = None,
    draws: int = 2000,
    level: float = 0.95,
    method: Literal["order", "percentile"] = "order",
) -> Estimate:
    """Smallest cost by which half of the runs reached the target (Kaplan-Meier median); inf where fewer do.

    Args:
        rng: Needed by the percentile method only.
        method: ``order``: order statistics, which hold for any distribution and any censoring; refused where the runs
            are too few (below 6 for 95 %). ``percentile``: bootstrap over runs, too narrow for few runs.

    Raises:
        ValueError: wrong costs, level, draws or method; no rng for the percentile method.
    """
    c, r = checked(costs, reached)
    check_level(level)
    value, n = float(median_of(c, r)), len(c)
    if n < 2:
        return Estimate(value, None, n, level, one_run(level))
    if method == "order":
        ends, how = _order_interval(c, r, level)
        return Estimate(value, ends, n, level, how)
    if method != "percentile":
        raise ValueError(f"there is no interval method {method!r}; use 'order' or 'percentile'")

    def evaluate(picked: Indices) -> Floats:
        return median_of(c[picked[0]], r[picked[0]])

    found, how = resample.interval(evaluate, value, [n], rng=given(rng), draws=draws, level=level, method="percentile")
    return Estimate(value, found, n, level, how)


def log_rank(costs_a: ArrayLike, reached_a: ArrayLike, costs_b: ArrayLike, reached_b: ArrayLike) -> float:
    """Two-sided p-value that both reach the target equally fast (Mantel 1966; ``scipy.stats.logrank``).

    It rests on large numbers and on independent runs; with few runs it is rough. nan where no run of either reached the
    target, or all that were left reached it at one cost: nothing then tells the two apart.
    """
    # scipy.stats alone takes longer to load than all else here
    from scipy import stats

    a, ra = checked(costs_a, reached_a, " of a")
    b, rb = checked(costs_b, reached_b, " of b")
    if not (ra.any() or rb.any()):
        return float("nan")
    censored = stats.CensoredData.right_censored
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(stats.logrank(censored(a, ~ra), censored(b, ~rb)).pvalue)


def share_reached(k: int, n: int, level: float = 0.95) -> Estimate:
    """k of n runs reached the target: the share, with the exact interval of Clopper and Pearson (1934).

    Raises:
        ValueError: unless 0 <= k <= n and n >= 1.
    """
    if n < 1 or not 0 <= k <= n:
        raise ValueError(f"{k} of {n} runs reached the target? k lies between 0 and n, and n is 1 or more")
    check_level(level)
    if n == 1:
        return Estimate(k / n, None, n, level, one_run(level))
    tail = (1.0 - level) / 2.0
    low = float(special.betaincinv(k, n - k + 1, tail)) if k else 0.0
    high = float(special.betaincinv(k + 1, n - k, 1.0 - tail)) if k < n else 1.0
    return Estimate(k / n, (low, high), n, level, "Clopper-Pearson")
