from __future__ import annotations

import numpy as np
import pytest

from frugalrl.math.augment import scale_intensity, shift_images


def slow_shift(image: np.ndarray, down: int, right: int) -> np.ndarray:
    """Pad with the edge, then cut out."""
    _, height, width = image.shape
    pad = 5
    wide = np.pad(image, ((0, 0), (pad, pad), (pad, pad)), mode="edge")
    return wide[:, pad - down : pad - down + height, pad - right : pad - right + width]


def test_shift_equals_padding_and_cutting() -> None:
    rng = np.random.default_rng(0)
    obs = rng.integers(0, 256, (30, 4, 9, 12), dtype=np.uint8)
    offset = rng.integers(-4, 5, (30, 2))
    moved = shift_images(obs, offset)
    for i in range(30):
        np.testing.assert_array_equal(moved[i], slow_shift(obs[i], *offset[i]))
    assert moved.dtype == obs.dtype
    wrapped = np.roll(obs[0], tuple(offset[0]), (1, 2))  # what a roll would bring in from the other side
    assert not np.array_equal(moved[0], wrapped)


def test_intensity_is_clipped_at_two_deviations() -> None:
    obs = np.full((3, 1, 2, 2), 100, np.uint8)
    out = scale_intensity(obs, np.array([0.0, 1.0, -9.0]), 0.05)
    assert out.dtype == np.float32
    assert out[:, 0, 0, 0].tolist() == pytest.approx([100, 105, 90])
