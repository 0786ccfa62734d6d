"""Stacked MLPs against autograd on each network alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from frugalrl.nets.config import NetConfig
from frugalrl.nets.heads import Head, Quantiles, Scalar
from frugalrl.nets.q_network import ValueNetwork, build_q_network
from frugalrl.nets.stacked import StackedMLP
from frugalrl.types import EnvSpec

ACTIONS, BATCH, NETS = 3, 5, 3


def spec_of(kind: Any) -> EnvSpec:
    shape, dtype, states = {
        "vector": ((2, 2), "float32", None), "index": ((), "int64", 6), "image": ((1, 10, 10), "uint8", None)
    }[kind]  # fmt: skip
    return EnvSpec(
        id="X", protocol="plain", obs_kind=kind, obs_shape=shape, obs_dtype=dtype, num_actions=ACTIONS,
        num_indices=states,
    )  # fmt: skip


def networks(kind: str, head: Head, **net: Any) -> list[ValueNetwork]:
    config = NetConfig(**({"hidden_units": (7, 4)} | net))
    return [build_q_network(spec_of(kind), config, head).double() for _ in range(NETS)]


def observations(kind: str, batch: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if kind == "index":
        return rng.integers(6, size=(NETS, batch))
    return rng.normal(size=(NETS, batch, 2, 2)).astype(np.float32)


@pytest.mark.parametrize("kind", ["vector", "index"])
@pytest.mark.parametrize("head", [Scalar(), Quantiles(2)])
def test_outputs_and_gradients_are_those_of_each_network(kind: str, head: Head) -> None:
    nets, obs = networks(kind, head), observations(kind, BATCH)
    alone = torch.stack([net(torch.from_numpy(o)) for net, o in zip(nets, obs, strict=True)])
    outer = torch.randn_like(alone)
    alone.backward(outer)
    wanted = [torch.cat([p.grad.flatten() for p in net.parameters()]) for net in nets]

    stack = StackedMLP(nets)
    x = stack.features(obs)
    out = stack.forward(x, keep=True)
    stack.forward(stack.features(observations(kind, BATCH, 1)))  # does not touch what was kept
    torch.testing.assert_close(out, alone.detach())
    torch.testing.assert_close(stack.forward_few(obs), alone.detach())
    found = stack.backward(x, outer)
    torch.testing.assert_close(found, torch.stack(wanted))
    assert not torch.allclose(found[0], wanted[1]), "the networks differ"


def test_the_networks_are_views_into_the_stack() -> None:
    nets = networks("vector", Scalar())
    before = [torch.cat([p.detach().flatten() for p in net.parameters()]) for net in nets]
    stack = StackedMLP(nets)
    torch.testing.assert_close(stack.flat, torch.stack(before), rtol=0, atol=0)
    obs = observations("vector", BATCH)
    first = stack.forward_few(obs)
    with torch.no_grad():
        for parameter in nets[1].parameters():
            parameter.add_(0.5)
    second = stack.forward_few(obs)
    assert torch.equal(first[[0, 2]], second[[0, 2]])
    assert not torch.equal(first[1], second[1])


def test_the_batch_may_change_its_size() -> None:
    stack = StackedMLP(networks("vector", Scalar()))
    for batch in (2, 9, 1):
        obs = observations("vector", batch)
        torch.testing.assert_close(stack.forward(stack.features(obs)), stack.forward_few(obs))
