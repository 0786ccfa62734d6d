"""Behaviour of actor-critics: exact log mu, and what V-trace makes of it.

The corrected estimates are compared by enumeration of all trajectories, so there is no sampling noise: with the exact
log mu they are those of pi, with log pi in its place they are not.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from explore_views import TIE_PATTERNS, chi_square, draws, view_of
from hypothesis import given, settings
from hypothesis import strategies as st

from frugalrl.math.explore import POLICY_EXPLORERS, Choice
from frugalrl.math.policy_gradient import actor_critic_loss, log_probabilities
from frugalrl.math.vtrace import VTrace, vtrace
from oracles.explore import drawn, softmax
from oracles.vtrace import policy_value, trajectories

NAMES = tuple(POLICY_EXPLORERS)


def mu_of(name: str, logits: list[float], eps: float) -> list[float]:
    """Straight from the sentence that describes the rule."""
    pi = [float(p) for p in softmax(logits, 1.0)]
    if name == "policy":
        return pi
    low = [a for a in range(len(logits)) if logits[a] == min(logits)]
    members = low if name == "counteractive" else list(range(len(logits)))
    return [(1 - eps) * p + eps * (a in members) / len(members) for a, p in enumerate(pi)]


def choose(name: str, logits: np.ndarray, eps: np.ndarray, u: np.ndarray) -> Choice:
    return POLICY_EXPLORERS[name].choose(view_of(logits, eps, u), {})


def test_names_and_support() -> None:
    assert NAMES == ("policy", "counteractive", "uniform")
    assert all(e.full_support and e.explored_needs_q for e in POLICY_EXPLORERS.values())


@pytest.mark.parametrize("pattern", TIE_PATTERNS)
@pytest.mark.parametrize("name", NAMES)
def test_actions_come_with_the_stated_probability(name: str, pattern: str) -> None:
    count, eps = 8_000, 0.3
    logits = np.tile(np.asarray(TIE_PATTERNS[pattern], np.float32), (count, 1))
    choice = choose(name, logits, np.full(count, eps), draws(count, 9))
    mu = np.asarray(mu_of(name, logits[0].tolist(), eps))
    assert chi_square(np.bincount(choice.action, minlength=len(mu)), mu * count) > 1e-4
    np.testing.assert_allclose(choice.log_mu, np.log(mu)[choice.action], rtol=1e-6, atol=1e-7)
    share = 0.0 if name == "policy" else eps
    assert abs(choice.explored.mean() - share) <= 4 * math.sqrt(share * (1 - share) / count)


def test_the_frequency_test_is_not_blind() -> None:
    """Another rule's distribution, or the same rule's with another eps, fails it."""
    count, logits = 20_000, TIE_PATTERNS["no ties"]
    choice = choose("counteractive", np.tile(logits, (count, 1)), np.full(count, 0.3), draws(count, 9))
    for wrong in (mu_of("uniform", logits, 0.3), mu_of("counteractive", logits, 0.25), mu_of("policy", logits, 0.3)):
        assert chi_square(np.bincount(choice.action, minlength=4), np.asarray(wrong) * count) < 1e-6


@pytest.mark.parametrize("name", NAMES)
@given(
    logits=st.lists(st.sampled_from([-1e6, -40.0, -1.5, -0.0, 0.0, 0.25, 2.0, 1e6]), min_size=1, max_size=5),
    eps=st.sampled_from([0.0, 1e-9, 0.1, 1.0]),
    u=st.tuples(*[st.sampled_from([1e-12, 0.03, 0.251, 0.613, 0.87, 1.0 - 1e-9])] * 3),
)
@settings(deadline=None, max_examples=40)
def test_matches_the_definition_row_by_row(name: str, logits: list[float], eps: float, u: tuple[float, ...]) -> None:
    """Overflow safe (warnings are errors); the probability of an action that is drawn is never 0."""
    both, noise = np.asarray([logits[::-1], logits]), np.asarray([[0.1] * 3, u])
    choice = choose(name, both, np.asarray([0.5, eps]), noise)
    explored = name != "policy" and u[0] < eps
    if explored and name == "counteractive":
        low = [a for a in range(len(logits)) if logits[a] == min(logits)]
        action = low[int(u[2] * len(low))]
    else:
        action = int(u[2] * len(logits)) if explored else drawn(softmax(logits, 1.0), u[2])
    assert (choice.action[1], bool(choice.explored[1])) == (action, explored)
    assert np.isfinite(choice.log_mu).all()
    mu = mu_of(name, logits, eps)[action]
    if mu > 1e-300:
        assert choice.log_mu[1] == pytest.approx(math.log(mu), rel=1e-6, abs=1e-6)


def test_log_mu_of_the_policy_is_the_learners_log_pi() -> None:
    """Up to the last bits of float32: the ratio on policy is 1."""
    logits = np.random.default_rng(3).normal(0, 3, (500, 6)).astype(np.float32)
    choice = choose("policy", logits, np.zeros(500), draws(500, 1))
    log_pi = torch.from_numpy(logits).log_softmax(1).gather(1, torch.from_numpy(choice.action)[:, None]).squeeze(1)
    np.testing.assert_allclose(choice.log_mu, log_pi.numpy(), atol=2e-6)


def test_wrong_input_is_named() -> None:
    u, eps = draws(1, 0), np.asarray([0.1])
    with pytest.raises(FloatingPointError, match="logits must be finite, but row 0, action 1 is nan"):
        choose("policy", np.asarray([[0.0, math.nan]]), eps, u)
    with pytest.raises(ValueError, match=r"eps must lie in \[0, 1\]"):
        choose("counteractive", np.zeros((1, 2)), np.asarray([1.5]), u)
    with pytest.raises(ValueError, match="'uniform' needs q"):
        POLICY_EXPLORERS["uniform"].choose(view_of(None, eps, u), {})


# -- a two-state MDP and a bandit, all trajectories -------------------------------------------------------------------

GAMMA = 0.9
TO = np.asarray([[0, 1, 1], [1, 0, 0]])
REWARD = np.asarray([[1.0, -0.5, 2.0], [0.3, 4.0, -1.0]])
LOGITS = np.asarray([[0.4, -1.1, 0.9], [-0.2, 0.8, -0.7]])
VALUES = np.asarray([0.7, -0.4])
BANDIT = np.zeros((2, 3), np.int64)


def behaviour(name: str, eps: float) -> np.ndarray:
    return np.asarray([mu_of(name, row, eps) for row in LOGITS.tolist()])


def corrected(
    mu: np.ndarray, to: np.ndarray, steps: int, gamma: float, *, bar: float | None, log_of: np.ndarray
) -> tuple[np.ndarray, VTrace, torch.Tensor, torch.Tensor]:
    """All trajectories from state 0 as one batch: their probabilities, V-trace with ``log_of`` as log mu, and the
    expected gradient of the policy loss with respect to the logits [S, A]."""
    every = trajectories(mu, to, 0, steps)
    p = np.asarray([x[0] for x in every])
    state = torch.tensor([x[1] for x in every]).T
    action = torch.tensor([x[2] for x in every]).T
    theta = torch.from_numpy(LOGITS).requires_grad_()
    valid = torch.ones(action.shape, dtype=torch.bool)
    log_pi_all, log_pi = log_probabilities(theta[state[:-1]], action, valid)
    values = torch.from_numpy(VALUES)[state]
    found = vtrace(
        log_pi,
        torch.from_numpy(log_of)[state[:-1], action],
        torch.from_numpy(REWARD)[state[:-1], action],
        torch.full(action.shape, gamma, dtype=torch.float64),
        values,
        valid=valid,
        rho_bar=bar,
        c_bar=bar,
        pg_rho_bar=bar,
    )
    loss = actor_critic_loss(
        log_pi_all, log_pi, values[:-1], vs=found.vs, advantage=found.advantage, usable=valid,
        weight=torch.from_numpy(p), baseline_cost=0.0, entropy_cost=0.0,
    )  # fmt: skip
    (gradient,) = torch.autograd.grad(loss.loss * valid.numel(), theta)  # a mean over rows, and p sums to 1
    return p, found, state, -gradient


def softmax_gradient(pi: np.ndarray, q: np.ndarray) -> np.ndarray:
    """d/d theta of sum_a pi(a) q(a) for logits theta."""
    gradient: np.ndarray = pi * (q - (pi * q).sum())
    return gradient


def exact_gradient(pi: np.ndarray, mu: np.ndarray, to: np.ndarray, steps: int, gamma: float) -> np.ndarray:
    """Sum over the steps of the gradient at the states that mu visits, with the exact n-step Q of pi."""
    visits, total = np.asarray([1.0, 0.0]), np.zeros_like(pi)
    for t in range(steps):
        after = policy_value(pi, REWARD, to, gamma, VALUES, steps - t - 1)
        q = REWARD + gamma * after[to]
        for s in range(2):
            total[s] += visits[s] * softmax_gradient(pi[s], q[s])
        visits = np.asarray([sum(visits[i] * mu[i, a] for i in range(2) for a in range(3) if to[i, a] == s)
                             for s in range(2)])  # fmt: skip
    return total


@pytest.mark.parametrize("eps", [0.1, 0.5])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("to", "steps", "gamma"), [(BANDIT, 1, 0.0), (TO, 3, GAMMA)], ids=["bandit", "mdp"])
def test_with_the_exact_log_mu_the_estimates_are_those_of_pi(
    to: np.ndarray, steps: int, gamma: float, name: str, eps: float
) -> None:
    """No ratio is above 1 / (1 - eps), so a bar there truncates nothing. With log pi for log mu both are biased."""
    pi, mu = behaviour("policy", 0.0), behaviour(name, eps)
    value = policy_value(pi, REWARD, to, gamma, VALUES, steps)[0]
    exact = exact_gradient(pi, mu, to, steps, gamma)
    bar = 1 / (1 - eps) + 1e-9
    p, found, _, gradient = corrected(mu, to, steps, gamma, bar=bar, log_of=np.log(mu))
    assert p.sum() == pytest.approx(1.0)
    assert float(found.ratio.max()) <= bar
    assert p @ found.vs[0].numpy() == pytest.approx(value, abs=1e-12)
    np.testing.assert_allclose(gradient.numpy(), exact, atol=1e-12)

    p, found, _, gradient = corrected(mu, to, steps, gamma, bar=bar, log_of=np.log(pi))
    if name == "policy":
        np.testing.assert_allclose(gradient.numpy(), exact, atol=1e-12)
    else:
        assert abs(p @ found.vs[0].numpy() - value) > 0.1 * eps
        assert np.abs(gradient.numpy() - exact).max() > 0.05 * eps


@pytest.mark.parametrize("name", ["counteractive", "uniform"])
def test_truncated_at_1_the_values_are_those_of_the_policy_between(name: str) -> None:
    """Of pi_rho, proportional to min(rho_bar mu, pi): at its own fixed point the correction is 0 in the mean."""
    eps = 0.4
    pi, mu = behaviour("policy", 0.0), behaviour(name, eps)
    between = np.minimum(mu, pi)
    between /= between.sum(1, keepdims=True)
    fixed = policy_value(between, REWARD, TO, GAMMA, VALUES, 2000)
    every = trajectories(mu, TO, 0, 1)
    state = torch.tensor([x[1] for x in every]).T
    action = torch.tensor([x[2] for x in every]).T
    at = (state[:-1], action)
    found = vtrace(
        torch.from_numpy(np.log(pi))[at],
        torch.from_numpy(np.log(mu))[at],
        torch.from_numpy(REWARD)[at],
        torch.full(action.shape, GAMMA, dtype=torch.float64),
        torch.from_numpy(fixed)[state],
        valid=torch.ones(action.shape, dtype=torch.bool),
    )
    p = np.asarray([x[0] for x in every])
    assert p @ found.vs[0].numpy() == pytest.approx(fixed[0], abs=1e-9)
    assert abs(policy_value(pi, REWARD, TO, GAMMA, VALUES, 2000)[0] - fixed[0]) > 0.05
