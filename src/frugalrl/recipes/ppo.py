"""Recipes of PPO. Sources: Schulman et al. 2017; the public code and values of CleanRL (Huang et al. 2022)."""

from __future__ import annotations

from dataclasses import replace

from frugalrl.algos.ppo import PPOConfig
from frugalrl.envs import default_protocol
from frugalrl.nets.config import NetConfig
from frugalrl.run.config import BudgetConfig, EnvConfig, EvaluationConfig, RunConfig, ScheduleConfig
from frugalrl.sampling.exploration import ExploreConfig


def ppo(env_id: str) -> RunConfig:
    """PPO with a small MLP, for vector and index observations on a laptop.

    Our own values, tried on CartPole-v1: 8 environments, unrolls of 64 steps, 10 epochs of 2 minibatches. Policy and
    value share a network, so rewards are scaled. The learning rate falls to 0 at the end of the budget: raise
    ``agent.lr_decay_batches`` with it.
    """
    rows, steps, budget = 8, 64, 60_000
    return RunConfig(
        recipe="ppo",
        env=EnvConfig(id=env_id, protocol="plain", rows=rows),
        net=NetConfig(torso="auto", hidden_units=(64, 64)),
        agent=PPOConfig(
            unroll_steps=steps,
            batch_unrolls=rows,
            epochs=10,
            minibatches=2,
            learning_rate=1e-3,
            lr_decay_batches=budget // (rows * steps),
            reward_scale=0.05,
        ),
        explore=ExploreConfig(name="policy"),
        schedule=ScheduleConfig(warmup_env_steps=1, steps_per_round=steps),
        evaluation=EvaluationConfig(every_env_steps=10_000),
        budget=BudgetConfig(env_steps=budget),
    )


def ppo_lstm(env_id: str) -> RunConfig:
    """``ppo`` with an LSTM, for tasks that need a memory; minibatches are whole unrolls.

    Our own values, tried on frugalrl/Recall-v0.
    """
    small = ppo(env_id)
    assert isinstance(small.agent, PPOConfig)
    rows, steps, budget = 16, 16, 50_000
    agent = replace(
        small.agent,
        unroll_steps=steps,
        batch_unrolls=rows,
        epochs=4,
        minibatches=4,
        learning_rate=5e-3,
        lr_decay_batches=budget // (rows * steps),
        reward_scale=1.0,
    )
    return replace(
        small,
        recipe="ppo-lstm",
        env=replace(small.env, rows=rows),
        net=NetConfig(torso="auto", hidden_units=(32,), lstm_units=32),
        agent=agent,
        schedule=replace(small.schedule, steps_per_round=steps),
        evaluation=EvaluationConfig(every_env_steps=10_000),
        budget=BudgetConfig(env_steps=budget),
    )


def ppo_minatar(env_id: str) -> RunConfig:
    """PPO with the network of Young & Tian 2019, for MinAtar.

    Our own values, near those of public PPO code for MinAtar: 16 environments, unrolls of 64 steps, 4 epochs of 4
    minibatches.
    """
    rows, steps, budget = 16, 64, 1_000_000
    return RunConfig(
        recipe="ppo-minatar",
        env=EnvConfig(id=env_id, protocol="minatar", rows=rows),
        net=NetConfig(torso="minatar", hidden_units=(128,)),
        agent=PPOConfig(
            unroll_steps=steps,
            batch_unrolls=rows,
            epochs=4,
            minibatches=4,
            learning_rate=1e-3,
            lr_decay_batches=budget // (rows * steps),
        ),
        explore=ExploreConfig(name="policy"),
        schedule=ScheduleConfig(warmup_env_steps=1, steps_per_round=steps),
        evaluation=EvaluationConfig(every_env_steps=50_000),
        budget=BudgetConfig(env_steps=budget),
    )


def ppo_atari(env_id: str) -> RunConfig:
    """PPO on Atari as in CleanRL: 8 environments, unrolls of 128 steps, 4 epochs of 4 minibatches.

    Values of ``ppo_atari.py``: learning rate 2.5e-4 that falls to 0 over 10 million steps, clip 0.1 for policy and
    value, entropy cost 0.01, gradient norm 0.5, Adam's epsilon 1e-5. Ours: PyTorch's initialisation, not orthogonal.
    """
    rows, steps, budget = 8, 128, 10_000_000
    return RunConfig(
        recipe="ppo-atari",
        env=EnvConfig(id=env_id, protocol=default_protocol(env_id), rows=rows),
        net=NetConfig(torso="auto", hidden_units=(512,)),
        agent=PPOConfig(
            unroll_steps=steps,
            batch_unrolls=rows,
            lr_decay_batches=budget // (rows * steps),
            clip_low=0.1,
            clip_high=0.1,
            value_clip=0.1,
        ),
        explore=ExploreConfig(name="policy"),
        schedule=ScheduleConfig(warmup_env_steps=1, steps_per_round=steps),
        evaluation=EvaluationConfig(every_env_steps=500_000),
        budget=BudgetConfig(env_steps=budget),
    )
