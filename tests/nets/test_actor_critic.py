"""Networks of actor-critics and IMPALA's torsos: shapes of the papers, step against unroll, bad configurations."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from frugalrl.nets.actor_critic import ActorCritic, build_actor_critic, prepared_unroll
from frugalrl.nets.config import NetConfig
from frugalrl.nets.heads import PolicyValue
from frugalrl.nets.impala_torsos import impala_deep, impala_shallow
from frugalrl.nets.q_network import build_q_network
from frugalrl.policies.small import numpy_forward
from frugalrl.policies.value import ValuePolicy
from frugalrl.types import EnvSpec, UserError

T, B, A = 4, 3, 3


def spec(kind: Any, shape: tuple[int, ...], dtype: str, **more: Any) -> EnvSpec:
    return EnvSpec(id="e", protocol="p", obs_kind=kind, obs_shape=shape, obs_dtype=dtype, **({"num_actions": A} | more))


SPECS = {
    "mlp": spec("vector", (5,), "float32"),
    "index": spec("index", (), "int64", num_indices=7),
    "minatar": spec("image", (4, 10, 10), "bool"),
    "nature": spec("image", (4, 36, 36), "uint8", frame_stack=4),
    "impala-shallow": spec("image", (4, 36, 36), "uint8", frame_stack=4),
    "impala-deep": spec("image", (3, 24, 32), "uint8"),
}
ATARI = spec("image", (4, 84, 84), "uint8", num_actions=6, frame_stack=4)
DMLAB = spec("image", (3, 72, 96), "uint8", num_actions=9)


def observations(of: EnvSpec, *lead: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    high = of.num_indices or (2 if of.obs_dtype == "bool" else 256)
    drawn = torch.randint(high, (*lead, *of.obs_shape), generator=generator)
    return drawn / high if of.obs_dtype == "float32" else drawn.to(getattr(torch, of.obs_dtype))


def config(name: str, **more: Any) -> NetConfig:
    torso = name if name.startswith("impala") else "auto"
    return NetConfig(torso=torso, hidden_units=(8,), **more)  # type: ignore[arg-type]


def shapes(net: nn.Module) -> list[tuple[int, ...]]:
    return [tuple(p.shape) for name, p in net.named_parameters() if "weight" in name]


@pytest.mark.parametrize("units", [None, 6])
@pytest.mark.parametrize("name", SPECS)
def test_prepared_observations_unroll_to_the_same(name: str, units: int | None) -> None:
    of = SPECS[name]
    net = build_actor_critic(of, config(name, lstm_units=units))
    room = None
    # 2 of 150 rows are more images than are prepared at once
    for seed in range(2):
        obs = observations(of, 2, 150).roll(seed, 1)
        action, reward = torch.zeros((1, 150), dtype=torch.int64), torch.zeros((1, 150))
        rest = (action, reward, torch.zeros((2, 150), dtype=torch.bool), net.initial_state(150))
        room = prepared_unroll(net, obs, room)
        assert torch.equal(net.unroll(room, *rest), net.unroll(obs, *rest))


@pytest.mark.parametrize("units", [None, 6])
@pytest.mark.parametrize("name", SPECS)
def test_steps_and_unroll_agree(name: str, units: int | None) -> None:
    of = SPECS[name]
    net = build_actor_critic(of, config(name, lstm_units=units)).double()
    obs, action, reward = observations(of, T + 1, B), torch.randint(A, (T, B)), torch.randn(T, B)
    reset = torch.zeros(T + 1, B, dtype=torch.bool)
    reset[2, 1] = True
    state = net.initial_state(B)
    assert net.recurrent == bool(state) == (units is not None)
    out = net.unroll(obs, action, reward, reset, state)
    assert out.shape == (T + 1, B, A + 1)
    assert isinstance(net.head, PolicyValue)
    assert net.head.to_q(out).shape == (T + 1, B, A)
    assert net.head.value(out).shape == (T + 1, B)
    torch.testing.assert_close(net(obs[0]), out[0])
    for t in range(T + 1):
        if t and units is not None:
            state |= {"action_tm1": action[t - 1].clone(), "reward_tm1": reward[t - 1].clone()}
            for key, initial in net.initial_state(B).items():
                state[key][reset[t]] = initial[reset[t]]
        one, state = net.step(obs[t], state)
        torch.testing.assert_close(one, out[t])


@pytest.mark.parametrize("name", ["mlp", "minatar"])
def test_a_value_policy_acts_with_the_logits(name: str) -> None:
    """A small one through numpy, so that one step costs a few calls; the value is never taken for an action."""
    of = SPECS[name]
    net = build_actor_critic(of, NetConfig(hidden_units=(16, 16)))
    assert isinstance(net, ActorCritic)
    policy = ValuePolicy(lambda: net, torch.device("cpu"))
    assert (numpy_forward(net) is not None) == (name == "mlp")
    obs = observations(of, B)
    logits = torch.from_numpy(policy.q_values(obs.numpy()))
    torch.testing.assert_close(logits, net(obs)[:, :-1].detach(), rtol=1e-5, atol=1e-6)
    if name == "mlp":
        assert len(list(net)) == 4  # flatten, two dense layers with their ReLU, one for logits and value


def test_shallow_has_the_layers_of_the_paper() -> None:
    net = build_actor_critic(ATARI, NetConfig(torso="impala-shallow", hidden_units=(256,)))
    assert shapes(net) == [(16, 4, 8, 8), (32, 16, 4, 4), (256, 2592), (7, 256)]


def test_deep_has_the_layers_of_the_paper() -> None:
    """Fifteen convolutions in three sections; on DMLab with the LSTM of 256 the 39 variables of SEED's own test."""
    net = build_actor_critic(ATARI, NetConfig(torso="impala-deep", hidden_units=(256,)))
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert [(m.in_channels, m.out_channels) for m in convolutions] == (
        [(4, 16)] + [(16, 16)] * 4 + [(16, 32)] + [(32, 32)] * 4 + [(32, 32)] * 5
    )
    assert all(m.kernel_size == (3, 3) and m.padding == (1, 1) and m.stride == (1, 1) for m in convolutions)
    assert shapes(net)[-2:] == [(256, 32 * 11 * 11), (7, 256)]  # 84 -> 42 -> 21 -> 11, as TorchBeast has it
    lstm = build_actor_critic(DMLAB, NetConfig(torso="impala-deep", hidden_units=(256,), lstm_units=256))
    # 30 of convolutions, 2 dense, 3 of the LSTM (PyTorch has a second bias), 4 of two heads, which are one layer here
    assert len(list(lstm.parameters())) == 30 + 2 + 3 + 1 + 4 - 2


def test_deep_computes_what_the_paper_draws() -> None:
    """Written out with plain functions, contiguous, image divided by 255."""
    of = SPECS["impala-deep"]
    torso = impala_deep(of).double()
    obs = observations(of, 2)
    convolutions = iter([m for m in torso.modules() if isinstance(m, nn.Conv2d)])

    def conv(x: torch.Tensor) -> torch.Tensor:
        m = next(convolutions)
        return F.conv2d(x, m.weight, m.bias, padding=1)

    x = obs.double() / 255
    for _ in range(3):
        x = F.max_pool2d(conv(x), 3, stride=2, padding=1)
        for _ in range(2):
            x = x + conv(conv(x.relu()).relu())
    x = x.relu().permute(0, 2, 3, 1).flatten(1)
    torch.testing.assert_close(torso(obs), x)


def test_shallow_computes_what_the_paper_draws() -> None:
    of = SPECS["impala-shallow"]
    torso = impala_shallow(of).double()
    first, second = (m for m in torso if isinstance(m, nn.Conv2d))
    x = F.conv2d(observations(of, 2).double() / 255, first.weight, first.bias, stride=4).relu()
    x = F.conv2d(x, second.weight, second.bias, stride=2).relu().permute(0, 2, 3, 1).flatten(1)
    torch.testing.assert_close(torso(observations(of, 2)), x)


def test_in_place_work_leaves_the_gradient_right() -> None:
    """The residual blocks add into their own output; the gradient against finite differences."""
    of = spec("image", (1, 6, 6), "float32")
    torch.manual_seed(0)
    torso = impala_deep(of).double()
    weight = dict(torso.named_parameters())["3.first.weight"]
    obs = torch.randn(2, 1, 6, 6, dtype=torch.float64)
    torso(obs).square().sum().backward()
    assert weight.grad is not None
    with torch.no_grad():
        for place in [(0, 0, 1, 1), (3, 5, 0, 2)]:
            ends = []
            for step in (1e-6, -2e-6):
                weight[place] += step
                ends.append(torso(obs).square().sum().item())
            weight[place] += 1e-6
            assert float(weight.grad[place]) == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5, abs=1e-9)


def test_q_networks_know_the_new_torsos() -> None:
    for name in ("impala-shallow", "impala-deep"):
        assert build_q_network(SPECS[name], config(name))(observations(SPECS[name], 2)).shape == (2, A)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match=r"net\.torso='impala-shallow' needs images of at least 20x20 pixels"):
        build_actor_critic(SPECS["minatar"], NetConfig(torso="impala-shallow"))
    with pytest.raises(UserError, match=r"net\.torso='impala-deep' needs images, but e gives vector"):
        build_actor_critic(SPECS["mlp"], NetConfig(torso="impala-deep"))
    with pytest.raises(UserError, match=r"net\.dueling=True: only networks of Q-values"):
        build_actor_critic(SPECS["mlp"], NetConfig(dueling=True))
    with pytest.raises(UserError, match=r"net\.noisy_sigma0=0.5: only networks of Q-values"):
        build_actor_critic(SPECS["mlp"], NetConfig(noisy_sigma0=0.5))
    with pytest.raises(ValueError, match=r"net\.lstm_units=0: must be at least 1"):
        NetConfig(lstm_units=0)
