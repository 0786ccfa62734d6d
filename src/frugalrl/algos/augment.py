"""Augmentation of replayed images inside an update (DrQ); see `frugalrl.math.augment`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from frugalrl.math.augment import scale_intensity, shift_images
from frugalrl.math.draws import counted_rng
from frugalrl.types import EnvSpec, UserError

_AUGMENT = 3
"""Purpose of these draws; see `counted_rng`."""


class Augment:
    """Random shifts and intensities, one draw per image; a function of seed and update, so nothing is saved."""

    def __init__(self, spec: EnvSpec, shift_pixels: int, intensity_scale: float, seed: int) -> None:
        """Raises UserError where there are no images to augment."""
        self._shift, self._scale, self._seed = shift_pixels, intensity_scale, seed
        self.on = shift_pixels > 0 or intensity_scale > 0
        """Whether anything is changed."""
        if self.on and spec.obs_kind != "image":
            raise UserError(
                f"agent.shift_pixels={shift_pixels}, intensity_scale={intensity_scale}: augmentation needs images, but "
                f"{spec.id} gives {spec.obs_kind} observations; set both to 0"
            )

    def __call__(self, obs_tm1: NDArray[Any], obs_t: NDArray[Any], update: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Both ends of a batch of transitions [B, C, H, W], each image on its own."""
        if not self.on:
            return obs_tm1, obs_t
        rng = counted_rng(self._seed, _AUGMENT, update)
        return self._one(obs_tm1, rng), self._one(obs_t, rng)

    def _one(self, obs: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
        if self._shift:
            obs = shift_images(obs, rng.integers(-self._shift, self._shift + 1, (len(obs), 2)))
        if self._scale:
            obs = scale_intensity(obs, rng.standard_normal(len(obs)), self._scale)
        return obs
