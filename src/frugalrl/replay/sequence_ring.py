"""The ring of sequences: what `SequenceReplay` stores, one frame per step.

Sequences have absolute numbers that never repeat: number k of the whole run lies in slot ``k % capacity``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frugalrl.replay.lazy_memory import zeros_as_used
from frugalrl.replay.ring import SCALARS, frame_shape, stored_dtype
from frugalrl.types import EnvSpec, Unroll, UserError

Ints = NDArray[np.int64]

_STATE = "state/"


class SequenceRing:
    """The newest ``capacity`` sequences of ``length`` transitions."""

    def __init__(self, spec: EnvSpec, capacity: int, length: int, state: Mapping[str, NDArray[Any]]) -> None:
        self.capacity, self.length = capacity, length
        self.rows_written = 0
        self._stack = spec.frame_stack
        self._obs_shape = spec.obs_shape
        frame = frame_shape(spec)
        self._newest = frame[0] if self._stack > 1 else 0
        try:
            self._arrays: dict[str, NDArray[Any]] = {
                "frames": zeros_as_used((capacity, length + self._stack, *frame), stored_dtype(spec.obs_dtype)),
                **{name: np.zeros((capacity, length), dtype) for name, dtype in SCALARS.items()},
                **{_STATE + name: np.zeros((capacity, *v.shape[1:]), v.dtype) for name, v in state.items()},
            }
        except MemoryError as error:
            raise UserError(
                f"a replay of {capacity} sequences of {length} steps with observations of shape {spec.obs_shape} does "
                f"not fit into memory ({error}); lower it with --set sequences.capacity_sequences=N"
            ) from error

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays when full."""
        return sum(array.nbytes for array in self._arrays.values())

    @property
    def oldest_row(self) -> int:
        """Number of the oldest sequence that is still there (equals ``rows_written`` when empty)."""
        return max(0, self.rows_written - self.capacity)

    def layout(self) -> dict[str, Any]:
        """What a saved ring must have in common with this one."""
        shapes = {name: [str(a.dtype), *a.shape[1:]] for name, a in self._arrays.items()}
        return {"capacity": self.capacity, "length": self.length, "frame_stack": self._stack, "shapes": shapes}

    def write(self, unroll: Unroll) -> None:
        """Writes the B sequences of an unroll over the oldest ones. ValueError when a shape is wrong."""
        self._check(unroll)
        count = unroll.action.shape[1]
        slots = np.arange(self.rows_written, self.rows_written + count) % self.capacity
        for slot, b in zip(slots, range(count), strict=True):
            frames = self._arrays["frames"][slot]
            if self._newest:
                first = unroll.obs[0, b]
                frames[: self._stack] = first.reshape(self._stack, *frames.shape[1:])
                frames[self._stack :] = unroll.obs[1:, b, -self._newest :]
            else:
                frames[...] = unroll.obs[:, b]
        for name in SCALARS:
            self._arrays[name][slots] = getattr(unroll, name).T
        for name, array in self._states().items():
            array[slots] = unroll.state_at_start[name]
        self.rows_written += count

    def read(self, numbers: Ints) -> Unroll:
        """The sequences of absolute numbers [B] as one unroll, newly made."""
        slots = numbers % self.capacity
        fields = {name: np.ascontiguousarray(self._arrays[name][slots].T) for name in SCALARS}
        return Unroll(
            obs=self._obs(slots, fields["valid"]),
            **fields,
            state_at_start={name: array[slots] for name, array in self._states().items()},
        )

    def _obs(self, slots: Ints, valid: NDArray[np.bool_]) -> NDArray[Any]:
        """[T+1, B, *obs_shape]; frames before an episode's first are zeros."""
        frames = self._arrays["frames"]
        steps = self.length + 1
        if not self._newest:
            return np.ascontiguousarray(frames[slots].swapaxes(0, 1))
        obs = np.empty((steps, len(slots), self._stack, *frames.shape[2:]), frames.dtype)
        for k in range(self._stack):
            obs[:, :, k] = frames[slots, k : k + steps].swapaxes(0, 1)
        # row t >= 1 is an episode's first where no transition led to it; a stack at t reaches stack - 1 frames back
        for t, b in zip(*np.nonzero(~valid), strict=True):
            for later in range(min(self._stack - 1, self.length - t)):
                obs[t + 1 + later, b, : self._stack - 1 - later] = 0
        return obs.reshape(steps, len(slots), *self._obs_shape)

    def read_rows(self, start: int, stop: int) -> dict[str, NDArray[Any]]:
        """Copies of the stored arrays of sequences ``start`` to ``stop - 1``."""
        if not self.oldest_row <= start <= stop <= self.rows_written:
            raise ValueError(
                f"sequences {start} to {stop} are not in the replay, which holds {self.oldest_row} to "
                f"{self.rows_written}"
            )
        slots = np.arange(start, stop) % self.capacity
        return {name: array[slots] for name, array in self._arrays.items()}

    def write_rows(self, start: int, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Puts back what `read_rows` gave; ``rows_written`` is not changed (it belongs to the state dict)."""
        if set(arrays) != set(self._arrays):
            raise ValueError(f"sequences need the fields {sorted(self._arrays)}, but have {sorted(arrays)}")
        count = len(arrays["valid"])
        if start < 0 or count > self.capacity:
            raise ValueError(f"{count} sequences from {start} do not fit a replay of {self.capacity}")
        for name, mine in self._arrays.items():
            given = arrays[name]
            if given.shape != (count, *mine.shape[1:]) or given.dtype != mine.dtype:
                raise ValueError(
                    f"sequences need {name} {[count, *mine.shape[1:]]} {mine.dtype}, but got {list(given.shape)} "
                    f"{given.dtype}"
                )
        slots = np.arange(start, start + count) % self.capacity
        for name, mine in self._arrays.items():
            mine[slots] = arrays[name]

    def _states(self) -> dict[str, NDArray[Any]]:
        return {k.removeprefix(_STATE): a for k, a in self._arrays.items() if k.startswith(_STATE)}

    def _check(self, unroll: Unroll) -> None:
        steps, count = unroll.action.shape
        wrong = [n for n in SCALARS if getattr(unroll, n).shape != (self.length, count)]
        if unroll.obs.shape != (steps + 1, count, *self._obs_shape):
            wrong.append("obs")
        if wrong or steps != self.length:
            seen = ", ".join(f"{n} {getattr(unroll, n).shape}" for n in wrong)
            raise ValueError(
                f"the replay expects unrolls of {self.length} steps with obs [{self.length + 1}, B, "
                f"*{self._obs_shape}], got {seen}"
            )
        if (unroll.last[:-1] & unroll.valid[1:]).any():
            raise ValueError(
                "after a step with last comes one with valid False (NEXT_STEP autoreset), "
                "but an unroll has a transition there"
            )
        if set(unroll.state_at_start) != set(self._states()):
            raise ValueError(
                f"the replay expects the recurrent state {sorted(self._states())}, got {sorted(unroll.state_at_start)}"
            )
