"""Do the intervals hold the truth as often as they say? Small simulations; the full table is evidence/statistics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from frugalrl import stats

REPS, DRAWS = 400, 100
Draw = Callable[[np.random.Generator], stats.Estimate]


def coverage(truth: float, estimate: Draw, seed: int = 0) -> float:
    rng = np.random.default_rng(seed)
    held = []
    for _ in range(REPS):
        ends = estimate(rng).interval
        assert ends is not None
        held.append(ends[0] <= truth <= ends[1])
    return float(np.mean(held))


def of_mean(n: int, **options: Any) -> Draw:
    return lambda rng: stats.stratified(rng.normal(1, 0.4, (n, 1)), stats.mean, rng=rng, draws=DRAWS, **options)


def test_mean_of_few_runs() -> None:
    """Three runs, four standard errors (0.011) to each side. The wrong variants fall out of these bounds."""
    right = coverage(1.0, of_mean(3))
    assert 0.90 <= right <= 0.99
    assert coverage(1.0, of_mean(3, method="percentile")) < 0.82
    assert coverage(1.0, of_mean(3, level=0.8)) < 0.88


def test_iqm_over_tasks() -> None:
    spread = np.array([0.1, 0.3, 1.0])

    def drawn(rng: np.random.Generator) -> stats.Estimate:
        return stats.stratified(rng.normal(1, spread, (5, 3)), stats.iqm, rng=rng, draws=DRAWS)

    assert 0.90 <= coverage(1.0, drawn) <= 0.995


def test_probability_of_improvement() -> None:
    """Truth 0.921: three runs of each are often fully apart, where the bootstrap claims certainty."""

    def drawn(method: Any) -> Draw:
        return lambda rng: stats.probability_of_improvement(
            rng.normal(2, 1, (3, 1)), rng.normal(0, 1, (3, 1)), rng=rng, draws=DRAWS, method=method
        )

    assert 0.90 <= coverage(0.92135, drawn("score")) <= 0.995
    assert coverage(0.92135, drawn("percentile")) < 0.6


def costs(rng: np.random.Generator, n: int) -> list[Any]:
    """Log-normal times to the target, both methods moved by the seed, cut at 1; ERT ratio and median known by size."""
    seed = 0.7 * rng.normal(size=n)
    found = []
    for shift in (0.0, 0.3):
        t = np.exp(-1.0 + shift + seed + 0.2 * rng.normal(size=n))
        found += [np.minimum(t, 1.0), t <= 1.0]
    return found


def test_expected_cost_ratio() -> None:
    a, ra, b, rb = costs(np.random.default_rng(9), 1_000_000)
    truth = (a.sum() / ra.sum()) / (b.sum() / rb.sum())

    def drawn(**options: Any) -> Draw:
        return lambda rng: stats.expected_cost_ratio(*costs(rng, 6), rng=rng, draws=DRAWS, **options)

    right = coverage(truth, drawn())
    assert 0.90 <= right <= 0.99
    assert coverage(truth, drawn(method="percentile")) < 0.90
    # leaving the pairs out is safe here but wasteful: it is nearly never wrong
    assert coverage(truth, drawn(paired=False)) > 0.99


def test_median_time() -> None:
    truth = float(np.exp(-1.0))
    assert 0.94 <= coverage(truth, lambda rng: stats.median_time(*costs(rng, 10)[:2])) <= 1.0

    def dropped(rng: np.random.Generator) -> stats.Estimate:
        c, r = costs(rng, 40)[2:]
        return stats.median_time(c[r], r[r])

    slow = float(np.exp(-0.7))
    assert coverage(slow, lambda rng: stats.median_time(*costs(rng, 40)[2:]), seed=1) >= 0.93
    assert coverage(slow, dropped, seed=1) < 0.85


def test_what_the_page_says_of_a_cost_ratio_where_runs_get_there_early_or_never() -> None:
    def drawn(rate_a: float, rate_b: float, n: int) -> Draw:
        def made(rng: np.random.Generator) -> stats.Estimate:
            both = []
            for rate in (rate_a, rate_b):
                reached = rng.random(n) < rate
                both += [np.where(reached, rng.choice([0.05, 0.1, 0.15], n), 1.0), reached]
            return stats.expected_cost_ratio(*both)

        return made

    truth = 0.1 / ((0.7 * 0.1 + 0.3) / 0.7)
    assert 0.72 < coverage(truth, drawn(1.0, 0.7, 3)) < 0.88
    assert coverage(truth, drawn(1.0, 0.7, 10)) > 0.93
    assert 0.85 < coverage(1.0, drawn(0.9, 0.9, 10)) < 0.94
    assert coverage(1.0, drawn(1.0, 1.0, 5)) > 0.92
