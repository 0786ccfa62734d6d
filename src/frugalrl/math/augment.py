"""Image augmentation for sample-efficient value learning, with its randomness as an argument.

Source: Yarats, Kostrikov and Fergus, "Image Augmentation Is All You Need" (DrQ), 2021, section 4.1 (random shifts) and
appendix (intensity); Dopamine's ``drq_eps`` uses a shift of up to 4 pixels and an intensity scale of 0.05.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def shift_images(obs: NDArray[Any], offset: NDArray[np.int64]) -> NDArray[Any]:
    """Moves each image, all its channels alike, and fills what comes in with the nearest edge.

    Args:
        obs: [B, C, H, W].
        offset: [B, 2] pixels down and to the right; negative ones go up and to the left.

    Returns:
        A new array like ``obs``.
    """
    batch, _, height, width = obs.shape
    row = np.clip(np.arange(height) - offset[:, :1], 0, height - 1)  # [B, H]
    column = np.clip(np.arange(width) - offset[:, 1:], 0, width - 1)  # [B, W]
    moved = np.empty_like(obs)
    for i in range(batch):
        moved[i] = obs[i].take(row[i], axis=1).take(column[i], axis=2)
    return moved


def scale_intensity(obs: NDArray[Any], noise: NDArray[np.float64], scale: float) -> NDArray[np.float32]:
    """Multiplies each image [C, H, W] of ``obs`` by ``1 + scale * clip(noise, -2, 2)``; noise [B] standard normal."""
    factor = (1.0 + scale * np.clip(noise, -2.0, 2.0)).astype(np.float32)
    return obs.astype(np.float32) * factor[:, None, None, None]
