"""Pictures of observations, for environments that have no picture of their own."""

from __future__ import annotations

import colorsys
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
EMPTY = (32, 36, 44)
_LOW, _HIGH = (224, 92, 84), (92, 168, 232)
_CELL = 8


def draw_observation(
    obs: NDArray[Any], *, board: tuple[int, int] | None = None, num_indices: int | None = None
) -> Picture:
    """One observation -> uint8 [H, W, 3].

    Args:
        obs: an image [C, H, W] (feature planes of 0 and 1: one colour each; three uint8 channels: as RGB; other uint8
            channels: the last, which is the newest of stacked frames), a vector [D], or an index.
        board: rows and columns that a vector or an index is laid out in; by default nearly square.
        num_indices: number of cells of an index.
    """
    if obs.ndim == 3:
        return _planes(obs)
    if obs.ndim == 1 and board is None:
        return _bars(obs)
    cells = np.zeros(num_indices or 1) if obs.ndim == 0 else obs.astype(np.float64)
    if obs.ndim == 0 and 0 <= int(obs) < len(cells):
        cells[int(obs)] = 1.0
    return _cells(cells, board)


def _planes(obs: NDArray[Any]) -> Picture:
    if obs.dtype == np.uint8 and obs.max(initial=0) > 1:
        return np.ascontiguousarray(np.moveaxis(obs if len(obs) == 3 else obs[[-1] * 3], 0, -1))
    image = np.broadcast_to(np.array(EMPTY, np.uint8), (*obs.shape[1:], 3)).copy()
    for plane, colour in zip(obs, plane_colours(len(obs)), strict=True):
        image[plane > 0] = colour  # a later plane covers an earlier one
    return image


def plane_colours(count: int) -> list[tuple[int, int, int]]:
    """Well separated colours, one per feature plane."""
    hues = [(0.55 + i / max(count, 1)) % 1.0 for i in range(count)]
    return [tuple(round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.6, 0.95)) for hue in hues]  # type: ignore[misc]


def _cells(values: NDArray[np.float64], board: tuple[int, int] | None) -> Picture:
    if board is None:
        columns = math.ceil(math.sqrt(len(values)))
        board = math.ceil(len(values) / columns), columns
    rows, columns = board
    lit = np.zeros(rows * columns, np.bool_)
    count = min(len(lit), len(values))
    lit[:count] = values[:count] > 0
    image = np.broadcast_to(np.array(EMPTY, np.uint8), (rows, columns, 3)).copy()
    image[lit.reshape(rows, columns)] = _HIGH
    return _with_grid(image)


def _with_grid(image: Picture) -> Picture:
    """Cells of 8 pixels with a dark line between them."""
    big = image.repeat(_CELL, axis=0).repeat(_CELL, axis=1)
    big[::_CELL] = big[:, ::_CELL] = 0
    return big


def _bars(values: NDArray[Any]) -> Picture:
    """A vector as bars around a middle line; a bar of half the height is the largest absolute value, at least 1."""
    height, width = 97, max(5, 120 // len(values))
    scale = max(1.0, float(np.abs(values[np.isfinite(values)]).max(initial=0.0)))
    image = np.broadcast_to(np.array(EMPTY, np.uint8), (height, width * len(values) + 1, 3)).copy()
    middle = height // 2
    for at, value in enumerate(np.nan_to_num(values, posinf=scale, neginf=-scale).tolist()):
        reach = round(middle * value / scale)
        top, bottom = sorted((middle, middle - reach))
        image[top : bottom + 1, width * at + 1 : width * (at + 1)] = _HIGH if value >= 0 else _LOW
    image[middle] = 128
    return image
