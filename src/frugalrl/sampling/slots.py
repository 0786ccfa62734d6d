"""Memory that a worker process and the engine's process share: words for signs of life, one slot per group for data.

One block per worker process, in a file without a name: it is gone when the last process that holds it is gone, however
that ends. It begins with 64 KiB of control area (64-bit words, then a text), whose size both sides know; the slots
follow, and their size follows from the `EnvSpec`.

A slot is written by one side at a time. The worker writes a step, then its ``SEQ``, then a byte to a pipe; the engine's
side reads the pipe, then ``SEQ``, then the step, writes the actions, then ``ANSWERED``, then a byte to the other pipe.
The worker writes the slot again only when ``ANSWERED`` equals ``SEQ``. The system calls on the pipe order the writes on
processors that would not.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frugalrl.types import EnvSpec, Episode, Step

MAX_GROUPS = 200
"""Groups of one worker: a wake-up is one byte that names the group."""
GO, TEXT = 254, 255
"""Bytes that are no group: ``start to step`` to the worker, ``read the text`` to the engine's side."""

BEAT, DOING, INCARNATION, STARTUP_NS, ENVIRONMENT_NS, TRANSPORT_NS, CALLS, TEXT_BYTES = range(8)
"""Words of a worker. ``BEAT`` grows with every sign of life; ``DOING`` see below; the rest is CPU time and counts."""
SEQ, ANSWERED = range(2)
"""Words of a group, -1 before the first step."""
STARTING, WAITING = -2, -1
"""``DOING``: these, or 2g while group g is reset, or 2g + 1 while it is stepped."""

_GROUPS_AT, _GROUP_WORDS = 16, 2
_TEXT_AT, _CONTROL_BYTES = 1 << 13, 1 << 16
_ALIGN = 64


def new_file() -> int:
    """Descriptor of a file without a name that holds the control area, filled with zeros."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("frugalrl-worker", os.MFD_CLOEXEC)
    else:  # macOS: on the disk, but its name is taken away at once
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, _CONTROL_BYTES)
    return fd


class Control:
    """Words and text of a worker."""

    def __init__(self, fd: int) -> None:
        """``fd`` may be closed afterwards."""
        self._map = mmap.mmap(fd, _CONTROL_BYTES)
        self.words = memoryview(self._map)[:_TEXT_AT].cast("q")
        """Of the worker; of group g: ``words[at(g) + SEQ]``."""

    @staticmethod
    def at(group: int) -> int:
        """Where the words of a group begin."""
        return _GROUPS_AT + group * _GROUP_WORDS

    def close(self) -> None:
        """Let the memory go; the words keep their last values."""
        last = memoryview(bytearray(self.words)).cast("q")
        self.words.release()
        self._map.close()
        self.words = last

    def write_text(self, text: str) -> None:
        """Leave a text; what does not fit is cut."""
        data = text.encode(errors="replace")[: _CONTROL_BYTES - _TEXT_AT]
        self._map[_TEXT_AT : _TEXT_AT + len(data)] = data
        self.words[TEXT_BYTES] = len(data)

    def read_text(self) -> str:
        """The text that was left."""
        return self._map[_TEXT_AT : _TEXT_AT + self.words[TEXT_BYTES]].decode(errors="replace")


class Slot:
    """The last step of a group and the actions that answer it: arrays in shared memory."""

    def __init__(self, memory: mmap.mmap, begin: int, rows: int, spec: EnvSpec) -> None:
        array = {
            name: np.frombuffer(memory, dtype, int(np.prod(shape)), begin + offset).reshape(shape)
            for name, dtype, shape, offset in _fields(rows, spec)
        }
        self.action: NDArray[np.int64] = array["action"]
        self.obs: NDArray[Any] = array["obs"]
        self._reward, self._discount = array["reward"], array["discount"]
        self._last, self._valid = array["last"], array["valid"]
        self._ended = array["ended"]
        self._whole: NDArray[np.int64] = array["episode_row_seed_length"]
        self._return, self._truncated = array["episode_return"], array["episode_truncated"]

    def write(self, step: Step) -> None:
        """Put a step into the slot."""
        self.obs[...] = step.obs
        self._reward[...] = step.reward
        self._discount[...] = step.discount
        self._last[...] = step.last
        self._valid[...] = step.valid
        self._ended[0] = len(step.episodes)
        for i, episode in enumerate(step.episodes):
            self._whole[i] = episode.row, episode.seed, episode.length
            self._return[i] = episode.raw_return
            self._truncated[i] = episode.truncated

    def read(self) -> Step:
        """The step in the slot. Its observations are the slot's own memory, all else are copies."""
        return Step(
            obs=self.obs,
            reward=self._reward.copy(),
            discount=self._discount.copy(),
            last=self._last.copy(),
            valid=self._valid.copy(),
            episodes=tuple(self._episode(i) for i in range(ended)) if (ended := self._ended.item()) else (),
        )

    def _episode(self, i: int) -> Episode:
        row, seed, length = self._whole[i].tolist()
        return Episode(
            row=row,
            seed=seed,
            raw_return=float(self._return[i]),
            length=length,
            truncated=bool(self._truncated[i]),
        )


def slots(fd: int, group_rows: Sequence[int], spec: EnvSpec) -> list[Slot]:
    """The slots of a worker's groups. The file grows if it must; ``fd`` may be closed afterwards."""
    sizes = [_size(rows, spec) for rows in group_rows]
    end = _CONTROL_BYTES + sum(sizes)
    if os.fstat(fd).st_size < end:
        os.ftruncate(fd, end)
    memory = mmap.mmap(fd, end - _CONTROL_BYTES, offset=_CONTROL_BYTES)
    begins = [sum(sizes[:group]) for group in range(len(sizes))]
    return [Slot(memory, begin, rows, spec) for begin, rows in zip(begins, group_rows, strict=True)]


def _fields(rows: int, spec: EnvSpec) -> Iterator[tuple[str, np.dtype[Any], tuple[int, ...], int]]:
    """Name, dtype, shape and offset of each array of a slot."""
    offset = 0
    for name, kind, shape in (
        ("action", "i8", (rows,)),
        ("obs", spec.obs_dtype, (rows, *spec.obs_shape)),
        ("reward", "f4", (rows,)),
        ("discount", "f4", (rows,)),
        ("last", "?", (rows,)),
        ("valid", "?", (rows,)),
        ("ended", "i8", (1,)),
        ("episode_row_seed_length", "i8", (rows, 3)),
        ("episode_return", "f8", (rows,)),
        ("episode_truncated", "?", (rows,)),
    ):
        dtype = np.dtype(kind)
        yield name, dtype, shape, offset
        offset += _aligned(int(np.prod(shape)) * dtype.itemsize)


def _size(rows: int, spec: EnvSpec) -> int:
    return sum(_aligned(int(np.prod(shape)) * dtype.itemsize) for _, dtype, shape, _ in _fields(rows, spec))


def _aligned(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN
