"""The policy of sequence agents: what the sampler sees is what the network says, by every way there."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from frugalrl.nets.actor_critic import build_actor_critic
from frugalrl.nets.config import NetConfig
from frugalrl.nets.heads import PolicyValue, Scalar
from frugalrl.nets.recurrent_q import build_sequence_q
from frugalrl.policies.sequence import SequencePolicy
from frugalrl.types import EnvSpec

SPEC = EnvSpec(id="X", protocol="plain", obs_kind="vector", obs_shape=(4,), obs_dtype="float32", num_actions=2)
CPU = torch.device("cpu")
OBS = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)


@pytest.mark.parametrize("precision", ["fp32", "fp64", "bf16"])
def test_preferences_of_an_actor_critic_are_its_logits_and_not_its_value(precision: str) -> None:
    torch.manual_seed(1)
    net = build_actor_critic(SPEC, NetConfig(hidden_units=(8,)))
    expected = net(torch.from_numpy(OBS)).detach().numpy()
    policy = SequencePolicy(lambda: net, PolicyValue(), CPU, precision)
    values, state = policy.values(OBS, policy.initial_state(5))
    assert state == {}
    assert values.shape == (5, 2)
    np.testing.assert_allclose(values, expected[:, :2], atol=0.02 if precision == "bf16" else 1e-5)


def test_a_recurrent_policy_steps_as_its_network_does() -> None:
    torch.manual_seed(1)
    net = build_sequence_q(SPEC, NetConfig(hidden_units=(8,)), 6)
    policy = SequencePolicy(lambda: net, Scalar(), CPU)
    before = policy.initial_state(5)
    assert before["action_tm1"].tolist() == [-1] * 5
    first, after = policy.values(OBS, before)
    after = dict(after) | {"action_tm1": np.arange(5) % 2, "reward_tm1": np.ones(5, np.float32)}
    second, _ = policy.values(OBS, after)
    obs = torch.from_numpy(OBS)
    out = net.unroll(
        torch.stack([obs, obs]),
        torch.arange(5)[None] % 2,
        torch.ones((1, 5)),
        torch.zeros((2, 5), dtype=torch.bool),
        net.initial_state(5),
    )
    np.testing.assert_allclose(np.stack([first, second]), out.detach().numpy(), atol=1e-5)
