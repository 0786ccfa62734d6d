"""Networks of any kind as one function, against each network alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from frugalrl.nets.config import NetConfig
from frugalrl.nets.heads import Categorical, Head, Quantiles, Scalar
from frugalrl.nets.noisy import NoisyLinear
from frugalrl.nets.q_network import ValueNetwork, build_q_network
from frugalrl.nets.stacked_vmap import StackedNetworks
from frugalrl.types import EnvSpec

NETS, BATCH, ACTIONS = 3, 5, 3
KINDS: dict[str, tuple[tuple[int, ...], str, int | None]] = {
    "vector": ((2, 2), "float32", None), "index": ((), "int64", 6), "image": ((4, 84, 84), "uint8", None)
}  # fmt: skip
CASES: dict[str, tuple[str, Head, dict[str, Any]]] = {
    "mlp": ("vector", Scalar(), {}),
    "index-quantiles": ("index", Quantiles(4), {}),
    "nature-dueling": ("image", Scalar(), {"dueling": True}),
    "impala-deep": ("image", Scalar(), {"torso": "impala-deep"}),
    "noisy-c51": ("vector", Categorical(5, -1.0, 1.0), {"dueling": True, "noisy_sigma0": 0.5}),
}


def networks(case: str) -> tuple[list[ValueNetwork], Tensor]:
    """Networks in double precision, noisy ones with noise, and observations [S, B, *obs_shape]."""
    kind, head, net = CASES[case]
    shape, dtype, states = KINDS[kind]
    spec = EnvSpec(
        id="X", protocol="plain", obs_kind=kind, obs_shape=shape, obs_dtype=dtype, num_actions=ACTIONS,  # type: ignore[arg-type]
        num_indices=states,
    )  # fmt: skip
    nets = [build_q_network(spec, NetConfig(**{"hidden_units": (7,)} | net), head).double() for _ in range(NETS)]
    for module in (m for net in nets for m in net.modules() if isinstance(m, NoisyLinear)):
        module.noise_in.normal_()  # type: ignore[operator]
        module.noise_out.normal_()  # type: ignore[operator]
    size = (NETS, BATCH, *shape)
    obs = torch.randn(size) if kind == "vector" else torch.randint(states or 256, size, dtype=getattr(torch, dtype))
    return nets, obs


@pytest.mark.parametrize("case", CASES)
def test_outputs_and_gradients_are_those_of_each_network(case: str) -> None:
    nets, obs = networks(case)
    alone = torch.stack([net(o) for net, o in zip(nets, obs, strict=True)])
    outer = torch.randn_like(alone)
    alone.backward(outer)
    stack = StackedNetworks(nets)
    leaves = [p.clone().requires_grad_() for p in stack.parameters]
    out = stack(stack.prepared(obs), leaves)
    torch.testing.assert_close(out, alone)
    out.backward(outer)
    for leaf, own in zip(leaves, zip(*(net.parameters() for net in nets), strict=True), strict=True):
        torch.testing.assert_close(leaf.grad, torch.stack([p.grad for p in own]))
    assert not torch.allclose(out[0], stack(stack.prepared(obs[[1, 2, 0]]))[0]), "each network has its own rows"


@pytest.mark.parametrize("what", ["parameters", "noise"])
def test_changes_are_seen_after_they_are_gathered(what: str) -> None:
    nets, obs = networks("noisy-c51")
    stack = StackedNetworks(nets)
    x = stack.prepared(obs)
    first = stack(x)
    with torch.no_grad():
        for tensor in nets[1].parameters() if what == "parameters" else nets[1].buffers():
            tensor.mul_(1.5)
    torch.testing.assert_close(stack(x), first, rtol=0, atol=0)
    (stack.gather if what == "parameters" else stack.gather_noise)()
    second = stack(x)
    torch.testing.assert_close(second[[0, 2]], first[[0, 2]])
    torch.testing.assert_close(second[1], nets[1](obs[1]))
    assert not torch.allclose(second[1], first[1])
