"""Orthogonal initial weights: gains against a singular value decomposition, and who has none."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from frugalrl.nets.actor_critic import build_actor_critic
from frugalrl.nets.config import NetConfig
from frugalrl.recipes import build_config
from frugalrl.run.config_io import override
from frugalrl.types import EnvSpec, UserError

ATARI = EnvSpec(
    id="e", protocol="p", obs_kind="image", obs_shape=(4, 84, 84), obs_dtype="uint8", num_actions=6, frame_stack=4
)
VECTOR = EnvSpec(id="e", protocol="p", obs_kind="vector", obs_shape=(5,), obs_dtype="float32", num_actions=3)


def net(spec: EnvSpec, seed: int = 0, **more: Any) -> nn.Module:
    torch.manual_seed(seed)
    return build_actor_critic(spec, NetConfig(init="orthogonal", **more))


def gains(weight: torch.Tensor) -> list[float]:
    """Smallest and largest singular value of the matrix [outputs, everything else]."""
    values = torch.linalg.svdvals(weight.detach().double().flatten(1))
    return [values.min().item(), values.max().item()]


def last(network: nn.Module) -> nn.Linear:
    return [m for m in network.modules() if isinstance(m, nn.Linear)][-1]


@pytest.mark.parametrize(("spec", "torso"), [(ATARI, "nature"), (ATARI, "impala-shallow"), (VECTOR, "mlp")])
def test_every_layer_has_the_gain_of_its_place(spec: EnvSpec, torso: Any) -> None:
    network = net(spec, torso=torso, hidden_units=(32, 16))
    out = last(network)
    for layer in network.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)) and layer is not out:
            assert gains(layer.weight) == pytest.approx([math.sqrt(2.0)] * 2, rel=1e-4)
            assert not layer.bias.any()
    assert gains(out.weight[:-1]) == pytest.approx([0.01] * 2, rel=1e-4)
    assert gains(out.weight[-1:]) == pytest.approx([1.0] * 2, rel=1e-4)
    assert not out.bias.any()
    # PyTorch's own weights do not pass
    torch.manual_seed(0)
    plain = build_actor_critic(spec, NetConfig(torso=torso, hidden_units=(32, 16)))
    assert gains(last(plain).weight[:-1]) != pytest.approx([0.01] * 2, rel=0.1)


def test_an_lstm_is_orthogonal_with_gain_1() -> None:
    network = net(VECTOR, hidden_units=(16,), lstm_units=8)
    for name, weight in network.core.lstm.named_parameters():  # type: ignore[union-attr]
        if name.startswith("weight"):
            assert gains(weight) == pytest.approx([1.0, 1.0], rel=1e-4)
        else:
            assert not weight.any()


def test_the_policy_begins_near_uniform() -> None:
    out = net(ATARI, torso="nature", hidden_units=(64,))(torch.randint(256, (8, *ATARI.obs_shape), dtype=torch.uint8))
    pi = out[:, :-1].softmax(-1)
    assert (pi - 1 / 6).abs().max() < 0.02


def test_the_seed_decides() -> None:
    first, again, other = (last(net(VECTOR, seed=s)).weight for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("recipe", ["classic-dqn", "seed-r2d2-small"])
def test_networks_of_q_values_refuse_it(recipe: str) -> None:
    with pytest.raises(UserError, match=r"net\.init='orthogonal': networks of Q-values begin with PyTorch's"):
        override(build_config("CartPole-v1", recipe), ["net.init=orthogonal"])
