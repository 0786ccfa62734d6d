"""Intervals of scores: the resampling against full enumeration and rliable, Student's interval, what is refused."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats as scipy_stats

from frugalrl import stats
from frugalrl.stats import resample
from oracles import stats as oracle

FIXTURE = json.loads((Path(__file__).parent.parent / "fixtures" / "statistics.json").read_text())
DATA = {name: np.array(x) for name, x in FIXTURE["scores"].items()}
AGGREGATES = {
    "mean": stats.mean,
    "median": stats.median,
    "iqm": stats.iqm,
    "optimality_gap": stats.optimality_gap,
}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def ends(estimate: stats.Estimate) -> tuple[float, float]:
    assert estimate.interval is not None
    return estimate.interval


def half(estimate: stats.Estimate) -> float:
    low, high = ends(estimate)
    return (high - low) / 2


@pytest.mark.parametrize("name", AGGREGATES)
@pytest.mark.parametrize("data", ["a", "b"])
def test_percentile_interval_as_rliable(name: str, data: str) -> None:
    found = stats.stratified(DATA[data], AGGREGATES[name], rng=rng(3), draws=8000, method="percentile")
    low, high = FIXTURE["intervals"][data][name]
    # an end of 8,000 draws is off by about 2 % of the width
    np.testing.assert_allclose(ends(found), (low, high), atol=0.06 * (high - low))
    assert found.value == pytest.approx(FIXTURE["values"][data][name])
    assert (found.n, found.level) == (8, 0.95)
    assert found.how == "stratified percentile bootstrap, 8,000 draws"


def test_resampling_across_tasks_is_not_what_rliable_does() -> None:
    a = DATA["a"]
    low, high = FIXTURE["intervals"]["a"]["median"]
    across = stats.stratified(a.T, stats.median, rng=rng(3), draws=2000, method="percentile")
    assert low - ends(across)[0] > 0.15 * (high - low)


def test_resamples_against_all_of_them() -> None:
    """Two tasks of three and two runs: 27 x 4 equally likely resamples."""
    tasks = [np.array([0.0, 1.0, 5.0]), np.array([2.0, 3.0])]

    def of(picked: list[tuple[int, ...]]) -> float:
        return float(np.mean([task[list(index)].mean() for task, index in zip(tasks, picked, strict=True)]))

    exact = oracle.every_resample([3, 2], of)

    def evaluate(picked: resample.Indices) -> resample.Floats:
        return stats.mean([task[index] for task, index in zip(tasks, picked, strict=True)])

    drawn = resample.resampled(evaluate, [3, 2], 20_000, rng(1))
    assert drawn.std() == pytest.approx(oracle.spread(exact), rel=0.03)
    for value in sorted(set(np.round(exact, 9)))[:5]:
        share = np.mean(np.isclose(exact, value))
        assert np.mean(np.isclose(drawn, value)) == pytest.approx(share, abs=4 * np.sqrt(share / 20_000))


def test_blocks_of_draws_make_no_difference_in_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resample, "BLOCK", 35)
    drawn = resample.resampled(lambda picked: picked[0].mean(-1) + 0.0, [5], 1003, rng())
    assert drawn.shape == (1003,)
    assert drawn.std() == pytest.approx(np.sqrt(2 / 5), rel=0.1)


def test_t_interval_of_one_mean_is_students() -> None:
    x = np.array([3.0, 4.0, 8.0, 1.0, 2.0])
    found = stats.stratified(x[:, None], stats.mean, rng=rng(), draws=50_000)
    student = scipy_stats.t.interval(0.95, 4, x.mean(), x.std(ddof=1) / np.sqrt(5))
    np.testing.assert_allclose(ends(found), student, atol=0.02 * (student[1] - student[0]))
    assert "4 degrees of freedom" in found.how


def test_t_interval_over_tasks_is_welchs() -> None:
    """Mean of two task means of unequal spread and size: variance s1^2 / (4 n1) + s2^2 / (4 n2), Satterthwaite."""
    tasks = [np.array([0.0, 10.0, 2.0]), np.array([1.0, 1.5, 0.5, 1.2, 0.8, 1.0])]
    parts = np.array([x.var(ddof=1) / len(x) / 4 for x in tasks])
    nu = parts.sum() ** 2 / (parts**2 / np.array([2, 5])).sum()
    width = scipy_stats.t.ppf(0.975, nu) * np.sqrt(parts.sum())
    found = stats.stratified(tasks, stats.mean, rng=rng(2), draws=20_000)
    assert half(found) == pytest.approx(width, rel=0.05)
    assert found.n == 3


def test_paired_seeds_cancel() -> None:
    """The seed moves both methods by the same amount: enumerated in pairs it leaves nothing; unpaired it does not."""
    seed = np.array([0.0, 10.0, 50.0])
    a, b = seed[:, None] + [[1.0], [2.0], [3.0]], seed[:, None]
    found = stats.paired(a, b, stats.mean, rng=rng(), draws=20_000, level=0.6, method="percentile")
    exact = oracle.every_resample([3], lambda picked: float((a - b)[list(picked[0]), 0].mean()))
    assert found.value == pytest.approx(2.0)
    np.testing.assert_allclose(ends(found), np.quantile(exact, [0.2, 0.8], method="inverted_cdf"), atol=1e-9)
    unpaired = oracle.every_resample([3, 3], lambda i: float(a[list(i[0]), 0].mean() - b[list(i[1]), 0].mean()))
    assert oracle.spread(unpaired) > 20 * oracle.spread(exact)
    shuffled = stats.paired(a, b[[1, 2, 0]], stats.mean, rng=rng(), draws=2000)
    assert half(shuffled) > 20 * half(stats.paired(a, b, stats.mean, rng=rng(), draws=2000))


def test_ways_to_combine() -> None:
    a, b = np.array([[2.0, 8.0], [4.0, 6.0], [3.0, 9.0]]), np.array([[1.0, 4.0], [2.0, 3.0], [1.5, 4.5]])
    ratio = stats.paired(a, b, stats.mean, rng=rng(), combine="ratio")
    assert ratio.value == pytest.approx(2.0)
    np.testing.assert_allclose(ends(ratio), (2.0, 2.0))  # every seed doubles
    other = b[::-1] * [[1.0, 2.0]]
    apart = stats.paired(a, other, stats.iqm, rng=rng(), combine="of-difference")
    assert apart.value == pytest.approx(float(stats.iqm(a - other)))
    assert stats.paired(a, other, stats.iqm, rng=rng()).value == pytest.approx(
        float(stats.iqm(a)) - float(stats.iqm(other))
    )


def test_one_run_has_no_interval() -> None:
    one = np.array([[0.5, 0.7]])
    for found in (
        stats.stratified(one, stats.iqm, rng=rng()),
        stats.stratified([np.array([1.0, 2.0]), np.array([3.0])], stats.mean, rng=rng()),
        stats.paired(one, one, stats.mean, rng=rng()),
        stats.probability_of_improvement(one, one),
    ):
        assert found.interval is None
        assert found.n == 1
        assert "1 run says nothing" in found.how
    assert stats.stratified(one, stats.iqm, rng=rng()).value == pytest.approx(0.6)


def test_bounds_and_level() -> None:
    gap = np.array([[0.95], [1.3], [0.9]])
    cut = stats.stratified(gap, stats.optimality_gap, rng=rng(), bounds=(0.0, np.inf))
    assert ends(cut)[0] == 0.0
    narrow = stats.stratified(gap, stats.mean, rng=rng(), level=0.5)
    assert half(narrow) < half(stats.stratified(gap, stats.mean, rng=rng(), level=0.99)) / 3
    same = stats.stratified(np.ones((4, 3)), stats.iqm, rng=rng())
    assert same.interval == (1.0, 1.0)


def test_percentile_ends_of_infinite_values() -> None:
    values = np.array([1.0, np.inf, 2.0, np.inf])
    assert resample.percentile_ends(values, values, 0.95) == (1.0, np.inf)


def test_improvement_as_rliable_and_by_loops() -> None:
    said = FIXTURE["probability_of_improvement"]
    found = stats.probability_of_improvement(DATA["a"], DATA["b"], rng=rng(), draws=2000, method="percentile")
    assert found.value == pytest.approx(said["value"], rel=1e-12)
    low, high = said["interval"]
    np.testing.assert_allclose(ends(found), (low, high), atol=0.08 * (high - low))
    assert found.value == pytest.approx(oracle.improvement(DATA["a"].tolist(), DATA["b"].tolist()))
    assert abs(float((DATA["a"] > DATA["b"][::-1]).mean()) - said["value"]) > 0.005  # run i against run i alone
    back = stats.probability_of_improvement(DATA["b"], DATA["a"])
    there = stats.probability_of_improvement(DATA["a"], DATA["b"])
    assert back.value == pytest.approx(1 - there.value)
    np.testing.assert_allclose(ends(back), [1 - ends(there)[1], 1 - ends(there)[0]])


@pytest.mark.parametrize(("m", "n"), [(3, 3), (5, 8)])
def test_score_interval_solves_its_equation(m: int, n: int) -> None:
    x, y = np.arange(m) + 2.5, np.arange(n) * 1.0
    found = stats.probability_of_improvement(x[:, None], y[:, None], level=0.9)
    z = scipy_stats.norm.ppf(0.95)
    for end in ends(found):
        assert (found.value - end) ** 2 == pytest.approx(z**2 * oracle.auc_variance(end, m, n), rel=1e-6)


def test_score_interval_over_tasks_of_different_sizes() -> None:
    """The variance of a mean of two tasks is a quarter of the sum of theirs; of one task alone it is larger."""
    a, b = [np.array([1.0, 4.0, 2.0]), np.arange(5.0)], [np.array([3.0, 0.0]), np.arange(6.0) + 1.5]
    found = stats.probability_of_improvement(a, b)
    z = scipy_stats.norm.ppf(0.975)
    for end in ends(found):
        variance = (oracle.auc_variance(end, 3, 2) + oracle.auc_variance(end, 5, 6)) / 4
        assert (found.value - end) ** 2 == pytest.approx(z**2 * variance, rel=1e-6)


def test_complete_separation_is_no_certainty() -> None:
    a, b = np.array([[2.0], [3.0], [4.0]]), np.array([[0.0], [1.0], [1.5]])
    found = stats.probability_of_improvement(a, b)
    assert found.value == 1.0
    assert 0.3 < ends(found)[0] < 0.7
    assert ends(found)[1] == pytest.approx(1.0)
    naive = stats.probability_of_improvement(a, b, rng=rng(), method="percentile")
    assert naive.interval == (1.0, 1.0)


GOOD: Any = np.array([[1.0], [2.0]])


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: stats.stratified([[1.0, np.nan]], stats.mean, rng=rng()), "run 1 in task 0 is nan"),
        (lambda: stats.stratified(GOOD[:, 0], stats.mean, rng=rng()), r"\[runs, tasks\], not \[2\]"),
        (lambda: stats.stratified([], stats.mean, rng=rng()), "no task"),
        (lambda: stats.stratified([[]], stats.mean, rng=rng()), "with one run or more"),
        (lambda: stats.stratified(GOOD, stats.mean, rng=rng(), level=95), "between 0 and 1, not 95"),
        (lambda: stats.stratified(GOOD, stats.mean, rng=rng(), draws=10), "10 bootstrap draws are too few"),
        (lambda: stats.stratified(GOOD, stats.mean, rng=rng(), method="bca"), "no interval method 'bca'"),  # type: ignore[arg-type]
        (lambda: stats.paired(GOOD, [[1.0]], stats.mean, rng=rng()), "same seeds: a has"),
        (lambda: stats.paired(GOOD, GOOD, stats.mean, rng=rng(), combine="sum"), "named 'sum'"),  # type: ignore[arg-type]
        (lambda: stats.paired(-GOOD, GOOD, stats.mean, rng=rng(), combine="ratio"), "above 0"),
        (lambda: stats.probability_of_improvement(GOOD, [[1.0], [2.0]]), "a has 1, b has 2"),
        (lambda: stats.probability_of_improvement(GOOD, GOOD, method="percentile"), "pass rng="),
        (lambda: stats.probability_of_improvement(GOOD, GOOD, method="t"), "no interval method 't'"),  # type: ignore[arg-type]
    ],
)
def test_refusals(call: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        call()


def test_the_same_generator_gives_the_same_interval() -> None:
    first, second = (stats.stratified(DATA["a"], stats.iqm, rng=rng(7), draws=200) for _ in range(2))
    assert first == second
    assert len({ends(stats.stratified(DATA["a"], stats.iqm, rng=rng(s), draws=200)) for s in range(3)}) == 3


def test_pairs_of_all_methods_agree_on_the_value() -> None:
    for method, name in itertools.product(("t", "percentile"), AGGREGATES):
        found = stats.stratified(DATA["b"], AGGREGATES[name], rng=rng(), draws=200, method=method)  # type: ignore[arg-type]
        assert ends(found)[0] < found.value < ends(found)[1]


@pytest.mark.parametrize("combine", ["difference", "of-difference", "ratio"])
def test_a_few_runs_that_differ_by_the_same_amount_show_nothing(combine: str) -> None:
    """Of scores in 512ths the differences of two seeds are equal now and then; the sign test needs six."""
    base = np.array([[0.125], [0.25], [0.5], [0.0625], [0.375], [0.75]])
    other = base * 0.75 if combine == "ratio" else base - 8 / 512
    none = 1.0 if combine == "ratio" else 0.0
    for n in (2, 3, 5, 6):
        found = stats.paired(other[:n], base[:n], stats.mean, rng=rng(), combine=combine)  # type: ignore[arg-type]
        assert found.interval is not None
        assert (found.interval[1] < none) == (n == 6)
        assert ("say nothing about the spread" in found.how) == (n < 6)
    same = stats.paired(base[:2], base[:2], stats.mean, rng=rng(), combine=combine)  # type: ignore[arg-type]
    assert same.interval == (none, none)


def test_rounding_is_no_width_and_no_difference() -> None:
    for scale in (1.0, 1e3, 1e6):  # 0.1 is rounded in 1000.1, and differently in 2000.1
        a, b = scale * np.array([1000.1, 2000.1, 300.1]), scale * np.array([1000.0, 2000.0, 300.0])
        cells = {(0,): b, (1,): a}
        for made in (stats.paired([a], [b], stats.mean, rng=rng()), stats.score_effect(cells, (0,), rng=rng())):
            assert made.interval == (-np.inf, np.inf), scale
            assert made.how.startswith("no bound: 3 runs that all differ by the same amount")
        twin = b + scale * np.array([1.0, 1.0, -2.0]) * 1e-13
        for same in (
            stats.paired([twin], [b], stats.mean, rng=rng()),
            stats.score_effect(cells | {(1,): twin}, (0,), rng=rng()),
        ):
            assert same.interval is not None
            assert same.interval[0] <= 0 <= same.interval[1]


@pytest.mark.parametrize(("runs", "least"), [(3, 0.0), (5, 0.0), (6, 0.001)])
def test_a_percentile_bootstrap_of_few_runs_shows_no_difference(runs: int, least: float) -> None:
    draw, false = np.random.default_rng(0), {"paired": 0, "ratio": 0, "cost effect": 0, "score effect": 0}
    ways = {"rng": rng(), "draws": 200, "method": "percentile"}
    yes = np.ones(runs, bool)
    for _ in range(100):
        a, b = np.exp(draw.normal(0, 0.3, (2, runs)))
        cells, reached = {(0,): b, (1,): a}, {(0,): yes, (1,): yes}
        for name, made, none in (
            ("paired", stats.paired([a], [b], stats.mean, **ways), 0.0),
            ("ratio", stats.expected_cost_ratio(a, yes, b, yes, **ways), 1.0),
            ("cost effect", stats.cost_effect(cells, reached, (0,), **ways), 1.0),
            ("score effect", stats.score_effect(cells, (0,), **ways), 0.0),
        ):
            assert made.interval is not None
            false[name] += not made.interval[0] <= none <= made.interval[1]
        assert np.isinf(stats.expected_cost(a, yes, **ways).interval[1]) == (runs < 6)
    assert all(count >= 100 * least for count in false.values()) if least else set(false.values()) == {0}
    at_half = stats.paired([a], [b], stats.mean, level=0.5, **ways)
    assert at_half.interval is not None
    assert np.isfinite(at_half.interval[0])  # three differences of one sign are rarer than a half
