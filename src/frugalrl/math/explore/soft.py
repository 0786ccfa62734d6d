"""Rules that weigh actions by exp(Q / temperature).

Weights are taken relative to the best action, so nothing overflows, and probabilities are computed as logarithms, so an
action that can be drawn never has probability 0. Temperature 0 is the limit: the best actions alike, the others never.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from frugalrl.math.explore.rule import Choice, Floats, Ints, Memory, View, check_q, needed_q, one_of

Doubles = NDArray[np.float64]


def softmin(view: View, memory: Memory) -> Choice:
    """With probability eps an action drawn with probability softmax(-Q / temperature), else a maximiser of Q.

    A control for counteractive exploration, which is its limit at temperature 0; at temperature infinity it is
    epsilon-greedy. ``u[:, 0]`` decides whether the row explores, ``u[:, 2]`` picks the action.
    """
    q = needed_q(view, "softmin")
    eps, u = view.eps, view.u
    check_q(q, eps, u)
    soft, log_soft = draw_softmax(-q.astype(np.float64), _temperature(view, "softmin"), u[:, 2])
    high = q == q.max(axis=1, keepdims=True)
    greedy, num_high = one_of(high, u[:, 2])
    explored = u[:, 0] < eps
    action = np.where(explored, soft, greedy)

    at = np.arange(len(q))
    with np.errstate(divide="ignore"):  # the logarithm of a branch that cannot happen is -inf
        log_mu = np.logaddexp(np.log(eps) + log_soft[at, action], np.log((1.0 - eps) * (high[at, action] / num_high)))
    return Choice(action, log_mu.astype(np.float32), explored)


def boltzmann(view: View, memory: Memory) -> Choice:
    """An action drawn with probability softmax(Q / temperature); ``explored`` where it is not a maximiser of Q.

    There is no exploration branch: ``eps`` is not used. ``u[:, 2]`` picks the action. Sutton and Barto,
    "Reinforcement Learning", 2018, section 2.8, call it the soft-max or Boltzmann distribution.
    """
    q = needed_q(view, "boltzmann")
    check_q(q, view.eps, view.u)
    action, log_soft = draw_softmax(q.astype(np.float64), _temperature(view, "boltzmann"), view.u[:, 2])
    at = np.arange(len(q))
    return Choice(action, log_soft[at, action].astype(np.float32), q[at, action] < q.max(axis=1))


def _temperature(view: View, name: str) -> Floats:
    temperature = view.temperature
    if temperature is None:
        raise ValueError(f"the explorer {name!r} needs a temperature, but it is None")
    if temperature.shape != view.eps.shape or not (temperature >= 0.0).all():
        raise ValueError(f"temperature must be at least 0 in each row, but is {temperature.tolist()}")
    return temperature


def draw_softmax(preference: Doubles, temperature: Floats, draw: Floats) -> tuple[Ints, NDArray[Any]]:
    """preference [B, A] float64, temperature [B], draw [B] -> actions [B], log-probabilities of all actions [B, A].

    The inverse of the cumulative distribution: draw < 1, so that draw * total stays below the total, and the first
    action whose cumulated weight lies above it has a positive weight.
    """
    best = preference.max(axis=1, keepdims=True)
    # the limit at 0 is 0 / 0 for the best actions; a difference or quotient that overflows is -inf, weight 0
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        log_weight = np.where(preference == best, 0.0, (preference - best) / temperature[:, None])
    cumulated = np.exp(log_weight).cumsum(axis=1)
    total = cumulated[:, -1:]
    action = (cumulated > draw[:, None] * total).argmax(axis=1)
    return action.astype(np.int64, copy=False), log_weight - np.log(total)
