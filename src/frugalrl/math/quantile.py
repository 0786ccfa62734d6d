"""The quantile-regression loss: a pure function of tensors that also runs under ``torch.func.vmap``.

Source: Dabney et al., "Distributional Reinforcement Learning with Quantile Regression", 2018 (QR-DQN), equations 9 and
10 and algorithm 1. The N outputs of an action are the quantiles of its return at the midpoints ``(i + 1/2) / N``; its
Q-value is their mean.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class DistributionLoss(NamedTuple):
    """What a distributional loss answers."""

    loss: Tensor
    """Scalar: the weighted mean over the batch."""
    each: Tensor
    """[B] the loss of each entry before its weight, detached: the priority of distributional agents."""
    td: Tensor
    """[B] signed TD error between the means, target minus prediction, detached."""
    clipped: Tensor
    """Scalar: share of the target's probability outside of the support, detached; always 0 for quantiles."""


def quantile_loss(
    theta_tm1: Tensor,
    a_tm1: Tensor,
    r_t: Tensor,
    discount_t: Tensor,
    theta_t: Tensor,
    q_select_t: Tensor,
    *,
    weight: Tensor,
    kappa: float,
) -> DistributionLoss:
    """Quantile Huber loss against the target quantiles ``r_t + discount_t * theta_t[argmax q_select_t]``.

    Args:
        theta_tm1: [B, A, N] online quantiles at the start, the only argument that gets a gradient.
        a_tm1: [B] int64 actions taken there.
        r_t: [B] (n-step) reward.
        discount_t: [B] gamma^n times the discounts on the way; 0 where the return ends.
        theta_t: [B, A, M] quantiles of the target network at the end.
        q_select_t: [B, A] values that choose the action at the end.
        weight: [B] weight of each entry in the mean.
        kappa: error above which the loss is linear; 0 gives the plain quantile loss.

    Summed over the N predicted quantiles and averaged over the M target quantiles, as in equation 10 of the source.

    Raises:
        ValueError: the shapes do not fit together (all are named), or ``kappa`` is negative.
    """
    check_distribution(theta_tm1, theta_t, q_select_t, a_tm1=a_tm1, r_t=r_t, discount_t=discount_t, weight=weight)
    if not kappa >= 0.0:
        raise ValueError(f"kappa must be at least 0, but is {kappa}")
    with torch.no_grad():
        best_t = of_action(theta_t, q_select_t.argmax(1))
        target = r_t.unsqueeze(1) + discount_t.unsqueeze(1) * best_t  # [B, M]
    predicted = of_action(theta_tm1, a_tm1)  # [B, N]
    number = predicted.shape[1]
    tau = (torch.arange(number, device=predicted.device, dtype=predicted.dtype) + 0.5) / number
    error = target.unsqueeze(1) - predicted.unsqueeze(2)  # [B, N, M]
    size = error.abs()
    if kappa > 0.0:
        size = torch.where(size <= kappa, error.square() / (2.0 * kappa), size - 0.5 * kappa)
    asymmetry = (tau.unsqueeze(1) - (error.detach() < 0.0).to(tau.dtype)).abs()
    each = (asymmetry * size).mean(2).sum(1)
    td = target.mean(1) - predicted.detach().mean(1)
    return DistributionLoss((weight * each).mean(), each.detach(), td, torch.zeros_like(td).mean())


def of_action(values: Tensor, action: Tensor) -> Tensor:
    """values [B, A, N], action [B] int64 -> [B, N]."""
    index = action.reshape(-1, 1, 1).expand(-1, 1, values.shape[2])
    return values.gather(1, index).squeeze(1)


def check_distribution(tm1: Tensor, t: Tensor, q_select_t: Tensor, **vectors: Tensor) -> None:
    """Raises ValueError, naming all shapes, unless they are [B, A, N], [B, A, M], [B, A] and [B]."""
    fits = tm1.ndim == 3 and t.ndim == 3 and t.shape[:2] == tm1.shape[:2] == q_select_t.shape
    if not fits or any(x.shape != tm1.shape[:1] for x in vectors.values()):
        named = {"tm1": tm1, "t": t, "q_select_t": q_select_t, **vectors}
        shapes = ", ".join(f"{name} {list(x.shape)}" for name, x in named.items())
        raise ValueError(f"expected distributions [B, A, N], q_select_t [B, A] and the rest [B], but got {shapes}")
