"""What the networks of sequence learners have in common, feed-forward or recurrent.

State is a mapping of tensors [B, ...] by name. A feed-forward network has none. A recurrent one that reads its own last
action and reward keeps them in its state too: ``action_tm1`` [B] int64, -1 for none, and ``reward_tm1`` [B] float32;
who acts writes them there (``action_tm1`` after it chose, ``reward_tm1`` when the reward came).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

State = Mapping[str, Tensor]
WRITTEN_BY_WHO_ACTS = ("action_tm1", "reward_tm1")
"""The part of a state that a network reads and passes through."""


def next_name(name: str) -> str:
    """In a graph of one step, the output that is the input ``name`` of the next step."""
    return f"{name}_next"


class SequenceNetwork(Protocol):
    """Outputs are [..., D]; what the D numbers mean is said by the agent (Q-values [A]; logits and value [A + 1])."""

    @property
    def recurrent(self) -> bool:
        """Whether there is a state."""
        ...

    def initial_state(self, rows: int) -> dict[str, Tensor]:
        """What it remembers before the first observation of an episode, [rows, ...]; empty when feed-forward."""
        ...

    def step(self, obs: Tensor, state: State) -> tuple[Tensor, dict[str, Tensor]]:
        """One step: obs [B, *obs_shape] and the state before it -> outputs [B, D] and the state after it.

        The returned state has the names of the given one; ``action_tm1`` and ``reward_tm1`` pass through.
        """
        ...

    def unroll(self, obs: Tensor, action: Tensor, reward: Tensor, reset: Tensor, state: State) -> Tensor:
        """T+1 steps: obs [T+1, B, *obs_shape], action and reward [T, B] as in `Unroll`, reset [T+1, B] bool (before
        ``obs[t]`` the state is the initial one; ``reset[0]`` is False), state before row 0 -> outputs [T+1, B, D].

        Row t >= 1 reads ``action[t-1]`` and ``reward[t-1]`` as its last action and reward, row 0 those of ``state``.
        """
        ...
