"""DeepSea: exploration that random actions solve only after about 2**size episodes.

Osband et al. 2019 (Deep Exploration via Randomized Value Functions) and bsuite. An N x N grid; the diver starts at the
top left and sinks one row per step, going left or right. Going right costs 0.01 / N; only the diver who always went
right is at the bottom right corner, where going right pays 1 more. Going left costs nothing: the reward leads away.
Observation: Discrete(N * N + 1), row * N + column, and N * N after the end. Episodes have N steps.
Optimal return: exactly 0.99. ``mapping_seed`` draws for each cell which of the two actions goes right (None: action 1).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from frugalrl.envs.toys.core import Bools, Ints, ToyEnv, ToyVectorEnv
from frugalrl.types import UserError

_MOVE_COST = 0.01


class DeepSeaRules:
    """State: row, column."""

    num_actions = 2
    time_limit = None
    optimal_return = 1.0 - _MOVE_COST

    def __init__(self, size: int = 10, mapping_seed: int | None = None) -> None:
        if size < 2:
            raise UserError(f"DeepSea with size={size} is no grid; use at least 2.")
        self.size = size
        self.board = size, size
        self.observation_space = spaces.Discrete(size * size + 1)
        self._right = np.ones((size, size), np.int64)
        if mapping_seed is not None:
            self._right = np.random.default_rng(mapping_seed).integers(2, size=(size, size))

    def start(self, rng: np.random.Generator) -> Ints:
        """The top left corner."""
        return np.zeros(2, np.int64)

    def advance(self, state: Ints, action: Ints) -> tuple[Ints, NDArray[np.float64], Bools]:
        """One row down, one column left or right, the walls hold."""
        # A row that is stepped once more after its end (its reset follows) stays in the last row.
        row, column = np.minimum(state[:, 0], self.size - 1), state[:, 1]
        right = action == self._right[row, column]
        treasure = right & (column == self.size - 1) & (row == self.size - 1)
        reward = np.where(right, -_MOVE_COST / self.size, 0.0) + treasure
        moved = np.clip(column + np.where(right, 1, -1), 0, self.size - 1)
        return np.stack([row + 1, moved], axis=1), reward, row + 1 >= self.size

    def observe(self, state: Ints) -> NDArray[Any]:
        """The cell's number."""
        index: NDArray[Any] = np.where(state[:, 0] >= self.size, self.size**2, state[:, 0] * self.size + state[:, 1])
        return index

    def best_action(self, state: Ints) -> Ints:
        """Right."""
        best: Ints = self._right[np.minimum(state[:, 0], self.size - 1), state[:, 1]]
        return best


class DeepSea(ToyEnv):
    """``frugalrl/DeepSea-v0``."""

    def __init__(self, size: int = 10, mapping_seed: int | None = None, render_mode: str | None = None) -> None:
        super().__init__(DeepSeaRules(size, mapping_seed))
        self.render_mode = render_mode


class DeepSeaVector(ToyVectorEnv):
    """``frugalrl/DeepSea-v0``, vectorised."""

    def __init__(self, num_envs: int = 1, size: int = 10, mapping_seed: int | None = None) -> None:
        super().__init__(DeepSeaRules(size, mapping_seed), num_envs)
