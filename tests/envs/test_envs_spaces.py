"""Spaces: what they become, and what is refused with a sentence that names the space."""

import re

import numpy as np
import pytest
from counting_envs import Spaced
from gymnasium import spaces

from frugalrl.envs import PROTOCOLS, make_env
from frugalrl.envs.spaces import action_range, obs_codec
from frugalrl.types import UserError


def box(shape, dtype=np.uint8):
    return spaces.Box(0, 255 if dtype == np.uint8 else 1, shape, dtype)


@pytest.mark.parametrize(
    ("space", "kind", "shape", "dtype"),
    [
        (box((4,), np.float32), "vector", (4,), "float32"),
        (box((4,), np.float64), "vector", (4,), "float32"),
        (box((128,)), "vector", (128,), "float32"),
        (box((84, 84)), "image", (1, 84, 84), "uint8"),
        (box((210, 160, 3)), "image", (3, 210, 160), "uint8"),
        (box((4, 84, 84)), "image", (4, 84, 84), "uint8"),
        (box((10, 10, 10), np.bool_), "image", (10, 10, 10), "uint8"),
        (box((8, 8, 2), np.float32), "image", (2, 8, 8), "float32"),
        (spaces.Discrete(7, start=3), "index", (), "int64"),
    ],
)
def test_spaces_become(space, kind, shape, dtype):
    codec = obs_codec(space, "Some-v0")
    assert (codec.kind, codec.shape, codec.dtype.name) == (kind, shape, dtype)
    raw = [space.sample() for _ in range(5)]
    one = np.stack([np.asarray(codec.one(r)).astype(codec.dtype) for r in raw])
    batch = codec.batch(np.stack(raw), 5, copy=False)
    assert batch.shape == (5, *shape)
    assert batch.dtype == one.dtype == codec.dtype
    np.testing.assert_array_equal(one, batch)


@pytest.mark.parametrize(
    ("space", "binary"),
    [
        (box((40, 40, 2), np.bool_), True),
        (spaces.Box(0, 1, (40, 40), np.uint8), True),
        (box((40, 40)), False),
        (box((40, 40), np.float32), False),  # never divided
        (box((4,), np.bool_), False),  # a vector
    ],
)
def test_an_image_of_zeros_and_ones_says_so(space, binary):
    assert obs_codec(space, "Some-v0").binary is binary


def test_an_image_keeps_its_pixels():
    raw = np.arange(2 * 3 * 1).reshape(3, 2, 1).astype(np.uint8)
    codec = obs_codec(box((3, 2, 1)), "Some-v0")
    assert codec.shape == (1, 3, 2)
    np.testing.assert_array_equal(codec.one(raw)[0], raw[:, :, 0])
    cube = np.arange(27).reshape(3, 3, 3).astype(np.uint8)
    np.testing.assert_array_equal(obs_codec(box((3, 3, 3)), "x").one(cube)[1], cube[:, :, 1])
    np.testing.assert_array_equal(obs_codec(box((3, 3, 3)), "x", channels_last=False).one(cube)[1], cube[1])


def test_indices_start_at_0():
    codec = obs_codec(spaces.Discrete(3, start=-1), "Some-v0")
    assert [codec.one(i) for i in (-1, 0, 1)] == [0, 1, 2]
    for bad in (2, -2):
        with pytest.raises(ValueError, match="outside"):
            codec.one(bad)
        with pytest.raises(ValueError, match="outside"):
            codec.batch(np.array([bad]), 1, copy=False)


def test_an_index_is_a_whole_number():
    codec = obs_codec(spaces.Discrete(3), "Some-v0")
    assert [codec.one(raw) for raw in (1.0, np.float32(2), np.array(0), True)] == [1, 2, 0, 1]
    for bad in (1.7, np.float64(0.5)):
        with pytest.raises(ValueError, match="no whole number"):
            codec.one(bad)
        with pytest.raises(ValueError, match="no whole number"):
            codec.batch(np.array([bad]), 1, copy=False)


def test_a_batch_that_fits_is_not_copied_unless_asked():
    codec = obs_codec(box((4, 84, 84)), "Some-v0")
    raw = np.zeros((2, 4, 84, 84), np.uint8)
    assert np.shares_memory(codec.batch(raw, 2, copy=False), raw)
    assert not np.shares_memory(codec.batch(raw, 2, copy=True), raw)


def test_observations_that_do_not_fit():
    codec = obs_codec(box((4, 84, 84)), "Some-v0")
    with pytest.raises(ValueError, match="shape"):
        codec.one(np.zeros((84, 84), np.uint8))
    with pytest.raises(ValueError, match="float"):
        codec.one(np.zeros((4, 84, 84), np.float32))
    with pytest.raises(ValueError, match="shape"):
        codec.batch(np.zeros((3, 4, 84, 84), np.uint8), 2, copy=False)
    with pytest.raises(ValueError, match="float"):
        codec.batch(np.zeros((1, 4, 84, 84)), 1, copy=False)


def test_whole_numbers_that_are_no_bytes_are_refused_not_wrapped():
    codec = obs_codec(box((4, 84, 84)), "Some-v0")
    pixels = np.random.default_rng(0).integers(256, size=(4, 84, 84))
    np.testing.assert_array_equal(np.asarray(codec.one(pixels), np.uint8), pixels)
    np.testing.assert_array_equal(codec.batch(pixels[None], 1, copy=False)[0], pixels)
    for wrong in (300, -1):
        pixels[1, 2, 3] = wrong
        with pytest.raises(ValueError, match=f"the observation holds {wrong} but its space only 0 to 255"):
            codec.one(pixels)
        with pytest.raises(ValueError, match=f"the observation holds {wrong} but its space only 0 to 255"):
            codec.batch(pixels[None].astype(np.int16), 1, copy=True)


def test_a_finite_number_beyond_float32_is_not_called_infinite():
    """And numpy's warning, an error here, is not given."""
    codec = obs_codec(box((3,), np.float64), "Some-v0")
    for wrong in (1e300, -1e39):
        raw = np.array([np.inf, wrong, 0.0])
        with pytest.raises(ValueError, match=f"the observation holds {re.escape(str(wrong))}, which float32 cannot"):
            codec.one(raw)
        with pytest.raises(ValueError, match="which float32 cannot hold; scale it down"):
            codec.batch(raw[None], 1, copy=True)
    for right in ([1e30, -3.4e38, 0.0], [np.nan, np.inf, 1.0]):
        expected = np.array(right, np.float32)
        np.testing.assert_array_equal(codec.batch(np.array([right]), 1, copy=False)[0], expected)


@pytest.mark.parametrize("wrong", [np.full(3, "1.5"), np.full(3, 1j), np.array([None, 1, 2])])
def test_what_is_no_number_is_refused(wrong):
    codec = obs_codec(box((3,), np.float32), "Some-v0")
    with pytest.raises(ValueError, match="its space holds numbers"):
        codec.one(wrong)
    with pytest.raises(ValueError, match="its space holds numbers"):
        codec.batch(wrong[None], 1, copy=False)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Dict({"a": spaces.Discrete(2)}),
        spaces.Tuple([spaces.Discrete(2)]),
        spaces.MultiDiscrete([2, 3]),
        spaces.MultiBinary(3),
        box((2, 3, 4, 5)),
        spaces.Box(0, 1, (), np.float32),
    ],
)
def test_unsupported_observations_name_the_space(space):
    with pytest.raises(UserError, match=r"Some-v0 has the observation space .*not supported") as caught:
        obs_codec(space, "Some-v0")
    assert type(space).__name__ in str(caught.value)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-1, 1, (2,), np.float32),
        spaces.MultiDiscrete([2, 3]),
        spaces.Dict({"a": spaces.Discrete(2)}),
        spaces.Tuple([spaces.Discrete(2)]),
    ],
)
def test_unsupported_actions_name_the_space(space):
    with pytest.raises(UserError, match=r"Some-v0 has the action space .*not supported") as caught:
        action_range(space, "Some-v0")
    assert type(space).__name__ in str(caught.value)


def test_continuous_actions_of_a_real_environment():
    with pytest.raises(UserError, match=r"Pendulum-v1 has the action space Box"):
        make_env("Pendulum-v1", protocol=PROTOCOLS["plain"], num_rows=1, seed=0, training=True)


def test_actions_that_do_not_start_at_0_are_shifted():
    made = []

    def create():
        made.append(Spaced(act_space=spaces.Discrete(3, start=5)))
        return made[-1]

    import counting_envs

    counting_envs.shifted = create
    env = make_env("counting_envs:shifted", protocol=PROTOCOLS["plain"], num_rows=1, seed=0, training=True)
    env.reset()
    for action in (0, 2, 1):
        env.step(np.array([action]))
    assert env.spec.num_actions == 3
    assert made[0].taken == [5, 7, 6]
