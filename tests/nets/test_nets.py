from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from frugalrl.nets.config import NetConfig
from frugalrl.nets.dense import Dueling
from frugalrl.nets.q_network import build_q_network, prepared, torso_name
from frugalrl.nets.torsos import Images, ScaledConv2d, in_parts, interleave4
from frugalrl.types import EnvSpec, UserError


def spec(kind: Any, shape: tuple[int, ...], dtype: str = "float32", **changes: Any) -> EnvSpec:
    return EnvSpec(id="Test-v0", protocol="plain", obs_kind=kind, obs_shape=shape, obs_dtype=dtype,
                   **({"num_actions": 3} | changes))  # fmt: skip


VECTOR = spec("vector", (5,))
INDEX = spec("index", (), "int64", num_indices=7)
MINATAR = spec("image", (4, 10, 10), "bool")
ATARI = spec("image", (4, 84, 84), "uint8", num_actions=18)


def shapes(net: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(p.shape) for name, p in net.named_parameters() if name.endswith("weight")}


def observations(of: EnvSpec, batch: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    if of.obs_kind == "index":
        return torch.randint(of.num_indices or 1, (batch,), generator=generator)
    if of.obs_dtype == "float32":
        return torch.randn((batch, *of.obs_shape), generator=generator)
    high = 2 if of.obs_dtype == "bool" else 256
    dtype = getattr(torch, of.obs_dtype)
    return torch.randint(high, (batch, *of.obs_shape), generator=generator).to(dtype)


# -- which network ---------------------------------------------------------------------------------------------------


def test_nature_has_the_layers_of_the_paper() -> None:
    net = build_q_network(ATARI, NetConfig(hidden_units=(512,)))
    assert list(shapes(net).values()) == [(32, 4, 8, 8), (64, 32, 4, 4), (64, 64, 3, 3), (512, 3136), (18, 512)]
    assert sum(p.numel() for p in net.parameters()) == 1_693_362  # Mnih et al. 2015 with 18 actions
    assert net(observations(ATARI, 2)).shape == (2, 18)


def test_minatar_has_the_layers_of_the_paper() -> None:
    net = build_q_network(MINATAR, NetConfig(hidden_units=(128,)))
    assert list(shapes(net).values()) == [(16, 4, 3, 3), (128, 1024), (3, 128)]
    assert net(observations(MINATAR, 2)).shape == (2, 3)


@pytest.mark.parametrize(
    ("of", "features"), [(VECTOR, 5), (INDEX, 7), (spec("vector", (2, 3)), 6), (spec("vector", (4,), "uint8"), 4)]
)
def test_mlps(of: EnvSpec, features: int) -> None:
    net = build_q_network(of, NetConfig(hidden_units=(6, 8)))
    assert list(shapes(net).values()) == [(6, features), (8, 6), (3, 8)]
    q = net(observations(of, 4))
    assert (q.shape, q.dtype) == ((4, 3), torch.float32)


def test_an_index_is_one_hot() -> None:
    net = build_q_network(INDEX, NetConfig(hidden_units=(6,)))
    first = net[0](torch.tensor([0, 6, 2]))
    assert torch.equal(first, torch.eye(7)[[0, 6, 2]])


def test_one_seed_gives_one_network_and_another_seed_another() -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return torch.cat([p.reshape(-1) for p in build_q_network(ATARI, NetConfig(hidden_units=(4,))).parameters()])

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


@pytest.mark.parametrize(
    ("of", "torso", "expected"),
    [
        (VECTOR, "auto", "mlp"),
        (INDEX, "auto", "mlp"),
        (MINATAR, "auto", "minatar"),
        (ATARI, "auto", "nature"),
        (spec("image", (3, 36, 40)), "auto", "nature"),
        (spec("image", (3, 35, 200)), "auto", "minatar"),
        (spec("image", (1, 3, 9)), "auto", "minatar"),
        (spec("image", (1, 2, 9)), "auto", "mlp"),  # two rows of numbers are no picture
        (ATARI, "minatar", "minatar"),
        (MINATAR, "mlp", "mlp"),
    ],
)
def test_the_torso_that_is_taken(of: EnvSpec, torso: Any, expected: str) -> None:
    assert torso_name(of, NetConfig(torso=torso)) == expected
    assert build_q_network(of, NetConfig(torso=torso, hidden_units=(4,)))(observations(of, 1)).shape[0] == 1


@pytest.mark.parametrize(
    ("of", "torso", "says"),
    [
        (MINATAR, "nature", r"at least 36x36 pixels, but Test-v0 gives image observations of shape \(4, 10, 10\)"),
        (VECTOR, "nature", "needs images of at least 36x36 pixels, but Test-v0 gives vector"),
        (VECTOR, "minatar", "needs images, but Test-v0 gives vector observations of shape .* use net.torso=auto"),
        (INDEX, "minatar", "needs images, but Test-v0 gives index"),
        (spec("image", (3, 2, 9)), "minatar", "needs images"),
    ],
)
def test_a_torso_that_does_not_fit_is_refused(of: EnvSpec, torso: Any, says: str) -> None:
    with pytest.raises(UserError, match=says):
        build_q_network(of, NetConfig(torso=torso))


@pytest.mark.parametrize("widths", [(), (0,), (4, -1)])
def test_widths_are_checked(widths: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"net.hidden_units="):
        NetConfig(hidden_units=widths)


# -- dueling ---------------------------------------------------------------------------------------------------------


def test_the_mean_advantage_is_zero() -> None:
    head = Dueling(6, 8, 5)
    x = torch.randn(10, 6)
    torch.testing.assert_close(head(x).mean(1, keepdim=True), head.value(x))
    centred = head(x) - head.value(x)
    torch.testing.assert_close(centred, head.advantage(x) - head.advantage(x).mean(1, keepdim=True))


def test_a_constant_added_to_all_advantages_changes_nothing() -> None:
    head = Dueling(6, 8, 5)
    x = torch.randn(10, 6)
    before = head(x).detach()
    with torch.no_grad():
        head.advantage[1].bias += 3.0
    torch.testing.assert_close(head(x), before)


def test_dueling_streams_have_the_last_hidden_layer_of_their_own() -> None:
    net = build_q_network(VECTOR, NetConfig(hidden_units=(6, 8), dueling=True))
    assert list(shapes(net).values()) == [(6, 5), (8, 6), (1, 8), (8, 6), (3, 8)]
    assert build_q_network(ATARI, NetConfig(hidden_units=(16,), dueling=True))(observations(ATARI, 2)).shape == (2, 18)


# -- pixels ----------------------------------------------------------------------------------------------------------


def plain_nature(net: nn.Sequential, obs: torch.Tensor) -> torch.Tensor:
    """The same network as textbooks have it: divide the pixels, contiguous memory."""
    x = obs.to(torch.float32).contiguous() / 255.0
    for module in net:
        if isinstance(module, Images):
            continue
        if isinstance(module, nn.Conv2d):
            x = torch.nn.functional.conv2d(x, module.weight.contiguous(), module.bias, module.stride)
        else:
            x = module(x)
    return x


def test_folding_1_255_into_the_kernel_equals_dividing_the_pixels() -> None:
    torch.manual_seed(0)
    net = build_q_network(ATARI, NetConfig(hidden_units=(16,)))
    obs = observations(ATARI, 3)
    torch.testing.assert_close(net(obs), plain_nature(net, obs), rtol=1e-5, atol=1e-6)


def test_the_gradient_goes_through_the_folded_scale() -> None:
    folded = ScaledConv2d(4, 2, 3, 1, scale=1 / 255)
    plain = nn.Conv2d(4, 2, 3)
    plain.load_state_dict(folded.state_dict())
    obs = observations(spec("image", (4, 10, 10), "uint8"), 2).to(torch.float32)
    folded(obs).square().sum().backward()
    plain(obs / 255).square().sum().backward()
    torch.testing.assert_close(folded.weight.grad, plain.weight.grad, rtol=1e-4, atol=1e-6)


def test_floats_are_not_scaled() -> None:
    of = spec("image", (3, 40, 40), "float32")
    net = build_q_network(of, NetConfig(hidden_units=(4,)))
    assert net[1].scale == 1.0


@pytest.mark.parametrize("shape", [(1, 4, 84, 84), (5, 4, 84, 84), (2, 4, 9, 7), (3, 4, 1, 1)])
def test_interleave4_equals_a_conversion_to_channels_last(shape: tuple[int, ...]) -> None:
    obs = torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    obs[0, :, 0, 0] = 255  # the sign bit of the word
    got = interleave4(obs)
    assert got.dtype == torch.uint8
    assert torch.equal(got, obs)
    assert got.is_contiguous(memory_format=torch.channels_last)


def test_many_images_are_interleaved_in_parts_and_in_the_memory_of_the_batch_before() -> None:
    generator = torch.Generator().manual_seed(2)
    one, two = (torch.randint(256, (300, 4, 6, 5), dtype=torch.uint8, generator=generator) for _ in range(2))
    first = in_parts(interleave4, one, torch.float32)
    assert torch.equal(first, one.to(torch.float32))
    assert first.is_contiguous(memory_format=torch.channels_last)
    second = in_parts(interleave4, two, torch.float32, first)
    assert second.data_ptr() == first.data_ptr()
    assert torch.equal(second, two.to(torch.float32))
    # what does not fit is made anew
    for obs, dtype in ((two[:200], torch.float32), (two, torch.float64)):
        other = in_parts(interleave4, obs, dtype, first)
        assert other.data_ptr() != first.data_ptr()
        assert torch.equal(other, obs.to(dtype))
        assert other.dtype == dtype


@pytest.mark.parametrize(
    "of", [ATARI, MINATAR, spec("image", (3, 40, 40), "uint8"), spec("image", (4, 40, 40), "float32")]
)
def test_images_become_floats_in_channels_last(of: EnvSpec) -> None:
    obs = observations(of, 2)
    got = Images()(obs)
    assert got.dtype == torch.float32
    assert torch.equal(got, obs.to(torch.float32))
    assert got.is_contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        assert Images()(obs).dtype == torch.bfloat16


def test_convolutions_are_kept_in_channels_last() -> None:
    net = build_q_network(ATARI, NetConfig(hidden_units=(4,)))
    for parameter in net.parameters():
        if parameter.ndim == 4:
            assert parameter.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("of", [ATARI, MINATAR, VECTOR, INDEX], ids=["atari", "minatar", "vector", "index"])
def test_a_prepared_observation_gives_the_same_outputs_bit_for_bit(of: EnvSpec) -> None:
    torch.manual_seed(0)
    net = build_q_network(of, NetConfig(hidden_units=(8,)))
    obs = observations(of, 3)
    once = prepared(net, obs)
    assert torch.equal(net(once), net(obs))
    assert torch.equal(prepared(net, once), once)


@pytest.mark.parametrize("torso", ["nature", "impala-shallow", "impala-deep"])
def test_planes_of_zeros_and_ones_are_seen_as_well_as_bytes_of_0_and_255(torso: Any) -> None:
    """Divided by 255 they would be nearly black."""
    planes = torch.randint(2, (2, 3, 40, 36), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

    def answer(obs: torch.Tensor, *, binary: bool) -> torch.Tensor:
        torch.manual_seed(0)
        of = spec("image", (3, 40, 36), "uint8", binary=binary)
        with torch.inference_mode():
            return build_q_network(of, NetConfig(torso=torso, hidden_units=(8,)))(obs)

    whole = answer(planes * 255, binary=False)
    torch.testing.assert_close(answer(planes, binary=True), whole)
    assert not torch.allclose(answer(planes, binary=False), whole, rtol=1e-2)  # the wrong variant
