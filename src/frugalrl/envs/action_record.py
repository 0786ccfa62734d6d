"""``ActionRecord``: the actions of each row's episode, by which a resumed run is brought back to where it was."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

REPLAYED = 2**20 - 1
"""Steps of the longest episode that is kept for replaying; they take 4 MB of memory, and of each checkpoint."""

_Ints = NDArray[np.int64]
_Actions = NDArray[np.int32]


class ActionRecord:
    """Actions [B, steps]; the caller knows how long the episode of each row is. Longer ones are not kept whole."""

    def __init__(self, num_rows: int) -> None:
        self._row_numbers = np.arange(num_rows)
        self._actions: _Actions = np.zeros((num_rows, 256), np.int32)
        self._marked: _Ints | None = None
        self._overwritten: dict[int, _Actions] = {}
        """Actions of rows that began another episode since the mark, which writes over those of the one before."""

    def put(self, length: _Ints, longest: int, action: _Ints) -> None:
        """``action`` [B] comes after ``length`` [B] steps, the most of which is ``longest``."""
        place = length if longest < self._actions.shape[1] else self._more_room(length)
        self._actions[self._row_numbers, place] = action

    def _more_room(self, length: _Ints) -> _Ints:
        """Where the actions go: those beyond `REPLAYED` all to one place, which is never read."""
        if self._actions.shape[1] < REPLAYED:
            self._actions = np.concatenate([self._actions, np.zeros_like(self._actions)], axis=1)
        place: _Ints = np.minimum(length, self._actions.shape[1] - 1)
        return place

    def begin(self, row: int) -> None:
        """This row's next action is the first of an episode."""
        if self._marked is not None and row not in self._overwritten:
            self._overwritten[row] = self._actions[row, : self._marked[row]].copy()

    def mark(self, length: _Ints) -> None:
        """Remember the episodes as they stand, with ``length`` [B] steps."""
        self._marked, self._overwritten = length, {}

    def roll_back(self) -> None:
        """Stand at the last ``mark`` again."""
        for row, actions in self._overwritten.items():
            self._actions[row, : len(actions)] = actions

    def saved(self, length: _Ints) -> tuple[_Ints, _Actions]:
        """Of episodes of ``length`` [B] steps: how many are kept [B], none of an episode longer than `REPLAYED`, and
        the actions of one row after the other."""
        kept = np.where(length > REPLAYED, 0, length)
        return kept, np.concatenate([self._actions[b, :n] for b, n in enumerate(kept)])

    def load(self, length: _Ints, actions: _Actions) -> list[_Actions]:
        """Takes over what ``saved`` gave; returns the actions of each row."""
        width = self._actions.shape[1]
        while width <= length.max():
            width *= 2
        self._actions = np.zeros((len(length), width), np.int32)
        parts = np.split(actions, np.cumsum(length)[:-1])
        for row, part in enumerate(parts):
            self._actions[row, : len(part)] = part
        return parts
