"""The loss of an actor-critic on unrolls: pure functions of tensors that also run under ``torch.func.vmap``.

Espeholt et al. 2018, "IMPALA", section 4.2, with means over the rows that count where the paper has sums.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class ActorCriticLoss(NamedTuple):
    """The loss and its parts; all scalars."""

    loss: Tensor
    """``policy + baseline_cost * value - entropy_cost * entropy``, with its graph."""
    policy: Tensor
    """Mean of ``-log pi(a) * advantage``."""
    value: Tensor
    """Mean of ``(vs - V)^2 / 2``."""
    entropy: Tensor
    """Mean entropy of pi in nats."""


def log_probabilities(logits: Tensor, action: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """logits [T, B, A], action and valid [T, B] -> log pi of all actions [T, B, A], of those taken [T, B].

    What stands in rows that are not valid is not read: there pi is uniform and the action is 0.
    """
    log_pi_all = torch.where(valid.unsqueeze(-1), logits, 0.0).log_softmax(-1)
    taken = torch.where(valid, action, 0).unsqueeze(-1)
    return log_pi_all, log_pi_all.gather(-1, taken).squeeze(-1)


def actor_critic_loss(
    log_pi_all: Tensor,
    log_pi: Tensor,
    values: Tensor,
    *,
    vs: Tensor,
    advantage: Tensor,
    usable: Tensor,
    weight: Tensor,
    baseline_cost: float,
    entropy_cost: float,
) -> ActorCriticLoss:
    """Weighted means over usable rows of policy gradient, squared value error and entropy.

    A row that is not usable is in neither numerator nor denominator, whatever stands in it; without a usable row the
    loss is 0. The weight multiplies the numerator only, as in `frugalrl.math.td.q_loss`.

    Args:
        log_pi_all: [T, B, A], finite; see `log_probabilities`.
        log_pi: [T, B] of the actions taken, finite.
        values: [T, B] V of the observations before the actions.
        vs: [T, B] targets of the values, without gradient.
        advantage: [T, B] of the actions taken, without gradient.
        usable: [T, B] bool: transitions that are not too old.
        weight: [B] weight of each unroll: ones when each is used once.
        baseline_cost: weight of the value loss.
        entropy_cost: weight of the entropy, which is rewarded.
    """
    scale = usable * (weight / usable.sum().clamp(min=1))
    # the masks come before the products: 0 times NaN is NaN
    policy = -(log_pi * (torch.where(usable, advantage, 0.0) * scale)).sum()
    error = torch.where(usable, vs - values, 0.0)
    value = 0.5 * (error.square() * scale).sum()
    entropy = -((log_pi_all.exp() * log_pi_all).sum(-1) * scale).sum()
    loss = policy + baseline_cost * value - entropy_cost * entropy
    return ActorCriticLoss(loss, policy.detach(), value.detach(), entropy.detach())
