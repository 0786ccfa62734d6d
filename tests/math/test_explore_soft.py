"""softmin and boltzmann against slow definitions in 60 decimal digits, and their limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
from explore_views import TIE_PATTERNS, chi_square, choose, draws
from hypothesis import given, settings
from hypothesis import strategies as st

from frugalrl.math.explore import EXPLORERS, counteractive
from oracles.explore import drawn, highest, pick, softmax, softmin_mu

NAMES = ("softmin", "boltzmann")


def mu_of(name: str, q: list[float], eps: float, temperature: float) -> np.ndarray:
    mu = softmin_mu(q, eps, temperature) if name == "softmin" else softmax(q, temperature)
    return np.asarray([float(p) for p in mu])


@pytest.mark.parametrize("temperature", [0.2, 1.0, 30.0])
@pytest.mark.parametrize("pattern", TIE_PATTERNS)
@pytest.mark.parametrize("name", NAMES)
def test_actions_come_with_the_stated_probability(name: str, pattern: str, temperature: float) -> None:
    count, eps = 20_000, 0.3
    q = np.tile(np.asarray(TIE_PATTERNS[pattern], np.float32), (count, 1))
    choice = choose(name, q, np.full(count, eps), draws(count, 8), temperature=temperature)
    mu = mu_of(name, q[0].tolist(), eps, temperature)
    assert chi_square(np.bincount(choice.action, minlength=q.shape[1]), mu * count) > 1e-4
    np.testing.assert_allclose(choice.log_mu, np.log(mu[choice.action]), rtol=1e-6, atol=1e-7)
    if name == "softmin":
        assert abs(choice.explored.mean() - eps) < 4 * math.sqrt(eps * (1 - eps) / count)
    else:
        np.testing.assert_array_equal(choice.explored, q[0][choice.action] < q[0].max())


@pytest.mark.parametrize("name", NAMES)
def test_the_definition_is_not_blind_to_a_sign(name: str) -> None:
    """The other rule's distribution, softmax for softmin, is caught by the same chi-square."""
    count, q = 20_000, TIE_PATTERNS["no ties"]
    choice = choose(name, np.tile(q, (count, 1)), np.full(count, 1.0), draws(count, 8))
    wrong = [float(p) for p in softmax(q, 1.0, sign=1 if name == "softmin" else -1)]
    assert chi_square(np.bincount(choice.action, minlength=4), np.asarray(wrong) * count) < 1e-6


@pytest.mark.parametrize("name", NAMES)
@given(
    q=st.lists(st.sampled_from([-1e6, -40.0, -1.5, -0.0, 0.0, 0.25, 2.0, 1e6]), min_size=1, max_size=5),
    eps=st.sampled_from([0.0, 1e-9, 0.1, 1.0]),
    temperature=st.sampled_from([1e-3, 0.1, 1.0, 50.0, 1e30]),
    u=st.tuples(*[st.sampled_from([1e-12, 0.03, 0.251, 0.613, 0.87, 1.0 - 1e-9])] * 3),
)
@settings(deadline=None, max_examples=200)
def test_matches_definition_row_by_row(
    name: str, q: list[float], eps: float, temperature: float, u: tuple[float, ...]
) -> None:
    """Overflow safe (warnings are errors), and an action that is drawn never has log mu -inf."""
    others, noise = np.asarray([q[::-1], q]), np.asarray([[0.1] * 3, u])
    choice = choose(name, others, np.asarray([0.5, eps]), noise, temperature=np.asarray([2.0, temperature]))
    alone = choose(name, others[1:], np.asarray([eps]), noise[1:], temperature=temperature)
    for one, many in zip(alone, choice, strict=True):
        np.testing.assert_array_equal(one[0], many[1])
    explored = u[0] < eps
    if name == "boltzmann":
        action = drawn(softmax(q, temperature), u[2])
        explored = action not in highest(q)
    else:
        action = drawn(softmax(q, temperature, sign=-1), u[2]) if explored else pick(highest(q), u[2])
    mu = (softmin_mu(q, eps, temperature) if name == "softmin" else softmax(q, temperature))[action]
    assert (alone.action[0], bool(alone.explored[0])) == (action, explored)
    assert alone.log_mu[0] == pytest.approx(float(mu.ln()), rel=1e-6, abs=1e-6)
    assert np.isfinite(alone.log_mu[0])


def test_softmin_at_temperature_zero_is_counteractive() -> None:
    rng = np.random.default_rng(6)
    q, eps, u = rng.integers(0, 3, (400, 4)).astype(np.float32), rng.random(400), rng.random((400, 3))
    for temperature in (0.0, 1e-9, 5e-324):
        got, limit = choose("softmin", q, eps, u, temperature=temperature), counteractive(q, eps, u)
        np.testing.assert_array_equal(got.action, limit.action)
        np.testing.assert_array_equal(got.explored, limit.explored)
        np.testing.assert_allclose(got.log_mu, limit.log_mu, rtol=1e-6, atol=1e-7)


def test_boltzmann_at_temperature_zero_is_greedy() -> None:
    rng = np.random.default_rng(6)
    q, u = rng.integers(0, 3, (400, 4)).astype(np.float32), rng.random((400, 3))
    got = choose("boltzmann", q, np.ones(400), u, temperature=0.0)
    assert not got.explored.any()
    ties = (q == q.max(1, keepdims=True)).sum(1)
    np.testing.assert_allclose(got.log_mu, -np.log(ties), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_at_a_high_temperature_every_action_is_alike(name: str) -> None:
    q, count = np.tile([0.0, 1.0, -5.0, 3.0], (20_000, 1)), 20_000
    got = choose(name, q, np.ones(count), draws(count, 3), temperature=1e12)
    np.testing.assert_allclose(got.log_mu, -math.log(4), rtol=1e-6)
    assert chi_square(np.bincount(got.action, minlength=4), np.full(4, count / 4)) > 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_each_row_has_its_own_temperature(name: str) -> None:
    q, u = np.tile([0.0, 1.0], (2, 1)), np.full((2, 3), 0.5)
    got = choose(name, q, np.ones(2), u, temperature=np.asarray([0.1, 10.0]))
    for row, temperature in enumerate((0.1, 10.0)):
        assert got.log_mu[row] == choose(name, q[:1], np.ones(1), u[:1], temperature=temperature).log_mu[0]
    assert got.log_mu[0] != got.log_mu[1]


@pytest.mark.parametrize("name", NAMES)
def test_the_largest_floats_do_not_overflow(name: str) -> None:
    q = np.asarray([[-1.7e308, 1.7e308, 1.7e308], [0.0, 5e-324, -5e-324], [-745.0, 0.0, -745.0]])
    for temperature in (5e-324, 1.0, 1.7e308):
        for point in (0.0, 0.7, 1.0 - 2**-53):
            u = np.asarray([[0.9, 0.0, point], [0.1, 0.0, point], [0.1, 0.0, point]])
            got = choose(name, q, np.full(3, 0.5), u, temperature=temperature)
            assert np.isfinite(got.log_mu).all()


def test_full_support_and_its_flag() -> None:
    for name in NAMES:
        assert EXPLORERS[name].full_support
        assert (mu_of(name, TIE_PATTERNS["no ties"], 0.2, 1.0) > 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_bad_temperatures_are_named(name: str) -> None:
    q, u = np.zeros((2, 3)), np.zeros((2, 3))
    for bad in (-1.0, math.nan):
        with pytest.raises(ValueError, match="temperature must be at least 0"):
            choose(name, q, np.ones(2), u, temperature=np.asarray([1.0, bad]))
    with pytest.raises(ValueError, match=f"{name}.* needs a temperature"):
        choose(name, q, np.ones(2), u, temperature=None)
