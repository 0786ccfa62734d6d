"""Slow definitions: a return walked step by step, and value rescaling by its defining equation in 700 digits."""

from __future__ import annotations

from decimal import Decimal, getcontext

import numpy as np


def walked_return(
    t: int,
    b: int,
    reward: np.ndarray,
    discount: np.ndarray,
    last: np.ndarray,
    valid: np.ndarray,
    value: np.ndarray,
    gamma: float,
    n_step: int,
    *,
    run_over: bool = False,
    limit_ends_return: bool = False,
    drop_tail: bool = False,
) -> float:
    """The return of one valid row; the switches make it wrong in ways that have been seen."""
    total, carried, at = 0.0, 1.0, t
    for _ in range(n_step):
        total += carried * reward[at, b]
        ended = limit_ends_return and last[at, b]
        carried *= gamma * (0.0 if ended else discount[at, b])
        at += 1
        if at == len(reward):
            break
        if not valid[at, b] and not run_over:  # obs[at] is the last of its episode
            break
    if drop_tail and at < t + n_step and at == len(reward):
        carried = 0.0
    return float(total + carried * value[at, b])


def exact_rescale(x: float, eps: float) -> Decimal:
    """h(x) with 700 digits, enough for the smallest double."""
    getcontext().prec = 700
    d = Decimal(x)
    sign = -1 if d < 0 else 1
    return sign * ((abs(d) + 1).sqrt() - 1) + Decimal(eps) * d
