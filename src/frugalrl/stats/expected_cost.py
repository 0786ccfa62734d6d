"""Expected cost to reach a target when a run that misses is simply followed by another one.

COCO's ERT (Hansen et al. 2021, Optimization Methods and Software 36): the cost of all runs, those that missed included,
over the number of runs that reached the target. It is what a user pays who starts runs until one gets there.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from frugalrl.stats import resample
from frugalrl.stats.estimate import Estimate, Floats, check_draws, check_level, given, one_run, unless_alike
from frugalrl.stats.resample import Indices
from frugalrl.stats.shared import SHARED_CLOCK, count_of, linked, summed
from frugalrl.stats.time_to_target import Bools, checked

Method = Literal["t", "percentile"]


def _ert(costs: Floats, reached: Floats | Bools) -> Floats:
    """Of [..., runs], or of sums over runs; inf where no run reached the target."""
    successes = reached.sum(-1)
    return np.where(successes > 0, costs.sum(-1) / np.maximum(successes, 1), np.inf)


def _influence(costs: Floats, reached: Floats) -> Floats:
    """[runs], or of sums over runs: first-order change of log ERT = log mean(cost) - log mean(reached) with each."""
    return np.asarray(costs / costs.mean() - reached / reached.mean())


def _around(value: float, error: float, nu: float, level: float) -> tuple[float, float]:
    factor = float(np.exp(float(special.stdtrit(nu, (1.0 + level) / 2.0)) * error))
    return value / factor, value * factor


def _floor(costs: Floats, level: float) -> float:
    """What ERT is at least when no run of n reached the target: the success rate is below 1 - tail^(1/n)."""
    rate = 1.0 - ((1.0 - level) / 2.0) ** (1.0 / len(costs))
    return float(costs.mean() * (1.0 - rate) / rate)


def _check_method(method: str) -> None:
    if method not in ("t", "percentile"):
        raise ValueError(f"there is no interval method {method!r}; use 't' or 'percentile'")


def expected_cost(
    costs: ArrayLike,
    reached: ArrayLike,
    *,
    rng: np.random.Generator | None = None,
    draws: int = 2000,
    level: float = 0.95,
    method: Method = "t",
    units: ArrayLike | None = None,
) -> Estimate:
    """ERT: cost of all runs over the number of runs that reached the target; inf where none did.

    Args:
        costs, reached: [runs], see ``stats.time_to_target``.
        rng: Needed by the percentile method only.
        method: ``t``: Student's interval of log ERT, its standard error to first order. ``percentile``: bootstrap over
            runs; a resample without a success counts as inf.
        units: [runs] 0, 1, ...: runs of one number shared what was measured (``stats.shared``), so its sum is one
            draw; with one unit there is no interval. None: every run was measured for itself.

    Without a success the interval is [floor, inf]: the success rate is bounded by that of 0 in n (exact binomial), and
    the run that would reach the target is counted as free.

    Raises:
        ValueError: wrong costs, level, draws or method; no rng for the percentile method.
    """
    c, r = checked(costs, reached)
    check_level(level)
    _check_method(method)
    value, n = float(_ert(c, r)), len(c)
    if n < 2 or count_of(units, n) < 2:
        return Estimate(value, None, n, level, one_run(level) if n < 2 else SHARED_CLOCK)
    if not r.any():
        how = "exact bound on the success rate: no run reached the target"
        return Estimate(value, (_floor(c, level), np.inf), n, level, how)
    c, k = summed(c, units), summed(r, units)
    drawn = len(c)
    if method == "t":
        if not c.any():
            return Estimate(value, (0.0, 0.0), n, level, "every run costs nothing")
        error = float(np.sqrt(_influence(c, k).var(ddof=1) / drawn))
        around, why = unless_alike(_around(value, error, drawn - 1, level), np.nan, drawn, level, (0.0, np.inf))
        return Estimate(value, around, n, level, why or f"t interval of log ERT, n = {drawn}{_of(units)}")

    def evaluate(picked: Indices) -> Floats:
        return _ert(c[picked[0]], k[picked[0]])

    ends, how = resample.interval(
        evaluate, value, [drawn], rng=given(rng), draws=draws, level=level, method="percentile"
    )
    assert ends is not None  # there are two runs or more
    ends, why = unless_alike(ends, np.nan, drawn, level, (0.0, np.inf), resampled=True) if c.any() else (ends, "")
    return Estimate(value, ends, n, level, why or how)


def _of(units: ArrayLike | None) -> str:
    return "" if units is None else " processes"


def _ratio(a: Floats, b: Floats) -> Floats:
    """a / b; inf where only b reached the target, 0 where only a did, nan where neither did or both cost nothing."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(a / b)


def expected_cost_ratio(
    costs_a: ArrayLike,
    reached_a: ArrayLike,
    costs_b: ArrayLike,
    reached_b: ArrayLike,
    *,
    rng: np.random.Generator | None = None,
    paired: bool = True,
    draws: int = 2000,
    level: float = 0.95,
    method: Method = "t",
    units_a: ArrayLike | None = None,
    units_b: ArrayLike | None = None,
) -> Estimate:
    """ERT of a over ERT of b: below 1, a is cheaper. inf where a never reached the target, 0 where b never did.

    Args:
        paired: Run i of a and run i of b used the same seed; they are resampled together.
        method: As ``expected_cost``. With ``percentile``, a resample in which neither reached the target is not
            dropped: nothing is known of it, so it counts as 0 for the lower end and as inf for the upper.
        units_a, units_b: As ``units`` of ``expected_cost``; what is paired stays together with what it shares a unit
            with on either side.

    Where neither reached the target the ratio is nan and there is no interval. Where one did not, one end comes from
    its exact floor and from the interval of the other, the other end is inf (or 0).

    Raises:
        ValueError: as ``expected_cost``; paired methods with different numbers of runs.
    """
    a, ra = checked(costs_a, reached_a, " of a")
    b, rb = checked(costs_b, reached_b, " of b")
    check_level(level)
    _check_method(method)
    if paired and len(a) != len(b):
        raise ValueError(f"paired methods have the same seeds: a has {len(a)}, b has {len(b)}; or use paired=False")
    value, n = float(_ratio(_ert(a, ra), _ert(b, rb))), min(len(a), len(b))
    if n < 2:
        return Estimate(value, None, n, level, one_run(level))
    if not (a.any() and b.any()):
        return Estimate(value, None, n, level, "no interval: runs that cost nothing have no ratio")
    if not (ra.any() or rb.any()):
        return Estimate(value, None, n, level, "no interval: no run of either reached the target")
    if paired and not (units_a is None and units_b is None):
        units_a = units_b = linked(*(side for side in (units_a, units_b) if side is not None))
    if min(count_of(units_a, len(a)), count_of(units_b, len(b))) < 2:
        return Estimate(value, None, n, level, SHARED_CLOCK)
    of_a, of_b = (summed(a, units_a), summed(ra, units_a)), (summed(b, units_b), summed(rb, units_b))
    if not (ra.any() and rb.any()):
        least = _floor(b if ra.any() else a, level)
        ends, why = _one_sided(of_a if ra.any() else of_b, least, level, won_by_a=bool(ra.any()))
        return Estimate(value, ends, n, level, why or "exact bound on the success rate of one side")
    if method == "t":
        return _log_t(value, n, of_a, of_b, paired, level)
    ends, how = _percentile(of_a, of_b, paired, given(rng), draws, level)
    return Estimate(value, ends, n, level, how)


def _percentile(
    a: tuple[Floats, Floats], b: tuple[Floats, Floats], paired: bool, rng: np.random.Generator, draws: int, level: float
) -> tuple[tuple[float, float], str]:
    """The ends of the ratio over resampled (costs, reached), and how they were made."""

    def evaluate(picked: Indices) -> Floats:
        i, j = picked[0], picked[-1]
        return _ratio(_ert(a[0][i], a[1][i]), _ert(b[0][j], b[1][j]))

    check_draws(draws)
    drawn = [len(a[0])] if paired else [len(a[0]), len(b[0])]
    values = resample.resampled(evaluate, drawn, draws, rng)
    unknown = np.isnan(values)
    ends = resample.percentile_ends(np.where(unknown, 0.0, values), np.where(unknown, np.inf, values), level)
    ends, why = unless_alike(ends, 1.0, min(drawn), level, (0.0, np.inf), resampled=True)
    return ends, why or f"percentile bootstrap, {draws:,} draws, seeds {'paired' if paired else 'not paired'}"


def _one_sided(
    won: tuple[Floats, Floats], floor: float, level: float, *, won_by_a: bool
) -> tuple[tuple[float, float], str]:
    """The interval of the ratio where only one side has a success; each bound may fail with half of 1 - level."""
    n = len(won[0])
    error = float(np.sqrt(_influence(*won).var(ddof=1) / n))
    around = _around(float(_ert(*won)), error, n - 1, level)
    (_, high), why = unless_alike(around, np.nan, n, level, (0.0, np.inf))
    least = float(_ratio(np.asarray(floor), np.asarray(high)))
    return ((0.0, 1.0 / least if least else np.inf) if won_by_a else (least, np.inf)), why


def _log_t(
    value: float, runs: int, a: tuple[Floats, Floats], b: tuple[Floats, Floats], paired: bool, level: float
) -> Estimate:
    """Student's interval of the log of the ratio; of differences by seed, or Welch's of two groups."""
    n, m = len(a[0]), len(b[0])
    of_a, of_b = _influence(*a), _influence(*b)
    if paired:
        error, nu = float(np.sqrt((of_a - of_b).var(ddof=1) / n)), float(n - 1)
    else:
        parts = np.array([of_a.var(ddof=1) / n, of_b.var(ddof=1) / m])
        error = float(np.sqrt(parts.sum()))
        weight = float((parts**2 / np.array([n - 1, m - 1])).sum())
        nu = float(parts.sum() ** 2 / weight) if weight else float(n + m - 2)
    how = f"t interval of the log ratio with {nu:.3g} degrees of freedom, seeds {'paired' if paired else 'not paired'}"
    if min(n, m) < runs:
        how += f", {min(n, m)} processes"
    ends, why = unless_alike(_around(value, error, nu, level), 1.0, min(n, m), level, (0.0, np.inf))
    return Estimate(value, ends, runs, level, why or how)
