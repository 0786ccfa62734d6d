"""Q-learning losses: pure functions of tensors that also run under ``torch.func.vmap``.

Times: ``x_tm1`` belongs to the step before the action's consequences, ``x_t`` to the end of the (n-step) window.
``discount_t`` already holds gamma^n and the ends of returns, so the loss never sees gamma.

Sources: Watkins and Dayan 1992 (Q-learning); Mnih et al. 2015 (DQN); van Hasselt et al. 2016, equation 4 (Double DQN);
Schaul et al. 2016, algorithm 1, line 11 (the importance weight multiplies the gradient).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def q_loss(
    q_tm1: Tensor,
    a_tm1: Tensor,
    r_t: Tensor,
    discount_t: Tensor,
    q_t: Tensor,
    q_select_t: Tensor,
    *,
    weight: Tensor,
    huber_delta: float | None,
) -> tuple[Tensor, Tensor]:
    """Weighted mean of the squared or Huber TD error of ``r_t + discount_t * q_t[argmax q_select_t]``.

    Plain DQN passes the target network's values as ``q_t`` and as ``q_select_t``; Double DQN passes the online
    network's values as ``q_select_t``. Neither gets a gradient.

    Args:
        q_tm1: [B, A] online Q-values at the start, the only argument that gets a gradient.
        a_tm1: [B] int64 actions taken there.
        r_t: [B] (n-step) reward.
        discount_t: [B] gamma^n times the discounts on the way; 0 where the return ends.
        q_t: [B, A] values of the target network at the end.
        q_select_t: [B, A] values that choose the action at the end.
        weight: [B] weight of each entry in the mean: ones when replay is uniform. It multiplies both kinds of loss.
        huber_delta: absolute TD error above which the loss is linear; None: td^2 / 2 everywhere.

    Returns:
        The loss (a scalar) and the signed TD errors ``target - q_tm1[a_tm1]`` [B], detached.

    Raises:
        ValueError: the shapes do not fit together (all are named), or ``huber_delta`` is not positive.
    """
    _check(q_tm1=q_tm1, a_tm1=a_tm1, r_t=r_t, discount_t=discount_t, q_t=q_t, q_select_t=q_select_t, weight=weight)
    if huber_delta is not None and not huber_delta > 0.0:
        raise ValueError(f"huber_delta must be positive or None, but is {huber_delta}")
    with torch.no_grad():
        best_a_t = q_select_t.argmax(1, keepdim=True)
        target_tm1 = r_t + discount_t * q_t.gather(1, best_a_t).squeeze(1)
    qa_tm1 = q_tm1.gather(1, a_tm1.unsqueeze(1)).squeeze(1)
    # one fused node each: a small network's backward pass costs more in nodes than in arithmetic
    if huber_delta is None:
        loss = F.mse_loss(qa_tm1, target_tm1, reduction="none") / 2.0
    else:
        loss = F.huber_loss(qa_tm1, target_tm1, reduction="none", delta=huber_delta)
    return (weight * loss).mean(), target_tm1 - qa_tm1.detach()


def _check(*, q_tm1: Tensor, q_t: Tensor, q_select_t: Tensor, **vectors: Tensor) -> None:
    matrices = {"q_tm1": q_tm1, "q_t": q_t, "q_select_t": q_select_t}
    fits = q_tm1.ndim == 2 and all(x.shape == q_tm1.shape for x in matrices.values())
    if not fits or any(x.shape != q_tm1.shape[:1] for x in vectors.values()):
        shapes = ", ".join(f"{name} {list(x.shape)}" for name, x in {**matrices, **vectors}.items())
        raise ValueError(f"expected q_* [B, A] and the rest [B], but got {shapes}")
