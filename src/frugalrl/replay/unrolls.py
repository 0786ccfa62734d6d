"""Rows of environments, in whatever order they come, cut into unrolls of fixed length.

Each environment row has a place of its own where its open unroll grows. Rows that were started again lose what is open:
no unroll holds two incarnations.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frugalrl.replay.ring import SCALARS
from frugalrl.types import EnvSpec, StateDict, Unroll

Ints = NDArray[np.int64]


class UnrollStore:
    """The open unrolls of ``num_rows`` environments.

    Args:
        spec: of the environment.
        num_rows: environments, N.
        length: transitions T of one unroll, overlap included.
        overlap: transitions that an unroll shares with the one before it (R2D2: burn-in, or more); 0 <= overlap < T.
            Neighbours also share one observation, where one bootstraps and the other begins.
        state: recurrent state of all rows, [N, ...] each, for names, shapes and types; empty when feed-forward.
    """

    def __init__(
        self,
        spec: EnvSpec,
        num_rows: int,
        *,
        length: int,
        overlap: int = 0,
        state: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        if not 0 <= overlap < length:
            raise ValueError(f"an unroll of {length} steps cannot share {overlap} with the one before it")
        self.length, self.overlap, self.num_rows = length, overlap, num_rows
        size = (length + 1, num_rows)
        self._obs = np.zeros((*size, *spec.obs_shape), spec.obs_dtype)
        # what led to obs[t] lies at t, as in `Rows`: place 0 belongs to the step before the unroll
        self._fields = {name: np.zeros(size, dtype) for name, dtype in SCALARS.items()}
        self._state = {k: np.zeros((length + 1, *v.shape), v.dtype) for k, v in (state or {}).items()}
        self._filled = np.zeros(num_rows, np.int64)
        self._handed_out = np.zeros(num_rows, np.int64)
        """Places from the first on that an unroll before held, too: the overlap."""

    def append(
        self, rows: Ints, obs: NDArray[Any], fields: Mapping[str, NDArray[Any]], state: Mapping[str, NDArray[Any]]
    ) -> tuple[Unroll, Ints] | None:
        """One step of some rows, as in `Rows`: ``obs`` [n, *obs_shape] was reached by ``fields["action"]`` [n] and so
        on; ``state``: what the policy remembered before it saw ``obs``. No row may be named twice.

        Returns the unrolls that are complete now as one batch, with the rows that they belong to [b], or None.
        """
        at = self._filled[rows]
        self._obs[at, rows] = obs
        for name, target in self._fields.items():
            target[at, rows] = fields[name]
        for name, target in self._state.items():
            target[at, rows] = state[name]
        self._filled[rows] = at + 1
        done = rows[at == self.length]
        return (self._take(done), done) if len(done) else None

    def _take(self, rows: Ints) -> Unroll:
        unroll = Unroll(
            obs=self._obs[:, rows],
            **{name: array[1:, rows] for name, array in self._fields.items()},
            state_at_start={name: array[0, rows] for name, array in self._state.items()},
        )
        kept = self.overlap + 1
        for array in (self._obs, *self._fields.values(), *self._state.values()):
            array[:kept, rows] = array[-kept:, rows]
        self._filled[rows] = self._handed_out[rows] = kept
        return unroll

    def drop(self, rows: Ints) -> int:
        """Forget the open unrolls of rows that were started again; returns the transitions lost with them, but for
        those that an unroll before held, too."""
        lost = 0
        for row in rows:
            first = max(1, self._handed_out[row])  # place 0 leads into the unroll
            lost += int(np.count_nonzero(self._fields["valid"][first : self._filled[row], row]))
        self._filled[rows] = self._handed_out[rows] = 0
        return lost

    def state_dict(self) -> StateDict:
        return {
            "obs": self._obs,
            "filled": self._filled,
            "handed_out": self._handed_out,
            **{f"field/{name}": array for name, array in self._fields.items()},
            **{f"state/{name}": array for name, array in self._state.items()},
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Raises KeyError or ValueError when it was saved by a store of another form."""
        for name, mine in self.state_dict().items():
            # checkpoints of earlier versions do not say what was handed out
            mine[...] = state.get(name, 0) if name == "handed_out" else state[name]
