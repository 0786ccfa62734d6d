from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from frugalrl.algos.dqn import DQNConfig, DQNLearner
from frugalrl.cost.meters import LapTimer
from frugalrl.nets.config import NetConfig
from frugalrl.nets.heads import Categorical, Head, Quantiles
from frugalrl.nets.q_network import build_q_network
from frugalrl.policies.value import ValuePolicy
from frugalrl.types import EnvSpec, PolicySnapshot, Replayed, Transition

CPU = torch.device("cpu")
IMAGES = EnvSpec(id="I", protocol="p", obs_kind="image", obs_shape=(4, 40, 40), obs_dtype="uint8", num_actions=3)


def build() -> nn.Module:
    return build_q_network(IMAGES, NetConfig(hidden_units=(8,)))


def learner(seed: int = 0, **changes: Any) -> DQNLearner:
    timer = LapTimer()
    timer.start()
    return DQNLearner(DQNConfig(batch_size=4, **changes), IMAGES, build, device=CPU, seed=seed, timer=timer)


def observations(batch: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (batch, 4, 40, 40), dtype=np.uint8)


def update(of: DQNLearner) -> None:
    batch = Transition(
        obs_tm1=observations(4),
        a_tm1=np.zeros(4, np.int64),
        r_t=np.ones(4, np.float32),
        discount_t=np.zeros(4, np.float32),
        obs_t=observations(4),
        log_mu_tm1=np.zeros(4, np.float32),
        version_tm1=np.zeros(4, np.int64),
        explored_tm1=np.zeros(4, np.bool_),
    )
    of.update(Replayed(batch=batch, keys=np.arange(4), weight=np.ones(4, np.float32)))


def online(of: DQNLearner, obs: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return of._online(torch.from_numpy(obs)).numpy()


MANY = 17
"""Rows that the network itself computes, bit for bit as the learner does; see `frugalrl.policies.few_rows`."""


def same(rows: int) -> Callable[[np.ndarray, np.ndarray], None]:
    """How equal the answers of policy and learner are for so many rows."""
    if rows == MANY:
        return np.testing.assert_array_equal
    return partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("rows", [3, MANY])
def test_it_acts_with_the_parameters_of_the_snapshot(rows: int) -> None:
    policy, teacher, obs = ValuePolicy(build, CPU), learner(), observations(rows)
    assert not np.array_equal(policy.q_values(obs), online(teacher, obs))
    policy.load(teacher.snapshot())
    got = policy.q_values(obs)
    assert (got.shape, got.dtype, policy.version) == ((rows, 3), np.float32, 0)
    same(rows)(got, online(teacher, obs))


@pytest.mark.parametrize("rows", [3, MANY])
def test_it_shares_its_memory_with_the_learner(rows: int) -> None:
    policy, teacher, obs = ValuePolicy(build, CPU), learner(), observations(rows)
    policy.load(teacher.snapshot())
    mine, theirs = dict(policy._net.named_parameters()), teacher.snapshot().parameters
    assert all(mine[name].data_ptr() == theirs[name].data_ptr() for name in theirs)
    before = policy.q_values(obs)
    update(teacher)
    policy.load(teacher.snapshot())
    assert policy.version == 1
    assert not np.array_equal(policy.q_values(obs), before)
    same(rows)(policy.q_values(obs), online(teacher, obs))


def test_it_only_reads() -> None:
    policy, teacher = ValuePolicy(build, CPU), learner()
    policy.load(teacher.snapshot())
    before = {name: p.clone() for name, p in teacher.weights().items()}
    got = policy.q_values(observations(3))
    got += 1.0
    assert not any(p.requires_grad for p in policy._net.parameters())
    assert all(torch.equal(p, before[name]) for name, p in teacher.weights().items())
    assert all(p.requires_grad for p in teacher._online.parameters()), "the learner can still learn"
    update(teacher)


def test_a_snapshot_that_was_copied_is_not_shared() -> None:
    policy, teacher, obs = ValuePolicy(build, CPU), learner(), observations(3)
    copied = PolicySnapshot(version=3, parameters={n: p.detach().clone() for n, p in teacher._parameters.items()})
    policy.load(copied)
    before = policy.q_values(obs)
    update(teacher)
    np.testing.assert_array_equal(policy.q_values(obs), before)


@pytest.mark.parametrize("rows", [3, MANY])
def test_a_policy_that_does_not_share_keeps_what_it_loaded(rows: int) -> None:
    policy, teacher, obs = ValuePolicy(build, CPU, share=False), learner(), observations(rows)
    weights = sum(p.nbytes for p in teacher.weights().values())
    assert policy.load(teacher.snapshot()) == 2 * weights, "read and written"
    before = policy.q_values(obs)
    same(rows)(before, online(teacher, obs))
    update(teacher)
    np.testing.assert_array_equal(policy.q_values(obs), before)
    assert policy.load(teacher.snapshot()) == 2 * weights
    same(rows)(policy.q_values(obs), online(teacher, obs))
    assert not np.array_equal(policy.q_values(obs), before)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_its_own_snapshot_makes_the_same_policy(precision: str) -> None:
    teacher, obs = learner(), observations(3)
    policy, other = ValuePolicy(build, CPU, precision, share=False), ValuePolicy(build, CPU, precision, share=False)
    update(teacher)
    policy.load(teacher.snapshot())
    copied = policy.snapshot()
    assert all(p.dtype == torch.float32 for p in copied.parameters.values())
    other.load(copied)
    assert other.version == 1
    np.testing.assert_array_equal(other.q_values(obs), policy.q_values(obs))


@pytest.mark.parametrize("rows", [3, MANY])
def test_another_memory_layout_gives_the_same_values(rows: int) -> None:
    """A checkpoint holds contiguous arrays; the learner's convolutions are channels-last."""
    teacher, obs = learner(), observations(rows)
    policy = ValuePolicy(build, CPU)
    policy.load(
        PolicySnapshot(version=0, parameters={n: p.detach().contiguous() for n, p in teacher._parameters.items()})
    )
    same(rows)(policy.q_values(obs), online(teacher, obs))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda p: p.pop("1.weight"), "the snapshot has no parameter 1.weight"),
        (lambda p: p.update({"1.weight": torch.zeros(2)}), r"snapshot 1.weight has shape \(2,\), expected"),
    ],
)
def test_a_snapshot_of_another_network_is_refused(change: Callable[[dict], object], says: str) -> None:
    parameters = dict(learner().snapshot().parameters)
    change(parameters)
    with pytest.raises(ValueError, match=says):
        ValuePolicy(build, CPU).load(PolicySnapshot(version=0, parameters=parameters))


def test_in_bf16_learner_and_policy_have_one_rounded_copy() -> None:
    teacher, obs = learner(precision="bf16"), observations(3)
    policy, kept = ValuePolicy(build, CPU, "bf16"), ValuePolicy(build, CPU, "bf16", share=False)
    exact = ValuePolicy(build, CPU)
    assert policy.load(teacher.snapshot()) == 0, "nothing is moved"
    assert kept.load(teacher.snapshot()) > 0
    before = kept.q_values(obs)
    np.testing.assert_array_equal(policy.q_values(obs), before)
    exact.load(teacher.snapshot())
    assert not np.array_equal(exact.q_values(obs), before), "who acts in fp32 gets what is not rounded"
    update(teacher)
    np.testing.assert_array_equal(kept.q_values(obs), before)
    now = policy.q_values(obs)
    assert not np.array_equal(now, before), "the learner rounds in place"
    rounded = ValuePolicy(build, CPU, "bf16")
    rounded.load(PolicySnapshot(version=1, parameters=teacher.weights()))
    np.testing.assert_array_equal(now, rounded.q_values(obs))


def test_bf16_answers_in_float32_and_nearly_the_same() -> None:
    teacher, obs = learner(), observations(8)
    exact, rough = ValuePolicy(build, CPU), ValuePolicy(build, CPU, "bf16")
    exact.load(teacher.snapshot())
    rough.load(teacher.snapshot())
    got = rough.q_values(obs)
    assert got.dtype == np.float32
    assert not np.array_equal(got, exact.q_values(obs))
    np.testing.assert_allclose(got, exact.q_values(obs), atol=0.02)


@pytest.mark.parametrize("head", [Quantiles(50), Categorical(51, 0.0, 200.0)], ids=["quantiles", "categorical"])
def test_bf16_rounds_outputs_and_not_the_mean_of_a_distribution(head: Head) -> None:
    """Values of about 100, where bf16 has steps of 0.5: more than the best two actions are apart."""
    vector = EnvSpec(id="V", protocol="p", obs_kind="vector", obs_shape=(8,), obs_dtype="float32", num_actions=6)
    torch.manual_seed(0)
    net = build_q_network(vector, NetConfig(hidden_units=(64,)), head)
    if isinstance(head, Quantiles):
        net[-2].bias.data += 100.0
    policy = ValuePolicy(lambda: build_q_network(vector, NetConfig(hidden_units=(64,)), head), CPU, "bf16")
    policy.load(PolicySnapshot(version=0, parameters=dict(net.named_parameters())))
    obs = np.random.default_rng(0).standard_normal((200, 8)).astype(np.float32)

    def tied(q: np.ndarray) -> float:
        best = np.sort(q, 1)
        return float((best[:, -1] == best[:, -2]).mean())

    with torch.inference_mode():
        outputs = policy.network(torch.from_numpy(obs))
        rounded = head.to_q(outputs).float().numpy()
    np.testing.assert_array_equal(policy.q_values(obs), head.to_q(outputs.float()).numpy())
    assert tied(rounded) > 3 * tied(policy.q_values(obs))
