"""Effects of two-level factors and their interactions, from all 2^k cells of a full factorial design.

A cell is named by its levels, one 0 or 1 per factor, and an effect by the places of its factors: ``(0,)`` is the main
effect of the first, ``(0, 2)`` the interaction of the first and the third. In words (Box, Hunter and Hunter 2005,
*Statistics for Experimenters*, chapter 5):

- main effect: the high level over the low one, averaged over the cells of the other factors;
- interaction of two: the effect of one where the other is high over its effect where the other is low;
- of three: the interaction of two where the third is high over theirs where it is low, and so on.

Of costs "over" is a ratio and the average is geometric, so an effect says by what factor a cost changes; of scores it
is a difference of means. Textbooks halve interactions (Yates); here none is halved, so that 1 (or 0) means none and any
other value is the change that a user sees.

With the same seeds in every cell, seeds are drawn as a whole: what a seed does to all cells cancels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, product
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from frugalrl.stats import resample
from frugalrl.stats.estimate import (
    Estimate,
    Floats,
    check_draws,
    check_level,
    given,
    one_run,
    size_of,
    task_list,
    unless_alike,
)
from frugalrl.stats.log_t import Part, also, clock_part, ends_of, known, part_of, together
from frugalrl.stats.resample import Indices, Method
from frugalrl.stats.shared import PERCENTILE_SHARED, SHARED_CLOCK, Paces
from frugalrl.stats.time_to_target import Bools, checked

Levels = tuple[int, ...]
"""One 0 (low) or 1 (high) per factor."""
Cells = Mapping[Levels, ArrayLike]
"""[runs] of each cell."""
Kind = Literal["expected", "restricted"]


def effects(factors: int) -> tuple[tuple[int, ...], ...]:
    """All effects of so many factors: main effects first, then interactions of two, of three, ..."""
    return tuple(e for size in range(1, factors + 1) for e in combinations(range(factors), size))


def contrast(effect: Sequence[int], factors: int) -> dict[Levels, float]:
    """The weight of each cell in an effect: plus or minus one over the number of cells of the other factors.

    Raises:
        ValueError: an effect of no factor, of one twice, or of one that there is not.
    """
    if not effect or len(set(effect)) < len(effect) or not all(0 <= f < factors for f in effect):
        raise ValueError(f"{tuple(effect)} is no effect of {factors} factors; name one or more of 0 to {factors - 1}")
    size = 2 ** (factors - len(effect))
    return {
        levels: (-1) ** sum(1 - levels[f] for f in effect) / size for levels in product((0, 1), repeat=factors)
    }  # fmt: skip


def cost_effect(
    costs: Cells,
    reached: Cells,
    effect: Sequence[int],
    *,
    kind: Kind = "expected",
    paired: bool = True,
    rng: np.random.Generator | None = None,
    draws: int = 2000,
    level: float = 0.95,
    method: Method = "t",
    paces: Mapping[Levels, Paces] | None = None,
) -> Estimate:
    """By what factor an effect changes the cost to a target: a ratio of geometric means over cells.

    Args:
        costs, reached: By cell, [runs] each, see ``stats.time_to_target``.
        kind: ``expected``: of a cell's expected cost (``stats.expected_cost``), to which runs that missed add what they
            spent and no success. ``restricted``: of the geometric mean over its runs of the cost until the target or
            the end of the budget. That is known also where a cell has no success, but it is bounded by the budget, so
            it shows the less of a difference the more runs missed.
        paired: Run i of every cell used the same seed.
        rng: Needed by the percentile method only.
        method: ``t``: Student's interval of the logarithm, standard error to first order. ``percentile``: bootstrap
            over runs, too narrow for few runs; a resample in which a cell has no success and nothing can be said counts
            as 0 for the lower end and as inf for the upper.
        paces: Of the processes that the runs of a cell shared, as ``stats.expected_cost`` takes them; of the method
            ``t`` only.

    The value is nan, without interval, where a cell that is needed has no success (``expected``), where no run of any
    cell has one (``restricted``), or where the runs of a cell cost nothing. ``how`` says which.

    Raises:
        ValueError: no full design, paired cells of different sizes, wrong costs, kind, level, draws or method.
    """
    names = _cells_of(costs)
    if set(reached) != set(names):
        raise ValueError(f"costs and reached name different cells: {sorted(costs)} and {sorted(reached)}")
    _check_ways(kind, method, paces)
    check_level(level)
    runs = [checked(costs[c], reached[c], f" of cell {c}") for c in names]
    by_cell = contrast(effect, len(names[0]))
    weights = np.array([by_cell[c] for c in names])
    sizes = _sizes([len(c) for c, _ in runs], paired)
    why = _why_unknown(names, runs, kind)
    if why is not None:
        return Estimate(float("nan"), None, min(sizes), level, why)
    value = float(np.exp(weights @ np.array([float(_log_cost(c, r, kind)) for c, r in runs])))
    if min(sizes) < 2:
        return Estimate(value, None, min(sizes), level, one_run(level))
    shared = {c: p for c, p in (paces or {}).items() if c in names}
    if not known(*shared.values()):
        return Estimate(value, None, min(sizes), level, SHARED_CLOCK)
    if method == "t":
        ends, how = _log_t(value, dict(zip(names, runs, strict=True)), by_cell, shared, kind, paired, level)
        return Estimate(value, ends, min(sizes), level, how)

    check_draws(draws)
    ends, how = _percentile(runs, weights, kind, sizes, given(rng), draws, level)
    return Estimate(value, ends, min(sizes), level, f"{how}, {_pairing(paired)}")


def _check_ways(kind: str, method: str, paces: object) -> None:
    if kind not in ("expected", "restricted"):
        raise ValueError(f"there is no kind of cost {kind!r}; use 'expected' or 'restricted'")
    if method not in ("t", "percentile"):
        raise ValueError(f"there is no interval method {method!r}; use 't' or 'percentile'")
    if method == "percentile" and paces:
        raise ValueError(PERCENTILE_SHARED)


def _log_t(
    value: float,
    runs: Mapping[Levels, tuple[Floats, Bools]],
    weights: Mapping[Levels, float],
    shared: Mapping[Levels, Paces],
    kind: Kind,
    paired: bool,
    level: float,
) -> tuple[tuple[float, float], str]:
    """Student's interval of the logarithm of a cost effect, and how it was made, or why it was taken back."""
    own = {c: (costs / shared[c].pace if c in shared else costs, r) for c, (costs, r) in runs.items()}
    changes = [_influence(*own[c], kind) for c in runs]
    seeds = _first_order(changes, np.array([weights[c] for c in runs]), paired)
    clocks = _clocks(runs, shared, weights, kind)
    ends, taken = ends_of(value, seeds, clocks, 1.0, min(len(x) for x in changes), level)
    how = f"t interval of the log ratio with {together(seeds)[1]:.3g} degrees of freedom, {_pairing(paired)}"
    return ends, taken or f"{how}{also(clocks)}"


def _percentile(
    runs: Sequence[tuple[Floats, Bools]],
    weights: Floats,
    kind: Kind,
    sizes: Sequence[int],
    rng: np.random.Generator,
    draws: int,
    level: float,
) -> tuple[tuple[float, float], str]:
    """The ends of a cost effect over resampled runs, and how they were made, or why they were taken back.

    One entry of ``sizes``: seeds are drawn for all cells at once.
    """

    def evaluate(picked: Indices) -> Floats:
        each = picked * (len(runs) // len(picked))
        logs = [_log_cost(c[at], r[at], kind) for (c, r), at in zip(runs, each, strict=True)]
        with np.errstate(invalid="ignore"):
            return np.asarray(np.exp(sum(w * x for w, x in zip(weights, logs, strict=True))))

    values = resample.resampled(evaluate, sizes, draws, rng)
    unknown = np.isnan(values)
    ends = resample.percentile_ends(np.where(unknown, 0.0, values), np.where(unknown, np.inf, values), level)
    ends, why = unless_alike(ends, 1.0, min(sizes), level, (0.0, np.inf), resampled=True)
    return ends, why or f"percentile bootstrap, {draws:,} draws"


def score_effect(
    scores: Cells,
    effect: Sequence[int],
    *,
    rng: np.random.Generator,
    paired: bool = True,
    draws: int = 2000,
    level: float = 0.95,
    method: Method = "t",
) -> Estimate:
    """By how much an effect changes the mean score: a difference, in the scores' unit.

    Args:
        scores: By cell, [runs] each.
        paired: Run i of every cell used the same seed.
        method: See ``stats.resample``; both resample runs.

    Raises:
        ValueError: cells that are not a full design, paired cells of different sizes, a score that is not finite, wrong
            level, draws or method.
    """
    names = _cells_of(scores)
    runs = task_list([scores[c] for c in names])
    by_cell = contrast(effect, len(names[0]))
    weights = [by_cell[c] for c in names]
    sizes = _sizes([len(x) for x in runs], paired)

    def evaluate(picked: Indices) -> Floats:
        each = picked * (len(runs) // len(picked))
        return np.asarray(sum(w * x[at].mean(-1) for w, x, at in zip(weights, runs, each, strict=True)))

    value = resample.of_the_data(evaluate, sizes)
    ends, how = resample.interval(evaluate, value, sizes, rng=rng, draws=draws, level=level, method=method)
    if ends is None:
        return Estimate(value, None, min(sizes), level, how)
    ends, why = unless_alike(
        ends, 0.0, _pairs(sizes), level, scale=size_of(runs), resampled=method == "percentile"
    )  # fmt: skip
    return Estimate(value, ends, min(sizes), level, why or f"{how}, {_pairing(paired)}")


def _cells_of(cells: Cells) -> list[Levels]:
    """The cells in order. Raises ValueError unless every combination of levels is there."""
    names = sorted(cells)
    factors = len(names[0]) if names else 0
    if not factors or names != sorted(product((0, 1), repeat=factors)):
        raise ValueError(f"a full design has a cell for each combination of levels 0 and 1, not just {names}")
    return names


def _sizes(sizes: list[int], paired: bool) -> list[int]:
    """The strata that are resampled: the seeds once for all cells, or the runs of each cell."""
    if not paired:
        return sizes
    if len(set(sizes)) > 1:
        raise ValueError(f"paired cells have the same seeds: these have {sizes} runs; or use paired=False")
    return sizes[:1]


def _why_unknown(names: Sequence[Levels], runs: Sequence[tuple[Floats, Bools]], kind: Kind) -> str | None:
    without = [c for c, (_, r) in zip(names, runs, strict=True) if not r.any()]
    if kind == "expected" and without:
        which = ", ".join(str(c) for c in without)
        return f"not known: no run of {len(without)} of {len(names)} cells reached the target (levels {which})"
    if len(without) == len(names):
        return "not known: no run of any cell reached the target"
    if any(not (c.any() if kind == "expected" else c.all()) for c, _ in runs):
        return "not known: runs that cost nothing have no ratio"
    return None


def _log_cost(costs: Floats, reached: Bools, kind: Kind) -> Floats:
    """Of [..., runs]; inf where no run reached the target and the expected cost is asked for."""
    if kind == "restricted":
        return np.asarray(np.log(costs).mean(-1))
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(costs.mean(-1)) - np.log(reached.mean(-1)))


def _influence(costs: Floats, reached: Bools, kind: Kind) -> Floats:
    """[runs] first-order change of the log cost with each run."""
    if kind == "restricted":
        return np.asarray(np.log(costs) - np.log(costs).mean())
    return np.asarray(costs / costs.mean() - reached / reached.mean())


def _first_order(changes: Sequence[Floats], weights: Floats, paired: bool) -> list[Part]:
    """The parts of the variance of a weighted sum over cells: one where seeds are paired, else one per cell."""
    if paired:
        return [part_of(weights @ np.stack(changes))]
    return [part_of(change, float(weight)) for change, weight in zip(changes, weights, strict=True)]


def _clocks(
    runs: Mapping[Levels, tuple[Floats, Bools]],
    shared: Mapping[Levels, Paces],
    weights: Mapping[Levels, float],
    kind: Kind,
) -> list[Part]:
    """What processes add. The geometric mean over runs weights a process by how many of them it has, not by costs."""
    held = {c: runs[c][0] if kind == "expected" else np.ones(len(runs[c][0])) for c in shared}
    return clock_part([(weights[c] ** 2 * p.spread(held[c]), p) for c, p in shared.items()])


def _pairing(paired: bool) -> str:
    return f"seeds {'paired' if paired else 'not paired'}"


def _pairs(sizes: Sequence[int]) -> int:
    """How many differences there are: one per seed where seeds are paired, else as many as runs beyond one per cell."""
    return sizes[0] if len(sizes) == 1 else sum(sizes) - len(sizes)
