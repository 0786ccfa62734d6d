"""Transforms written out, value by value."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def round_rows(weight: Array, bits: int) -> Array:
    """Symmetric rounding to K bits with one range per output row."""
    q = 2 ** (bits - 1) - 1
    out = np.zeros_like(weight)
    for row in range(len(weight)):
        largest = np.float32(max(abs(x) for x in weight[row].flat))
        scale = np.float32(largest / np.float32(q)) if largest else np.float32(1)
        for at in np.ndindex(weight[row].shape):
            out[(row, *at)] = np.float32(np.round(weight[(row, *at)] / scale)) * scale
    return out


def int8_linear(x: Array, weight: Array, bias: Array) -> Array:
    """W8A8: weights with one range per row, activations with one asymmetric range per call, of 7 bits."""
    low, high = min(0.0, float(x.min())), max(0.0, float(x.max()))
    step = (high - low) / 127 or 1.0
    zero = round(-low / step)
    whole_x = np.clip(np.round(x / step) + zero, 0, 127).astype(np.int64)
    out = np.zeros((len(x), len(weight)), np.float64)
    for row in range(len(weight)):
        scale = float(np.abs(weight[row]).max()) / 127 or 1.0
        whole_w = np.round(weight[row] / scale).astype(np.int64)
        for i in range(len(x)):
            out[i, row] = int(((whole_x[i] - zero) * whole_w).sum()) * step * scale + float(bias[row])
    return out.astype(np.float32)
