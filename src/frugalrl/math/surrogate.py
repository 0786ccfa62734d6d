"""Policy-gradient losses with an importance weight beside them: pure functions that also run under ``torch.func.vmap``.

Three policies may differ: mu sampled, ``old`` is the learner when the batch came in, pi is the learner now. The weight
corrects old/mu (`frugalrl.math.importance`), the clipped ratio is pi/old. The weight stands outside of the min, after
the dual clip, and multiplies numerators only: a token of weight 0 stays in the denominator, as it would without one.
Hilton, Cobbe and Schulman 2021, "Batch size-invariance for policy optimization", equation 4; Yao, Liu et al. 2025.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

Mean = Literal["token", "sequence", "constant"]


class Surrogate(NamedTuple):
    """Loss per token, and what the clip did."""

    loss: Tensor
    """Shaped like ``log_pi``, with its graph; 0 where the mask is False."""
    clipped: Tensor
    """bool: the clip has cut the gradient of this token."""
    ratio: Tensor
    """pi/old, detached; 1 where the mask is False."""


def reinforce_loss(log_pi: Tensor, advantage: Tensor, weight: Tensor, mask: Tensor) -> Tensor:
    """``-weight * advantage * log pi`` per token (Williams 1992). All are shaped like ``log_pi``; no gradient flows
    through advantage and weight, and what stands where ``mask`` is False is not read."""
    scale = torch.where(mask, weight.detach() * advantage.detach(), 0.0)
    return -scale * torch.where(mask, log_pi, 0.0)


def ppo_loss(
    log_pi: Tensor,
    log_below: Tensor,
    advantage: Tensor,
    weight: Tensor,
    mask: Tensor,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float | None = None,
) -> Surrogate:
    """``-weight * min(r A, clip(r, 1 - clip_low, 1 + clip_high) A)`` per token, with r = exp(log_pi - log_below).

    Schulman et al. 2017, "PPO", equation 7; dual clip: Ye et al. 2020, "Mastering complex control in MOBA games".

    Args:
        log_pi: log-probability of what was sampled, under the policy that learns; carries the graph.
        log_below: the same under the policy below the line: the learner's when the batch came in.
        advantage: of what was sampled.
        weight: importance weight of old/mu; ones without a correction.
        mask: bool. What stands where it is False is not read.
        clip_low: how far the ratio may fall before its gradient is cut.
        clip_high: how far it may rise.
        dual_clip: for advantages below 0 the loss is at most ``-dual_clip * A``; None: no such bound.
    """
    advantage = torch.where(mask, advantage.detach(), 0.0)
    log_ratio = torch.where(mask, log_pi - log_below.detach(), 0.0)
    ratio = log_ratio.clamp(-20.0, 20.0).exp()
    free = -ratio * advantage
    held = -ratio.clamp(1.0 - clip_low, 1.0 + clip_high) * advantage
    loss = torch.maximum(free, held)
    clipped = held > free
    if dual_clip is not None:
        most = -dual_clip * advantage
        clipped = clipped | ((advantage < 0) & (loss > most))
        loss = torch.where(advantage < 0, torch.minimum(loss, most), loss)
    return Surrogate(torch.where(mask, weight.detach(), 0.0) * loss, clipped, ratio.detach())


def mean_loss(per_token: Tensor, mask: Tensor, how: Mean = "token", *, constant: float | None = None) -> Tensor:
    """One number from losses per token [B, T].

    ``token``: sum over all tokens, divided by their number (DAPO). ``sequence``: the mean over the tokens of each
    sequence, then over sequences (GRPO). ``constant``: divided by B times ``constant`` tokens (Dr. GRPO). Denominators
    count the mask, never the tokens that a correction has kept.
    """
    if how == "token":
        return per_token.sum() / mask.sum().clamp(min=1)
    if how == "sequence":
        return (per_token.sum(-1) / mask.sum(-1).clamp(min=1)).mean()
    if constant is None:
        raise ValueError("how='constant' needs the number of tokens to divide by")
    return per_token.sum() / (per_token.shape[0] * constant)


def group_advantages(reward: Tensor, *, scaled: bool = True, eps: float = 1e-4) -> Tensor:
    """GRPO: rewards [groups, samples] minus the mean of their group, divided by its standard deviation if ``scaled``.

    Shao et al. 2024, "DeepSeekMath", section 4.1.2; unscaled in Liu et al. 2025, "Dr. GRPO". Raises ValueError for
    groups of one, which are their own mean."""
    _check_groups(reward, "a mean of the group")
    # the mean of equal rewards is rounded, and divided by eps that rounding would be an advantage
    flat = reward.amax(-1, keepdim=True) == reward.amin(-1, keepdim=True)
    centred = torch.where(flat, 0.0, reward - reward.mean(-1, keepdim=True))
    return centred / (reward.std(-1, keepdim=True) + eps) if scaled else centred


def leave_one_out_advantages(reward: Tensor) -> Tensor:
    """RLOO: rewards [groups, samples] minus the mean of the others of their group (Ahmadian et al. 2024).

    Raises ValueError for groups of one, which have no others."""
    _check_groups(reward, "leave-one-out")
    samples = reward.shape[-1]
    return (reward - reward.mean(-1, keepdim=True)) * (samples / (samples - 1))


def _check_groups(reward: Tensor, what: str) -> None:
    if reward.shape[-1] < 2:
        raise ValueError(f"groups of {reward.shape[-1]}: {what} needs at least 2 samples of each prompt")


def check_clips(clip_low: float, clip_high: float, dual_clip: float | None) -> None:
    """Raises ValueError for settings of an agent under which PPO's clips would cut off every gradient of a kind."""
    if clip_low >= 1:
        raise ValueError(f"agent.clip_low={clip_low}: the ratio pi/pi_old cannot fall by 1 or more; use 0.2")
    if dual_clip is not None and dual_clip <= 1 + clip_high:
        raise ValueError(
            f"agent.dual_clip={dual_clip}: must be more than 1 + agent.clip_high={1 + clip_high:g}, or None; 3 is usual"
        )
