"""Runs of one budget end a few steps apart, and no share or median may hang on that."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frugalrl import stats
from frugalrl.cost.tables import load_tables
from frugalrl.report.comparison import compare
from frugalrl.report.records import RunRecord
from frugalrl.report.results import MethodResult
from frugalrl.run.config import BudgetConfig
from report.records_made import point, record

ENDS = (30_007, 30_004, 30_001, 30_004, 30_006, 30_000, 30_004, 30_007, 30_001, 30_000)
HITS = (True, False, False, False, True, False, True, False, False, False)


def run(seed: int, end: int, score: float, *, outcome: str = "completed", budget: int | None = 30_000) -> RunRecord:
    points = [point(15_000, 10.0), point(end, score)]
    made = BudgetConfig(env_steps=budget)
    return record("counteractive", seed, points, outcome=outcome, budget=made)  # type: ignore[arg-type]


def result(records: Sequence[RunRecord], target: float = 100.0) -> MethodResult:
    how = {"rng": np.random.default_rng(0), "draws": 100}
    return compare(list(records), tables=load_tables(), targets={"CartPole-v1": (target,)}, **how).envs[0].methods[0]  # type: ignore[arg-type]


def test_three_of_ten_are_neither_half_nor_72_per_cent() -> None:
    """The README's first table said so: seven misses left the risk set some steps before the three successes."""
    found = result([run(i, end, 100.0 if hit else 50.0) for i, (end, hit) in enumerate(zip(ENDS, HITS, strict=True))])
    (target,) = found.targets
    assert (target.reached, target.runs) == (3, 10)
    assert target.median_steps.value == math.inf
    (survival,) = found.survival
    np.testing.assert_allclose(survival.share, [0.1, 0.2, 0.3])
    assert target.expected["env_steps"].value == sum(ENDS) / 3, "costs are what was used, to the step"
    wrong = stats.kaplan_meier(ENDS, HITS)
    assert wrong.share_reached[-1] == pytest.approx(0.722, abs=1e-3)


@given(st.lists(st.tuples(st.integers(0, 40), st.booleans()), min_size=2, max_size=12))
@settings(deadline=None, max_examples=40)
def test_where_all_runs_completed_one_budget_the_curve_ends_at_the_share(made: list[tuple[int, bool]]) -> None:
    found = result([run(i, 30_000 + late, 100.0 if hit else 50.0) for i, (late, hit) in enumerate(made)])
    (target,) = found.targets
    reached = sum(hit for _, hit in made)
    share = found.survival[0].share[-1] if found.survival and found.survival[0].share else 0.0
    assert share == pytest.approx(reached / len(made))
    assert (target.median_steps.value == math.inf) == (2 * reached < len(made))


def test_a_run_that_failed_is_watched_as_long_as_it_ran() -> None:
    records = [run(0, 30_004, 100.0), run(1, 20_000, 50.0, outcome="failed")]
    assert result(records).survival[0].share == (1.0,), "only one was watched until 30,004 steps"


def test_without_a_budget_in_steps_each_run_is_watched_as_long_as_it_ran() -> None:
    records = [run(0, 30_004, 100.0, budget=None), run(1, 20_000, 50.0, budget=None)]
    assert result(records).survival[0].share == (1.0,)
