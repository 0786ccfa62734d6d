"""Aggregates and profiles: by hand, against loops, and against rliable 1.2.0."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frugalrl import stats
from oracles import stats as oracle

FIXTURE = json.loads((Path(__file__).parent.parent / "fixtures" / "statistics.json").read_text())
DATA = {name: np.array(x) for name, x in FIXTURE["scores"].items()}
AGGREGATES = {
    "mean": stats.mean,
    "median": stats.median,
    "iqm": stats.iqm,
    "optimality_gap": stats.optimality_gap,
}


def test_by_hand() -> None:
    # tasks as columns: means 2, 6, 1; sorted 0 0 1 2 2 3 3 4 12, of which 9 // 4 = 2 are cut at each end
    scores = np.array([[1.0, 2.0, 0.0], [2.0, 4.0, 3.0], [3.0, 12.0, 0.0]])
    assert float(stats.mean(scores)) == 3.0
    assert float(stats.median(scores)) == 2.0
    assert float(stats.iqm(scores)) == pytest.approx((1 + 2 + 2 + 3 + 3) / 5)
    assert float(stats.optimality_gap(scores, 3.0)) == pytest.approx((2 + 1 + 0 + 1 + 0 + 0 + 3 + 0 + 3) / 9)
    np.testing.assert_allclose(stats.performance_profile(scores, [0.0, 2.0, 12.0]), [7 / 9, 4 / 9, 0.0])


@pytest.mark.parametrize("name", AGGREGATES)
@pytest.mark.parametrize("data", DATA)
def test_as_rliable(name: str, data: str) -> None:
    assert float(AGGREGATES[name](DATA[data])) == pytest.approx(FIXTURE["values"][data][name], rel=1e-12)


@pytest.mark.parametrize("data", DATA)
def test_profile_as_rliable(data: str) -> None:
    found = stats.performance_profile(DATA[data], FIXTURE["thresholds"])
    np.testing.assert_allclose(found, FIXTURE["profile"][data], rtol=1e-12)


def test_the_fixture_tells_wrong_variants_apart() -> None:
    """A median over runs and tasks, and an IQM per task, are other numbers."""
    a, said = DATA["a"], FIXTURE["values"]["a"]
    assert abs(float(np.median(a)) - said["median"]) > 0.01
    assert abs(float(np.mean([stats.iqm(task[:, None]) for task in a.T])) - said["iqm"]) > 0.01


matrices = st.integers(1, 6).flatmap(
    lambda tasks: st.lists(
        st.lists(st.integers(-5, 9).map(float), min_size=tasks, max_size=tasks), min_size=1, max_size=7
    )
)


@settings(max_examples=40, deadline=None)
@given(matrices)
def test_against_loops(rows: list[list[float]]) -> None:
    scores = np.array(rows)
    for name in ("mean", "median", "iqm"):
        assert float(AGGREGATES[name](scores)) == pytest.approx(getattr(oracle, name)(rows), abs=1e-12)
        # a list of one array per task is the same thing, and leading axes are mapped over
        assert float(AGGREGATES[name](list(scores.T))) == pytest.approx(getattr(oracle, name)(rows), abs=1e-12)
        np.testing.assert_allclose(
            AGGREGATES[name](np.stack([scores, scores + 1])), [AGGREGATES[name](scores), AGGREGATES[name](scores + 1)]
        )
    assert float(stats.optimality_gap(scores, 2.0)) == pytest.approx(oracle.optimality_gap(rows, 2.0), abs=1e-12)
    np.testing.assert_allclose(
        stats.performance_profile(np.stack([scores, scores]), [0.0, 2.0])[1], oracle.profile(rows, [0.0, 2.0])
    )


def test_tasks_with_different_numbers_of_runs() -> None:
    ragged = [np.array([1.0, 3.0]), np.array([4.0, 4.0, 7.0])]
    assert float(stats.mean(ragged)) == 3.5  # tasks weigh the same: (2 + 5) / 2
    assert float(stats.iqm(ragged)) == pytest.approx(11 / 3)  # runs weigh the same: 1 of 5 cut at each end
    assert float(stats.optimality_gap(ragged, 5.0)) == pytest.approx((3 + 2 / 3) / 2)


@pytest.mark.parametrize(
    ("scores", "says"),
    [
        (np.array([[1.0, np.nan], [2.0, 3.0]]), r"hold nan at index \[0, 1\]"),
        ([np.array([1.0]), np.array([2.0, np.nan])], r"scores of task 1 hold nan at index \[1\]"),
        (np.array([1.0, 2.0]), r"\[\.\.\., runs, tasks\], not \[2\]"),
        ([], "one task or more"),
    ],
)
def test_refusals(scores: Any, says: str) -> None:
    for function in AGGREGATES.values():
        with pytest.raises(ValueError, match=says):
            function(scores)
