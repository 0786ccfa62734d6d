"""ucb against a slow definition that remembers every choice."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from explore_views import TIE_PATTERNS, chi_square, choose, draws, spec

from frugalrl.math.explore import EXPLORERS, Memory
from frugalrl.types import UserError
from oracles.explore import SlowUcb

UCB = EXPLORERS["ucb"]
STATES, ACTIONS = 5, 4


def played(steps: int, rows: int, c: float) -> tuple[dict[str, np.ndarray], Memory]:
    """Choices [steps, rows] in random states, with what the rule was given."""
    rng = np.random.default_rng(21)
    memory = UCB.start(spec(ACTIONS, STATES), rows)
    seen: dict[str, list[Any]] = {k: [] for k in ("q", "u", "state", "acts", "action", "mu", "explored")}
    for _ in range(steps):
        q, u = rng.integers(0, 3, (rows, ACTIONS)) / 2.0, rng.random((rows, 3))
        state, acts = rng.integers(0, STATES, rows), rng.random(rows) < 0.9
        got = choose("ucb", q, np.ones(rows), u, memory=memory, obs=state, last=~acts, ucb_c=c)
        values = (q, u, state, acts, got.action, np.exp(got.log_mu), got.explored)
        for name, value in zip(seen, values, strict=True):
            seen[name].append(value)
    return {name: np.asarray(values) for name, values in seen.items()}, memory


def agrees(seen: dict[str, np.ndarray], c: float, **wrong: Any) -> bool:
    slow = SlowUcb(c, **wrong)
    steps, rows = seen["action"].shape
    for t in range(steps):
        for row in range(rows):
            state = int(seen["state"][t, row])
            action, mu, explored = slow.act(seen["q"][t, row].tolist(), state, float(seen["u"][t, row, 2]))
            if (action, explored) != (seen["action"][t, row], seen["explored"][t, row]):
                return False
            if not math.isclose(mu, seen["mu"][t, row], rel_tol=1e-6):
                return False
        for row in range(rows):  # the rows of one step do not see each other
            if seen["acts"][t, row]:
                slow.note(int(seen["state"][t, row]), int(seen["action"][t, row]))
    return True


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("c", [0.0, 0.3, 2.0])
def test_ucb_plays_like_its_definition(rows: int, c: float) -> None:
    seen, memory = played(240 // rows, rows, c)
    assert agrees(seen, c)
    assert memory["choices"].tolist() == [seen["acts"].sum()] == [memory["tried"].sum()]
    for state in range(STATES):
        done = seen["action"][seen["acts"] & (seen["state"] == state)]
        assert memory["tried"][state].tolist() == np.bincount(done, minlength=ACTIONS).tolist()


def test_the_definition_is_not_blind() -> None:
    """Counts over all states and another weight are caught."""
    seen, _ = played(240, 1, 2.0)
    assert not agrees(seen, 2.0, per_state=False)
    assert not agrees(seen, 1.0)


def test_untried_actions_come_first_and_evenly() -> None:
    count = 20_000
    q = np.tile([9.0, 0.0, 1.0, 2.0], (count, 1))
    memory = UCB.start(spec(ACTIONS, STATES), count)
    memory["tried"][2] = [5, 0, 1, 0]
    got = choose("ucb", q, np.ones(count), draws(count, 4), memory=memory, obs=np.full(count, 2))
    assert chi_square(np.bincount(got.action, minlength=4), np.asarray([0, 0.5, 0, 0.5]) * count) > 1e-4
    np.testing.assert_allclose(got.log_mu, -math.log(2), rtol=1e-6)
    assert got.explored.all()


@pytest.mark.parametrize("pattern", TIE_PATTERNS)
def test_ties_of_the_bound_are_even(pattern: str) -> None:
    count = 20_000
    values = np.asarray(TIE_PATTERNS[pattern], np.float32)
    memory = UCB.start(spec(len(values), 1), count)
    memory["tried"][0], memory["choices"][0] = 3, 3 * len(values)
    got = choose("ucb", np.tile(values, (count, 1)), np.ones(count), draws(count, 4), memory=memory)
    mu = (values == values.max()) / (values == values.max()).sum()
    assert chi_square(np.bincount(got.action, minlength=len(values)), mu * count) > 1e-4
    np.testing.assert_allclose(got.log_mu, np.log(mu[got.action]), rtol=1e-6, atol=1e-7)
    assert not got.explored.any()


def test_the_counts_outlive_an_episode() -> None:
    _, memory = played(50, 2, 2.0)
    before = {name: array.copy() for name, array in memory.items()}
    UCB.end(memory, np.asarray([True, True]))
    for name, array in memory.items():
        np.testing.assert_array_equal(array, before[name])


def test_without_a_number_of_states_it_is_refused() -> None:
    with pytest.raises(UserError, match=r"'ucb' .*needs .*Discrete.*Some-v0 gives vector observations of shape \(3,\)"):
        UCB.start(spec(num_indices=None), 1)


def test_ucb_has_no_full_support() -> None:
    assert not UCB.full_support
