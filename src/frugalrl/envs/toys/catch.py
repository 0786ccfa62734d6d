"""Catch: a ball falls down a small board, a paddle must be under it when it arrives.

After Mnih et al. 2014 and bsuite (Osband et al. 2020): the smallest game that needs credit over time and generalises
over start positions. Observation: the board, flattened, float32 [rows * columns], 1 at the ball and at the paddle.
With ``observation="image"`` the same as an image [rows, columns]; with ``"index"`` the number of that board, int64,
for tables.
Actions: 0 left, 1 stay, 2 right. Reward +1 for a catch, -1 for a miss, at the end of rows - 1 steps.
Optimal return: exactly 1 (from the middle, the paddle can reach every column in time).
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from frugalrl.envs.toys.core import Bools, Ints, ToyEnv, ToyVectorEnv
from frugalrl.types import UserError

_ROW, _COLUMN, _PADDLE = 0, 1, 2

Observation = Literal["board", "image", "index"]


class CatchRules:
    """State: ball row, ball column, paddle column."""

    num_actions = 3
    action_meanings = ("LEFT", "STAY", "RIGHT")
    time_limit = None
    optimal_return = 1.0

    def __init__(self, rows: int = 10, columns: int = 5, observation: Observation = "board") -> None:
        if observation not in get_args(Observation):
            raise UserError(f"Catch with observation={observation!r}: use one of {', '.join(get_args(Observation))}.")
        if columns < 2 or rows - 1 < columns // 2:
            raise UserError(f"Catch with rows={rows}, columns={columns} cannot be won; use rows > columns / 2 >= 1.")
        self.rows, self.columns = rows, columns
        self._index = observation == "index"
        self.board = (rows * columns, columns) if self._index else (rows, columns)
        self._shape = (rows, columns) if observation == "image" else (rows * columns,)
        self.observation_space: spaces.Space[Any] = spaces.Box(0.0, 1.0, self._shape, np.float32)
        if self._index:
            self.observation_space = spaces.Discrete(rows * columns * columns)

    def start(self, rng: np.random.Generator) -> Ints:
        """Ball in a random column of the top row, paddle in the middle."""
        return np.array([0, rng.integers(self.columns), self.columns // 2], np.int64)

    def advance(self, state: Ints, action: Ints) -> tuple[Ints, NDArray[np.float64], Bools]:
        """The paddle moves by at most one column, the ball falls by one row."""
        after = state.copy()
        after[:, _ROW] += 1
        after[:, _PADDLE] = np.clip(state[:, _PADDLE] + action - 1, 0, self.columns - 1)
        terminated: Bools = after[:, _ROW] >= self.rows - 1
        # A row that is stepped once more after its end (its reset follows) stays on the board.
        after[:, _ROW] = np.minimum(after[:, _ROW], self.rows - 1)
        caught = after[:, _COLUMN] == after[:, _PADDLE]
        return after, np.where(terminated, np.where(caught, 1.0, -1.0), 0.0), terminated

    def observe(self, state: Ints) -> NDArray[Any]:
        """The board, or its number."""
        if self._index:
            index: NDArray[Any] = np.ravel_multi_index(tuple(state.T), (self.rows, self.columns, self.columns))
            return index
        board = np.zeros((len(state), self.rows * self.columns), np.float32)
        rows = np.arange(len(state))
        board[rows, state[:, _ROW] * self.columns + state[:, _COLUMN]] = 1.0
        board[rows, (self.rows - 1) * self.columns + state[:, _PADDLE]] = 1.0
        return board.reshape(len(state), *self._shape)

    def best_action(self, state: Ints) -> Ints:
        """Towards the ball's column."""
        best: Ints = np.sign(state[:, _COLUMN] - state[:, _PADDLE]) + 1
        return best


class Catch(ToyEnv):
    """``frugalrl/Catch-v0``."""

    def __init__(
        self,
        rows: int = 10,
        columns: int = 5,
        observation: Observation = "board",
        render_mode: str | None = None,
    ) -> None:
        super().__init__(CatchRules(rows, columns, observation))
        self.render_mode = render_mode


class CatchVector(ToyVectorEnv):
    """``frugalrl/Catch-v0``, vectorised."""

    def __init__(self, num_envs: int = 1, rows: int = 10, columns: int = 5, observation: Observation = "board") -> None:
        super().__init__(CatchRules(rows, columns, observation), num_envs)
