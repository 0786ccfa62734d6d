"""Curves over cost and tolerance intervals."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from frugalrl import stats
from oracles import stats as oracle


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_curve_by_hand() -> None:
    x = [[0, 10], [0, 5, 10], [2, 6]]
    y = [[0, 10], [4, 4, 8], [1, 9]]
    curve = stats.efficiency_curve(x, y, [0, 2, 5, 6, 8, 12], rng=rng(), statistic="mean")
    np.testing.assert_array_equal(curve.n, [2, 3, 3, 3, 2, 0])
    np.testing.assert_allclose(curve.value, [2, 7 / 3, 16 / 3, (6 + 4.8 + 9) / 3, 7.2, np.nan])
    assert np.isnan(curve.low[-1])
    assert (curve.low[:-1] <= curve.value[:-1]).all()
    assert "pointwise" in curve.how


def test_nothing_is_extrapolated() -> None:
    """numpy's default would hold the last score and keep a finished run in the mean for ever."""
    x, y = [[0, 10], [0, 4]], [[0, 10], [0, 1]]
    curve = stats.efficiency_curve(x, y, [8.0], rng=rng())
    assert (curve.value[0], curve.n[0]) == (8.0, 1)
    assert np.isnan([curve.low[0], curve.high[0]]).all()  # one run: refused
    held = np.mean([np.interp(8.0, a, b) for a, b in zip(x, y, strict=True)])
    assert held == 4.5


def test_against_loops() -> None:
    draw = rng(5)
    x = [np.sort(draw.choice(40, size=draw.integers(1, 6), replace=False)).astype(float) for _ in range(7)]
    y = [draw.normal(size=len(c)) for c in x]
    grid = np.arange(0.0, 40.0, 0.5)
    curve = stats.efficiency_curve(x, y, grid, rng=rng(), draws=200)
    for i, at in enumerate(grid):
        there = [
            v for v in (oracle.curve_at(c.tolist(), s.tolist(), at) for c, s in zip(x, y, strict=True)) if v is not None
        ]
        assert curve.n[i] == len(there)
        if there:
            assert curve.value[i] == pytest.approx(oracle.iqm([[v] for v in there]))


@pytest.mark.parametrize("method", ["t", "percentile"])
def test_a_point_of_a_curve_is_an_interval_of_scores(method: Any) -> None:
    scores = np.array([1.0, 5.0, 2.0, 4.0, 9.0])
    curve = stats.efficiency_curve(
        [[0, 1]] * 5, [[0.0, s] for s in scores], [0.5, 1], rng=rng(1), method=method, draws=8000
    )
    alone = stats.stratified(scores[:, None], stats.iqm, rng=rng(2), method=method, draws=8000)
    assert alone.interval is not None
    np.testing.assert_allclose([curve.low[1], curve.high[1]], alone.interval, atol=0.05 * np.ptp(alone.interval))
    np.testing.assert_allclose(
        [curve.low[0], curve.high[0]], np.array(alone.interval) / 2, atol=0.05 * np.ptp(alone.interval)
    )


def test_long_grids_are_cut_into_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    from frugalrl.stats import curves

    x, y = [[0, 1]] * 4, [[0.0, s] for s in (1.0, 2.0, 4.0, 3.0)]
    whole = stats.efficiency_curve(x, y, np.linspace(0, 1, 30), rng=rng(), draws=200)
    monkeypatch.setattr(curves, "BLOCK", 5000)
    cut = stats.efficiency_curve(x, y, np.linspace(0, 1, 30), rng=rng(), draws=200)
    np.testing.assert_allclose(cut.low, whole.low)


def test_a_simultaneous_band_holds_whole_curves() -> None:
    """Random walks: the truth is 0 everywhere. The pointwise band misses it somewhere far more often than in 5 %."""
    draw, grid, n = rng(3), np.arange(1.0, 31.0), 10
    held = {"pointwise": 0, "simultaneous": 0}
    for _ in range(150):
        walks = draw.normal(size=(n, 30)).cumsum(1)
        for band in held:
            curve = stats.efficiency_curve([grid] * n, walks, grid, rng=draw, statistic="mean", draws=200, band=band)  # type: ignore[arg-type]
            held[band] += bool(((curve.low <= 0) & (curve.high >= 0)).all())
    assert held["simultaneous"] / 150 >= 0.89
    assert held["pointwise"] / 150 < 0.85


def test_a_band_over_pieces_is_wider_than_one_over_a_piece() -> None:
    ends = [[0.0, 2.0 if i < 10 else 1.0] for i in range(15)]
    scores = [[0.0, float(i)] for i in range(15)]
    curves = {
        band: stats.efficiency_curve(ends, scores, [0.5, 0.9, 1.5], rng=rng(), band=band)  # type: ignore[arg-type]
        for band in ("pointwise", "simultaneous")
    }
    assert (curves["simultaneous"].high > curves["pointwise"].high).all()
    assert curves["simultaneous"].how.startswith("simultaneous")
    few = stats.efficiency_curve(ends[:9], scores[:9], [0.5], rng=rng(), band="simultaneous")
    assert np.isnan([few.low[0], few.high[0]]).all()


@pytest.mark.parametrize(
    ("x", "y", "grid", "says"),
    [
        ([], [], [1.0], "got 0 and 0"),
        ([[1, 2]], [[1.0]], [1.0], "run 0 has costs"),
        ([[1, 2]], [[1.0, np.nan]], [1.0], "evaluation 1 of run 0 is nan at cost 2"),
        ([[0, 1], [2, 2]], [[1.0, 2.0]] * 2, [1.0], "costs of run 1 do not rise: 2 is followed by 2"),
        ([[0, 1]], [[1.0, 2.0]], [1.0, 0.5], "grid of a curve"),
    ],
)
def test_curve_refusals(x: Any, y: Any, grid: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        stats.efficiency_curve(x, y, grid, rng=rng())


def test_unknown_statistic_of_a_curve() -> None:
    with pytest.raises(ValueError, match="no curve of 'iqm' by 'percentile', 'simultaneous'"):
        stats.efficiency_curve([[0, 1]], [[1.0, 2.0]], [1.0], rng=rng(), method="percentile", band="simultaneous")
    with pytest.raises(ValueError, match="no curve of 'max'"):
        stats.efficiency_curve([[0, 1]], [[1.0, 2.0]], [1.0], rng=rng(), statistic="max")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("coverage", "confidence", "one", "two"), [(0.9, 0.95, 29, 46), (0.95, 0.95, 59, 93), (0.5, 0.9, 4, 7)]
)
def test_seeds_needed(coverage: float, confidence: float, one: int, two: int) -> None:
    assert stats.seeds_needed(coverage, confidence, "lower") == stats.seeds_needed(coverage, confidence, "upper") == one
    assert stats.seeds_needed(coverage, confidence, "two") == two
    # at least `coverage` of future runs lie inside iff at most n - 1 (one end) or n - 2 (both ends) of n runs do
    for n, outside in ((one, 1), (two, 2)):
        assert oracle.binomial_at_most(n - outside, n, coverage) >= confidence
        assert oracle.binomial_at_most(n - 1 - outside, n - 1, coverage) < confidence


def test_tolerance_interval() -> None:
    few = stats.tolerance_interval([3.0, 1.0, *np.arange(10.0, 18.0)], side="lower")
    assert (few.low, few.high, few.coverage, few.n, few.needed) == (1.0, np.inf, None, 10, 29)
    assert few.bounded == pytest.approx(0.05**0.1)  # 74 %
    values = np.arange(100.0)
    many = stats.tolerance_interval(values)
    assert many.coverage is not None
    assert 0.9 <= many.coverage == many.bounded
    # of 100 runs the chance that at least m fall outside of 90 % is 97.6 % for m = 5 and 94.2 % for m = 6
    assert oracle.binomial_at_most(95, 100, 0.9) >= 0.95 > oracle.binomial_at_most(94, 100, 0.9)
    assert (many.low, many.high) == (1.0, 98.0)  # two at each end, as three would be six
    top = stats.tolerance_interval(values, side="upper")
    assert (top.low, top.high) == (-np.inf, 95.0)  # five
    one = stats.tolerance_interval([2.0])
    assert (one.low, one.high, one.coverage, one.bounded) == (2.0, 2.0, None, 0.0)


@pytest.mark.parametrize(
    ("options", "says"),
    [({"coverage": 90}, "coverage lies between"), ({"confidence": 0}, "confidence lies"), ({"side": "both"}, "'both'")],
)
def test_tolerance_refusals(options: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        stats.tolerance_interval([1.0, 2.0], **options)


def test_importing_the_statistics_loads_neither_torch_nor_scipy_stats() -> None:
    check = "import frugalrl.stats, sys; assert not {'torch', 'scipy.stats', 'pandas'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
