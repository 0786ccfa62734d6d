"""Arrays that take memory as they are filled."""

from __future__ import annotations

import mmap
import sys
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LARGE = 1 << 30
_NORESERVE = 0x4000
"""Of Linux; Python names it from 3.13 on."""


def zeros_as_used(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Zeros whose untouched pages cost nothing, as with ``np.zeros``; on Linux they may also be larger than the memory.

    The kernel refuses a single allocation beyond the memory it has, though a run that is short, or ends before its
    replay is full, never uses it. Whoever makes a large one should say what it needs when full.

    Raises MemoryError where the system refuses.
    """
    dtype = np.dtype(dtype)
    size = prod(shape) * dtype.itemsize
    if size < _LARGE or sys.platform != "linux":
        return np.zeros(shape, dtype)
    try:
        block = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE)
    except OSError as error:
        raise MemoryError(f"{size / 2**30:.1f} GiB: {error}") from error
    return np.frombuffer(block, dtype).reshape(shape)
