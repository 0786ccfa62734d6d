"""The loss of PPO on one minibatch: pure functions of tensors that also run under ``torch.func.vmap``.

Schulman et al. 2017, "Proximal policy optimization algorithms", equations 7 and 9, with a weight for data of another
sampler beside the clipped ratio (`frugalrl.math.surrogate`). Any leading shape: [n] for a handful of transitions,
[T, b] for whole unrolls, where rows that are no transitions are masked.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from frugalrl.math.surrogate import mean_loss, ppo_loss


class Part(NamedTuple):
    """What a minibatch holds beside the network's outputs; all of one shape, without gradients."""

    log_old: Tensor
    """log pi of the actions taken, by the learner when the batch came in."""
    log_below: Tensor
    """What stands below the line of PPO's ratio: ``log_old``, or log mu for the control that is named after it."""
    weight: Tensor
    """Importance weight of log_old / log mu; ones without a correction."""
    advantage: Tensor
    target: Tensor
    """Of the value."""
    value_old: Tensor
    """V by the learner when the batch came in."""
    mask: Tensor
    """bool: transitions. What stands where it is False is not read."""


class PPOLoss(NamedTuple):
    """The loss and its parts; all scalars, means over the transitions of the minibatch."""

    loss: Tensor
    """``policy + baseline_cost * value - entropy_cost * entropy``, with its graph."""
    policy: Tensor
    value: Tensor
    """Mean of ``(target - V)^2 / 2``."""
    entropy: Tensor
    """Of pi, in nats."""
    clipped: Tensor
    """Share of transitions whose gradient the clip has cut."""
    kl: Tensor
    """Mean of ``r - 1 - log r`` with r = pi/old: the estimate k3 of KL(old || pi) (Schulman 2020)."""


def normalised(advantage: Tensor, mask: Tensor) -> Tensor:
    """Mean 0 and standard deviation 1 over the mask; 0 elsewhere, and everywhere when there is only one."""
    count = mask.sum()
    centred = torch.where(mask, advantage - torch.where(mask, advantage, 0.0).sum() / count.clamp(min=1), 0.0)
    deviation = (centred.square().sum() / (count - 1).clamp(min=1)).sqrt()
    return centred / (deviation + 1e-8)


def ppo_batch_loss(
    log_pi_all: Tensor,
    log_pi: Tensor,
    values: Tensor,
    part: Part,
    *,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None,
    value_clip: float | None,
    baseline_cost: float,
    entropy_cost: float,
) -> PPOLoss:
    """Policy, value and entropy. The weight multiplies the policy's part only, and only its numerator.

    Args:
        log_pi_all: [..., A], finite; see `frugalrl.math.policy_gradient.log_probabilities`.
        log_pi: [...] of the actions taken, finite.
        values: [...] V of the observations before the actions.
        part: [...] each.
        clip_low: how far pi/below may fall before its gradient is cut; ``clip_high``: how far it may rise.
        dual_clip: bound of the loss for advantages below 0; None: no such bound.
        value_clip: how far V may move from ``value_old`` before its gradient is cut; None: as far as it likes.
        baseline_cost: weight of the value loss.
        entropy_cost: weight of the entropy, which is rewarded.
    """
    mask = part.mask
    surrogate = ppo_loss(
        log_pi, part.log_below, part.advantage, part.weight, mask, clip_low=clip_low, clip_high=clip_high,
        dual_clip=dual_clip,
    )  # fmt: skip
    policy = mean_loss(surrogate.loss, mask)
    value = mean_loss(_value_loss(values, part, value_clip), mask)
    entropy = mean_loss(torch.where(mask, -(log_pi_all.exp() * log_pi_all).sum(-1), 0.0), mask)
    loss = policy + baseline_cost * value - entropy_cost * entropy
    with torch.no_grad():
        log_ratio = torch.where(mask, log_pi - part.log_old, 0.0).clamp(-20.0, 20.0)
        kl = mean_loss(log_ratio.exp() - 1.0 - log_ratio, mask)
        clipped = mean_loss(torch.where(mask & surrogate.clipped, 1.0, 0.0), mask)
    return PPOLoss(loss, policy.detach(), value.detach(), entropy.detach(), clipped, kl)


def _value_loss(values: Tensor, part: Part, clip: float | None) -> Tensor:
    target, old = (torch.where(part.mask, x, 0.0) for x in (part.target, part.value_old))
    values = torch.where(part.mask, values, 0.0)
    error = (values - target).square()
    if clip is not None:
        error = torch.maximum(error, (old + (values - old).clamp(-clip, clip) - target).square())
    return 0.5 * error
