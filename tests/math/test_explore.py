"""Exploration rules against their slow definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from frugalrl.math.explore import EXPLORERS, Choice, counteractive, epsilon_greedy, mixture, uniform
from oracles.explore import probabilities

NAMES = sorted(EXPLORERS)
TIE_PATTERNS = {
    "no ties": [0.1, 0.4, -0.3, 0.2],
    "two lowest": [-1.0, 2.0, -1.0, 0.5],
    "two highest": [2.0, -1.0, 2.0, 0.5],
    "both": [1.0, 0.0, 0.0, 1.0],
    "three lowest": [0.0, 0.0, 3.0, 0.0],
    "three highest": [3.0, 3.0, 0.0, 3.0],
    "all": [0.7, 0.7, 0.7, 0.7],
    "zeros of both signs": [0.0, -0.0, 1.0, 0.0],
    "one action": [0.3],
    "two actions": [0.3, 0.1],
}


def draws(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 3))


def chi_square(counts: np.ndarray, expected: np.ndarray) -> float:
    """p-value; actions of probability 0 must not occur at all."""
    assert counts[expected == 0].sum() == 0
    possible = expected > 0
    return 1.0 if possible.sum() == 1 else float(stats.chisquare(counts[possible], expected[possible]).pvalue)


@pytest.mark.parametrize("pattern", TIE_PATTERNS)
@pytest.mark.parametrize("name", NAMES)
def test_actions_come_with_the_stated_probability(name: str, pattern: str) -> None:
    """Chi-square per tie pattern, and log_mu is exact for every action that was chosen."""
    count, share, eps = 20_000, 0.25, 0.3
    q = np.tile(np.asarray(TIE_PATTERNS[pattern], np.float32), (count, 1))
    choice = EXPLORERS[name].choose(q, np.full(count, eps), draws(count, 7), share)
    mu = np.asarray([float(p) for p in probabilities(name, q[0].tolist(), eps, share)])
    assert chi_square(np.bincount(choice.action, minlength=q.shape[1]), mu * count) > 1e-4
    np.testing.assert_array_equal(choice.log_mu, np.log(mu[choice.action]).astype(np.float32))
    assert abs(choice.explored.mean() - eps) < 4 * math.sqrt(eps * (1 - eps) / count)


def test_chi_square_is_not_blind() -> None:
    """A rule that always takes the first of the tied actions is caught."""
    count = 20_000
    first = np.where(draws(count, 7)[:, 0] < 0.3, 1, 0)
    mu = np.asarray([float(p) for p in probabilities("counteractive", TIE_PATTERNS["both"], 0.3, 0.0)])
    counts = np.bincount(first, minlength=4)
    assert stats.chisquare(counts, mu * count).pvalue < 1e-6


@pytest.mark.parametrize("name", NAMES)
@given(
    q=st.lists(st.sampled_from([-1.5, -0.0, 0.0, 0.25, 2.0]), min_size=1, max_size=6),
    eps=st.sampled_from([0.0, 1e-9, 0.1, 0.5, 1.0]),
    share=st.sampled_from([0.0, 0.1, 1.0]),
    u=st.tuples(*[st.floats(0.0, 1.0, exclude_max=True)] * 3),
)
@settings(deadline=None, max_examples=150)
def test_matches_definition_row_by_row(
    name: str, q: list[float], eps: float, share: float, u: tuple[float, ...]
) -> None:
    """Exact mu; a set is entered by its own draw; one row alone and among others gives the same bits."""
    choose = EXPLORERS[name].choose
    alone = choose(np.asarray([q], np.float32), np.asarray([eps]), np.asarray([u]), share)
    among = choose(np.asarray([q[::-1], q], np.float32), np.asarray([0.5, eps]), np.asarray([[0.1] * 3, u]), share)
    for one, many in zip(alone, among, strict=True):
        assert one.dtype == many.dtype
        np.testing.assert_array_equal(one[0], many[1])

    action = int(alone.action[0])
    mu = probabilities(name, q, eps, share)
    assert mu[action] > 0
    assert float(alone.log_mu[0]) == pytest.approx(math.log(mu[action]), rel=1e-6, abs=1e-7)
    assert bool(alone.explored[0]) == (u[0] < eps)
    if not alone.explored[0]:
        assert q[action] == max(q)
    elif name == "counteractive" or (name == "counteractive-mixed" and u[1] >= share):
        assert q[action] == min(q)


@pytest.mark.parametrize("ties", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("rows_at_once", [False, True])
def test_ties_split_the_draw_evenly(ties: int, rows_at_once: bool) -> None:
    """The i-th tied action is chosen exactly while the draw lies in [i / ties, (i + 1) / ties)."""
    q = np.asarray([[1.0, *[0.0] * ties, 1.0]])
    below_one = np.nextafter(1.0, 0.0)
    for i in range(ties):
        for point in (i / ties, min((i + 0.999999) / ties, below_one)):
            u = np.asarray([[0.0, 0.0, point]])
            repeat = 2 if rows_at_once else 1
            choice = counteractive(np.tile(q, (repeat, 1)), np.full(repeat, 0.5), np.tile(u, (repeat, 1)))
            expected = 1 + int(point * ties)
            assert choice.action.tolist() == [expected] * repeat
    top = np.asarray([[0.9, 0.9, below_one]])
    assert epsilon_greedy(q, np.asarray([1.0]), top).action[0] == ties + 1
    assert uniform(ties, top).action[0] == ties - 1


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_independent(name: str) -> None:
    """D15 (one eps draw for a whole vector): another row's draws or values never change a row."""
    rng = np.random.default_rng(3)
    q, eps, u = rng.standard_normal((6, 4)), rng.random(6), rng.random((6, 3))
    before = EXPLORERS[name].choose(q, eps, u, 0.5)
    for i in range(6):
        other_q, other_u = q.copy(), u.copy()
        other_q[i], other_u[i] = rng.standard_normal(4), 1.0 - u[i]
        after = EXPLORERS[name].choose(other_q, eps, other_u, 0.5)
        for x, y in zip(before, after, strict=True):
            np.testing.assert_array_equal(np.delete(x, i), np.delete(y, i))


def test_rows_explore_at_different_times() -> None:
    """D15 from the other side: with one draw for all rows either all explore or none does."""
    count, rows = 500, 8
    rng = np.random.default_rng(5)
    seen = {
        int(epsilon_greedy(rng.random((rows, 3)), np.full(rows, 0.5), rng.random((rows, 3))).explored.sum())
        for _ in range(count)
    }
    assert len(seen) > 4


@pytest.mark.parametrize("rows", [1, 5])
def test_never_and_always_exploring(rows: int) -> None:
    rng = np.random.default_rng(1)
    q, u = rng.standard_normal((rows, 4)), rng.random((rows, 3))
    for name in NAMES:
        greedy = EXPLORERS[name].choose(q, np.zeros(rows), u, 0.5)
        np.testing.assert_array_equal(greedy.action, q.argmax(1))
        np.testing.assert_array_equal(greedy.log_mu, np.zeros(rows))
        assert not greedy.explored.any()
        assert EXPLORERS[name].choose(q, np.ones(rows), u, 0.5).explored.all()
    np.testing.assert_array_equal(counteractive(q, np.ones(rows), u).action, q.argmin(1))
    np.testing.assert_array_equal(epsilon_greedy(q, np.ones(rows), u).action, uniform(4, u).action)


def test_mixture_has_the_other_rules_as_its_ends() -> None:
    rng = np.random.default_rng(2)
    q, eps, u = rng.integers(0, 2, (50, 4)).astype(np.float32), rng.random(50), rng.random((50, 3))
    for end, rule in ((0.0, counteractive), (1.0, epsilon_greedy)):
        for x, y in zip(mixture(q, eps, u, end), rule(q, eps, u), strict=True):
            np.testing.assert_array_equal(x, y)


def test_full_support_is_true_to_its_word() -> None:
    q = TIE_PATTERNS["no ties"]
    for name, explorer in EXPLORERS.items():
        assert explorer.full_support == all(p > 0 for p in probabilities(name, q, 0.2, 0.1))


def test_epsilon_greedy_without_a_forward() -> None:
    """When every row explores no Q is needed; mu is then known only at eps = 1."""
    u = np.asarray([[0.05, 0.5, 0.99], [0.5, 0.5, 0.0]])
    choice = epsilon_greedy(None, np.asarray([0.1, 1.0]), u, num_actions=4)
    with_q = epsilon_greedy(np.ones((2, 4)), np.asarray([0.1, 1.0]), u)
    np.testing.assert_array_equal(choice.action, with_q.action)
    assert choice.explored.all()
    assert np.isnan(choice.log_mu[0])
    assert choice.log_mu[1] == with_q.log_mu[1] == np.float32(-math.log(4))
    assert [e.name for e in EXPLORERS.values() if not e.explored_needs_q] == ["epsilon-greedy"]


def test_without_q_every_row_must_explore() -> None:
    with pytest.raises(ValueError, match="row 1 does not explore"):
        epsilon_greedy(None, np.asarray([0.5, 0.1]), np.full((2, 3), 0.2), num_actions=4)
    with pytest.raises(ValueError, match="num_actions"):
        epsilon_greedy(None, np.ones(1), np.zeros((1, 3)))
    for name in ("counteractive", "counteractive-mixed"):
        with pytest.raises(ValueError, match=f"{name}.*needs q"):
            EXPLORERS[name].choose(None, np.ones(1), np.zeros((1, 3)), 0.5, num_actions=4)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_diverged_network_is_an_error(rows: int, bad: float) -> None:
    q = np.zeros((rows, 3), np.float32)
    q[-1, 1] = bad
    for name in NAMES:
        with pytest.raises(FloatingPointError, match=f"row {rows - 1}, action 1 is {bad}"):
            EXPLORERS[name].choose(q, np.full(rows, 0.5), np.full((rows, 3), 0.5), 0.5)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan])
def test_eps_outside_its_range_is_an_error(rows: int, bad: float) -> None:
    q, u = np.zeros((rows, 3)), np.zeros((rows, 3))
    for name in NAMES:
        with pytest.raises(ValueError, match="eps must lie in"):
            EXPLORERS[name].choose(q, np.full(rows, bad), u, 0.5)
    with pytest.raises(ValueError, match="eps must lie in"):
        epsilon_greedy(None, np.full(rows, bad), u, num_actions=3)


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"q \(2, 3\), eps \(1,\), u \(2, 3\)"):
        counteractive(np.zeros((2, 3)), np.zeros(1), np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"u \(2, 2\)"):
        epsilon_greedy(None, np.ones(2), np.zeros((2, 2)), num_actions=3)
    with pytest.raises(ValueError, match="share"):
        mixture(np.zeros((1, 3)), np.zeros(1), np.zeros((1, 3)), 1.5)
    with pytest.raises(ValueError, match="num_actions"):
        uniform(0, np.zeros((1, 3)))


def test_uniform_covers_all_actions_evenly() -> None:
    choice: Choice = uniform(5, draws(10_000, 11))
    assert stats.chisquare(np.bincount(choice.action, minlength=5)).pvalue > 1e-4
    assert choice.explored.all()
    np.testing.assert_array_equal(choice.log_mu, np.float32(math.log(0.2)))
    assert choice.action.dtype == np.int64
