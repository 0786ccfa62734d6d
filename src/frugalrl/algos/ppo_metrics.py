"""What PPO tells about a batch: values, ages, and how far the sampler was from the learner."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from frugalrl.math.importance import Corrected
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


def mismatch(corrected: Corrected) -> dict[str, float]:
    """On raw ratios old/mu, never truncated: their mean, effective sample size and k3, and what the correction did."""
    log_ratio, ratio, weight, keep = (
        _of_mask(x, corrected.mask) for x in (corrected.log_ratio, corrected.ratio, corrected.weight, corrected.keep)
    )
    changed = keep.astype(bool) & (weight != ratio)
    token = np.exp(log_ratio.clip(-20.0, 20.0))
    return {
        "ratio_mean": float(token.mean()),
        "ratio_max": float(token.max()),
        "ess": float(token.sum() ** 2 / (token.size * (token @ token))),
        "mismatch_k3": float((token - 1.0 - log_ratio).mean()),
        "weight_mean": float(weight.mean()),
        "clipped_weights": float(changed.mean()) if corrected.correction.weighs else 0.0,
        "rejected_share": float(1.0 - keep.mean()),
    }


def _of_mask(x: Tensor, mask: Tensor) -> NDArray[np.float64]:
    chosen: NDArray[np.float64] = x.cpu().numpy()[mask.cpu().numpy()].astype(np.float64)
    return chosen
