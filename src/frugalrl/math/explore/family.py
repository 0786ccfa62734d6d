"""One family of rules: a set of actions with probability eps, else a maximiser of Q.

``u[:, 0]`` decides whether the row explores, ``u[:, 1]`` picks the part of a mixed exploration branch, ``u[:, 2]``
picks the action inside the chosen set (all actions, or the tied ones). With probability eps the action comes from the
exploration branch, which is uniform over all actions with probability ``share`` and uniform over the minimisers of Q
otherwise; with probability 1 - eps it is uniform over the maximisers of Q::

    mu(a) = eps * (share / A + (1 - share) * [a in argmin Q] / #argmin) + (1 - eps) * [a in argmax Q] / #argmax

- share 1: epsilon-greedy.
- share 0: counteractive exploration (CoAct TD), Korkmaz, "Counteractive RL", NeurIPS 2025, arXiv 2603.15871,
  algorithm 1: the exploratory action is argmin Q of the network that selects actions. The paper does not say how ties
  are broken; here every tied action is equally likely.
- between: counteractive mixed with uniform, so that every action keeps a positive probability.

Ties are exact float equality; Q-values keep the dtype they come in.
"""

from __future__ import annotations

from math import isfinite, log

import numpy as np

from frugalrl.math.explore.rule import (
    Choice,
    Floats,
    bad_eps,
    below_eps,
    check_all_explore,
    check_eps,
    check_shapes,
    diverged,
)


def epsilon_greedy(q: Floats | None, eps: Floats, u: Floats, *, num_actions: int | None = None) -> Choice:
    """A uniform action with probability eps, else a maximiser of Q.

    Args:
        q: [B, A] float, or None if every row explores (``u[:, 0] < eps``): then no forward pass is needed,
            ``num_actions`` must be given, and ``log_mu`` is known (-log A) only in rows with eps = 1, NaN elsewhere.
        eps: [B] in [0, 1].
        u: [B, 3] uniform draws in [0, 1).
        num_actions: A; needed only without ``q``.

    Raises:
        ValueError: a shape, ``eps`` or ``num_actions`` is wrong, or ``q`` is None and a row does not explore.
        FloatingPointError: a Q-value is NaN or infinite.
    """
    if q is None:
        return _uniform_without_q(eps, u, num_actions)
    return _choose(q, eps, u, 1.0)


def counteractive(q: Floats, eps: Floats, u: Floats) -> Choice:
    """A minimiser of Q with probability eps, else a maximiser of Q (CoAct TD, algorithm 1).

    Shapes and errors as in `epsilon_greedy`; ``q`` is always needed. Most actions have probability 0.
    """
    return _choose(q, eps, u, 0.0)


def mixture(q: Floats, eps: Floats, u: Floats, share: float) -> Choice:
    """With probability eps explore (uniform with probability ``share``, else a minimiser of Q), else a maximiser of Q.

    Shapes and errors as in `epsilon_greedy`; ``q`` is always needed; ``share`` in [0, 1].
    """
    if not 0.0 <= share <= 1.0:
        raise ValueError(
            f"share is the uniform part of the exploration branch and must lie in [0, 1], but is {share!r}"
        )
    return _choose(q, eps, u, share)


def uniform(num_actions: int, u: Floats) -> Choice:
    """A uniform action in every row, all flagged as explored: the prefill policy that needs no Q. u: [B, 3]."""
    if num_actions < 1:
        raise ValueError(f"num_actions must be at least 1, but is {num_actions}")
    # u < 1 - 2**-53 at most, so u * num_actions never rounds up to num_actions
    action = (u[:, 2] * num_actions).astype(np.int64)
    log_mu = np.full(len(u), log(1.0 / num_actions), np.float32)
    return Choice(action, log_mu, np.ones(len(u), np.bool_))


def _choose(q: Floats, eps: Floats, u: Floats, share: float) -> Choice:
    check_shapes(q, eps, u)
    if q.shape[0] == 1:
        return _choose_one(q, float(eps[0]), u, share)
    return _choose_rows(q, eps, u, share)


def _choose_rows(q: Floats, eps: Floats, u: Floats, share: float) -> Choice:
    """The family of the module docstring, for any number of rows."""
    if not np.isfinite(q).all():
        raise diverged(q)
    check_eps(eps)
    rows, num_actions = q.shape
    low = q == q.min(axis=1, keepdims=True)
    high = q == q.max(axis=1, keepdims=True)
    num_low, num_high = low.sum(axis=1), high.sum(axis=1)
    explored = u[:, 0] < eps
    anywhere = explored & (u[:, 1] < share)

    allowed = np.where(explored[:, None], low, high)
    allowed[anywhere] = True
    num_allowed = np.where(anywhere, num_actions, np.where(explored, num_low, num_high))
    nth = (u[:, 2] * num_allowed).astype(np.int64)
    action = (allowed.cumsum(axis=1) > nth[:, None]).argmax(axis=1)

    at = np.arange(rows)
    mu = eps * (share / num_actions + (1.0 - share) * (low[at, action] / num_low))
    mu = mu + (1.0 - eps) * (high[at, action] / num_high)
    return Choice(action.astype(np.int64, copy=False), np.log(mu).astype(np.float32), explored)


def _choose_one(q: Floats, eps: float, u: Floats, share: float) -> Choice:
    """`_choose_rows` for one row in plain Python: ten times faster there, and equal bit for bit (a test)."""
    values: list[float] = q[0].tolist()
    if not all(map(isfinite, values)):
        raise diverged(q)
    if not 0.0 <= eps <= 1.0:
        raise bad_eps(np.asarray([eps]))
    num_actions = len(values)
    low, high = min(values), max(values)
    num_low, num_high = values.count(low), values.count(high)
    flip, branch, pick = u[0].tolist()
    explored = flip < eps
    if explored and branch < share:
        action = int(pick * num_actions)
    else:
        wanted, ties = (low, num_low) if explored else (high, num_high)
        action = values.index(wanted)
        for _ in range(int(pick * ties)):
            action = values.index(wanted, action + 1)

    value = values[action]
    mu = eps * (share / num_actions + (1.0 - share) * ((value == low) / num_low))
    mu = mu + (1.0 - eps) * ((value == high) / num_high)
    log_mu = np.log(np.asarray([mu])).astype(np.float32)  # numpy's log, so that both paths round alike
    return Choice(np.asarray([action], np.int64), log_mu, np.asarray([explored]))


def _uniform_without_q(eps: Floats, u: Floats, num_actions: int | None) -> Choice:
    if num_actions is None:
        raise ValueError("epsilon-greedy without q needs num_actions, but it is None")
    if eps.ndim != 1 or u.shape != (len(eps), 3):
        raise ValueError(f"expected eps [B], u [B, 3], but got eps {eps.shape}, u {u.shape}")
    check_eps(eps)
    check_all_explore("epsilon-greedy", below_eps(eps, u, {}), eps, u)
    choice = uniform(num_actions, u)
    # below eps = 1 the probability also depends on whether the action is greedy, which only q could tell
    choice.log_mu[eps < 1.0] = np.nan
    return choice
