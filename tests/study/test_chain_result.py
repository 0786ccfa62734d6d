"""Intervals and rank correlations against scipy; verdicts and sentences on results with a known answer."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from frugalrl.study.chain_grid import COACT, EPS_GREEDY, METHODS, Results, learners_of, settings_of
from frugalrl.study.chain_result import (
    Estimate,
    estimate,
    examine,
    spearman,
    t_quantile,
    td_and_speed,
    tune,
)
from frugalrl.study.chain_words import sentences, summary


@pytest.mark.parametrize("df", [9, 10, 19, 49, 199, 999])
def test_t_quantile(df: int) -> None:
    assert t_quantile(df) == pytest.approx(stats.t.ppf(0.975, df), rel=1e-4)


def test_interval_of_a_paired_difference() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(1.0, 1.0, 40), rng.normal(0.5, 2.0, 40)
    found, known = estimate(x - y), stats.ttest_rel(x, y).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((known.low, known.high), rel=1e-4)
    unpaired = stats.ttest_ind(x, y).confidence_interval(0.95)
    assert found.low != pytest.approx(unpaired.low, rel=1e-3)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    held = [e.low <= 0.3 <= e.high for e in (estimate(rng.normal(0.3, 1.0, 20)) for _ in range(2_000))]
    assert abs(np.mean(held) - 0.95) < 0.02


def test_an_interval_that_holds_zero_shows_no_difference() -> None:
    signs = [Estimate(0.1, low, high).sign for low, high in ((-0.1, 0.3), (0.0, 0.2), (0.05, 0.2), (-0.2, -0.1))]
    assert signs == [0, 0, 1, -1]
    assert estimate(np.zeros(20)).sign == 0


def test_rank_correlation() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        x, y = rng.integers(0, 6, 12).astype(float), rng.normal(size=12)
        assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    assert spearman(np.arange(3.0), -np.arange(3.0)) == pytest.approx(-1.0)
    assert spearman(np.arange(2.0), np.arange(2.0)) is None
    assert spearman(np.ones(5), np.arange(5.0)) is None


def results_with(gains: list[int], td_gains: list[float], seeds: int = 40) -> Results:
    """Settings in which CoAct returns so much more than epsilon-greedy, whose return is 5 or 6 by seed."""
    settings = settings_of([0.9], [0.1 * (i + 1) for i in range(len(gains))], [0.15])
    learners = learners_of(settings)
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 2, (20, 1, seeds))
    returns = np.broadcast_to(noise, (20, len(learners), seeds)).astype(np.uint8).copy()
    td = rng.normal(0.0, 1e-6, returns.shape).astype(np.float32)
    results = Results(settings, learners, returns, td)
    for setting, gain, td_gain in zip(settings, gains, td_gains, strict=True):
        returns[:, results.at(setting, EPS_GREEDY)] += 5
        returns[:, results.at(setting, COACT)] += 5 + gain
        returns[:, results.at(setting, COACT), ::2] += 1
        td[:10, results.at(setting, COACT)] += td_gain
        td[10:, results.at(setting, COACT)] -= 1.0  # late TD errors are not early ones
    return results


def test_sentences_name_the_winner_and_by_how_much() -> None:
    study = examine(results_with([2, 0, -3], [0.01, 0.02, 0.03]))
    coact = [a for a in study.against if a.method == COACT]
    assert [a.score_gain.sign for a in coact] == [1, 1, -1]
    assert [a.score_gain.mean for a in coact] == pytest.approx([2.5, 0.5, -2.5])
    assert [a.early_td_gain.mean for a in coact] == pytest.approx([0.01, 0.02, 0.03], abs=1e-5)
    lines = sentences(study)
    assert len(lines) == 3
    assert lines[0].startswith(
        "gamma 0.9, alpha 0.1, eps 0.15: CoAct learns faster than epsilon-greedy by 2.50 [2.34, 2.66] (mean return "
    )
    assert "Highest mean of all methods: CoAct" in lines[0]
    assert "epsilon-greedy learns faster than CoAct by 2.50 [2.34, 2.66]" in lines[2]
    assert "at the end CoAct is 2.50 [2.34, 2.66] lower" in lines[2]
    assert "Highest mean of all methods: epsilon-greedy" in lines[2]


def test_equal_methods_show_no_difference() -> None:
    results = results_with([0, 0, 0], [0.0, 0.0, 0.0])
    for setting in results.settings:
        results.returns[:, results.at(setting, COACT)] = results.returns[:, results.at(setting, EPS_GREEDY)]
    line = sentences(examine(results))[0]
    assert "no difference shown between CoAct and epsilon-greedy: 0.00 [0.00, 0.00]" in line
    assert "at the end no difference shown: 0.00" in line


def test_summary_counts_and_correlates() -> None:
    results = results_with([2, 1, -3, -4], [0.01, 0.02, 0.03, 0.04])
    correlation = td_and_speed(results)
    assert correlation.rho == pytest.approx(-1.0)
    assert correlation.low is not None
    assert correlation.high is not None
    assert correlation.low <= -1.0 + 1e-9 <= correlation.high + 1e-6
    text = "\n".join(summary(examine(results)))
    assert "CoAct against epsilon-greedy, mean return: higher in 2, lower in 2, no difference shown in 0 of 4" in text
    assert "CoAct against epsilon-greedy: higher in 4, lower in 0" in text
    assert "CoAct learns slower in 2 of the 4 settings where its early TD error is higher." in text
    assert "rank correlation over 4 settings: -1.00 [-1.00, -1.00]" in text
    assert all(f"{m} against" in text for m in METHODS if m not in (COACT, EPS_GREEDY))


def test_eps_is_tuned_for_each_method_alone() -> None:
    settings = settings_of([0.9], [0.1, 0.5], [0.05, 0.25])
    learners = learners_of(settings)
    returns = np.zeros((12, len(learners), 20), np.uint8)
    results = Results(settings, learners, returns, np.zeros(returns.shape, np.float32))
    for setting, coact, base in zip(settings, (4, 2, 0, 0), (1, 3, 5, 6), strict=True):
        returns[:, results.at(setting, COACT)] = coact
        returns[:, results.at(setting, EPS_GREEDY)] = base
    first, second = tune(results)
    assert (first.eps_coact, first.eps_epsilon_greedy, first.score_gain.mean) == (0.05, 0.25, 1.0)
    assert (second.eps_epsilon_greedy, second.score_gain.mean) == (0.25, -6.0)
    text = "\n".join(summary(examine(results)))
    assert "gamma 0.9, alpha 0.1: CoAct (0.05) against epsilon-greedy (0.25), mean return: CoAct is higher by 1" in text
    assert "mean return: CoAct is lower by 6.00 [6.00, 6.00]." in text
    assert tune(results_with([1, 2], [0.0, 0.0])) == []  # one eps: nothing to tune


def test_two_settings_are_too_few_for_a_rank_correlation() -> None:
    results = results_with([2, -3], [0.01, 0.02])
    correlation = td_and_speed(results)
    assert (correlation.rho, correlation.low, correlation.high) == (None, None, None)
    assert "too few settings" in "\n".join(summary(examine(results)))


def test_one_setting_is_one_setting() -> None:
    text = "\n".join(summary(examine(results_with([2], [0.01]))))
    assert "no difference shown in 0 of 1 setting." in text
    assert "(of 1 setting)" in text
    assert "1 settings" not in text
