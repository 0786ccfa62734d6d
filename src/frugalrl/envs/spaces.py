"""What observations and actions become inside: float32 vectors, channels-first images, indices; actions from 0.

One ``ObsCodec`` is made from a Gymnasium space; it is the only place that knows the raw layout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from frugalrl.types import UserError

LARGEST = float(np.finfo(np.float32).max)
"""Of the numbers that are kept of observations and rewards."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ObsCodec:
    """Translates raw observations. ``ValueError`` when an observation does not fit the declared space."""

    kind: Literal["vector", "image", "index"]
    shape: tuple[int, ...]
    """Shape of one translated observation."""
    dtype: np.dtype[Any]
    """uint8 (images of integers or booleans), float32, or int64 (indices)."""
    raw_shape: tuple[int, ...]
    channels_last: bool
    """Raw images are [H, W, C]."""
    start: int
    """Smallest raw index."""
    num_indices: int | None
    binary: bool = False
    """Images of zeros and ones."""

    def one(self, raw: Any) -> Any:
        """One raw observation -> an array of ``shape`` (or an int), not yet cast; may be a view of ``raw``."""
        if self.kind == "index":
            index = int(raw) - self.start
            if index + self.start != raw:
                raise ValueError(f"the observation {raw!r} is no whole number but its space is Discrete")
            if self.num_indices is None or not 0 <= index < self.num_indices:
                raise ValueError(f"the observation {raw!r} is outside its Discrete space of {self.num_indices} values")
            return index
        array = np.asarray(raw)
        if array.shape != self.raw_shape:
            raise ValueError(f"the observation has shape {array.shape} but its space says {self.raw_shape}")
        if array.dtype != self.dtype:
            array = self._castable(array)
        return self._arrange(array, lead=0)

    def batch(self, raw: Any, num_rows: int, *, copy: bool) -> NDArray[Any]:
        """[B, *raw_shape] -> [B, *shape]; with ``copy=False`` an array that already fits is passed through."""
        array = np.asarray(raw)
        if array.shape != (num_rows, *self.raw_shape):
            raise ValueError(f"the observations have shape {array.shape}, not {(num_rows, *self.raw_shape)}")
        if self.kind == "index":
            indices: NDArray[Any] = array.astype(np.int64) - self.start
            if (indices + self.start != array).any():
                raise ValueError(f"an observation is no whole number but its space is Discrete: {array}")
            if self.num_indices is None or indices.min() < 0 or indices.max() >= self.num_indices:
                raise ValueError(f"an observation is outside its Discrete space of {self.num_indices} values: {array}")
            return indices
        if array.dtype != self.dtype:
            array = self._castable(array)
        arranged = self._arrange(array, lead=1)
        out: NDArray[Any] = np.array(arranged, dtype=self.dtype, order="C", copy=True if copy else None)
        return out

    def _castable(self, array: NDArray[Any]) -> NDArray[Any]:
        """For arrays of another dtype: refuses what would become other numbers, as numpy makes 44 of 300 unasked."""
        kind = array.dtype.kind
        if kind == "b":
            return array
        if kind not in "iuf" or (kind == "f" and self.dtype == np.uint8):
            holds = "integers" if self.dtype == np.uint8 else "numbers"
            raise ValueError(f"the observation has dtype {array.dtype} but its space holds {holds}")
        if self.dtype == np.uint8 and kind in "iu":
            least, most = int(array.min()), int(array.max())
            if least < 0 or most > 255:
                raise ValueError(f"the observation holds {least if least < 0 else most} but its space only 0 to 255")
        # A sum of squares that float32 can hold has no part that it cannot: one call where all is well.
        if kind == "f" and array.itemsize > 4 and not np.vdot(array, array) <= LARGEST:
            beyond = array[np.isfinite(array) & (abs(array) > LARGEST)]
            if beyond.size:
                raise ValueError(f"the observation holds {beyond[0]}, which float32 cannot hold; scale it down")
        return array

    def _arrange(self, array: NDArray[Any], *, lead: int) -> NDArray[Any]:
        if self.kind == "image" and len(self.raw_shape) == 2:
            return np.expand_dims(array, lead)
        return np.moveaxis(array, -1, lead) if self.channels_last else array


def obs_codec(space: spaces.Space[Any], env_id: str, *, channels_last: bool | None = None) -> ObsCodec:
    """The codec of an observation space.

    In a 3-D Box the shorter of the first and the last axis holds the channels; when they are equal it is the last
    (``channels_last`` decides otherwise). A 2-D Box is an image with one channel.

    Raises:
        UserError: the space is not a Box of 1 to 3 axes or Discrete.
    """
    if isinstance(space, spaces.Discrete):
        count = int(space.n)
        return ObsCodec(
            kind="index",
            shape=(),
            dtype=np.dtype(np.int64),
            raw_shape=(),
            channels_last=False,
            start=int(space.start),
            num_indices=count,
        )
    if not isinstance(space, spaces.Box) or not 1 <= len(space.shape) <= 3 or 0 in space.shape:
        raise UserError(
            f"{env_id} has the observation space {_say(space)}, which is not supported; wrap it so that it is a Box "
            f"with 1, 2 or 3 axes, or Discrete."
        )
    shape = tuple(int(n) for n in space.shape)
    if len(shape) == 1:
        kind: Literal["vector", "image"] = "vector"
        last = False
    else:
        kind = "image"
        last = len(shape) == 3 and (shape[2] <= shape[0] if channels_last is None else channels_last)
        shape = (1, *shape) if len(shape) == 2 else (shape[2], shape[0], shape[1]) if last else shape
    small = kind == "image" and np.dtype(space.dtype) in (np.dtype(np.uint8), np.dtype(np.bool_))
    return ObsCodec(
        kind=kind,
        shape=shape,
        dtype=np.dtype(np.uint8 if small else np.float32),
        raw_shape=tuple(int(n) for n in space.shape),
        channels_last=last,
        start=0,
        num_indices=None,
        binary=small and bool((space.high <= 1).all()),
    )


def action_range(space: spaces.Space[Any], env_id: str) -> tuple[int, int]:
    """(number of actions, first raw action) of a Discrete action space.

    Raises:
        UserError: any other space.
    """
    if isinstance(space, spaces.Discrete):
        return int(space.n), int(space.start)
    raise UserError(
        f"{env_id} has the action space {_say(space)}, which is not supported; only Discrete actions are, "
        f"so wrap it with a list of allowed actions."
    )


def _say(space: spaces.Space[Any]) -> str:
    text = " ".join(str(space).split())
    return text if len(text) <= 120 else f"{text[:117]}..."
