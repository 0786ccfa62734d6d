"""Returns inside an unroll: pure functions of tensors that also run under ``torch.func.vmap``.

Times are those of `Unroll`: ``action[t]`` was taken at ``obs[t]``, then came ``reward[t]`` and ``obs[t+1]``.

Sources: Watkins 1989 (n-step returns); van Hasselt et al. 2016, equation 4 (double Q-learning); Kapturowski et al.
2019, section 2.3 (both on sequences).
"""

from __future__ import annotations

import torch
from torch import Tensor


def double_q_values(q: Tensor, q_select: Tensor) -> Tensor:
    """Values [T+1, B] of the actions that are best by ``q_select`` [T+1, B, A], measured by ``q`` [T+1, B, A]."""
    best = q_select.argmax(-1, keepdim=True)
    return q.gather(-1, best).squeeze(-1)


def n_step_returns(reward: Tensor, discount: Tensor, valid: Tensor, value: Tensor, *, n_step: int) -> Tensor:
    """``r[t] + d[t] r[t+1] + ... + d[t] ... d[t+n-1] value[t+n]``, shorter where an episode or the unroll ends.

    An episode's final observation is the one before which no transition follows (``valid[t]`` is False at it): returns
    end there with its value, which counts where the end was a time limit (discount not 0), and never run on into the
    next episode. At the end of the unroll they end with ``value[T]``.

    Args:
        reward: [T, B].
        discount: [T, B] gamma times 0 or 1.
        valid: [T, B] bool.
        value: [T+1, B] of the observations.
        n_step: at least 1.

    Returns:
        [T, B]; where ``valid`` is False the value of the observation, which is no return.

    Raises:
        ValueError: the shapes do not fit together, or ``n_step`` is below 1.
    """
    shape = reward.shape
    if discount.shape != shape or valid.shape != shape or value.shape != (shape[0] + 1, *shape[1:]):
        raise ValueError(
            f"expected reward, discount and valid [T, B] and value [T+1, B], but got reward {list(shape)}, "
            f"discount {list(discount.shape)}, valid {list(valid.shape)}, value {list(value.shape)}"
        )
    if n_step < 1:
        raise ValueError(f"n_step must be at least 1, but is {n_step}")
    longer = value
    for _ in range(n_step):
        taken = torch.where(valid, reward + discount * longer[1:], value[:-1])
        longer = torch.cat([taken, value[-1:]])
    return longer[:-1]
