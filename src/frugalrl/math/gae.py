"""Generalised advantage estimation: a pure function of tensors that also runs under ``torch.func.vmap``.

Schulman et al. 2016, "High-dimensional continuous control using generalized advantage estimation", equation 16::

    delta_t = r_t + discount_t * V_{t+1} - V_t
    adv_t   = delta_t + lambda * discount_t * adv_{t+1}
    target_t = adv_t + V_t

``discount_t`` already holds gamma and is 0 where the return ends. A time limit has discount gamma: the step before it
bootstraps from V of the episode's final observation, which stands in a row that is no transition; there the trace is
cut, so that nothing of the next episode reaches this one.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Advantages(NamedTuple):
    """Of one batch of unrolls, without gradients, [T, B] each."""

    advantage: Tensor
    """0 where the row is not valid."""
    target: Tensor
    """Of the value; V itself where the row is not valid."""


@torch.no_grad()
def gae(reward: Tensor, discount: Tensor, values: Tensor, *, valid: Tensor, lambda_: float) -> Advantages:
    """Advantages and value targets. What stands in rows that are not valid is not read.

    Args:
        reward: [T, B].
        discount: [T, B] gamma, or 0 where the return ends.
        values: [T+1, B] of the observations; the last one bootstraps.
        valid: [T, B] bool.
        lambda_: 1 for returns over the whole unroll, 0 for one step.

    Raises:
        ValueError: the shapes do not fit together; all are named.
    """
    shape = reward.shape
    fits = len(shape) == 2 and shape[0] >= 1 and tuple(values.shape) == (shape[0] + 1, shape[1])
    if not fits or discount.shape != shape or valid.shape != shape:
        shapes = ", ".join(
            f"{name} {list(x.shape)}"
            for name, x in (("reward", reward), ("discount", discount), ("values", values), ("valid", valid))
        )
        raise ValueError(f"expected values [T+1, B] and the rest [T, B] with T at least 1, but got {shapes}")
    gone = torch.where(valid, discount, 0.0)
    delta = torch.where(valid, reward + gone * values[1:] - values[:-1], 0.0)
    above = torch.zeros_like(values[-1])
    found = []
    for delta_t, carry_t in zip(reversed(delta.unbind()), reversed((lambda_ * gone).unbind()), strict=True):
        above = torch.addcmul(delta_t, carry_t, above)
        found.append(above)
    advantage = torch.stack(found[::-1])
    return Advantages(advantage, advantage + values[:-1])
