"""Stacked samplers against inline ones: for every rule each seed collects the blocks it would collect alone."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
import torch

from frugalrl.cost.meters import LapTimer
from frugalrl.envs import make_env, named_protocol
from frugalrl.math.explore import EXPLORERS
from frugalrl.math.schedules import Schedule
from frugalrl.nets.config import NetConfig
from frugalrl.nets.q_network import build_q_network
from frugalrl.nets.stacked import StackedMLP
from frugalrl.policies.stacked import StackedPolicy
from frugalrl.policies.value import ValuePolicy
from frugalrl.sampling.exploration import ExploreConfig
from frugalrl.sampling.inline import InlineSampler
from frugalrl.sampling.stacked import SeedSampler, StackedSampler
from frugalrl.types import Collected, Cost, EnvFailed, PolicySnapshot

SEEDS, ROWS, CPU = (0, 1, 2), 2, torch.device("cpu")
EXPLORE = ExploreConfig(
    epsilon=Schedule(kind="linear", start=1.0, end=0.1, start_step=12, steps=30),
    temperature=Schedule(kind="linear", start=2.0, end=0.1, start_step=12, steps=30),
)


def timer() -> LapTimer:
    started = LapTimer()
    started.start()
    return started


def sampler(made: type[InlineSampler], seed: int, explore: ExploreConfig, clock: LapTimer, index: bool) -> Any:
    env_id, kwargs = ("frugalrl/Catch-v0", {"observation": "index", "rows": 4}) if index else ("CartPole-v1", {})
    env = make_env(env_id, protocol=named_protocol("plain"), num_rows=ROWS, seed=seed, training=True, env_kwargs=kwargs)
    net = NetConfig(hidden_units=(8, 4))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        own = build_q_network(env.spec, net).double()
    policy = ValuePolicy(lambda: build_q_network(env.spec, net), CPU, "fp64")
    policy.load(PolicySnapshot(version=seed, parameters=dict(own.named_parameters())))
    return made(
        env, policy, explore, prefill_env_steps=10, seed=seed, inference_cost=Cost(flop=1.0, bytes_min=1.0),
        timer=clock,
    )  # fmt: skip


def pairs(explore: ExploreConfig, index: bool = False) -> tuple[list[InlineSampler], list[SeedSampler], StackedSampler]:
    clock = timer()
    alone = [sampler(InlineSampler, seed, explore, clock, index) for seed in SEEDS]
    seeds = [sampler(SeedSampler, seed, explore, clock, index) for seed in SEEDS]
    nets = StackedMLP([seed.policy.network for seed in seeds])
    for seed in seeds:  # the parameters have moved
        seed.load(PolicySnapshot(version=seed.policy.version, parameters=dict(seed.policy.network.named_parameters())))
    policy = StackedPolicy(nets, seeds[0].policy.network.head, [seed.policy for seed in seeds])
    return alone, seeds, StackedSampler(seeds, policy, clock)


def assert_same(one: Collected, other: Any) -> None:
    assert isinstance(other, Collected)
    for field in fields(one.data):
        np.testing.assert_array_equal(getattr(one.data, field.name), getattr(other.data, field.name), field.name)
    assert (one.episodes, one.env_steps, one.costs) == (other.episodes, other.env_steps, other.costs)
    assert (one.q is None) == (other.q is None)
    if one.q is not None:
        np.testing.assert_allclose(one.q, other.q, rtol=1e-12)


@pytest.mark.parametrize(
    "explore",
    [*(replace(EXPLORE, name=name) for name in EXPLORERS), replace(EXPLORE, prefill="counteractive")],
    ids=lambda e: f"{e.name}-{e.prefill}",
)
def test_each_seed_collects_what_it_would_collect_alone(explore: ExploreConfig) -> None:
    index = explore.name == "ucb"
    alone, seeds, stack = pairs(explore, index)
    steps: set[tuple[int, ...]] = set()
    for _ in range(16):
        blocks = stack.collect(4)
        for one, block in zip(alone, blocks, strict=True):
            assert_same(one.collect(4), block)
        steps.add(tuple(len(block.data.last) for block in blocks))  # type: ignore[union-attr]
    # episodes of Catch have one length
    assert index or any(len(set(lengths)) > 1 for lengths in steps), "blocks of different lengths in one round"
    for one, seed in zip(alone, seeds, strict=True):
        mine, theirs = seed.state_dict(), one.state_dict()
        assert mine["streams"] == theirs["streams"]
        assert (mine["env_steps"], mine["forwards"]) == (theirs["env_steps"], theirs["forwards"])
        for name, array in theirs["explorer"].items():
            np.testing.assert_array_equal(array, mine["explorer"][name])


def test_a_failed_environment_and_a_diverged_network_drop_their_own_block() -> None:
    alone, seeds, stack = pairs(replace(EXPLORE, name="counteractive"))
    for _ in range(4):
        stack.collect(4)
        for one in alone:
            one.collect(4)
    before = [seed.state_dict() for seed in seeds]

    def step(action: Any) -> Any:
        raise ValueError("gone")

    seeds[0]._env._envs[0].step = step  # type: ignore[attr-defined]
    for parameter in seeds[2].policy.network.parameters():
        parameter.data.fill_(np.nan)
    failed, block, diverged = stack.collect(4)
    assert isinstance(failed, EnvFailed)
    assert isinstance(diverged, FloatingPointError)
    assert_same(alone[1].collect(4), block)
    for place in (0, 2):
        now = seeds[place].state_dict()
        assert (now["streams"], now["env_steps"]) == (before[place]["streams"], before[place]["env_steps"])
        np.testing.assert_array_equal(now["env"]["length"], before[place]["env"]["length"])
