"""What the theory of counteractive exploration speaks of, estimated from a run: pure functions of numpy arrays.

Source: Korkmaz, "Counteractive RL", NeurIPS 2025, definitions 3.1 (eta), 3.2 (delta), 3.3 (the disadvantage gap D) and
theorem 3.4: ``E TD(argmin) > E TD(uniform) + D - 2 delta - eta``, TD signed. The paper takes expectations over random
initial weights; these are means over the states that one run visits, with the weights it has there.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Sums = NDArray[np.float64]

KINDS = ("argmin", "uniform")


def disadvantage_gap(q: Floats) -> Floats:
    """q [..., A] -> D [...] = mean Q - min Q, at least 0 (definition 3.3)."""
    gap: Floats = q.mean(-1) - q.min(-1)
    return gap


def branch_weights(q: Floats, action: NDArray[np.int64], share: float) -> dict[str, Floats]:
    """Weights that turn exploratory actions into argmin actions and into uniform ones.

    The exploration branch draws uniformly with probability ``share`` and among the minimisers of Q otherwise, so an
    action has the probability ``e = share / A + (1 - share) [a in argmin] / #argmin`` there; a mean weighted with
    ``target / e`` is one under the target rule. Nobody has to record which part acted.

    Args:
        q: [N, A] values that the explorer saw.
        action: [N] actions of the exploration branch.
        share: in (0, 1]; with 0 there are no uniform actions to speak of.

    Returns:
        ``argmin`` and ``uniform``: [N] weights, at least 0.
    """
    low = q == q.min(1, keepdims=True)
    is_low = low[np.arange(len(q)), action] / low.sum(1)
    e = share / q.shape[1] + (1.0 - share) * is_low
    return {"argmin": is_low / e, "uniform": 1.0 / q.shape[1] / e}


class Slack(NamedTuple):
    """The parts of theorem 3.4, as means over exploratory actions."""

    eta: float
    """abs(mean reward after argmin - mean reward after uniform actions)."""
    delta: float
    """The larger of abs(mean max Q(s) - mean max Q(s')) after argmin and after uniform actions."""
    td_gap: float
    """Mean signed TD of argmin less that of uniform actions."""
    slack: float
    """td_gap - (D - 2 delta - eta): positive where the inequality holds."""
    bound: float
    """D - 2 delta - eta: the theorem says nothing where it is negative."""


def branch_sums(
    q_tm1: Floats, action: NDArray[np.int64], r_t: Floats, td: Floats, max_q_t: Floats, goes_on: Floats, share: float
) -> Sums:
    """Sums over N exploratory transitions from which `slack_of` makes its means; sums of parts add up.

    Args:
        q_tm1: [N, A]; action: [N]; r_t, td, max_q_t: [N], ``max_q_t`` is not used where ``goes_on`` [N] is 0.

    Returns:
        [2, 5]: for argmin and uniform the sums of weight, weight * reward, weight * td, and, over transitions that go
        on, weight and weight * (max Q(s) - max Q(s')).
    """
    weights = branch_weights(q_tm1, action, share)
    change = np.where(goes_on > 0, q_tm1.max(1) - np.where(goes_on > 0, max_q_t, 0.0), 0.0)
    return np.array(
        [
            [w.sum(), (w * r_t).sum(), (w * td).sum(), (w * goes_on).sum(), (w * goes_on * change).sum()]
            for w in (weights[kind] for kind in KINDS)
        ],
        np.float64,
    )


def slack_of(sums: Sums, gap: float) -> Slack | None:
    """The parts of the theorem; ``gap`` is the mean D. None while a kind of action is missing."""
    if not (sums[:, 0] > 0).all() or not (sums[:, 3] > 0).all():
        return None
    reward, td = sums[:, 1] / sums[:, 0], sums[:, 2] / sums[:, 0]
    eta = float(abs(reward[0] - reward[1]))
    delta = float(np.abs(sums[:, 4] / sums[:, 3]).max())
    td_gap = float(td[0] - td[1])
    bound = gap - 2 * delta - eta
    return Slack(eta, delta, td_gap, td_gap - bound, bound)
