"""Rows that gave NaN, infinity or too large a number, against a search row by row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from frugalrl.envs.finite import unfit_obs, unfit_reward

LARGEST = float(np.finfo(np.float32).max)
SMALL = st.floats(width=32)
AWKWARD = st.one_of(st.sampled_from([np.nan, np.inf, -np.inf, 1e20, -1e39, LARGEST, 0.0, 1.0]), SMALL)


@given(arrays(np.float64, st.integers(1, 8), elements=st.one_of(AWKWARD, st.floats())))
def test_rewards(reward: NDArray[np.float64]) -> None:
    found = next((i for i, r in enumerate(reward.tolist()) if not abs(r) <= LARGEST), None)
    assert unfit_reward(reward) == found


@given(
    arrays(np.float32, array_shapes(min_dims=1, max_dims=3, max_side=5), elements=AWKWARD.filter(lambda x: x != -1e39))
)
def test_observations(obs: NDArray[np.float32]) -> None:
    found = next((i for i, o in enumerate(obs) if not np.isfinite(o).all()), None)
    assert unfit_obs(obs) == found


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_])
def test_whole_numbers_are_not_looked_at(dtype: type) -> None:
    assert unfit_reward(np.ones(3, dtype)) is None
    assert unfit_obs(np.ones((3, 2, 2), dtype)) is None


def test_large_numbers_are_no_fault() -> None:
    """Their squares do not fit: a check by the sum alone would refuse them."""
    assert unfit_reward(np.array([1e30, -1e38])) is None
    assert unfit_obs(np.full((2, 3), 3e38, np.float32)) is None
