"""Convolutions of a few rows as matrix products, against PyTorch's convolutions in float64."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from frugalrl.nets.actor_critic import ActorCritic, build_actor_critic
from frugalrl.nets.config import NetConfig
from frugalrl.nets.heads import Categorical, Head, PolicyValue, Quantiles, Scalar
from frugalrl.nets.q_network import ValueNetwork, build_q_network
from frugalrl.nets.torsos import ScaledConv2d
from frugalrl.policies import few_rows
from frugalrl.policies.few_rows import few_rows_forward, pays
from frugalrl.policies.sequence import SequencePolicy
from frugalrl.policies.value import ValuePolicy
from frugalrl.types import EnvSpec, PolicySnapshot

CPU = torch.device("cpu")
ATARI = EnvSpec(id="A", protocol="p", obs_kind="image", obs_shape=(4, 84, 84), obs_dtype="uint8", num_actions=6)
PLANES = EnvSpec(
    id="M", protocol="p", obs_kind="image", obs_shape=(7, 10, 10), obs_dtype="bool", num_actions=6, binary=True
)


def observations(spec: EnvSpec, rows: int, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    high, dtype = (2, np.bool_) if spec.binary else (256, np.uint8)
    return torch.from_numpy(rng.integers(0, high, (rows, *spec.obs_shape)).astype(dtype))


def network(spec: EnvSpec, config: NetConfig, head: Head | None = None) -> ValueNetwork:
    torch.manual_seed(0)
    return build_q_network(spec, config, head).requires_grad_(False)


NETWORKS = {
    "nature": (ATARI, NetConfig(hidden_units=(32,)), Scalar()),
    "impala-shallow": (ATARI, NetConfig(torso="impala-shallow", hidden_units=(32,)), Scalar()),
    "minatar": (PLANES, NetConfig(hidden_units=(32, 16)), Scalar()),
    "dueling": (ATARI, NetConfig(hidden_units=(32,), dueling=True), Scalar()),
    "noisy": (PLANES, NetConfig(hidden_units=(32,), noisy_sigma0=0.5), Scalar()),
    "quantiles": (PLANES, NetConfig(hidden_units=(32,)), Quantiles(5)),
    "categorical, dueling, noisy": (PLANES, NetConfig(dueling=True, noisy_sigma0=0.1), Categorical(11, -1.0, 1.0)),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_every_network_of_images_gives_what_its_layers_give(name: str, rows: int) -> None:
    net = network(*NETWORKS[name]).double()
    forward, obs = few_rows_forward(net), observations(NETWORKS[name][0], rows)
    assert forward is not None
    with torch.inference_mode():
        torch.testing.assert_close(forward(obs), net(obs), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("dtype", "rtol", "atol"), [(torch.float32, 1e-5, 1e-6), (torch.bfloat16, 0.05, 0.05)], ids=str
)
def test_in_the_network_s_own_type(dtype: torch.dtype, rtol: float, atol: float) -> None:
    exact = network(*NETWORKS["nature"])
    net, obs = copy.deepcopy(exact).to(dtype), observations(ATARI, 2)
    forward = few_rows_forward(net)
    assert forward is not None
    with torch.inference_mode():
        got = forward(obs)
        assert got.dtype == dtype
        torch.testing.assert_close(got, net(obs), rtol=rtol, atol=atol)
        torch.testing.assert_close(got.float(), exact(obs), rtol=rtol, atol=atol)


class Channels(nn.Module):
    """A layer that is called as it is, in PyTorch's own layout: it tells channels from rows."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def one(convolution: nn.Conv2d, obs: Tensor, *after: nn.Module) -> tuple[Tensor, Tensor]:
    """What one convolution gives in a few rows, and as PyTorch defines it."""
    first = network(*NETWORKS["nature"]).double()[0]
    net = nn.Sequential(first, convolution.double(), *after).requires_grad_(False)
    forward = few_rows_forward(net)
    assert forward is not None
    with torch.inference_mode():
        got = forward(obs)
        return got.permute(0, 3, 1, 2) if got.dim() == 4 else got, net(obs)


@given(
    rows=st.integers(1, 3), channels=st.integers(1, 5), filters=st.integers(1, 4), k=st.integers(1, 5),
    stride=st.integers(1, 5), height=st.integers(5, 14), width=st.integers(5, 14), bias=st.booleans(),
    last=st.booleans(), seed=st.integers(0, 2**31),
)  # fmt: skip
def test_one_convolution_of_any_size(
    rows: int, channels: int, filters: int, k: int, stride: int, height: int, width: int, bias: bool, last: bool,
    seed: int,
) -> None:  # fmt: skip
    torch.manual_seed(seed)
    obs = torch.randint(256, (rows, channels, height, width), dtype=torch.uint8)
    layer = nn.Conv2d(channels, filters, k, stride, bias=bias)
    layer = layer.to(memory_format=torch.channels_last) if last else layer  # type: ignore[call-overload]
    got, expected = one(layer, obs)
    torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("relu", [False, True])
def test_a_layer_that_is_not_known_reads_its_own_layout(relu: bool) -> None:
    torch.manual_seed(0)
    obs = torch.randint(256, (2, 3, 12, 9), dtype=torch.uint8)
    got, expected = one(ScaledConv2d(3, 5, 4, 2, scale=1 / 255), obs, *([nn.ReLU()] if relu else []), Channels())
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    assert bool((got < 0).any()) != relu


RIGHT = few_rows.patches


def no_stride(x: Tensor, k: int, stride: int, up: int, across: int) -> Tensor:
    """Wrong patches: side by side, whatever the stride."""
    return RIGHT(x, k, 1, up, across)


def columns_first(x: Tensor, k: int, stride: int, up: int, across: int) -> Tensor:
    """Wrong patches: rows and columns of a patch in the other order."""
    rows = RIGHT(x, k, stride, up, across)
    return rows.view(-1, k, k, x.shape[3]).transpose(1, 2).reshape(len(rows), -1)


def shifted(x: Tensor, k: int, stride: int, up: int, across: int) -> Tensor:
    """Wrong patches: each is that of the filter to the left."""
    return RIGHT(x, k, stride, up, across).roll(1, 0)


@pytest.mark.parametrize("wrong", [no_stride, columns_first, shifted])
def test_wrong_patches_are_found(monkeypatch: pytest.MonkeyPatch, wrong: Callable[..., Tensor]) -> None:
    net, obs = network(*NETWORKS["nature"]).double(), observations(ATARI, 1)
    forward = few_rows_forward(net)
    assert forward is not None
    monkeypatch.setattr(few_rows, "patches", wrong)
    with torch.inference_mode():
        assert not torch.allclose(forward(obs), net(obs), rtol=1e-3)


def test_what_changes_the_parameters_is_seen() -> None:
    net, obs = network(*NETWORKS["nature"]), observations(ATARI, 1)
    forward = few_rows_forward(net)
    assert forward is not None
    with torch.inference_mode():
        before = forward(obs)
        for parameter in net.parameters():
            parameter.mul_(1.5)
            torch.testing.assert_close(forward(obs), net(obs), rtol=1e-5, atol=1e-6)
        assert not torch.equal(forward(obs), before)


@pytest.mark.parametrize("contiguous", [False, True])
def test_a_policy_whose_parameters_lie_elsewhere_follows(contiguous: bool) -> None:
    """``load`` takes over the memory of a snapshot, in whatever layout it is."""
    other, obs = network(*NETWORKS["nature"]), observations(ATARI, 1)
    policy = ValuePolicy(lambda: network(*NETWORKS["nature"]), CPU)
    given = {n: (p * 1.5).contiguous() if contiguous else p * 1.5 for n, p in other.named_parameters()}
    policy.load(PolicySnapshot(version=0, parameters=given))
    for scale in (1.0, 0.5):
        for own, parameter in zip(other.parameters(), given.values(), strict=True):
            parameter.mul_(scale)
            own.copy_(parameter)
        np.testing.assert_allclose(policy.q_values(obs.numpy()), other(obs).numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rows", [1, 8])
def test_an_actor_critic_acts_so_too(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def build() -> ActorCritic:
        torch.manual_seed(0)
        net = build_actor_critic(PLANES, NetConfig(hidden_units=(8,)))
        assert isinstance(net, ActorCritic)
        return net

    policy, obs = SequencePolicy(build, PolicyValue(), CPU), observations(PLANES, rows)
    got, state = policy.values(obs.numpy(), {})
    monkeypatch.setattr(policy, "_few", None)
    expected = policy.values(obs.numpy(), {})[0]
    assert (got.shape, got.dtype, state) == ((rows, 6), np.float32, {})
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    recurrent = SequencePolicy(lambda: build_actor_critic(PLANES, NetConfig(lstm_units=4)), PolicyValue(), CPU)
    assert recurrent._few is None, "it remembers"


def test_other_networks_have_none() -> None:
    vector = EnvSpec(id="V", protocol="p", obs_kind="vector", obs_shape=(4,), obs_dtype="float32", num_actions=2)
    assert few_rows_forward(network(vector, NetConfig(hidden_units=(8,)))) is None
    padded = network(ATARI, NetConfig(torso="impala-deep", hidden_units=(8,)))
    assert few_rows_forward(padded) is None, "its convolutions have padding"
    for layer in (nn.Conv2d(4, 8, (3, 2)), nn.Conv2d(4, 8, 3, (1, 2)), nn.Conv2d(4, 8, 3, groups=2)):
        assert few_rows_forward(nn.Sequential(network(*NETWORKS["nature"])[0], layer)) is None
    assert ValuePolicy(lambda: network(*NETWORKS["nature"]), CPU, "int8-dynamic")._few is None


@pytest.mark.parametrize(
    ("spec", "rows", "expected"), [(ATARI, 2, True), (ATARI, 3, False), (PLANES, 16, True), (PLANES, 17, False)]
)
def test_only_few_rows_go_this_way(spec: EnvSpec, rows: int, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    obs = observations(spec, rows)
    assert pays(obs) == expected
    policy, seen = ValuePolicy(lambda: network(spec, NetConfig(hidden_units=(8,))), CPU), []
    monkeypatch.setattr(policy, "_few", lambda obs: seen.append(len(obs)) or policy.network(obs))
    assert policy.q_values(obs.numpy()).shape == (rows, 6)
    assert bool(seen) == expected


def test_images_that_are_not_contiguous() -> None:
    net, obs = network(*NETWORKS["nature"]), observations(ATARI, 2)
    forward = few_rows_forward(net)
    assert forward is not None
    for view in (obs.transpose(2, 3), obs[:, :, ::1].flip(0), obs.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)):
        with torch.inference_mode():
            torch.testing.assert_close(forward(view), net(view), rtol=1e-5, atol=1e-6)
