"""What PPO tells about a batch beside `frugalrl.math.importance.measure`: its values, and how old its rows are."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from frugalrl.math.ppo import Part


def of_values(part: Part, valid: NDArray[np.bool_]) -> dict[str, float]:
    """Of the values that the batch came in with; the variance explained is NaN where targets do not vary."""
    value, target, advantage = (
        x.cpu().numpy()[valid].astype(np.float64) for x in (part.value_old, part.target, part.advantage)
    )
    spread = float(target.var())
    return {
        "value_mean": float(value.mean()),
        "target_mean": float(target.mean()),
        "advantage_std": float(advantage.std()),
        "explained_variance": 1.0 - float((target - value).var()) / spread if spread > 0 else math.nan,
    }


def ages(version: int, acted: NDArray[np.int64], valid: NDArray[np.bool_]) -> dict[str, float]:
    """How many batches old the weights were that acted, over all transitions."""
    lag = version - acted[valid]
    return {"lag_min": float(lag.min()), "lag_mean": float(lag.mean()), "lag_max": float(lag.max())}
