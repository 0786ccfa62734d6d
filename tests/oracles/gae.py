"""Slow definitions of generalised advantages and of PPO's loss: sums written out, one transition at a time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

WRONG = ("time limits are terminal", "leaks into the next episode", "life losses are ignored", "no lambda")


def slow_gae(
    reward: np.ndarray,
    discount: np.ndarray,
    values: np.ndarray,
    valid: np.ndarray,
    last: np.ndarray,
    lambda_: float,
    gamma: float,
    wrong: str = "",
) -> np.ndarray:
    """Advantages [T, B] as the sum of equation 16 of Schulman et al. 2016, each episode by itself.

    ``discount`` is 0 or gamma; ``last`` says where episodes end. ``wrong``: one of `WRONG`, which tests must see.
    """
    steps, rows = reward.shape
    advantage = np.zeros((steps, rows))
    for b in range(rows):

        def goes_on(t: int, b: int = b) -> float:
            if wrong == "time limits are terminal" and last[t, b]:
                return 0.0
            return gamma if wrong == "life losses are ignored" and not last[t, b] else float(discount[t, b])

        for t in range(steps):
            factor = 1.0
            for k in range(t, steps):
                if not valid[t, b]:
                    break
                if not valid[k, b]:
                    if wrong == "leaks into the next episode":
                        continue
                    break
                delta = reward[k, b] + goes_on(k) * values[k + 1, b] - values[k, b]
                advantage[t, b] += factor * delta
                factor *= goes_on(k) * (1.0 if wrong == "no lambda" else lambda_)
    return advantage


def slow_ppo_loss(
    logits: Any,
    value: Any,
    rows: list[dict[str, float]],
    *,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None,
    value_clip: float | None,
    baseline_cost: float,
    entropy_cost: float,
    log: Any,
) -> Any:
    """The loss of one minibatch, from numbers or from anything that knows arithmetic.

    logits[i][a] and value[i] belong to transition i, whose ``rows[i]`` holds action, log_below, weight, advantage,
    target and value_old.
    """
    total: Any = 0.0
    for i, row in enumerate(rows):
        powers = [math.e**x for x in logits[i]]
        pi = [p / sum(powers[1:], powers[0]) for p in powers]
        ratio = pi[int(row["action"])] / math.exp(row["log_below"])
        advantage = row["advantage"]
        cut = min(max(_number(ratio), 1 - clip_low), 1 + clip_high)
        gain = ratio * advantage if _number(ratio) * advantage <= cut * advantage else cut * advantage
        if dual_clip is not None and advantage < 0 and _number(gain) < dual_clip * advantage:
            gain = dual_clip * advantage
        error = (value[i] - row["target"]) ** 2
        if value_clip is not None:
            moved = min(max(_number(value[i]) - row["value_old"], -value_clip), value_clip)
            held = (row["value_old"] + moved - row["target"]) ** 2
            # inside of the clip both are the same, and the free one has the gradient
            error = held if held > _number(error) else error
        entropy = -sum((p * log(p) for p in pi[1:]), pi[0] * log(pi[0]))
        total = total - row["weight"] * gain + baseline_cost * 0.5 * error - entropy_cost * entropy
    return total / len(rows)


def _number(x: Any) -> float:
    return float(x.detach()) if hasattr(x, "detach") else float(x)
