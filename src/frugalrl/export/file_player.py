"""An exported file as a player, so that it is looped by the same code that plays and evaluates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frugalrl.export.formats import Played
from frugalrl.export.program import Names, StateDescription

Array = NDArray[Any]


class FilePlayer:
    """A `Player` that knows of the state what the description says.

    The first row is asked for alone and all others together, so that two sizes of a batch are seen.
    """

    def __init__(self, played: Played, names: Names, state: StateDescription) -> None:
        """``state``: of the description."""
        self._played, self._names, self._about = played, names, state
        self.action: Array = np.zeros(0, np.int64)
        """[B], of the last observations."""

    def initial_state(self, rows: int) -> dict[str, Array]:
        """[rows, ...] each."""
        return {n: np.full((rows, *s["shape"][1:]), s["initial"], s["dtype"]) for n, s in self._about.items()}

    def values(self, obs: Array, state: Mapping[str, Array], draw: int = 0) -> tuple[Array, Mapping[str, Array]]:
        """obs [B, *obs_shape] and the state before it -> preferences [B, A] and the state after it."""
        inputs = [obs, *(state[name] for name in self._names.state)]
        parts = [self._played(*(x[part] for x in inputs)) for part in (slice(0, 1), slice(1, None)) if len(obs[part])]
        preferences, self.action, *after = (np.concatenate(x) for x in zip(*parts, strict=True))
        return preferences, {**state, **dict(zip(self._names.changed, after, strict=True))}
