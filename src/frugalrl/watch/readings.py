"""What a policy thinks of an observation, in numbers that can be drawn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from frugalrl.math.explore import Actions
from frugalrl.nets.heads import PolicyValue
from frugalrl.policies.sequence import SequencePolicy
from frugalrl.policies.value import ValuePolicy

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Scale:
    """How readings are drawn and named."""

    bars: str
    """What a bar is, in words."""
    curve: str
    """What a point of the curve is, in words."""
    full: float | None = None
    """The value of a bar of full width, which begins at 0. None: bars begin at the lowest value of the moment, and full
    width is the episode's largest gap between two of them."""
    number: str = ".4g"
    """Format of a bar's value."""


Q_SCALE = Scale("Q above the lowest action", "max Q")
_PLAYED = {"greedy": "the largest is played", "sampled": "one is drawn"}


def policy_scale(actions: Actions) -> Scale:
    """Of an actor-critic that plays so."""
    return Scale(f"probability of each action, 0 to 1; {_PLAYED[actions]}", "value of the state", 1.0, ".3f")


class Reader(Protocol):
    """Reads what a policy answered."""

    scale: Scale

    def read(self, obs: Array, preferences: Array, state: Mapping[str, Array]) -> tuple[Array, float]:
        """Of one row: obs [1, *obs_shape], the policy's answer [1, A] and the state before it [1, ...] -> bars [A] and
        the point of the curve."""
        ...


class QReader:
    """Q-values and the largest of them."""

    scale = Q_SCALE

    def read(self, obs: Array, preferences: Array, state: Mapping[str, Array]) -> tuple[Array, float]:
        return preferences[0], float(preferences[0].max())


class PolicyReader:
    """An actor-critic's probabilities, and the value of the state by one more forward pass: who acts needs none."""

    def __init__(self, policy: SequencePolicy, head: PolicyValue, actions: Actions) -> None:
        """``policy`` answers with logits; ``head`` finds the value in its network's outputs."""
        self.scale = policy_scale(actions)
        self._network: Any = policy.network
        self._head = head

    def read(self, obs: Array, preferences: Array, state: Mapping[str, Array]) -> tuple[Array, float]:
        return probabilities(preferences[0]), self._value(obs, state)

    def _value(self, obs: Array, state: Mapping[str, Array]) -> float:
        device = next(self._network.parameters()).device
        with torch.inference_mode():
            before = {name: torch.tensor(x, device=device) for name, x in state.items()}
            out, _ = self._network.step(torch.tensor(obs, device=device), before)
            return float(self._head.value(out)[0])


def probabilities(logits: Array) -> NDArray[np.float64]:
    """softmax of [A] in float64."""
    odds = np.exp(logits.astype(np.float64) - logits.max())
    shares: NDArray[np.float64] = odds / odds.sum()
    return shares


def reader_of(policy: ValuePolicy | SequencePolicy, actions: Actions = "greedy") -> Reader:
    """The reader for what this policy answers, and how it is played."""
    if isinstance(policy, SequencePolicy) and isinstance(policy.head, PolicyValue):
        return PolicyReader(policy, policy.head, actions)
    return QReader()
