"""What acts in environments, with or without memory: one interface for samplers, evaluations, videos and exports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

from frugalrl.types import PolicySnapshot


class Player(Protocol):
    """Values of actions (Q-values, or logits) for rows of observations; who plays chooses by them.

    State is a mapping of arrays [n, ...] by name, {} for a feed-forward policy. A policy that reads its own last action
    and reward keeps ``action_tm1`` [n] int64 (-1 for none) and ``reward_tm1`` [n] float32 in it; who acts writes them.
    """

    def initial_state(self, rows: int) -> dict[str, NDArray[Any]]:
        """What it remembers before the first observation of an episode, [rows, ...] each."""
        ...

    def values(
        self, obs: NDArray[Any], state: Mapping[str, NDArray[Any]], draw: int = 0
    ) -> tuple[NDArray[Any], Mapping[str, NDArray[Any]]]:
        """obs [n, *obs_shape] and the state before it -> values [n, A] float, state after it.

        ``draw``: running number of the forward pass, for policies with noise.
        """
        ...


class ActingPolicy(Player, Protocol):
    """A player whose parameters come from snapshots."""

    @property
    def version(self) -> int:
        """Of the snapshot that acts."""
        ...

    @property
    def gpu_s(self) -> float | None:
        """Seconds that a CUDA device has worked for it; None on a CPU and until the first was timed."""
        ...

    def load(self, snapshot: PolicySnapshot) -> int:
        """Take over a snapshot; returns the bytes that were moved."""
        ...

    def weight_bytes(self, rows: int) -> int:
        """Bytes of the weights that one forward pass over ``rows`` observations reads at least."""
        ...

    def snapshot(self) -> PolicySnapshot:
        """What it acts with."""
        ...
