"""What is written to a file: a network whose inputs and outputs are plain arrays with names.

A policy that remembers nothing: ``obs`` -> preferences, ``action``. A recurrent one: ``obs`` and each array of its
state -> preferences, ``action``, and the next value of each array that the network itself changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from frugalrl.nets.heads import Head, PolicyValue
from frugalrl.nets.q_network import ValueNetwork
from frugalrl.nets.sequence import WRITTEN_BY_WHO_ACTS, next_name
from frugalrl.policies.sequence import SequencePolicy
from frugalrl.policies.value import ValuePolicy

StateDescription = Mapping[str, Mapping[str, Any]]
"""By name of a state: its ``shape``, ``dtype`` and ``initial`` value, in JSON types."""


@dataclass(frozen=True, slots=True)
class Names:
    """Of a program's inputs and outputs, in its order."""

    preferences: str
    """``q`` or ``logits``."""
    state: tuple[str, ...] = ()
    """What it remembers; empty for a policy without memory."""

    @property
    def changed(self) -> tuple[str, ...]:
        """The part of the state that the network computes anew."""
        return tuple(name for name in self.state if name not in WRITTEN_BY_WHO_ACTS)

    @property
    def inputs(self) -> tuple[str, ...]:
        """``obs`` and the state before it."""
        return "obs", *self.state

    @property
    def outputs(self) -> tuple[str, ...]:
        """Preferences, action and the state after."""
        return self.preferences, "action", *map(next_name, self.changed)


class Greedy(nn.Module):
    """Preferences and their argmax, the first of equal ones."""

    def __init__(self, network: ValueNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        q = self.network.q_values(obs)
        return q, q.argmax(-1)


class GreedyStep(nn.Module):
    """One step of a `SequenceNetwork`: as `Greedy`, with state."""

    def __init__(self, network: Any, head: Head, names: Names) -> None:
        super().__init__()
        self.network, self.head, self.names = network, head, names

    def forward(self, obs: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        out, after = self.network.step(obs, dict(zip(self.names.state, state, strict=True)))
        preferences = self.head.to_q(out)
        return preferences, preferences.argmax(-1), *(after[name] for name in self.names.changed)


@dataclass(frozen=True, slots=True)
class Program:
    """A module, and the names of what goes in and comes out."""

    module: nn.Module
    names: Names


def program_of(policy: ValuePolicy | SequencePolicy) -> Program:
    """What this policy computes; the parameters are the policy's own."""
    if isinstance(policy, ValuePolicy):
        return Program(Greedy(policy.network), Names("q"))
    names = Names("logits" if isinstance(policy.head, PolicyValue) else "q", tuple(policy.initial_state(1)))
    return Program(GreedyStep(policy.network, policy.head, names), names)


def example(obs: Tensor, policy: ValuePolicy | SequencePolicy) -> tuple[Tensor, ...]:
    """Inputs of a program for these observations [B, ...], each at the first step of an episode."""
    return obs, *(torch.from_numpy(x) for x in policy.initial_state(len(obs)).values())
