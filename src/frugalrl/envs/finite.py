"""Which row of an environment gave a number that cannot be kept: asked at each step, so it costs one call if none did.

A sum of squares that is finite has only finite parts. Where it is not, or is too large to tell, rows are looked at one
by one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from frugalrl.envs.spaces import LARGEST


def unfit_reward(reward: NDArray[Any]) -> int | None:
    """The first of [B] rewards that is no finite number in float32; None if all are."""
    if reward.dtype.kind != "f" or np.vdot(reward, reward) <= LARGEST:
        return None
    fits = abs(reward) <= LARGEST
    return None if fits.all() else int(fits.argmin())


def unfit_obs(obs: NDArray[Any]) -> int | None:
    """The first of [B, *obs_shape] observations that holds NaN or infinity; None if none does."""
    if obs.dtype.kind != "f" or np.vdot(obs, obs) <= LARGEST:
        return None
    finite = np.isfinite(obs).reshape(len(obs), -1).all(axis=1)
    return None if finite.all() else int(finite.argmin())
