"""The ring: what the environments answered, time-major, one frame per step.

A stack of k frames is not stored k times: only its newest frame is, and stacks are put together again when they are
read. ``history`` says how many earlier frames of the same episode a row's stack holds, so a stack never crosses the
start of an episode (older frames are zeros) but does cross a life loss, where the game goes on.

Rows have absolute numbers that never repeat: row r of the whole run lies in slot ``r % capacity_rows``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frugalrl.types import EnvSpec, Rows, UserError

Ints = NDArray[np.int64]

SCALARS: dict[str, type[np.generic]] = {
    "action": np.int64,
    "reward": np.float32,
    "discount": np.float32,
    "last": np.bool_,
    "valid": np.bool_,
    "log_mu": np.float32,
    "version": np.int64,
    "explored": np.bool_,
}
"""Fields of `Rows` with one number per row and environment, and the dtype they are kept in."""


class Ring:
    """The newest ``capacity_rows`` time rows of ``num_rows`` environments."""

    def __init__(self, spec: EnvSpec, num_rows: int, capacity_rows: int) -> None:
        self.num_rows = num_rows
        self.capacity_rows = capacity_rows
        self.stack = spec.frame_stack
        self.rows_written = 0
        self.obs_shape = spec.obs_shape
        frame = frame_shape(spec)
        self._newest = frame[0] if self.stack > 1 else 0
        try:
            # untouched pages of a large array cost no memory, so it grows with use
            self._obs = np.empty((capacity_rows, num_rows, *frame), stored_dtype(spec.obs_dtype))
            self._fields: dict[str, NDArray[Any]] = {
                name: np.zeros((capacity_rows, num_rows), dtype) for name, dtype in SCALARS.items()
            }
            self._history = np.zeros((capacity_rows, num_rows), np.uint8)
        except MemoryError as error:
            raise UserError(
                f"a replay of {capacity_rows * num_rows} observations of shape {frame} does not fit into memory; "
                f"lower capacity_transitions"
            ) from error
        self._back = np.arange(self.stack - 1, -1, -1)
        self._flatten()

    def _flatten(self) -> None:
        self._frames = self._obs.reshape(-1, *self._obs.shape[2:])
        self._flat = {name: array.reshape(-1) for name, array in self._fields.items()}
        self._flat_history = self._history.reshape(-1)

    def move_to(self, other: Ring, first_slot: int) -> None:
        """Keep the rows from now on in slots of another ring's arrays, from ``first_slot`` on; what is here moves."""
        here, there = self._arrays(), other._arrays()
        used = min(self.rows_written, self.capacity_rows)
        slots = slice(first_slot, first_slot + self.capacity_rows)
        for name, array in here.items():
            there[name][slots][:used] = array[:used]
        self._obs, self._history = there["obs"][slots], there["history"][slots]
        self._fields = {name: there[name][slots] for name in self._fields}
        self._flatten()

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays when full; pages not yet written take no memory."""
        return self._obs.nbytes + self._history.nbytes + sum(array.nbytes for array in self._fields.values())

    @property
    def oldest_row(self) -> int:
        """Absolute number of the oldest row that is still there (equals ``rows_written`` when empty)."""
        return max(0, self.rows_written - self.capacity_rows)

    def check(self, rows: Rows) -> None:
        """Raises ValueError if the arrays of a block do not have the shapes [T, B, ...] of this ring."""
        shape = (len(rows.action), self.num_rows)
        wrong = [name for name in SCALARS if getattr(rows, name).shape != shape]
        if rows.obs.shape != shape + self.obs_shape:
            wrong.append("obs")
        if wrong:
            seen = ", ".join(f"{name} {getattr(rows, name).shape}" for name in wrong)
            raise ValueError(
                f"replay expects [T, {self.num_rows}] and obs [T, {self.num_rows}, *{self.obs_shape}], got {seen}"
            )

    def write(self, rows: Rows, t: int) -> None:
        """Writes row ``t`` of a checked block over the oldest one.

        Raises:
            ValueError: the row continues an episode that is not there, or one that has ended.
        """
        slot = self.rows_written % self.capacity_rows
        before = slot - 1  # slot -1 is the last slot, which is the one before slot 0
        valid = rows.valid[t]
        if self.rows_written == 0:
            if valid.any():
                raise ValueError(
                    "the first row given to a replay must be the reset of every environment (valid False), "
                    f"but valid is {valid.tolist()}"
                )
        elif (valid & self._fields["last"][before]).any():
            raise ValueError(
                f"after a row with last comes one row with valid False (NEXT_STEP autoreset), but after "
                f"last {self._fields['last'][before].tolist()} came valid {valid.tolist()}"
            )
        self._obs[slot] = rows.obs[t, :, -self._newest :] if self._newest else rows.obs[t]
        for name, array in self._fields.items():
            array[slot] = getattr(rows, name)[t]
        if self.stack > 1:
            self._history[slot] = np.where(valid, np.minimum(self._history[before] + 1, self.stack - 1), 0)
        self.rows_written += 1

    def count_valid(self, row: int) -> int:
        """How many environments have a transition in an absolute row."""
        return int(np.count_nonzero(self._fields["valid"][row % self.capacity_rows]))

    def valid_row(self, row: int) -> NDArray[np.bool_]:
        """[B] whether each environment has a transition in an absolute row."""
        valid: NDArray[np.bool_] = self._fields["valid"][row % self.capacity_rows]
        return valid

    def at(self, row: Ints, env: Ints | int) -> Ints:
        """Positions in the flat arrays of absolute rows and environments (any shape)."""
        slot = row % self.capacity_rows
        return slot if self.num_rows == 1 else slot * self.num_rows + env

    def take(self, name: str, at: Ints) -> NDArray[Any]:
        """Values of a scalar field at flat positions."""
        return self._flat[name].take(at)

    def obs(self, row: Ints, env: Ints | int) -> NDArray[Any]:
        """Whole observations [N, *obs_shape] at absolute rows [N]; stacks are put together, zeros before an episode."""
        at = self.at(row, env)
        if self.stack == 1:
            return self._frames.take(at, axis=0)
        env_column = env[:, None] if isinstance(env, np.ndarray) else env
        stacked = self._frames.take(self.at(row[:, None] - self._back, env_column), axis=0)
        before_episode = self._back > self._flat_history.take(at)[:, None]
        if before_episode.any():
            stacked[before_episode] = 0
        return stacked.reshape(len(row), *self.obs_shape)

    def read_rows(self, start: int, stop: int) -> dict[str, NDArray[Any]]:
        """Copies of the stored arrays of absolute rows ``start`` to ``stop - 1``: [stop - start, B, ...]."""
        if not self.oldest_row <= start <= stop <= self.rows_written:
            raise ValueError(
                f"rows {start} to {stop} are not in the replay, which holds {self.oldest_row} to {self.rows_written}"
            )
        slots = np.arange(start, stop) % self.capacity_rows
        return {name: array[slots] for name, array in self._arrays().items()}

    def write_rows(self, start: int, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Puts back what `read_rows` gave; ``rows_written`` is not changed (it belongs to the state dict)."""
        mine = self._arrays()
        if set(arrays) != set(mine):
            raise ValueError(f"replay rows need the fields {sorted(mine)}, but have {sorted(arrays)}")
        count = len(arrays["valid"])
        for name, array in mine.items():
            given = arrays[name]
            if given.shape != (count, *array.shape[1:]) or given.dtype != array.dtype:
                raise ValueError(
                    f"replay rows need {name} [{count}, {', '.join(map(str, array.shape[1:]))}] {array.dtype}, "
                    f"but got {list(given.shape)} {given.dtype}"
                )
        if start < 0 or count > self.capacity_rows:
            raise ValueError(f"{count} rows from row {start} do not fit a replay of {self.capacity_rows} rows")
        slots = np.arange(start, start + count) % self.capacity_rows
        for name, array in mine.items():
            array[slots] = arrays[name]

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {"obs": self._obs, "history": self._history, **self._fields}


def frame_shape(spec: EnvSpec) -> tuple[int, ...]:
    """What is stored of one observation: the newest frame of a stack, the whole of anything else."""
    if spec.frame_stack == 1:
        return spec.obs_shape
    if not 1 <= spec.frame_stack <= 255 or not spec.obs_shape or spec.obs_shape[0] % spec.frame_stack:
        raise ValueError(
            f"frame_stack {spec.frame_stack} must divide the first axis of obs_shape {spec.obs_shape} "
            f"and be at most 255"
        )
    return (spec.obs_shape[0] // spec.frame_stack, *spec.obs_shape[1:])


def stored_dtype(dtype: str) -> np.dtype[Any]:
    """Networks read float32, so wider floats are not kept; whole numbers keep their own dtype."""
    given = np.dtype(dtype)
    return np.dtype(np.float32) if given == np.float64 else given
