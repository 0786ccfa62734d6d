"""Behaviour of actor-critics: draws from pi, alone or mixed with another rule, with the exact log mu.

``View.q`` holds the logits of pi [B, A]. With probability eps the action comes from the exploration branch e, else from
pi = softmax(logits)::

    mu(a) = (1 - eps) * pi(a) + eps * e(a)

- ``policy``: no branch, eps is not used: mu = pi.
- ``counteractive``: e is uniform over the minimisers of the logits, the action that pi likes least. Counteractive
  exploration (Korkmaz, NeurIPS 2025, arXiv 2603.15871) carried over to actor-critics: our own, no source.
- ``uniform``: e is uniform over all actions, the control for it.

Unlike the rules on Q-values, each has full support, so that importance ratios pi/mu exist and are at most
1 / (1 - eps). They hold only with this log mu: with log pi in its place, learning is biased (a test).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from frugalrl.math.explore.rule import (
    Bools,
    Choice,
    Floats,
    Ints,
    Memory,
    View,
    check_eps,
    check_shapes,
    diverged,
    needed_q,
    one_of,
)
from frugalrl.math.explore.soft import draw_softmax

Doubles = NDArray[np.float64]


def policy(view: View, memory: Memory) -> Choice:
    """An action of pi. ``u[:, 2]`` picks it; never flagged as explored."""
    return _of_pi(_logits(view, "policy"), view.u)


def sampled(logits: Floats, u: Floats) -> Choice:
    """An action of softmax(logits [B, A]) per row, picked by ``u[:, 2]``. Raises FloatingPointError as a rule does."""
    if not np.isfinite(logits).all():
        raise diverged(logits, "logits")
    return _of_pi(logits, u)


def _of_pi(logits: Floats, u: Floats) -> Choice:
    action, log_pi = _draw(logits, u)
    log_mu = log_pi[np.arange(len(logits)), action].astype(np.float32)
    return Choice(action, log_mu, np.zeros(len(logits), np.bool_))


def policy_counteractive(view: View, memory: Memory) -> Choice:
    """With probability eps a minimiser of the logits, else an action of pi. ``u[:, 0]`` decides, ``u[:, 2]`` picks."""
    logits = _logits(view, "counteractive")
    low = logits == logits.min(axis=1, keepdims=True)
    least, num_low = one_of(low, view.u[:, 2])
    action, explored, log_pi = _either(logits, view, least)
    return _mixed(view.eps, action, explored, log_pi, low[np.arange(len(logits)), action] / num_low)


def policy_uniform(view: View, memory: Memory) -> Choice:
    """With probability eps a uniform action, else an action of pi. ``u[:, 0]`` decides, ``u[:, 2]`` picks."""
    logits = _logits(view, "uniform")
    num_actions = logits.shape[1]
    action, explored, log_pi = _either(logits, view, (view.u[:, 2] * num_actions).astype(np.int64))
    return _mixed(view.eps, action, explored, log_pi, np.full(len(logits), 1.0 / num_actions))


def _logits(view: View, name: str) -> Floats:
    logits = needed_q(view, name)
    check_shapes(logits, view.eps, view.u)
    if not np.isfinite(logits).all():
        raise diverged(logits, "logits")
    check_eps(view.eps)
    return logits


def _draw(logits: Floats, u: Floats) -> tuple[Ints, Doubles]:
    return draw_softmax(logits.astype(np.float64), np.ones(len(logits)), u[:, 2])


def _either(logits: Floats, view: View, other: Ints) -> tuple[Ints, Bools, Doubles]:
    """-> actions [B], which come from the exploration branch [B], log pi of the actions [B]."""
    drawn, log_pi = _draw(logits, view.u)
    explored = view.u[:, 0] < view.eps
    action = np.where(explored, other, drawn)
    return action, explored, log_pi[np.arange(len(logits)), action]


def _mixed(eps: Floats, action: Ints, explored: Bools, log_pi: Doubles, e: Doubles) -> Choice:
    """log mu of the actions [B] from log pi and from their probability in the exploration branch."""
    with np.errstate(divide="ignore"):  # the logarithm of a branch that cannot happen is -inf
        log_mu = np.logaddexp(np.log1p(-eps) + log_pi, np.log(eps * e))
    return Choice(action, log_mu.astype(np.float32), explored)
