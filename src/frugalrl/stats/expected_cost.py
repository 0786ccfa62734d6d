"""Expected cost to reach a target when a run that misses is simply followed by another one.

COCO's ERT (Hansen et al. 2021, Optimization Methods and Software 36): the cost of all runs, those that missed included,
over the number of runs that reached the target. It is what a user pays who starts runs until one gets there.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from frugalrl.stats import resample
from frugalrl.stats.estimate import Estimate, Floats, check_draws, check_level, given, one_run, unless_alike
from frugalrl.stats.log_t import Part, also, clock_part, ends_of, known, part_of, together
from frugalrl.stats.resample import Indices
from frugalrl.stats.shared import PERCENTILE_SHARED, SHARED_CLOCK, Paces
from frugalrl.stats.time_to_target import Bools, checked

Method = Literal["t", "percentile"]


def _ert(costs: Floats, reached: Bools) -> Floats:
    """Of [..., runs]; inf where no run reached the target."""
    successes = reached.sum(-1)
    return np.where(successes > 0, costs.sum(-1) / np.maximum(successes, 1), np.inf)


def _influence(costs: Floats, reached: Bools) -> Floats:
    """[runs]: first-order change of log ERT = log mean(cost) - log mean(reached) with each."""
    return np.asarray(costs / costs.mean() - reached / reached.mean())


Side = tuple[Floats, Bools, Paces | None]
"""Costs, what was reached, and what shared processes say of one method."""


def _own(costs: Floats, paces: Paces | None) -> Floats:
    """[runs] costs without what the pace of the process is to blame for."""
    return costs if paces is None else costs / paces.pace


def _clocks(*sides: tuple[Floats, Paces | None]) -> list[Part]:
    return clock_part([(paces.spread(costs), paces) for costs, paces in sides if paces is not None])


def _floor(costs: Floats, level: float) -> float:
    """What ERT is at least when no run of n reached the target: the success rate is below 1 - tail^(1/n)."""
    rate = 1.0 - ((1.0 - level) / 2.0) ** (1.0 / len(costs))
    return float(costs.mean() * (1.0 - rate) / rate)


def _check_method(method: str, *sides: Paces | None) -> None:
    if method not in ("t", "percentile"):
        raise ValueError(f"there is no interval method {method!r}; use 't' or 'percentile'")
    if method == "percentile" and any(paces is not None for paces in sides):
        raise ValueError(PERCENTILE_SHARED)


def expected_cost(
    costs: ArrayLike,
    reached: ArrayLike,
    *,
    rng: np.random.Generator | None = None,
    draws: int = 2000,
    level: float = 0.95,
    method: Method = "t",
    paces: Paces | None = None,
) -> Estimate:
    """ERT: cost of all runs over the number of runs that reached the target; inf where none did.

    Args:
        costs, reached: [runs], see ``stats.time_to_target``.
        rng: Needed by the percentile method only.
        method: ``t``: Student's interval of log ERT, its standard error to first order. ``percentile``: bootstrap over
            runs; a resample without a success counts as inf.
        paces: Of the processes whose clocks the runs shared (``stats.paces_of``): their spread is added to that of the
            seeds (Satterthwaite); where nothing is known of it there is no interval. None: every run was measured for
            itself.

    Without a success the interval is [floor, inf]: the success rate is bounded by that of 0 in n (exact binomial), and
    the run that would reach the target is counted as free.

    Raises:
        ValueError: wrong costs, level, draws or method; no rng for the percentile method, or paces with it.
    """
    c, r = checked(costs, reached)
    check_level(level)
    _check_method(method, paces)
    value, n = float(_ert(c, r)), len(c)
    if n < 2 or not known(paces):
        return Estimate(value, None, n, level, one_run(level) if n < 2 else SHARED_CLOCK)
    if not r.any():
        how = "exact bound on the success rate: no run reached the target"
        return Estimate(value, (_floor(c, level), np.inf), n, level, how)
    if method == "t":
        if not c.any():
            return Estimate(value, (0.0, 0.0), n, level, "every run costs nothing")
        seeds, clocks = [part_of(_influence(_own(c, paces), r))], _clocks((c, paces))
        around, why = ends_of(value, seeds, clocks, np.nan, n, level)
        how = f"t interval of log ERT, n = {n}{also(clocks)}"
        return Estimate(value, around, n, level, why or how)

    def evaluate(picked: Indices) -> Floats:
        return _ert(c[picked[0]], r[picked[0]])

    ends, how = resample.interval(evaluate, value, [n], rng=given(rng), draws=draws, level=level, method="percentile")
    assert ends is not None  # there are two runs or more
    ends, why = unless_alike(ends, np.nan, n, level, (0.0, np.inf), resampled=True) if c.any() else (ends, "")
    return Estimate(value, ends, n, level, why or how)


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
    paces_a: Paces | None = None,
    paces_b: Paces | None = None,
) -> Estimate:
    """ERT of a over ERT of b: below 1, a is cheaper. inf where a never reached the target, 0 where b never did.

    Args:
        paired: Run i of a and run i of b used the same seed; they are resampled together.
        method: As ``expected_cost``. With ``percentile``, a resample in which neither reached the target is not
            dropped: nothing is known of it, so it counts as 0 for the lower end and as inf for the upper.
        paces_a, paces_b: As ``paces`` of ``expected_cost``; processes of a and b are independent, paired or not.

    Where neither reached the target the ratio is nan and there is no interval. Where one did not, one end comes from
    its exact floor and from the interval of the other, the other end is inf (or 0).

    Raises:
        ValueError: as ``expected_cost``; paired methods with different numbers of runs.
    """
    a, ra = checked(costs_a, reached_a, " of a")
    b, rb = checked(costs_b, reached_b, " of b")
    check_level(level)
    _check_method(method, paces_a, paces_b)
    if paired and len(a) != len(b):
        raise ValueError(f"paired methods have the same seeds: a has {len(a)}, b has {len(b)}; or use paired=False")
    value, n = float(_ratio(_ert(a, ra), _ert(b, rb))), min(len(a), len(b))
    if n < 2:
        return Estimate(value, None, n, level, one_run(level))
    if not (a.any() and b.any()):
        return Estimate(value, None, n, level, "no interval: runs that cost nothing have no ratio")
    if not (ra.any() or rb.any()):
        return Estimate(value, None, n, level, "no interval: no run of either reached the target")
    if not known(paces_a, paces_b):
        return Estimate(value, None, n, level, SHARED_CLOCK)
    of_a, of_b = (a, ra, paces_a), (b, rb, paces_b)
    if not (ra.any() and rb.any()):
        least = _floor(b if ra.any() else a, level)
        ends, why = _one_sided(*(of_a if ra.any() else of_b), least, level, won_by_a=bool(ra.any()))
        return Estimate(value, ends, n, level, why or "exact bound on the success rate of one side")
    if method == "t":
        return _log_t(value, of_a, of_b, paired, level)
    ends, how = _percentile((a, ra), (b, rb), paired, given(rng), draws, level)
    return Estimate(value, ends, n, level, how)


def _percentile(
    a: tuple[Floats, Bools], b: tuple[Floats, Bools], paired: bool, rng: np.random.Generator, draws: int, level: float
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
    costs: Floats, reached: Bools, paces: Paces | None, floor: float, level: float, *, won_by_a: bool
) -> tuple[tuple[float, float], str]:
    """The interval of the ratio where only one side has a success; each bound may fail with half of 1 - level."""
    seeds = [part_of(_influence(_own(costs, paces), reached))]
    value, clocks = float(_ert(costs, reached)), _clocks((costs, paces))
    (_, high), why = ends_of(value, seeds, clocks, np.nan, len(costs), level)
    least = float(_ratio(np.asarray(floor), np.asarray(high)))
    return ((0.0, 1.0 / least if least else np.inf) if won_by_a else (least, np.inf)), why


def _log_t(value: float, a: Side, b: Side, paired: bool, level: float) -> Estimate:
    """Student's interval of the log of the ratio; of differences by seed, or Welch's of two groups."""
    (cost_a, reached_a, paces_a), (cost_b, reached_b, paces_b) = a, b
    of_a, of_b = _influence(_own(cost_a, paces_a), reached_a), _influence(_own(cost_b, paces_b), reached_b)
    seeds = [part_of(of_a - of_b)] if paired else [part_of(of_a), part_of(of_b)]
    clocks, least = _clocks((cost_a, paces_a), (cost_b, paces_b)), min(len(cost_a), len(cost_b))
    nu, pairing = together(seeds)[1], "paired" if paired else "not paired"
    how = f"t interval of the log ratio with {nu:.3g} degrees of freedom, seeds {pairing}{also(clocks)}"
    ends, why = ends_of(value, seeds, clocks, 1.0, least, level)
    return Estimate(value, ends, least, level, why or how)
