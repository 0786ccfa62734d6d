"""The chain and its learners against slow definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frugalrl.math.explore import mixture
from frugalrl.study.chain import (
    NUM_STATES,
    RESET,
    STEPS,
    TO_STATE_3,
    UP,
    Learner,
    Mixture,
    greedy_return,
    learn,
    pick,
    randomness,
    rule_of,
    transitions,
)
from oracles import chain as oracle

MIXED = [
    Learner(method=f"share {share}", gamma=gamma, alpha=alpha, eps=eps, share=share)
    for share, gamma, alpha, eps in (
        (0.0, 0.9, 0.9, 0.25),
        (0.0, 0.99, 1.0, 0.5),
        (1.0, 0.9, 0.3, 0.25),
        (0.25, 0.99, 0.5, 0.15),
        (0.0, 0.9, 0.9, 0.0),
    )
]
UCB = [Learner(method=f"ucb {c}", gamma=0.9, alpha=a, bonus=c) for c, a in ((2.0, 0.9), (0.05, 0.5), (0.0, 0.1))]


def constants(x: Learner) -> dict[str, Any]:
    return {"gamma": x.gamma, "alpha": x.alpha, "eps": x.eps, "share": x.share, "bonus": x.bonus}


def test_transitions_are_the_papers() -> None:
    next_state, reward = transitions()
    for action in range(4):
        for state in range(NUM_STATES):
            assert oracle.move(state + 1, action) == (next_state[action, state] + 1, reward[action, state])
    assert reward.sum() == 1.0


def test_eleven_is_the_best_return_and_the_greedy_policy_reaches_it() -> None:
    q = np.zeros((4, NUM_STATES, 1, 1))
    q[UP, 1:9] = 1.0
    q[TO_STATE_3, 0] = 1.0
    q[RESET, 9] = 1.0
    assert greedy_return(q) == oracle.best_return(STEPS) == 11
    q[TO_STATE_3, 0], q[UP, 0] = 0.0, 1.0  # by way of state 2: ten steps for a reward
    assert greedy_return(q) == 10


@pytest.mark.parametrize("learners", [MIXED, UCB], ids=["mixtures", "ucb"])
@pytest.mark.parametrize("decimals", [None, 1], ids=["normal", "with ties"])
def test_all_at_once_is_each_alone_in_plain_python(learners: list[Learner], decimals: int | None) -> None:
    """Equal bit for bit, for every learner and seed, among others of its kind."""
    q_0, blocks = randomness(range(5), 4)
    draws = list(blocks)
    if decimals is not None:
        q_0 = q_0.round(decimals)
    found = learn(learners, q_0, draws)
    assert found.returns.shape == found.td.shape == (4, len(learners), 5)
    for m, learner in enumerate(learners):
        for n in range(5):
            alone = oracle.learn(q_0[:, :, n].tolist(), [d[:, :, n].tolist() for d in draws], **constants(learner))
            np.testing.assert_array_equal(found.returns[:, m, n], alone[0])
            np.testing.assert_array_equal(found.td[:, m, n], alone[1])


@pytest.mark.parametrize("mistake", ["min target", "the reset ends the return", "goes on"])
def test_the_comparison_is_not_blind(mistake: str) -> None:
    q_0, blocks = randomness([3], 4)
    draws = list(blocks)
    found = learn(MIXED[:1], q_0, draws)
    wrong = oracle.learn(
        q_0[:, :, 0].tolist(), [d[:, :, 0].tolist() for d in draws], **constants(MIXED[0]), mistake=mistake
    )
    assert found.td[:, 0, 0].tolist() != wrong[1]


@given(
    q=st.lists(st.lists(st.sampled_from([-0.1, 0.0, 0.1, 0.25]), min_size=4, max_size=4), min_size=2, max_size=5),
    share=st.sampled_from([0.0, 0.25, 0.75, 1.0]),
    eps=st.sampled_from([0.0, 0.15, 1.0]),
    seed=st.integers(0, 10_000),
)
@settings(deadline=None, max_examples=150)
def test_actions_are_those_of_the_explorers(q: list[list[float]], share: float, eps: float, seed: int) -> None:
    """The same values and draws give the same action as `math.explore`, ties included: so the same probabilities."""
    values = np.asarray(q)  # [N, A]
    u = np.random.default_rng(seed).random((len(q), 3))
    rule = Mixture([Learner(method="", gamma=0.9, alpha=0.5, eps=eps, share=share)])
    allowed = rule.allowed(values.T[:, None, :], np.zeros((1, len(q)), np.int64), u.T)
    expected = mixture(values, np.full(len(q), eps), u, share).action
    np.testing.assert_array_equal(pick(allowed, u[:, 2])[0], expected)


def test_a_seed_does_the_same_whoever_is_beside_it() -> None:
    few = learn(MIXED[:2], *randomness([4, 7], 3))
    many = learn(MIXED, *randomness(range(9), 3))
    np.testing.assert_array_equal(few.returns, many.returns[:, :2][:, :, [4, 7]])
    np.testing.assert_array_equal(few.td, many.td[:, :2][:, :, [4, 7]])
    assert not np.array_equal(many.td[:, :, 4], many.td[:, :, 7])


def test_first_td_error_of_argmin_exceeds_that_of_a_uniform_action_by_the_disadvantage_gap() -> None:
    """At the initial values the theorem is an identity: E TD(argmin) - E TD(uniform) = E[mean Q - min Q] = 0.103."""
    both = [Learner(method=str(p), gamma=0.9, alpha=0.5, eps=1.0, share=p) for p in (0.0, 1.0)]
    q_0, blocks = randomness(range(6_000), 1)
    td = learn(both, q_0, [next(blocks)[:1]]).td[0]  # [2, N]
    gap = (q_0.mean(axis=0) - q_0.min(axis=0))[0]  # in state 1
    assert gap.mean() == pytest.approx(0.103, abs=0.002)
    error = (td[0] - td[1]).std(ddof=1) / np.sqrt(6_000)
    assert abs((td[0] - td[1]).mean() - 0.103) < 4 * error
    assert error < 0.003


REFERENCE = {
    (0.9, 0.1, 0.25): ((0.2, 0.5, 2.0), (0.5, 2.7, 6.0)),
    (0.9, 0.9, 0.05): ((3.6, 7.1, 9.0), (2.2, 3.6, 5.8)),
    (0.99, 0.9, 0.15): ((2.2, 7.2, 10.3), (1.2, 4.6, 9.1)),
}
"""(gamma, alpha, eps): return of CoAct and of epsilon-greedy at iterations 30, 60 and 100, by a simulation that was
written separately (200 seeds, one decimal)."""


def test_agrees_with_a_simulation_written_separately() -> None:
    found = learn(
        [
            Learner(method=str(share), gamma=g, alpha=a, eps=e, share=share)
            for g, a, e in REFERENCE
            for share in (0.0, 1.0)
        ],
        *randomness(range(200), 100),
    ).returns[[29, 59, 99]]
    expected = np.asarray(list(REFERENCE.values())).reshape(-1, 3).T
    error = found.std(axis=2, ddof=1) / np.sqrt(200)
    assert (np.abs(found.mean(axis=2) - expected) < 3.5 * np.hypot(np.sqrt(2) * error, 0.05)).all()
    swapped = expected[:, [1, 0, 3, 2, 5, 4]]
    assert not (np.abs(found.mean(axis=2) - swapped) < 3.5 * np.hypot(np.sqrt(2) * error, 0.05)).all()


def test_kinds_do_not_mix_in_a_batch() -> None:
    with pytest.raises(ValueError, match="not both"):
        rule_of([MIXED[0], UCB[0]], 2)
