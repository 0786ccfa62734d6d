"""A fixed histogram of log-ratios: quantiles that merge over batches and ranks by adding counts.

Bin i holds log-ratios about ``sinh((i - HALF) * STEP) * FINE``: as wide as FINE * STEP = 4e-5 near 0, and 4 % of the
log-ratio where that is larger. The ends are at +-20, where ratios are clamped.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frugalrl.math.importance.arrays import Array
from frugalrl.math.importance.rejection import LARGEST_LOG_RATIO

HALF = 256
BINS = 2 * HALF + 1
FINE = 1e-3
_STEP = math.asinh(LARGEST_LOG_RATIO / FINE) / HALF


def counts(xp: Any, d: Array, counted: Array) -> Array:
    """int64 [BINS] of the log-ratios ``d`` where ``counted``."""
    place = xp.clip(xp.round(xp.arcsinh(d * (1.0 / FINE)) * (1.0 / _STEP)), -HALF, HALF) + (HALF + 1)
    place = xp.where(counted, place, 0.0).reshape(-1)  # what does not count goes into a bin of its own
    place = place.astype(np.int64) if xp is np else place.long()
    return xp.bincount(place, minlength=BINS + 1)[1:]


def quantile(histogram: NDArray[np.int64], share: float) -> float:
    """The log-ratio below which this share lies, to the width of a bin; NaN when nothing was counted."""
    total = int(histogram.sum())
    if not total:
        return math.nan
    place = int(np.searchsorted(np.cumsum(histogram), share * total))
    return math.sinh((min(place, BINS - 1) - HALF) * _STEP) * FINE
