"""The first convolution over cells of 4 x 4 pixels against the convolution as it is defined."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from frugalrl.nets import in_depth
from frugalrl.nets.actor_critic import build_actor_critic, prepared_unroll
from frugalrl.nets.config import NetConfig
from frugalrl.nets.impala_torsos import impala_shallow
from frugalrl.nets.q_network import build_q_network, prepared
from frugalrl.nets.torsos import Images, ScaledConv2d, in_parts, nature
from frugalrl.types import EnvSpec

ATARI = EnvSpec(
    id="Test-v0", protocol="plain", obs_kind="image", obs_shape=(4, 84, 84), obs_dtype="uint8", num_actions=3
)


def pixels(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def one_by_one(obs: Tensor) -> Tensor:
    """The slow oracle: channel ``(dy * C + c) * 4 + dx`` of a cell is pixel (dy, dx) of its channel c."""
    images, channels, height, width = obs.shape
    deep = torch.zeros((images, 16 * channels, height // 4, width // 4), dtype=torch.uint8)
    for y in range(height):
        for x in range(width):
            for c in range(channels):
                deep[:, (y % 4 * channels + c) * 4 + x % 4, y // 4, x // 4] = obs[:, c, y, x]
    return deep


@given(
    images=st.integers(1, 3), channels=st.integers(1, 5), height=st.integers(1, 4), width=st.integers(1, 4),
    seed=st.integers(0, 2**31),
)  # fmt: skip
def test_cells_hold_each_pixel_where_they_say(images: int, channels: int, height: int, width: int, seed: int) -> None:
    obs = pixels(images, channels, 4 * height, 4 * width, seed=seed)
    got = in_depth.cells(obs)
    assert got.dtype == torch.uint8
    assert torch.equal(got, one_by_one(obs))
    assert got.permute(0, 2, 3, 1).is_contiguous()


def swapped(weight: Tensor) -> Tensor:
    """A wrong kernel: the channel before the row within the cell."""
    filters, channels, side, _ = weight.shape
    parts = weight.reshape(filters, channels, side // 4, 4, side // 4, 4).permute(0, 2, 4, 1, 3, 5)
    return parts.reshape(filters, side // 4, side // 4, 16 * channels).permute(0, 3, 1, 2)


def transposed(weight: Tensor) -> Tensor:
    """A wrong kernel: rows and columns of the cells in the other order."""
    return in_depth.kernel(weight).transpose(2, 3)


def outputs_and_gradients(kernel: Callable[[Tensor], Tensor], channels: int, side: int) -> tuple[bool, bool]:
    """Whether output and gradient in depth are those of the convolution as it is, in float64."""
    generator = torch.Generator().manual_seed(3)
    obs = pixels(2, channels, 24, 36)
    weight = torch.randn(6, channels, side, side, dtype=torch.float64, generator=generator, requires_grad=True)
    bias = torch.randn(6, dtype=torch.float64, generator=generator)
    found = []
    for out in (
        F.conv2d(obs.to(torch.float64), weight, bias, 4),
        F.conv2d(in_depth.cells(obs).to(torch.float64), kernel(weight), bias),
    ):
        found.append((out.detach(), torch.autograd.grad(out.square().sum(), weight)[0]))
    (out, gradient), (deep_out, deep_gradient) = found
    return torch.allclose(deep_out, out, rtol=1e-12), torch.allclose(deep_gradient, gradient, rtol=1e-10)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("side", [4, 8, 12])
def test_the_convolution_in_depth_is_the_convolution_and_so_is_its_gradient(channels: int, side: int) -> None:
    assert outputs_and_gradients(in_depth.kernel, channels, side) == (True, True)


@pytest.mark.parametrize("wrong", [swapped, transposed])
def test_a_wrong_order_of_the_kernel_is_found(wrong: Callable[[Tensor], Tensor]) -> None:
    assert outputs_and_gradients(wrong, 3, 8) == (False, False)


@pytest.mark.parametrize("build", [nature, impala_shallow])
def test_a_torso_gives_the_same_features_both_ways(build: Callable[[EnvSpec], nn.Sequential]) -> None:
    torch.manual_seed(0)
    torso = build(ATARI)
    obs = pixels(9, 4, 84, 84)
    as_it_is = torso(obs)
    with torch.no_grad():
        assert torso[0](obs).shape == (9, 64, 21, 21), "without a gradient the images are in depth"
        torch.testing.assert_close(torso(obs), as_it_is, rtol=1e-4, atol=1e-5)


def test_two_networks_of_one_build_read_the_same_cells() -> None:
    net = build_q_network(ATARI, NetConfig(hidden_units=(16,)))
    obs = pixels(9, 4, 84, 84)
    with torch.no_grad():
        once = prepared(net, obs)
        assert torch.equal(prepared(net, once), once)
        assert torch.equal(net(once), net(obs))


@pytest.mark.parametrize(
    ("obs", "why"),
    [
        (pixels(7, 4, 84, 84), "few rows"),
        (pixels(9, 4, 84, 82), "a width that cells do not fill"),
        (pixels(9, 4, 82, 84), "a height that cells do not fill"),
        (pixels(9, 4, 84, 84).transpose(2, 3), "pixels that do not lie side by side"),
        (pixels(9 * 4 * 84 * 84 + 1)[1:].view(9, 4, 84, 84), "words that begin between two words of the memory"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_what_does_not_fit_stays_as_it_is(obs: Tensor, why: str) -> None:
    with torch.no_grad():
        assert not in_depth.pays(obs, torch.float32, gradient=False), why
        assert torch.equal(Images(to_cells=True)(obs), obs.to(torch.float32))


def test_a_gradient_is_taken_in_depth_only_where_bfloat16_has_its_own_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    obs = pixels(9, 4, 84, 84)
    for amx in (True, False):
        monkeypatch.setattr(in_depth, "_AMX", amx)
        assert not in_depth.pays(obs, torch.float32, gradient=True)
        assert in_depth.pays(obs, torch.bfloat16, gradient=True) is amx
        assert in_depth.pays(obs, torch.float32, gradient=False)


def test_a_learner_that_prepares_its_images_first_gets_them_for_a_gradient() -> None:
    net = build_actor_critic(ATARI, NetConfig(hidden_units=(16,)))
    obs = pixels(3, 4, 4, 84, 84)
    with torch.no_grad():  # the preparation itself has no gradient
        assert prepared_unroll(net, obs).shape == obs.shape
        assert prepared_unroll(net, obs.to(torch.float32)).shape == obs.shape


def test_gradients_of_a_scaled_convolution_agree_both_ways() -> None:
    convolution = ScaledConv2d(4, 8, 8, 4, scale=1 / 255)
    obs = pixels(3, 4, 20, 20)
    gradients = [
        torch.autograd.grad(convolution(x.to(torch.float32)).square().sum(), list(convolution.parameters()))
        for x in (obs, in_depth.cells(obs))
    ]
    for plain, deep in zip(*gradients, strict=True):
        torch.testing.assert_close(deep, plain, rtol=1e-4, atol=1e-6)


def test_many_images_are_brought_into_cells_in_parts() -> None:
    one, two = pixels(300, 4, 8, 12), pixels(300, 4, 8, 12, seed=1)
    first = in_parts(in_depth.cells, one, torch.float32)
    assert torch.equal(first, in_depth.cells(one).to(torch.float32))
    assert first.permute(0, 2, 3, 1).is_contiguous()
    second = in_parts(in_depth.cells, two, torch.float32, first)
    assert second.data_ptr() == first.data_ptr()
    assert torch.equal(second, in_depth.cells(two).to(torch.float32))
