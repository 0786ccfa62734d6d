"""Slow definitions of the distributional losses, one entry and one number at a time, in Python floats."""

from __future__ import annotations

import math
from collections.abc import Sequence

Vector = Sequence[float]


def slow_quantile_loss(predicted: Vector, target: Vector, kappa: float) -> float:
    """Equation 10 of Dabney et al. 2018: summed over predicted quantiles, averaged over target samples."""
    total = 0.0
    for i, theta in enumerate(predicted):
        tau = (i + 0.5) / len(predicted)
        for sample in target:
            u = sample - theta
            if kappa == 0:
                size = abs(u)
            elif abs(u) <= kappa:
                size = u * u / (2 * kappa)
            else:
                size = abs(u) - kappa / 2
            total += (tau if u >= 0 else 1 - tau) * size / len(target)
    return total


def slow_project(z: Vector, p: Vector, grid: Vector) -> list[float]:
    """Algorithm 1 of Bellemare et al. 2017."""
    step = (grid[-1] - grid[0]) / (len(grid) - 1)
    mass = [0.0] * len(grid)
    for place, probability in zip(z, p, strict=True):
        b = (min(max(place, grid[0]), grid[-1]) - grid[0]) / step
        low = min(math.floor(b), len(grid) - 2)
        mass[low] += probability * (low + 1 - b)
        mass[low + 1] += probability * (b - low)
    return mass


def slow_cross_entropy(logits: Vector, target: Vector) -> float:
    top = max(logits)
    log_sum = top + math.log(sum(math.exp(x - top) for x in logits))
    return -sum(t * (x - log_sum) for t, x in zip(target, logits, strict=True))


def softmax(logits: Vector) -> list[float]:
    top = max(logits)
    e = [math.exp(x - top) for x in logits]
    return [x / sum(e) for x in e]
