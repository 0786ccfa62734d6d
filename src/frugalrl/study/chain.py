"""The chain MDP of "Counteractive RL" and tabular Q-learning on it, many learners and seeds at once.

Korkmaz, "Counteractive RL", NeurIPS 2025, arXiv 2603.15871, section 4. States 1 to 10, four actions in each: go up by
one, jump to state 2, jump to state 3, reset to state 1. Only the reset in state 10 is rewarded. One iteration is 100
training steps and then 100 steps of the greedy policy, whose reward is the score; the best policy scores 11 (jump to 3,
seven times up, reset: a reward every nine steps). What the paper leaves open is chosen here and listed in
docs/chain.md.

Arrays end in ``[M, N]``: M learners (a method with its constants) and N seeds. The draws of a seed are the same for
every learner, so differences between learners are paired. Randomness is handed in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import log
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

NUM_STATES = 10
UP, TO_STATE_2, TO_STATE_3, RESET = range(4)
NUM_ACTIONS = 4
STEPS = 100
"""Training steps of an iteration, and steps of the greedy policy after it."""
INIT_STD = 0.1


def transitions() -> tuple[Ints, Floats]:
    """``(next_state [A, S] int64, reward [A, S] float64)``; state i of the paper is i - 1 here."""
    next_state = np.empty((NUM_ACTIONS, NUM_STATES), np.int64)
    next_state[UP] = np.minimum(np.arange(NUM_STATES) + 1, NUM_STATES - 1)
    next_state[TO_STATE_2], next_state[TO_STATE_3], next_state[RESET] = 1, 2, 0
    reward = np.zeros((NUM_ACTIONS, NUM_STATES))
    reward[RESET, NUM_STATES - 1] = 1.0
    return next_state, reward


@dataclass(frozen=True, slots=True, kw_only=True)
class Learner:
    """A method with its constants. Either ``eps`` and ``share`` are set, or ``bonus``."""

    method: str
    gamma: float
    alpha: float
    """Step size of Q-learning."""
    eps: float | None = None
    """Probability of the exploration branch, constant."""
    share: float | None = None
    """Part of the exploration branch that is uniform: 1 is epsilon-greedy, 0 counteractive (`math.explore`)."""
    bonus: float | None = None
    """c of UCB: argmax of Q(s, a) + c * sqrt(log t / N_t(s, a)), an untried action first."""


@dataclass(frozen=True, slots=True)
class Curves:
    """What every learner did in every iteration."""

    returns: NDArray[np.int64]
    """[iterations, M, N]: reward of the greedy policy in 100 steps from state 1."""
    td: Floats
    """[iterations, M, N]: mean signed TD error of the 100 training steps."""


class Rule(Protocol):
    """Which actions a learner may take next."""

    def allowed(self, q: Floats, at: Ints, u: Floats) -> Bools:
        """q [A, M, N] at the present states, whose places in a table are ``at`` [M, N]; u [3, N] -> [A, M, N]."""
        ...

    def took(self, place: Ints) -> None:
        """The action values at ``place`` [M, N] of a flat table were acted on."""
        ...


class Mixture:
    """The family of `math.explore`: epsilon-greedy, counteractive and what lies between."""

    def __init__(self, learners: Sequence[Learner]) -> None:
        self._eps, self._share = _column(x.eps for x in learners), _column(x.share for x in learners)

    def allowed(self, q: Floats, at: Ints, u: Floats) -> Bools:
        explored = u[0] < self._eps
        anywhere = explored & (u[1] < self._share)
        wanted = np.where(explored, q.min(axis=0), q.max(axis=0))
        chosen: Bools = (q == wanted) | anywhere
        return chosen

    def took(self, place: Ints) -> None:
        """It keeps no counts."""


class Ucb:
    """An untried action first, else the maximisers of Q plus a bonus; t counts the steps of the whole training."""

    def __init__(self, learners: Sequence[Learner], seeds: int) -> None:
        self._bonus = _column(x.bonus for x in learners)
        self._count = np.zeros((NUM_ACTIONS, NUM_STATES * len(learners) * seeds))
        self._t = 0

    def allowed(self, q: Floats, at: Ints, u: Floats) -> Bools:
        self._t += 1
        count = self._count.take(at, axis=1)
        untried = count == 0.0
        score = q + self._bonus * np.sqrt(log(self._t) / np.maximum(count, 1.0))
        best: Bools = np.where(untried.any(axis=0), untried, score == score.max(axis=0))
        return best

    def took(self, place: Ints) -> None:
        self._count.reshape(-1)[place] += 1.0


def rule_of(learners: Sequence[Learner], seeds: int) -> Rule:
    """The rule of learners of one kind. Raises ValueError for a mixed bag: each kind needs a batch of its own."""
    ucb = {x.bonus is not None for x in learners}
    if len(ucb) != 1:
        raise ValueError(f"a batch holds learners with eps or with bonus, not both: {[x.method for x in learners]}")
    return Ucb(learners, seeds) if ucb.pop() else Mixture(learners)


def pick(allowed: Bools, u: Floats) -> Ints:
    """One of the allowed actions [A, M, N], each equally likely, by the draw u [N] in [0, 1) -> [M, N]."""
    nth = (u * allowed.sum(axis=0)).astype(np.int64)
    return np.asarray((allowed.cumsum(axis=0) <= nth).sum(axis=0))


def learn(learners: Sequence[Learner], q_0: Floats, draws: Iterable[Floats]) -> Curves:
    """Q-learning: one iteration per block of draws.

    Args:
        learners: M of them, all with ``eps`` or all with ``bonus``.
        q_0: [A, S, N] initial action values of each seed.
        draws: blocks [STEPS, 3, N], uniform in [0, 1); used as in `math.explore`.
    """
    next_state, reward = transitions()
    seeds, many = q_0.shape[2], len(learners)
    rows = many * seeds
    q = np.repeat(q_0[:, :, None, :], many, axis=2).reshape(NUM_ACTIONS, NUM_STATES * rows)
    q_flat = q.reshape(-1)
    row = np.arange(rows).reshape(many, seeds)
    alpha, gamma = _column(x.alpha for x in learners), _column(x.gamma for x in learners)
    rule = rule_of(learners, seeds)

    returns, td_means = [], []
    for block in draws:
        state = np.zeros((many, seeds), np.int64)
        td_sum = np.zeros((many, seeds))
        for u in block:
            at_tm1 = state * rows + row
            action = pick(rule.allowed(q.take(at_tm1, axis=1), at_tm1, u), u[2])
            place = action * (NUM_STATES * rows) + at_tm1
            step = action * NUM_STATES + state
            state = next_state.take(step)
            q_t = q.take(state * rows + row, axis=1).max(axis=0)
            q_tm1 = q_flat.take(place)
            td = reward.take(step) + gamma * q_t - q_tm1
            q_flat[place] = q_tm1 + alpha * td
            rule.took(place)
            td_sum += td
        td_means.append(td_sum / len(block))
        returns.append(greedy_return(q.reshape(NUM_ACTIONS, NUM_STATES, many, seeds)))
    return Curves(np.stack(returns), np.stack(td_means))


def greedy_return(q: Floats) -> Ints:
    """Reward of argmax Q (the first of tied actions) in 100 steps from state 1; q [A, S, M, N] -> [M, N] int64."""
    next_state, reward = transitions()
    many, seeds = q.shape[2:]
    rows = many * seeds
    step = q.argmax(axis=0).reshape(NUM_STATES, rows) * NUM_STATES + np.arange(NUM_STATES)[:, None]
    after, gained = next_state.take(step).reshape(-1), reward.take(step).reshape(-1)
    row = np.arange(rows)
    state, total = np.zeros(rows, np.int64), np.zeros(rows)
    for _ in range(STEPS):
        at = state * rows + row
        total += gained.take(at)
        state = after.take(at)
    return total.reshape(many, seeds).astype(np.int64)


def randomness(seeds: Sequence[int], iterations: int) -> tuple[Floats, Iterator[Floats]]:
    """Initial values [A, S, N], N(0, 0.1^2), and blocks of draws [STEPS, 3, N].

    Every seed has a stream of its own: what it does depends neither on the other seeds nor on their number.
    """
    streams = [np.random.default_rng(seed) for seed in seeds]
    q_0 = np.stack([r.normal(0.0, INIT_STD, (NUM_ACTIONS, NUM_STATES)) for r in streams], axis=2)

    def blocks() -> Iterator[Floats]:
        for _ in range(iterations):
            yield np.stack([r.random((STEPS, 3)) for r in streams], axis=2)

    return q_0, blocks()


def _column(values: Iterable[float | None]) -> Floats:
    """[M, 1], to meet arrays [M, N]."""
    return np.asarray(list(values), np.float64)[:, None]
