"""One stream of random numbers per environment row, for rows that do not step together."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from frugalrl.types import StateDict

Ints = NDArray[np.int64]

_BLOCK = 256
_DRAWS = 3


class RowDraws:
    """Uniform draws [n, 3] for any rows: what a row gets depends on its number and on how often it asked, only.

    The draws of a row are those of `frugalrl.sampling.streams.RowStreams` with the same seed. They are made in blocks
    of 256; what is saved is each generator's state before its block and each row's position in it.
    """

    def __init__(self, seed: int, num_rows: int) -> None:
        self._generators = [np.random.default_rng(np.random.SeedSequence([seed, row])) for row in range(num_rows)]
        self._before: list[dict[str, Any]] = [{} for _ in range(num_rows)]
        self._position = np.zeros(num_rows, np.int64)
        self._block = np.empty((num_rows, _BLOCK, _DRAWS))
        for row in range(num_rows):
            self._refill(row)
        self._mark = self._position.copy(), list(self._before)

    def next(self, rows: Ints) -> NDArray[np.float64]:
        """The next draws of these rows, float64 [n, 3] in [0, 1); no row may be named twice."""
        at = self._position[rows]
        for row in rows[at == _BLOCK]:
            self._refill(int(row))
            at = self._position[rows]
        self._position[rows] = at + 1
        u: NDArray[np.float64] = self._block[rows, at]
        return u

    def _refill(self, row: int) -> None:
        generator = self._generators[row]
        self._before[row] = dict(generator.bit_generator.state)
        self._block[row] = generator.random((_BLOCK, _DRAWS))
        self._position[row] = 0

    def mark(self) -> None:
        """Remember the positions, for ``roll_back``."""
        self._mark = self._position.copy(), list(self._before)

    def roll_back(self) -> None:
        """Stand at the last ``mark`` again, for ``state_dict`` only: the draws of a block may be gone."""
        self._position, self._before = self._mark

    def state_dict(self) -> StateDict:
        return {
            "position": self._position.copy(),
            "rows": {str(row): _plain(state) for row, state in enumerate(self._before)},
        }

    def load_state_dict(self, state: StateDict) -> None:
        for row, generator in enumerate(self._generators):
            generator.bit_generator.state = state["rows"][str(row)]
            self._refill(row)
        self._position = np.array(state["position"], np.int64)


def _plain(state: Any) -> Any:
    return {k: _plain(v) if isinstance(v, dict) else v for k, v in state.items()}
