"""Loss and priority of sequences: pure functions of tensors that also run under ``torch.func.vmap``.

Source: Kapturowski et al. 2019, section 2.3 and appendix; the sum over time is that of SEED RL's R2D2 agent.
"""

from __future__ import annotations

import torch
from torch import Tensor


def sequence_q_loss(
    q: Tensor, action: Tensor, target: Tensor, mask: Tensor, *, weight: Tensor
) -> tuple[Tensor, Tensor]:
    """``mean_b weight[b] * sum_t td[t, b]^2 / 2`` over the rows of ``mask``.

    Args:
        q: [T, B, A] online Q-values, the only argument that gets a gradient.
        action: [T, B] int64 actions taken.
        target: [T, B] what ``q`` of the action should be.
        mask: [T, B] bool: the rows that count; what the others hold is not looked at.
        weight: [B] weight of each sequence: ones when replay is uniform.

    Returns:
        The loss (a scalar) and the signed TD errors ``target - q[action]`` [T, B], detached, 0 outside of ``mask``.

    Raises:
        ValueError: the shapes do not fit together.
    """
    shape = action.shape
    if any(x.shape != shape for x in (target, mask)) or q.shape[:-1] != shape or weight.shape != shape[1:]:
        raise ValueError(
            f"expected q [T, B, A], action, target and mask [T, B], weight [B], but got q {list(q.shape)}, "
            f"action {list(shape)}, target {list(target.shape)}, mask {list(mask.shape)}, weight {list(weight.shape)}"
        )
    taken = q.gather(-1, action.unsqueeze(-1)).squeeze(-1)
    td = torch.where(mask, target.detach() - taken, torch.zeros_like(taken))
    loss = (weight * td.square().sum(0)).mean() / 2.0
    return loss, td.detach()


def sequence_priority(td: Tensor, mask: Tensor, *, max_share: float) -> Tensor:
    """``max_share * max |td| + (1 - max_share) * mean |td|`` [B] over the rows of ``mask`` [T, B]; 0 without any."""
    size = torch.where(mask, td.abs(), torch.zeros_like(td))
    mean = size.sum(0) / mask.sum(0).clamp(min=1)
    return max_share * size.amax(0) + (1.0 - max_share) * mean
