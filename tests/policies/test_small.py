from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from frugalrl.nets.config import NetConfig
from frugalrl.nets.q_network import build_q_network
from frugalrl.policies.small import numpy_forward
from frugalrl.policies.value import ValuePolicy
from frugalrl.types import EnvSpec, PolicySnapshot


def spec(kind: str, shape: tuple[int, ...], dtype: str, num_indices: int | None = None, actions: int = 3) -> EnvSpec:
    return EnvSpec(
        id="E", protocol="p", obs_kind=kind, obs_shape=shape, obs_dtype=dtype, num_indices=num_indices,
        num_actions=actions,
    )  # fmt: skip


SPECS = {
    "vector": spec("vector", (5,), "float32"),
    "bytes": spec("vector", (5,), "uint8"),
    "index": spec("index", (), "int64", num_indices=7),
}


def observations(of: EnvSpec, batch: int, rng: np.random.Generator) -> np.ndarray:
    if of.num_indices is not None:
        return rng.integers(of.num_indices, size=batch)
    if of.obs_dtype == "uint8":
        return rng.integers(256, size=(batch, *of.obs_shape), dtype=np.uint8)
    return rng.normal(size=(batch, *of.obs_shape)).astype(np.float32)


@given(
    of=st.sampled_from(sorted(SPECS)),
    hidden=st.lists(st.integers(1, 70), min_size=1, max_size=3),
    batch=st.integers(1, 9),
    seed=st.integers(0, 2**16),
)
@settings(deadline=None, max_examples=60)
def test_it_is_the_network(of: str, hidden: list[int], batch: int, seed: int) -> None:
    torch.manual_seed(seed)
    net = build_q_network(SPECS[of], NetConfig(hidden_units=tuple(hidden)))
    obs = observations(SPECS[of], batch, np.random.default_rng(seed))
    forward = numpy_forward(net)
    assert forward is not None
    got = forward(obs)
    assert (got.shape, got.dtype) == ((batch, 3), np.float32)
    with torch.no_grad():
        np.testing.assert_allclose(got, net(torch.from_numpy(obs)).numpy(), rtol=1e-4, atol=1e-4)


def test_the_comparison_is_not_blind() -> None:
    torch.manual_seed(0)
    net = build_q_network(SPECS["vector"], NetConfig(hidden_units=(16, 16)))
    obs = observations(SPECS["vector"], 8, np.random.default_rng(0))
    forward = numpy_forward(nn.Sequential(net[0], *(nn.Linear(0, 0) for _ in ())))
    assert forward is None
    linear = nn.Sequential(net[0], *(without_relu(m) for m in net[1:]))
    forward = numpy_forward(linear)
    assert forward is not None
    with torch.no_grad():
        assert not np.allclose(forward(obs), net(torch.from_numpy(obs)).numpy(), rtol=1e-4, atol=1e-4)


def without_relu(layer: nn.Linear) -> nn.Linear:
    plain = nn.Linear(layer.in_features, layer.out_features)
    plain.weight, plain.bias = layer.weight, layer.bias
    return plain


@pytest.mark.parametrize(
    ("of", "config"),
    [
        (SPECS["vector"], NetConfig(hidden_units=(8,), dueling=True)),
        (spec("image", (4, 10, 10), "float32"), NetConfig(hidden_units=(8,))),
    ],
)
def test_other_networks_are_left_to_torch(of: EnvSpec, config: NetConfig) -> None:
    assert numpy_forward(build_q_network(of, config)) is None


def test_the_policy_sees_what_the_learner_changes_in_place() -> None:
    of = SPECS["vector"]
    obs = observations(of, 2, np.random.default_rng(0))
    policy = ValuePolicy(lambda: build_q_network(of, NetConfig(hidden_units=(8,))), torch.device("cpu"))
    net = build_q_network(of, NetConfig(hidden_units=(8,)))
    snapshot = PolicySnapshot(version=1, parameters=dict(net.named_parameters()))
    for _ in range(2):
        policy.load(snapshot)
        with torch.no_grad():
            np.testing.assert_allclose(policy.q_values(obs), net(torch.from_numpy(obs)).numpy(), atol=1e-5)
            for parameter in net.parameters():
                parameter.mul_(1.5)
            np.testing.assert_allclose(policy.q_values(obs), net(torch.from_numpy(obs)).numpy(), atol=1e-5)
    again = PolicySnapshot(version=2, parameters={n: p.detach() * 2 for n, p in net.named_parameters()})
    before = policy.q_values(obs)
    policy.load(again)
    assert not np.allclose(policy.q_values(obs), before)


def test_a_nan_stays_a_nan() -> None:
    of = SPECS["vector"]
    net = build_q_network(of, NetConfig(hidden_units=(8,)))
    forward = numpy_forward(net)
    assert forward is not None
    with torch.no_grad():
        net[1].weight.fill_(np.nan)
    assert np.isnan(forward(np.zeros((1, 5), np.float32))).all()


def test_an_overflow_is_infinite_and_makes_no_noise() -> None:
    """Warnings are errors in the tests: a network that diverges is reported by the explorer, in one sentence."""
    of = SPECS["vector"]
    net = build_q_network(of, NetConfig(hidden_units=(8, 8)))
    forward = numpy_forward(net)
    assert forward is not None
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(1e30)
    assert np.isinf(forward(np.ones((1, 5), np.float32))).all()
