"""A policy together with what it remembers of the rows it acts for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from frugalrl.policies.acting import Player
from frugalrl.policies.sampler_policy import SamplerPolicy
from frugalrl.policies.sequence import Memory, SequencePolicy
from frugalrl.types import Step

Array = NDArray[Any]
QValues = Callable[[Array], Array]


class RowPolicy(Protocol):
    """Acts for B rows that step together: ``arrive`` with each step, ``values`` where they are asked for, ``acted``."""

    @property
    def state(self) -> Memory:
        """What is remembered before the observation that came last, [B, ...] each; the arrays are never written to."""
        ...

    @state.setter
    def state(self, state: Memory) -> None: ...

    def arrive(self, step: Step) -> None:
        """The environments answered; rows of which ``valid`` is False begin anew."""
        ...

    def values(self, obs: Array) -> Array:
        """Q-values or logits [B, A] of the observation that came last."""
        ...

    def acted(self, action: Array) -> None:
        """These actions [B] were taken."""
        ...


class Memoryless:
    """A function of the observation alone."""

    def __init__(self, q_values: QValues) -> None:
        self.values = q_values
        self.state: Memory = {}

    def arrive(self, step: Step) -> None:
        """Nothing is remembered."""

    def acted(self, action: Array) -> None:
        """Nothing is remembered."""


class Remembering:
    """A recurrent policy; a feed-forward one has an empty state."""

    def __init__(self, policy: Player, rows: int, *, clip_reward: bool = False) -> None:
        """``clip_reward``: the policy learned from rewards in [-1, 1], so it remembers such ones."""
        self._policy, self._clip = policy, clip_reward
        self._initial = policy.initial_state(rows)
        self._state = self._after = self._initial

    @property
    def state(self) -> Memory:
        return self._state

    @state.setter
    def state(self, state: Memory) -> None:
        self._state = self._after = state

    def arrive(self, step: Step) -> None:
        """Rewards belong to what is remembered; rows that were reset begin anew."""
        if not self._initial:
            return
        begun = ~step.valid
        state = self._after
        if "reward_tm1" in state:
            state = state | {"reward_tm1": step.reward.clip(-1.0, 1.0) if self._clip else step.reward}
        if begun.any():
            state = {name: _replaced(x, begun, self._initial[name]) for name, x in state.items()}
        self.state = state

    def values(self, obs: Array) -> Array:
        """One forward pass of all rows."""
        preferences, after = self._policy.values(obs, self._state)
        self._after = dict(after)
        return preferences

    def acted(self, action: Array) -> None:
        """The next observation is seen with this as the last action."""
        if "action_tm1" in self._after:
            self._after = self._after | {"action_tm1": action.astype(np.int64, copy=True)}


def row_policy(
    policy: QValues | Player, rows: int, q_values: QValues | None = None, *, clip_reward: bool = False
) -> RowPolicy:
    """A function of observations, or a policy that may remember, for ``rows`` rows.

    ``q_values``: what to ask a policy that remembers nothing instead, if it is not one of sequences. ``clip_reward``:
    the environments give raw rewards, and the policy knows clipped ones: evaluations under such a protocol."""
    if callable(policy):
        return Memoryless(policy)
    remembers = isinstance(policy, SequencePolicy) or (isinstance(policy, SamplerPolicy) and policy.initial_state(1))
    if remembers or q_values is None:
        return Remembering(policy, rows, clip_reward=clip_reward)
    return Memoryless(q_values)


def _replaced(x: Array, where: Array, by: Array) -> Array:
    x = x.copy()
    x[where] = by[where]
    return x
