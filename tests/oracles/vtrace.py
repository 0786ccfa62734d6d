"""Slow definitions of V-trace and of its loss: sums written out from the paper, one row at a time, in numpy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

WRONG = ("ignores ends", "does not truncate c", "advantage over one step", "no bootstrap at time limits", "no lambda")


def slow_vtrace(
    log_pi: np.ndarray,
    log_mu: np.ndarray,
    reward: np.ndarray,
    discount: np.ndarray,
    values: np.ndarray,
    valid: np.ndarray,
    rho_bar: float = math.inf,
    c_bar: float = math.inf,
    pg_rho_bar: float = math.inf,
    lambda_: float = 1.0,
    wrong: str = "",
) -> tuple[np.ndarray, np.ndarray]:
    """vs and advantages [T, B], by the sum of equation 1; ``wrong``: one of `WRONG`, a mistake that tests must see."""
    steps, rows = reward.shape
    vs, advantage = np.zeros((steps + 1, rows)), np.zeros((steps, rows))
    vs[steps] = values[steps]
    for b in range(rows):
        ratio = [math.exp(log_pi[t, b] - log_mu[t, b]) if valid[t, b] else 1.0 for t in range(steps)]

        def delta(t: int, b: int = b, ratio: list[float] = ratio) -> float:
            goes_on = discount[t, b]
            if wrong == "no bootstrap at time limits" and t + 1 < steps and not valid[t + 1, b]:
                goes_on = 0.0
            return min(rho_bar, ratio[t]) * (reward[t, b] + goes_on * values[t + 1, b] - values[t, b])

        for s in reversed(range(steps)):
            total, product = 0.0, 1.0
            for t in range(s, steps):
                if not valid[t, b]:
                    if wrong == "ignores ends":
                        continue
                    break
                total += product * delta(t)
                c = ratio[t] if wrong == "does not truncate c" else min(c_bar, ratio[t])
                product *= discount[t, b] * c * (1.0 if wrong == "no lambda" else lambda_)
            vs[s, b] = values[s, b] + (total if valid[s, b] else 0.0)
            if valid[s, b]:
                after = values[s + 1, b] if wrong == "advantage over one step" else vs[s + 1, b]
                error = reward[s, b] + discount[s, b] * after - values[s, b]
                advantage[s, b] = min(pg_rho_bar, ratio[s]) * error
    return vs[:steps], advantage


def slow_loss(
    logits: Any,
    values: Any,
    action: np.ndarray,
    vs: np.ndarray,
    advantage: np.ndarray,
    usable: np.ndarray,
    weight: np.ndarray,
    baseline_cost: float,
    entropy_cost: float,
    *,
    log: Any,
) -> Any:
    """The loss of section 4.2 with means for sums, from numbers or from anything that knows arithmetic.

    logits[t][b][a] and values[t][b] are numbers of the kind that ``log`` takes (floats, or tensors of autograd).
    """
    total: Any = 0.0
    count = int(usable.sum())
    for t, b in np.argwhere(usable):
        powers = [math.e**x for x in logits[t][b]]
        pi = [p / sum(powers[1:], powers[0]) for p in powers]
        entropy = -sum((p * log(p) for p in pi[1:]), pi[0] * log(pi[0]))
        row = -log(pi[action[t, b]]) * advantage[t, b]
        row = row + baseline_cost * 0.5 * (vs[t, b] - values[t][b]) ** 2 - entropy_cost * entropy
        total = total + weight[b] * row / max(count, 1)
    return total


def policy_value(
    pi: np.ndarray, reward: np.ndarray, to: np.ndarray, gamma: float, values: np.ndarray, steps: int
) -> np.ndarray:
    """Exact V after ``steps`` steps of pi [S, A] in a deterministic MDP, reward [S, A], next state ``to`` [S, A]; then
    ``values`` [S] bootstrap."""
    for _ in range(steps):
        values = (pi * (reward + gamma * values[to])).sum(1)
    return values


def trajectories(
    mu: np.ndarray, to: np.ndarray, start: int, steps: int
) -> Sequence[tuple[float, list[int], list[int]]]:
    """All of them under mu [S, A]: (probability, states [steps + 1], actions [steps])."""
    found = [(1.0, [start], [])]
    for _ in range(steps):
        found = [
            (p * mu[s[-1], a], [*s, int(to[s[-1], a])], [*done, a]) for p, s, done in found for a in range(mu.shape[1])
        ]
    return found
