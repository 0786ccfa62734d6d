"""How an evaluation acts: the best action but for the protocol's epsilon, or an action of an actor-critic's policy."""

from __future__ import annotations

from typing import Literal

from frugalrl.math.explore.family import epsilon_greedy
from frugalrl.math.explore.policy import sampled
from frugalrl.math.explore.rule import Choice, Floats

Actions = Literal["greedy", "sampled"]
"""``greedy``: the maximiser of Q-values or logits, with probability epsilon a uniform action. ``sampled``: drawn from
softmax(logits), as the policy is trained; no epsilon."""


def evaluated(actions: Actions, preferences: Floats, eps: Floats, u: Floats) -> Choice:
    """Actions for Q-values or logits [B, A]; ``eps`` [B], ``u`` [B, 3] uniform draws.

    Raises FloatingPointError for a value that is NaN or infinite.
    """
    return epsilon_greedy(preferences, eps, u) if actions == "greedy" else sampled(preferences, u)
