"""Q-networks of sequences: step and unroll agree, what a net without memory sees, bad configurations."""

import pytest
import torch

from frugalrl.nets.config import NetConfig
from frugalrl.nets.recurrent_q import UnbiasedDueling, build_sequence_q
from frugalrl.types import EnvSpec, UserError

T, B, A = 4, 3, 3


def spec(kind, shape, dtype, **more):
    return EnvSpec(id="e", protocol="p", obs_kind=kind, obs_shape=shape, obs_dtype=dtype, num_actions=A, **more)


SPECS = {
    "mlp": spec("vector", (5,), "float32"),
    "index": spec("index", (), "int64", num_indices=7),
    "minatar": spec("image", (4, 10, 10), "bool"),
    "nature": spec("image", (4, 36, 36), "uint8", frame_stack=4),
}


def observations(of, *lead):
    generator = torch.Generator().manual_seed(0)
    high = of.num_indices or (2 if of.obs_dtype == "bool" else 200)
    drawn = torch.randint(high, (*lead, *of.obs_shape), generator=generator)
    return drawn / high if of.obs_dtype == "float32" else drawn.to(getattr(torch, of.obs_dtype))


@pytest.mark.parametrize("units", [6, None])
@pytest.mark.parametrize("name", SPECS)
def test_steps_and_unroll_agree(name, units):
    net = build_sequence_q(SPECS[name], NetConfig(hidden_units=(8, 7), dueling=True), units).double()
    obs = observations(SPECS[name], T + 1, B)
    action, reward = torch.randint(A, (T, B)), torch.randn(T, B)
    reset = torch.zeros(T + 1, B, dtype=torch.bool)
    state = net.initial_state(B)
    assert net.recurrent == bool(state) == (units is not None)
    q = net.unroll(obs, action, reward, reset, state)
    assert q.shape == (T + 1, B, A)
    torch.testing.assert_close(net(obs[0]), q[0])
    for t in range(T + 1):
        if t and net.recurrent:
            state |= {"action_tm1": action[t - 1], "reward_tm1": reward[t - 1]}
        one, state = net.step(obs[t], state)
        torch.testing.assert_close(one, q[t])
    burned = net.state_after(obs[:2], action[:2], reward[:2], reset[:3], net.initial_state(B))
    torch.testing.assert_close(net.unroll(obs[2:], action[2:], reward[2:], reset[2:], burned), q[2:])


@pytest.mark.parametrize(("units", "remembers"), [(6, True), (None, False)])
def test_only_a_core_remembers(units, remembers):
    net = build_sequence_q(SPECS["mlp"], NetConfig(hidden_units=(8,)), units)
    obs = observations(SPECS["mlp"], T + 1, B)
    other = obs.clone()
    other[0] += 1.0
    action, reward, reset = torch.zeros(T, B, dtype=torch.int64), torch.zeros(T, B), torch.zeros(T + 1, B).bool()
    a, b = (net.unroll(o, action, reward, reset, net.initial_state(B))[-1] for o in (obs, other))
    assert bool((a != b).any()) == remembers


def test_the_dueling_head_is_value_plus_centred_advantage():
    head, x = UnbiasedDueling(4, 5, A), torch.randn(2, 4)
    torch.testing.assert_close(head(x).mean(-1, keepdim=True), head.value(x))
    assert head.advantage[-1].bias is None


def test_the_published_atari_network_has_its_published_size():
    atari = EnvSpec(
        id="a", protocol="p", obs_kind="image", obs_shape=(4, 84, 84), obs_dtype="uint8", num_actions=18, frame_stack=4
    )
    net = build_sequence_q(atari, NetConfig(hidden_units=(512, 512), dueling=True), 512)
    assert sum(p.numel() for p in net.parameters()) == 4_359_329


def test_what_does_not_fit_is_said():
    with pytest.raises(UserError, match="no noisy layers"):
        build_sequence_q(SPECS["mlp"], NetConfig(noisy_sigma0=0.5), 6)
    with pytest.raises(UserError, match="at least 1 unit, but got 0"):
        build_sequence_q(SPECS["mlp"], NetConfig(), 0)
    with pytest.raises(UserError, match="needs images"):
        build_sequence_q(SPECS["mlp"], NetConfig(torso="minatar"), 6)
