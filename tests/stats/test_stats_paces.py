"""Runs that shared the clock of a process: how fast it was is one draw for all of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from frugalrl import stats

Floats = np.ndarray[Any, np.dtype[np.float64]]
COSTS, REACHED = np.array([1.0, 2.0, 4.0, 3.0]), np.array([True, True, False, True])
ONE = np.zeros(4, np.intp)
BUDGET = 1.15


GRID = np.linspace(0.1, BUDGET, 20)


def steady(units: Any, pace: Any, grid: Floats = GRID) -> stats.Clocks:
    """Runs whose processes keep their paces [runs]."""
    return stats.Clocks(np.asarray(units), [grid] * len(units), [grid * p for p in pace])


def paces(units: Any, pace: Any) -> stats.Paces:
    return stats.paces_of(steady(units, pace), [], np.ones(len(units)))


def two_methods(seeds: int, processes: int, spread: float, rng: np.random.Generator) -> tuple[list[Floats], Any, Any]:
    """CPU-seconds of two methods that take the same work to their targets, what was reached, and their paces."""
    units = np.arange(seeds) * processes // seeds
    work = [np.exp(rng.normal(0, 0.1, seeds)) for _ in range(2)]
    speed = [np.exp(rng.normal(0, spread, processes))[units] for _ in range(2)]
    read = [np.minimum(w, BUDGET) for w in work]
    clocks = [steady(units, s) for s in speed]  # all seeds of a stack go on until the end of the budget
    costs = [r * s for r, s in zip(read, speed, strict=True)]
    known = [stats.paces_of(clocks[i], [clocks[1 - i]], read[i]) for i in (0, 1)]
    return costs, [w <= BUDGET for w in work], known


@pytest.mark.parametrize(("seeds", "processes", "spread"), [(10, 2, 0.02), (10, 2, 0.3), (12, 4, 0.3)])
def test_a_method_compared_with_itself_rarely_wins(seeds: int, processes: int, spread: float) -> None:
    rng, reps = np.random.default_rng(0), 500
    false, widths = {"ignored": 0, "known": 0}, []
    for _ in range(reps):
        (a, b), (ra, rb), shared = two_methods(seeds, processes, spread, rng)
        for name, (of_a, of_b) in (("ignored", (None, None)), ("known", shared)):
            low, high = stats.expected_cost_ratio(a, ra, b, rb, paces_a=of_a, paces_b=of_b).interval or (0.0, np.inf)
            false[name] += not low <= 1 <= high
        widths.append(np.log(high / low))
    assert false["known"] < 0.08 * reps
    if spread == 0.3:  # the wrong variant, which takes every seed for a draw of the clock
        assert false["ignored"] > 0.12 * reps
    else:  # the processes hardly differ, and two of each are not all that is known
        assert np.median(widths) < 0.9


def test_the_mean_of_one_method_is_held_where_seeds_alone_do_not_hold_it() -> None:
    rng, reps, spread = np.random.default_rng(1), 500, 0.3
    held = {"ignored": 0, "known": 0}
    work = np.minimum(np.exp(np.random.default_rng(2).normal(0, 0.1, 100_000)), BUDGET).mean()
    for _ in range(reps):
        (a, _), _, (shared, _) = two_methods(10, 2, spread, rng)
        for name, known in (("ignored", None), ("known", shared)):
            low, high = stats.expected_cost(a, np.ones(10, bool), paces=known).interval or (0.0, np.inf)
            held[name] += low <= work * np.exp(spread**2 / 2) <= high
    assert held["ignored"] < 0.75 * reps < 0.9 * reps < held["known"]


def test_a_pace_that_changes_on_the_way_is_taken_until_the_target() -> None:
    """One process is slow at first and fast later, the other the other way round: in all they used the same."""
    units, steps = np.array([0, 0, 1, 1]), np.array([1.0, 2.0, 3.0, 4.0])
    slow_first, fast_first = np.array([2.0, 4.0, 5.0, 6.0]), np.array([1.0, 2.0, 4.0, 6.0])
    clocks = stats.Clocks(units, [steps] * 4, [slow_first, slow_first, fast_first, fast_first])
    early, late = (stats.paces_of(clocks, [], np.full(4, at)) for at in (2.0, 4.0))
    assert early.pace == pytest.approx([np.sqrt(2), np.sqrt(2), np.sqrt(0.5), np.sqrt(0.5)])
    assert early.variance == pytest.approx(np.log(2.0) ** 2 / 2)
    assert late.pace == pytest.approx(np.ones(4))
    assert late.variance == pytest.approx(0.0)
    one = stats.paces_of(clocks, [], [2.0, 4.0], [1, 3])
    assert (one.units.tolist(), one.pace.tolist()) == ([0, 1], [pytest.approx(np.sqrt(2)), pytest.approx(1.0)])


def test_the_spread_is_that_of_all_methods_and_the_pace_a_process_s_own() -> None:
    units, other = np.array([0, 0, 1]), steady(ONE, np.full(4, 2.0))
    found = stats.paces_of(steady(units, [1.0, 1.0, 4.0]), [other], np.ones(3))
    assert found.pace == pytest.approx([0.5, 0.5, 2.0])
    assert (found.freedom, found.variance) == (1, pytest.approx(np.log(4.0) ** 2 / 2))
    assert found.spread(np.array([1.0, 1.0, 2.0])) == pytest.approx(found.variance / 2)
    lone = stats.paces_of(other, [steady(units, [1.0, 1.0, 4.0])], np.ones(4))
    assert lone.pace == pytest.approx(np.ones(4))
    assert (lone.freedom, lone.variance) == (1, pytest.approx(found.variance))


@pytest.mark.parametrize("use", [0.0, np.nan])
def test_a_process_that_used_nothing_has_no_pace(use: float) -> None:
    alone = paces(np.arange(2), [use, 1.0])
    assert (alone.freedom, alone.pace.tolist()) == (0, [1.0, 1.0])
    assert stats.expected_cost([1.0, 2.0], [True, True], paces=alone).how == stats.SHARED_CLOCK
    # among others it says nothing, instead of making all of them unknown
    found = stats.paces_of(steady(np.arange(4), [use, 1.0, 1.0, 8.0]), [steady([0, 1], [2.0, 2.0])], np.ones(4))
    assert found.freedom == 3
    assert found.pace == pytest.approx([1.0, 0.5, 0.5, 4.0])


def test_a_process_that_only_began_has_no_pace() -> None:
    """Its start-up over its few steps is 100 times the others' pace, and would be taken for the spread of all."""
    units, other = np.array([0, 0, 1, 1]), steady(ONE, np.ones(4))
    whole = steady(units, [1.0, 1.0, 1.1, 1.1])
    grids, uses = [*whole.steps, *[np.array([0.02])] * 2], [*whole.use, *[np.array([2.0])] * 2]
    begun = stats.Clocks(np.array([0, 0, 1, 1, 2, 2]), grids, uses)
    found, without = (stats.paces_of(c, [other], np.ones(len(c.units))) for c in (begun, whole))
    assert (found.variance, found.freedom) == (without.variance, without.freedom)
    assert found.pace[4:].tolist() == [1.0, 1.0]
    assert stats.paces_of(other, [begun], np.ones(4)).variance == without.variance
    never = stats.Clocks(units, [np.empty(0)] * 4, [np.empty(0)] * 4)
    assert stats.paces_of(never, [], np.ones(4)).freedom == 0


def test_where_nothing_is_known_of_the_spread_there_is_no_interval() -> None:
    one = paces(ONE, COSTS)
    refused = stats.expected_cost(COSTS, REACHED, paces=one)
    assert (refused.interval, refused.how, refused.n) == (None, stats.SHARED_CLOCK, 4)
    assert stats.expected_cost(COSTS, ~REACHED & False, paces=one).interval is None
    alone = stats.expected_cost_ratio(COSTS, REACHED, COSTS[::-1], REACHED)
    half = stats.expected_cost_ratio(COSTS, REACHED, COSTS[::-1], REACHED, paces_b=one)
    assert (half.value, half.interval, half.how) == (alone.value, None, stats.SHARED_CLOCK)
    assert stats.by_unit(COSTS, [0, 0, 0, 1]).mean() == COSTS.mean()


@pytest.mark.parametrize("paired", [True, False])
def test_processes_of_one_pace_change_nothing(paired: bool) -> None:
    even = paces([0, 0, 1, 1], np.ones(4))
    assert (even.variance, even.freedom) == (0.0, 1)
    ways: dict[str, Any] = {"paired": paired}
    alone = stats.expected_cost_ratio(COSTS, REACHED, COSTS[::-1], REACHED, **ways)
    same = stats.expected_cost_ratio(COSTS, REACHED, COSTS[::-1], REACHED, paces_a=even, paces_b=even, **ways)
    assert same.interval == alone.interval
    assert stats.expected_cost(COSTS, REACHED, paces=even).interval == stats.expected_cost(COSTS, REACHED).interval
    missed = np.zeros(4, bool)
    one_sided = stats.expected_cost_ratio(COSTS, REACHED, COSTS, missed, **ways)
    assert stats.expected_cost_ratio(COSTS, REACHED, COSTS, missed, paces_a=even, **ways).interval == one_sided.interval
    wider = stats.expected_cost_ratio(COSTS, REACHED, COSTS, missed, paces_a=replace(even, variance=0.1), **ways)
    assert wider.interval is not None
    assert one_sided.interval is not None
    assert wider.interval[1] > one_sided.interval[1]


def test_few_seeds_that_agree_say_nothing_whatever_the_processes_do() -> None:
    costs, reached = np.ones(4), np.ones(4, bool)
    shared = paces([0, 0, 1, 1], [1.0, 1.0, 1.1, 1.1])
    costs = costs * shared.pace
    assert stats.expected_cost(costs, reached, paces=shared).interval == (0.0, np.inf)


def test_a_bootstrap_over_runs_is_refused() -> None:
    with pytest.raises(ValueError, match="'percentile' draws runs anew, which paces say are not independent"):
        stats.expected_cost(COSTS, REACHED, paces=paces(ONE, COSTS), method="percentile", rng=np.random.default_rng(0))


@pytest.mark.parametrize("paired", [True, False])
def test_the_effect_of_a_lever_with_two_cells_is_the_ratio_of_two_methods(paired: bool) -> None:
    rng = np.random.default_rng(3)
    (a, b), (ra, rb), (of_a, of_b) = two_methods(10, 2, 0.3, rng)
    ways: dict[str, Any] = {"paired": paired}
    ratio = stats.expected_cost_ratio(a, ra, b, rb, paces_a=of_a, paces_b=of_b, **ways)
    cells, reached, shared = {(1,): a, (0,): b}, {(1,): ra, (0,): rb}, {(1,): of_a, (0,): of_b}
    effect = stats.cost_effect(cells, reached, (0,), paces=shared, **ways)
    assert effect.value == pytest.approx(ratio.value)
    assert effect.interval == pytest.approx(ratio.interval)
    assert effect.how == ratio.how
    alone = stats.cost_effect(cells, reached, (0,), **ways).interval
    assert alone is not None
    assert effect.interval is not None
    assert effect.interval[1] / effect.interval[0] > alone[1] / alone[0]
    one = {(0,): paces(np.zeros(10, np.intp), b)}
    assert stats.cost_effect(cells, reached, (0,), paces=one, **ways).how == stats.SHARED_CLOCK
    with pytest.raises(ValueError, match="'percentile' draws runs anew"):
        stats.cost_effect(cells, reached, (0,), paces=shared, method="percentile", rng=rng, **ways)


def test_the_main_effect_of_four_cells_that_do_the_same_rarely_shows() -> None:
    rng, reps = np.random.default_rng(4), 300
    false = {"ignored": 0, "known": 0}
    names = [(0, 0), (0, 1), (1, 0), (1, 1)]
    units = np.arange(10) // 5
    for _ in range(reps):
        speed = [np.exp(rng.normal(0, 0.2, 2))[units] for _ in names]
        work = [np.exp(rng.normal(0, 0.1, 10)) for _ in names]
        clocks = [steady(units, s) for s in speed]
        made = [stats.paces_of(c, [o for o in clocks if o is not c], w) for c, w in zip(clocks, work, strict=True)]
        costs = {c: w * s for c, w, s in zip(names, work, speed, strict=True)}
        reached = {c: np.ones(10, bool) for c in names}
        for kind in ("expected", "restricted"):
            for name, known in (("ignored", None), ("known", dict(zip(names, made, strict=True)))):
                found = stats.cost_effect(costs, reached, (0,), kind=kind, paces=known).interval  # type: ignore[arg-type]
                assert found is not None
                false[name] += not found[0] <= 1 <= found[1]
    assert false["known"] < 0.08 * 2 * reps < 0.3 * 2 * reps < false["ignored"]
