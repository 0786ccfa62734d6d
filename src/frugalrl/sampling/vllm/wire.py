"""Messages between the learner's process and an engine's: a JSON header and raw arrays. Nothing is unpickled.

Standard library only: the engine's process imports this file in a virtual environment without this package's
requirements. On the pipe, all numbers little-endian::

    magic 4 bytes | length of header, u32 | header, UTF-8 JSON | bytes of the arrays in the header's order

The header is the message's JSON object plus ``arrays``: a list of ``[name, dtype, shape, bytes]``.
"""

from __future__ import annotations

import json
import math
import os
import select
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

MAGIC = b"FrL1"
MAX_HEADER = 1 << 26
MAX_ARRAYS = 1 << 36
ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float64": 8, "int8": 1, "int32": 4, "int64": 8}
_PIECE = 1 << 20
_HEAD = struct.Struct("<4sI")


class WireError(Exception):
    """What came is no message; the pipe cannot be used any more."""


class Ended(Exception):
    """The other side has closed its end, at the end of a message or in the middle of one."""


class TooLate(Exception):
    """The message did not come (or leave) in time."""


@dataclass(frozen=True, slots=True)
class Blob:
    """An array as bytes, C order, little-endian."""

    dtype: str
    """A key of ``ITEM_BYTES``."""
    shape: tuple[int, ...]
    data: bytes | bytearray | memoryview

    def __post_init__(self) -> None:
        if self.dtype not in ITEM_BYTES:
            raise WireError(f"dtype {self.dtype!r} is not one of {', '.join(ITEM_BYTES)}")
        size = math.prod(self.shape) * ITEM_BYTES[self.dtype]
        if min(self.shape, default=0) < 0 or self.nbytes != size:
            raise WireError(f"{self.nbytes} bytes for {self.dtype} {list(self.shape)}, which takes {size}")

    @property
    def nbytes(self) -> int:
        """Bytes of the data."""
        return self.data.nbytes if isinstance(self.data, memoryview) else len(self.data)


@dataclass(frozen=True, slots=True)
class Message:
    """A JSON object and named arrays."""

    head: Mapping[str, Any]
    arrays: Mapping[str, Blob] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(blob.nbytes for blob in self.arrays.values())


def pieces(message: Message) -> list[bytes | bytearray | memoryview]:
    """The message as bytes to write one after the other. Raises WireError for a header that is too long."""
    if "arrays" in message.head:
        raise WireError("a header cannot have a key 'arrays' of its own")
    arrays = [[name, blob.dtype, list(blob.shape), blob.nbytes] for name, blob in message.arrays.items()]
    head = json.dumps({**message.head, "arrays": arrays}).encode()
    if len(head) > MAX_HEADER:
        raise WireError(f"a header of {len(head)} bytes; at most {MAX_HEADER}")
    return [_HEAD.pack(MAGIC, len(head)), head, *(blob.data for blob in message.arrays.values())]


def read(exactly: Callable[[int], bytearray]) -> Message:
    """The next message; ``exactly(n)`` returns the next n bytes.

    Raises:
        WireError: it is none.
    """
    magic, length = _HEAD.unpack(exactly(_HEAD.size))
    if magic != MAGIC:
        raise WireError(f"it begins with {magic!r}, not {MAGIC!r}")
    if length > MAX_HEADER:
        raise WireError(f"it announces a header of {length} bytes; at most {MAX_HEADER}")
    try:
        head = json.loads(exactly(length).decode())
        listed = [(str(n), str(d), tuple(int(i) for i in s), int(b)) for n, d, s, b in head.pop("arrays")]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise WireError(f"its header cannot be read: {error}") from error
    if any(b < 0 for _, _, _, b in listed) or sum(b for _, _, _, b in listed) > MAX_ARRAYS:
        raise WireError(f"it announces arrays of {sum(b for _, _, _, b in listed)} bytes")
    return Message(head, {name: Blob(dtype, shape, exactly(size)) for name, dtype, shape, size in listed})


class Pipe:
    """Two descriptors as a channel of messages, with deadlines. It does not own them."""

    def __init__(self, read_fd: int, write_fd: int) -> None:
        self._read_fd, self._write_fd = read_fd, write_fd
        os.set_blocking(write_fd, False)
        self._in, self._out = select.poll(), select.poll()
        self._in.register(read_fd, select.POLLIN)
        self._out.register(write_fd, select.POLLOUT)

    def send(self, message: Message, timeout_s: float | None = None) -> None:
        """Write all of it. Raises Ended, TooLate, WireError."""
        until_s = _until(timeout_s)
        for piece in pieces(message):
            left = memoryview(piece).cast("B")
            while left:
                self._wait(self._out, until_s)
                try:
                    left = left[os.write(self._write_fd, left[:_PIECE]) :]
                except BlockingIOError:
                    continue
                except BrokenPipeError as error:
                    raise Ended from error

    def receive(self, timeout_s: float | None = None) -> Message:
        """Wait for a message and read all of it. Raises Ended, TooLate, WireError."""
        until_s = _until(timeout_s)

        def exactly(count: int) -> bytearray:
            came = bytearray()
            while len(came) < count:
                self._wait(self._in, until_s)
                piece = os.read(self._read_fd, min(count - len(came), _PIECE))
                if not piece:
                    raise Ended
                came += piece
            return came

        return read(exactly)

    def _wait(self, poller: select.poll, until_s: float | None) -> None:
        left_ms = None if until_s is None else max(until_s - time.monotonic(), 0.0) * 1000
        if not poller.poll(left_ms):
            raise TooLate


def _until(timeout_s: float | None) -> float | None:
    return None if timeout_s is None else time.monotonic() + timeout_s
