"""Exploration rules against their slow definitions."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from explore_views import TIE_PATTERNS, chi_square, choose, draws, spec
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from frugalrl.math.explore import EXPLORERS, Choice, Knobs, counteractive, epsilon_greedy, mixture, uniform
from frugalrl.sampling.exploration import ExploreConfig
from oracles.explore import probabilities

FAMILY = ("epsilon-greedy", "counteractive", "counteractive-mixed")
"""The rules of ``math/explore/family.py``; the others have files of their own."""
NAMES = sorted(EXPLORERS)
WITH_EPS = sorted(name for name, e in EXPLORERS.items() if "epsilon" in e.knobs)


@pytest.mark.parametrize("pattern", TIE_PATTERNS)
@pytest.mark.parametrize("name", FAMILY)
def test_actions_come_with_the_stated_probability(name: str, pattern: str) -> None:
    """Chi-square per tie pattern, and log_mu is exact for every action that was chosen."""
    count, share, eps = 20_000, 0.25, 0.3
    q = np.tile(np.asarray(TIE_PATTERNS[pattern], np.float32), (count, 1))
    choice = choose(name, q, np.full(count, eps), draws(count, 7), share)
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


@pytest.mark.parametrize("name", FAMILY)
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
    alone = choose(name, np.asarray([q], np.float32), np.asarray([eps]), np.asarray([u]), share)
    others, noise = np.asarray([q[::-1], q], np.float32), np.asarray([[0.1] * 3, u])
    among = choose(name, others, np.asarray([0.5, eps]), noise, share)
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
    before = choose(name, q, eps, u, 0.5)
    for i in range(6):
        other_q, other_u = q.copy(), u.copy()
        other_q[i], other_u[i] = rng.standard_normal(4), 1.0 - u[i]
        after = choose(name, other_q, eps, other_u, 0.5)
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
    for name in WITH_EPS:
        greedy = choose(name, q, np.zeros(rows), u, 0.5)
        np.testing.assert_array_equal(greedy.action, q.argmax(1))
        np.testing.assert_array_equal(greedy.log_mu, np.zeros(rows))
        assert not greedy.explored.any()
        assert choose(name, q, np.ones(rows), u, 0.5).explored.all()
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
    for name in FAMILY:
        assert EXPLORERS[name].full_support == all(p > 0 for p in probabilities(name, q, 0.2, 0.1))


def test_epsilon_greedy_without_a_forward() -> None:
    """When every row explores no Q is needed; mu is then known only at eps = 1."""
    u = np.asarray([[0.05, 0.5, 0.99], [0.5, 0.5, 0.0]])
    choice = epsilon_greedy(None, np.asarray([0.1, 1.0]), u, num_actions=4)
    with_q = epsilon_greedy(np.ones((2, 4)), np.asarray([0.1, 1.0]), u)
    np.testing.assert_array_equal(choice.action, with_q.action)
    assert choice.explored.all()
    assert np.isnan(choice.log_mu[0])
    assert choice.log_mu[1] == with_q.log_mu[1] == np.float32(-math.log(4))
    assert [e.name for e in EXPLORERS.values() if not e.explored_needs_q] == [
        "epsilon-greedy", "epsilon-z-greedy", "fixed-random",
    ]  # fmt: skip


def test_without_q_every_row_must_explore() -> None:
    with pytest.raises(ValueError, match="row 1 does not explore"):
        epsilon_greedy(None, np.asarray([0.5, 0.1]), np.full((2, 3), 0.2), num_actions=4)
    with pytest.raises(ValueError, match="num_actions"):
        epsilon_greedy(None, np.ones(1), np.zeros((1, 3)))
    for name in (e.name for e in EXPLORERS.values() if e.explored_needs_q):
        with pytest.raises(ValueError, match=f"{name}.*needs q"):
            choose(name, None, np.ones(1), np.zeros((1, 3)), 0.5, num_actions=4)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_diverged_network_is_an_error(rows: int, bad: float) -> None:
    q = np.zeros((rows, 3), np.float32)
    q[-1, 1] = bad
    for name in NAMES:
        with pytest.raises(FloatingPointError, match=f"row {rows - 1}, action 1 is {bad}"):
            choose(name, q, np.full(rows, 0.5), np.full((rows, 3), 0.5), 0.5)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan])
def test_eps_outside_its_range_is_an_error(rows: int, bad: float) -> None:
    q, u = np.zeros((rows, 3)), np.zeros((rows, 3))
    for name in NAMES:
        with pytest.raises(ValueError, match="eps must lie in"):
            choose(name, q, np.full(rows, bad), u, 0.5)
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


def test_a_rule_reads_fields_of_the_exploration_config() -> None:
    fields = {f.name for f in dataclasses.fields(ExploreConfig)}
    for explorer in EXPLORERS.values():
        assert set(explorer.knobs) <= fields
    assert {f.name for f in dataclasses.fields(Knobs)} - {"seed"} <= {k for e in EXPLORERS.values() for k in e.knobs}
    plain, knobs = ExploreConfig(), Knobs()
    for knob in ("uniform_share", "ez_mu", "ez_max_steps", "ucb_c"):
        assert getattr(plain, knob) == getattr(knobs, knob)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_rule_says_it_does_not_read_changes_nothing(name: str) -> None:
    """The record of knobs is what warns a user, so it must be true."""
    rng, rows = np.random.default_rng(4), 200
    q, eps, u = rng.integers(0, 3, (rows, 4)) / 4.0, np.full(rows, 0.5), rng.random((rows, 3))
    plain: dict[str, Any] = {"uniform_share": 0.5, "ez_mu": 2.0, "ez_max_steps": 10, "ucb_c": 2.0, "temperature": 1.0}
    changed: dict[str, Any] = {"uniform_share": 0.1, "ez_mu": 0.5, "ez_max_steps": 1, "ucb_c": 0.0, "temperature": 9.0}
    explorer = EXPLORERS[name]

    def played(**changes: Any) -> list[np.ndarray]:
        settings = {**plain, **changes}
        share, memory = settings.pop("uniform_share"), explorer.start(spec(), rows)
        eps_now = settings.pop("epsilon", eps)
        states = np.arange(rows) % 5
        return [x for _ in range(8) for x in choose(name, q, eps_now, u, share, memory=memory, obs=states, **settings)]

    before = played()
    for knob, value in {**changed, "epsilon": np.full(rows, 0.9)}.items():
        same = all(np.array_equal(x, y) for x, y in zip(before, played(**{knob: value}), strict=True))
        assert same == (knob not in explorer.knobs), knob
