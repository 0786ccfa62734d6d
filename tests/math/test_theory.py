from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from frugalrl.math.explore import mixture
from frugalrl.math.theory import branch_sums, branch_weights, disadvantage_gap, slack_of

SHARE, GAMMA = 0.4, 0.9


@given(st.lists(st.lists(st.floats(-5, 5), min_size=3, max_size=3), min_size=1, max_size=5))
@settings(max_examples=50, deadline=None)
def test_the_gap_is_the_mean_less_the_minimum(rows: list[list[float]]) -> None:
    q = np.array(rows)
    assert disadvantage_gap(q).tolist() == pytest.approx([sum(r) / 3 - min(r) for r in rows])
    assert (disadvantage_gap(q) >= -1e-12).all()


@pytest.mark.parametrize("q", [[0.0, 1.0, 2.0], [0.0, 0.0, 1.0], [1.0, 1.0, 1.0]])
def test_weighted_exploration_is_uniform_or_argmin(q: list[float]) -> None:
    """Exact: summed over actions with the probability of the branch, the weights give the target's probabilities."""
    low = np.array(q) == min(q)
    branch = SHARE / 3 + (1 - SHARE) * low / low.sum()
    weights = branch_weights(np.tile(q, (3, 1)), np.arange(3), SHARE)
    assert (branch * weights["uniform"]).tolist() == pytest.approx([1 / 3] * 3)
    assert (branch * weights["argmin"]).tolist() == pytest.approx((low / low.sum()).tolist())


def bandit(states: int, seed: int) -> dict[str, np.ndarray]:
    """One-step problems whose rewards depend on the action: eta, delta and TD are known exactly."""
    rng = np.random.default_rng(seed)
    q = rng.normal(size=(states, 4))
    eps, u = np.ones(states), rng.random((states, 3))
    action = mixture(q, eps, u, SHARE).action
    reward, value = rng.normal(size=4), rng.normal(size=4)
    max_q_t = value[action]
    td = reward[action] + GAMMA * max_q_t - q[np.arange(states), action]
    return {"q": q, "action": action, "reward": reward, "value": value, "max_q_t": max_q_t, "td": td}


def exact(b: dict[str, np.ndarray]) -> tuple[float, float, float]:
    """eta, delta, td gap by enumeration over actions in every state."""
    states = np.arange(len(b["q"]))
    low = b["q"].argmin(1)
    td = b["reward"] + GAMMA * b["value"] - b["q"]  # [N, A]
    change = b["q"].max(1)[:, None] - b["value"]
    eta = abs(b["reward"][low].mean() - b["reward"].mean())
    delta = max(abs(change[states, low].mean()), abs(change.mean()))
    return float(eta), float(delta), float(td[states, low].mean() - td.mean())


def test_the_parts_of_the_theorem_equal_enumeration() -> None:
    b = bandit(400_000, 0)
    goes_on = np.ones(len(b["td"]))
    gap = float(disadvantage_gap(b["q"]).mean())
    parts = slack_of(
        branch_sums(b["q"], b["action"], b["reward"][b["action"]], b["td"], b["max_q_t"], goes_on, SHARE), gap
    )
    assert parts is not None
    eta, delta, td_gap = exact(b)
    assert (parts.eta, parts.delta, parts.td_gap) == pytest.approx((eta, delta, td_gap), abs=0.02)
    assert parts.bound == pytest.approx(gap - 2 * parts.delta - parts.eta)
    assert parts.slack == pytest.approx(parts.td_gap - parts.bound)
    naive = b["td"][b["action"] == b["q"].argmin(1)].mean() - b["td"].mean()  # takes all exploration for uniform
    assert abs(naive - td_gap) > 0.1


def test_sums_of_parts_add_up() -> None:
    b = bandit(1000, 1)
    args = (b["q"], b["action"], b["reward"][b["action"]], b["td"], b["max_q_t"], np.ones(1000))
    halves = [branch_sums(*(x[part] for x in args), SHARE) for part in (slice(500), slice(500, None))]
    np.testing.assert_allclose(sum(halves), branch_sums(*args, SHARE))


def test_a_successor_that_is_not_there_is_not_used() -> None:
    b = bandit(1000, 2)
    goes_on = (np.arange(1000) % 2).astype(float)
    hidden = np.where(goes_on > 0, b["max_q_t"], np.nan)
    sums = branch_sums(b["q"], b["action"], b["reward"][b["action"]], b["td"], hidden, goes_on, SHARE)
    assert np.isfinite(sums).all()


def test_without_one_kind_of_action_there_is_no_slack() -> None:
    assert slack_of(np.zeros((2, 5)), 0.3) is None
    q = np.tile([0.0, 1.0], (4, 1))
    ones = np.ones(4)
    never_low = branch_sums(q, np.ones(4, np.int64), ones, ones, ones, ones, SHARE)
    assert slack_of(never_low, 0.3) is None
