"""The categorical (C51) loss: pure functions of tensors that also run under ``torch.func.vmap``.

Source: Bellemare, Dabney and Munos, "A Distributional Perspective on Reinforcement Learning", 2017, algorithm 1. The
outputs of an action are logits over a fixed, evenly spaced support; its Q-value is the expectation.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from frugalrl.math.quantile import DistributionLoss, check_distribution, of_action


def support(atoms: int, v_min: float, v_max: float, like: Tensor) -> Tensor:
    """[K] evenly spaced returns from ``v_min`` to ``v_max`` on the device and in the dtype of ``like``."""
    return torch.linspace(v_min, v_max, atoms, device=like.device, dtype=like.dtype)


def project(z: Tensor, p: Tensor, grid: Tensor) -> Tensor:
    """Moves probability to an evenly spaced grid: each mass is shared by its two neighbours in proportion to nearness.

    Mass beyond the ends of the grid goes to its ends. Means are kept where nothing lies outside.

    Args:
        z: [B, K] positions of the masses.
        p: [B, K] probabilities.
        grid: [L] evenly spaced, rising.

    Returns:
        [B, L] probabilities on the grid.
    """
    step = grid[1] - grid[0]
    inside = z.clamp(min=grid[0], max=grid[-1])
    # a triangular kernel of one step's width: what a mass between two grid points gives to each of them
    share = (1.0 - (inside.unsqueeze(1) - grid.unsqueeze(1)).abs() / step).clamp(min=0.0)  # [B, L, K]
    return (share * p.unsqueeze(1)).sum(2)


def categorical_loss(
    logits_tm1: Tensor,
    a_tm1: Tensor,
    r_t: Tensor,
    discount_t: Tensor,
    logits_t: Tensor,
    q_select_t: Tensor,
    *,
    weight: Tensor,
    v_min: float,
    v_max: float,
) -> DistributionLoss:
    """Cross-entropy of the projected target distribution ``r_t + discount_t * Z_t[argmax q_select_t]``.

    Args:
        logits_tm1: [B, A, K] online logits at the start, the only argument that gets a gradient.
        a_tm1: [B] int64 actions taken there.
        r_t: [B] (n-step) reward.
        discount_t: [B] gamma^n times the discounts on the way; 0 where the return ends.
        logits_t: [B, A, K] logits of the target network at the end.
        q_select_t: [B, A] values that choose the action at the end.
        weight: [B] weight of each entry in the mean.
        v_min, v_max: ends of the support, ``v_min < v_max``.

    ``each`` is the KL divergence between target and prediction (Hessel et al. 2018, Rainbow): the cross-entropy less
    the target's own entropy, so that a prediction that fits has priority 0.

    Raises:
        ValueError: the shapes do not fit together (all are named), or the support is empty.
    """
    check_distribution(logits_tm1, logits_t, q_select_t, a_tm1=a_tm1, r_t=r_t, discount_t=discount_t, weight=weight)
    if not v_min < v_max:
        raise ValueError(f"the support needs v_min < v_max, but has v_min={v_min}, v_max={v_max}")
    grid = support(logits_tm1.shape[2], v_min, v_max, logits_tm1)
    with torch.no_grad():
        p_t = of_action(logits_t, q_select_t.argmax(1)).softmax(1)
        z_t = r_t.unsqueeze(1) + discount_t.unsqueeze(1) * grid
        target = project(z_t, p_t, grid)
        slack = 1e-6 * (v_max - v_min)
        outside = (z_t < v_min - slack) | (z_t > v_max + slack)
        clipped = (p_t * outside).sum(1).mean()
        entropy = -torch.special.xlogy(target, target).sum(1)
    log_p_tm1 = F.log_softmax(of_action(logits_tm1, a_tm1), 1)
    each = -(target * log_p_tm1).sum(1)
    with torch.no_grad():
        td = (z_t * p_t).sum(1) - (log_p_tm1.exp() * grid).sum(1)
    return DistributionLoss((weight * each).mean(), (each.detach() - entropy).clamp(min=0.0), td, clipped)
