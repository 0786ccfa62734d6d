"""Cost to a target with censoring: textbook data, exact fractions, and what happens where nobody gets there."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from frugalrl import stats
from frugalrl.stats import resample, time_to_target
from frugalrl.stats.factorial import cost_effect
from oracles import stats as oracle

# remission in weeks of 42 leukaemia patients (Freireich et al. 1963; Gehan 1965; the example of most textbooks)
MP6 = ([6, 6, 6, 7, 10, 13, 16, 22, 23, 6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35], [True] * 9 + [False] * 12)
PLACEBO = ([1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23], [True] * 21)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def ends(estimate: stats.Estimate) -> tuple[float, float]:
    assert estimate.interval is not None
    return estimate.interval


def test_kaplan_meier_of_the_textbook() -> None:
    found = stats.kaplan_meier(*MP6)
    s = np.cumprod([18 / 21, 16 / 17, 14 / 15, 11 / 12, 10 / 11, 6 / 7, 5 / 6])
    np.testing.assert_array_equal(found.times, [6, 7, 10, 13, 16, 22, 23])
    np.testing.assert_allclose(1 - found.share_reached, s)
    np.testing.assert_allclose(s.round(3), [0.857, 0.807, 0.753, 0.690, 0.627, 0.538, 0.448])  # as printed in books
    # log-log at the first event by hand: variance of log S is 3 / (21 * 18)
    theta = 1.959964 * math.sqrt(3 / (21 * 18)) / math.log(18 / 21)
    assert found.low[0] == pytest.approx(1 - (18 / 21) ** math.exp(theta), abs=1e-6)
    assert found.high[0] == pytest.approx(1 - (18 / 21) ** math.exp(-theta), abs=1e-6)
    dropped = stats.kaplan_meier([c for c, r in zip(*MP6, strict=True) if r], [True] * 9)
    assert dropped.share_reached[0] > 2 * found.share_reached[0]  # leaving failures out flatters


def test_log_rank_of_the_textbook() -> None:
    p = stats.log_rank(*MP6, *PLACEBO)
    chi2 = oracle.log_rank_chi2(MP6, PLACEBO)
    assert chi2 == pytest.approx(16.793, abs=1e-3)  # 9 relapses observed, 19.25 expected
    assert p == pytest.approx(float(scipy_stats.chi2.sf(chi2, 1)), rel=1e-6)
    assert math.isnan(stats.log_rank([1, 2], [False, False], [3, 4], [False, False]))
    assert math.isnan(stats.log_rank([1, 1], [True, True], [1, 1], [True, True]))


runs = st.integers(1, 9).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 6).map(float), min_size=n, max_size=n), st.lists(st.booleans(), min_size=n, max_size=n)
    )
)


@settings(max_examples=60, deadline=None)
@given(runs)
def test_against_exact_fractions(drawn: tuple[list[float], list[bool]]) -> None:
    costs, reached = drawn
    found, exact = stats.kaplan_meier(costs, reached), oracle.survival(costs, reached)
    np.testing.assert_array_equal(found.times, [t for t, _ in exact])
    np.testing.assert_allclose(found.share_reached, [float(share) for _, share in exact], atol=1e-12)
    if len(costs) > 1:
        assert (found.low <= found.share_reached + 1e-12).all()
        assert (found.high >= found.share_reached - 1e-12).all()
        assert not np.isnan([found.low, found.high]).any()
    median = stats.median_time(costs, reached)
    assert median.value == oracle.median_time(costs, reached)
    assert stats.expected_cost(costs, reached).value == pytest.approx(oracle.expected_cost(costs, reached))
    batch = time_to_target.median_of(np.array([costs, costs]), np.array([reached, reached]))
    np.testing.assert_array_equal(batch, [median.value] * 2)
    if median.interval:
        assert median.interval[0] <= median.value <= median.interval[1]


def test_every_run_reached() -> None:
    found = stats.kaplan_meier([1, 2, 3], [True] * 3)
    np.testing.assert_allclose(found.share_reached, [1 / 3, 2 / 3, 1])
    assert (found.low[2], found.high[2]) == (found.low[1], 1.0)
    together = stats.kaplan_meier([2, 2], [True] * 2)
    assert (together.share_reached[0], together.low[0], together.high[0]) == (1.0, 0.0, 1.0)


def test_median_time_ends_are_the_sign_tests() -> None:
    costs = np.arange(1.0, 11.0)
    found = stats.median_time(costs, [True] * 10)
    assert (found.value, found.interval) == (5.0, (2.0, 9.0))
    assert 2 * oracle.binomial_at_most(1, 10, 0.5) <= 0.05 < 2 * oracle.binomial_at_most(2, 10, 0.5)
    late = stats.median_time(costs, [True] * 6 + [False] * 4)
    assert (late.value, late.interval) == (5.0, (2.0, math.inf))
    never = stats.median_time(costs, [True] * 4 + [False] * 6)
    assert (never.value, never.interval) == (math.inf, (2.0, math.inf))


def test_few_runs_have_no_interval_of_the_median() -> None:
    five = stats.median_time([1, 2, 3, 4, 5], [True] * 5)
    assert five.interval is None
    assert "it takes 6 runs" in five.how
    assert stats.median_time([1, 2, 3, 4, 5, 6], [True] * 6).interval == (1.0, 6.0)
    assert stats.median_time([1, 2, 3, 4, 5], [True] * 5, level=0.9).interval == (1.0, 5.0)
    naive = stats.median_time([1, 2, 3], [True] * 3, rng=rng(), method="percentile")
    assert naive.interval == (1.0, 3.0)  # holds the median 75 % of the time: 1 - 2 / 8


def test_bootstrap_of_the_median_counts_infinite_resamples() -> None:
    found = stats.median_time([1, 2, 3, 9, 9], [True] * 3 + [False] * 2, rng=rng(), method="percentile")
    assert found.value == 3.0
    assert ends(found) == (1.0, math.inf)


def test_expected_cost_by_hand() -> None:
    found = stats.expected_cost([100, 200, 500, 500], [True, True, False, False])
    assert found.value == 650.0  # 1,300 spent for two successes
    # log ERT: influence c / 325 - r / 0.5
    influence = np.array([100 / 325 - 2, 200 / 325 - 2, 500 / 325, 500 / 325])
    error = influence.std(ddof=1) / 2
    factor = math.exp(scipy_stats.t.ppf(0.975, 3) * error)
    np.testing.assert_allclose(ends(found), (650 / factor, 650 * factor))


def test_bootstrap_of_expected_cost_against_all_resamples() -> None:
    """27 resamples of one success and two misses: 8 of them without a success are inf, not dropped."""
    costs, reached = np.array([100.0, 500.0, 500.0]), np.array([True, False, False])
    exact = oracle.every_resample([3], lambda i: oracle.expected_cost(costs[list(i[0])], reached[list(i[0])]))
    found = stats.expected_cost(costs, reached, rng=rng(), level=0.5, method="percentile")
    ordered = np.sort(exact)
    assert ends(found) == (ordered[6], math.inf)
    assert sum(map(math.isinf, exact)) == 8
    kept = ordered[np.isfinite(ordered)]
    assert np.quantile(kept, 0.75) < math.inf  # what dropping them would have said


def test_ratio_pairs_seeds() -> None:
    seed = np.array([1.0, 2.0, 5.0, 20.0, 60.0, 100.0])
    yes = np.ones(6, bool)
    for method in ("t", "percentile"):
        together = stats.expected_cost_ratio(seed, yes, 2 * seed, yes, rng=rng(), method=method)  # type: ignore[arg-type]
        apart = stats.expected_cost_ratio(seed, yes, 2 * seed, yes, rng=rng(), method=method, paired=False)  # type: ignore[arg-type]
        assert together.value == apart.value == 0.5
        np.testing.assert_allclose(ends(together), (0.5, 0.5))
        assert ends(apart)[1] > 1.0
        assert ("paired" in together.how, "not paired" in apart.how) == (True, True)


def test_a_few_runs_that_all_differ_alike_give_no_bound() -> None:
    """Samples are read at evaluations, so ties are common: no width is then no knowledge."""
    for n, ends_of_ratio in ((2, (0.0, np.inf)), (5, (0.0, np.inf)), (6, (0.5, 0.5))):
        cost, yes = np.full(n, 10_000.0), np.ones(n, bool)
        for paired in (True, False):
            found = stats.expected_cost_ratio(cost, yes, 2 * cost, yes, paired=paired)
            np.testing.assert_allclose(ends(found), ends_of_ratio)
            assert ("no bound" in found.how) == (n < 6)
            found = stats.expected_cost_ratio(cost, yes, 2 * cost, yes, paired=paired, rng=rng(), method="percentile")
            np.testing.assert_allclose(ends(found), ends_of_ratio)
        assert ends(stats.expected_cost_ratio(cost, yes, cost, yes)) == (1.0, 1.0), "that claims nothing"
        lost = stats.expected_cost_ratio(cost, ~yes, cost, yes)
        assert ("no bound" in lost.how) == (n < 6), "the side that won is of runs that are all alike"
        assert (ends(lost)[0] == 0.0) == (n < 6)
        by_draws = ends(stats.expected_cost(cost, yes, rng=rng(), method="percentile"))
        np.testing.assert_allclose(by_draws, (0.0, np.inf) if n < 6 else (10_000.0, 10_000.0))
        alone = ends(stats.expected_cost(cost, yes))
        np.testing.assert_allclose(alone, (0.0, np.inf) if n < 6 else (10_000.0, 10_000.0))
        by = {(False,): cost, (True,): 2 * cost}
        effect = cost_effect(by, dict.fromkeys(by, yes), (0,))
        np.testing.assert_allclose(ends(effect), (0.0, np.inf) if n < 6 else (2.0, 2.0))


def test_unpaired_ratio_is_welchs_on_logs() -> None:
    a, b = np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 9.0, 6.0])
    parts = np.array([(x / x.mean()).var(ddof=1) / len(x) for x in (a, b)])
    nu = parts.sum() ** 2 / (parts**2 / np.array([2, 3])).sum()
    factor = math.exp(scipy_stats.t.ppf(0.975, nu) * math.sqrt(parts.sum()))
    found = stats.expected_cost_ratio(a, [True] * 3, b, [True] * 4, paired=False)
    np.testing.assert_allclose(ends(found), (2 / 6 / factor, 2 / 6 * factor))
    assert found.n == 3


def test_nobody_reached() -> None:
    costs, never, ever = [10.0, 10.0, 10.0], [False] * 3, [True] * 3
    none = stats.expected_cost(costs, never)
    # the success rate p has (1 - p)^3 >= 2.5 %, so p <= 0.7076, and 10 (1 - p) / p >= 4.13
    assert none.value == math.inf
    np.testing.assert_allclose(ends(none), (10 * 0.025 ** (1 / 3) / (1 - 0.025 ** (1 / 3)), math.inf))
    both = stats.expected_cost_ratio(costs, never, costs, never)
    assert math.isnan(both.value)
    assert both.interval is None
    won = [1.9, 2.0, 2.1]
    most = ends(stats.expected_cost(won, ever))[1]
    ours = stats.expected_cost_ratio(costs, never, won, ever)
    assert ours.value == math.inf
    np.testing.assert_allclose(ends(ours), (ends(none)[0] / most, math.inf))
    theirs = stats.expected_cost_ratio(won, ever, costs, never)
    assert theirs.value == 0.0
    np.testing.assert_allclose(ends(theirs), (0.0, most / ends(none)[0]))
    assert stats.expected_cost_ratio([0.0, 0.0], [True] * 2, [1.0, 2.0], [True] * 2).interval is None


def test_a_resample_where_neither_reached_widens_both_ends() -> None:
    costs, reached = [1.0, 5.0, 5.0], [True, False, False]
    found = stats.expected_cost_ratio(costs, reached, costs, reached, rng=rng(), method="percentile")
    assert found.value == 1.0
    assert ends(found) == (0.0, math.inf)  # 8 of 27 resamples know nothing


def test_one_run_is_refused() -> None:
    one = ([3.0], [True])
    for found in (stats.median_time(*one), stats.expected_cost(*one), stats.expected_cost_ratio(*one, *one)):
        assert found.interval is None
        assert "1 run says nothing" in found.how
    assert stats.share_reached(1, 1).interval is None
    curve = stats.kaplan_meier(*one)
    assert curve.share_reached.tolist() == [1.0]
    assert np.isnan([curve.low[0], curve.high[0]]).all()


@pytest.mark.parametrize(("k", "n"), [(0, 5), (3, 10), (10, 10)])
def test_share_reached_inverts_the_binomial(k: int, n: int) -> None:
    found = stats.share_reached(k, n, level=0.9)
    low, high = ends(found)
    assert found.value == k / n
    assert (low == 0.0) if k == 0 else 1 - oracle.binomial_at_most(k - 1, n, low) == pytest.approx(0.05)
    assert (high == 1.0) if k == n else oracle.binomial_at_most(k, n, high) == pytest.approx(0.05)


def test_first_reach() -> None:
    assert stats.first_reach([1, 2, 3], [0.1, 0.9, 0.2], 0.5) == stats.Reach(2.0, True)
    assert stats.first_reach([1, 2, 3], [0.1, 0.2, 0.3], 0.5) == stats.Reach(3.0, False)


BAD: Any = [
    (lambda: stats.median_time([1.0, 2.0], [True]), r"\[runs\], not \[2\] and \[1\]"),
    (lambda: stats.median_time([], []), r"are \[runs\]"),
    (lambda: stats.median_time([1.0, np.nan], [True, True]), "the cost of run 1 is nan"),
    (
        lambda: stats.median_time([1.0, np.inf], [True, False]),
        "run 1 is inf, not a finite number of 0 or more; a run that missed has",
    ),
    (lambda: stats.median_time([1.0, 2.0], [1, 0]), "true or false"),
    (lambda: stats.median_time([1.0, 2.0], [True, True], method="percentile"), "pass rng="),
    (lambda: stats.median_time([1.0, 2.0], [True, True], method="t"), "no interval method 't'"),  # type: ignore[arg-type]
    (lambda: stats.expected_cost([-1.0, 2.0], [True, True]), "run 0 is -1"),
    (lambda: stats.expected_cost([1.0, 2.0], [True, True], method="x"), "no interval method 'x'"),  # type: ignore[arg-type]
    (lambda: stats.expected_cost_ratio([1.0], [True], [1.0, 2.0], [True] * 2), "a has 1, b has 2"),
    (lambda: stats.share_reached(3, 2), "3 of 2 runs"),
    (lambda: stats.first_reach([1, 2], [1], 0.5), "evaluations"),
    (lambda: stats.kaplan_meier([1.0], [True], level=1.0), "between 0 and 1, not 1"),
]


@pytest.mark.parametrize(("call", "says"), BAD)
def test_refusals(call: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()


def test_percentile_ends_stay_outside() -> None:
    values = np.arange(100.0)
    assert resample.percentile_ends(values, values, 0.9) == (4.0, 95.0)
