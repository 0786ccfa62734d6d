"""One stream of random numbers per environment row."""

from __future__ import annotations

from typing import Any

import numpy as np

from frugalrl.types import StateDict

_BLOCK = 256
_DRAWS = 3


class RowStreams:
    """Uniform draws [B, 3] per step, each row from its own generator, so that rows never share a draw.

    Draws are made in blocks of 256 because a generator call costs more than the draw; the state that is saved is
    the generator's before the block and the position in it.
    """

    def __init__(self, seed: int, num_rows: int) -> None:
        self._generators = [np.random.default_rng(np.random.SeedSequence([seed, row])) for row in range(num_rows)]
        self._position = _BLOCK
        self._before: list[dict[str, Any]] = []
        self._mark = self._position, self._before
        self._block = np.empty((_BLOCK, num_rows, _DRAWS))

    def next(self) -> np.ndarray[Any, Any]:
        """The next draws, float64 [B, 3] in [0, 1). Valid until the next call."""
        if self._position == _BLOCK:
            self._refill()
        u: np.ndarray[Any, Any] = self._block[self._position]
        self._position += 1
        return u

    def _refill(self) -> None:
        self._before = [dict(g.bit_generator.state) for g in self._generators]
        for row, generator in enumerate(self._generators):
            self._block[:, row] = generator.random((_BLOCK, _DRAWS))
        self._position = 0

    def mark(self) -> None:
        """Remember the position, for ``roll_back``."""
        if not self._before:
            self._refill()
        self._mark = self._position, self._before

    def roll_back(self) -> None:
        """Stand at the last ``mark`` again, for ``state_dict`` only: the draws of this block may be gone."""
        self._position, self._before = self._mark

    def state_dict(self) -> StateDict:
        if not self._before:
            self._refill()
        return {
            "position": self._position,
            "rows": {str(i): _plain(state) for i, state in enumerate(self._before)},
        }

    def load_state_dict(self, state: StateDict) -> None:
        for i, generator in enumerate(self._generators):
            generator.bit_generator.state = state["rows"][str(i)]
        self._refill()
        self._position = state["position"]


def _plain(state: Any) -> Any:
    return {k: _plain(v) if isinstance(v, dict) else v for k, v in state.items()}
