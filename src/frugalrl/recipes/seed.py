"""Recipes of the second lever: V-trace and R2D2, from one thread to one engine for many environments.

Sources: IMPALA (Espeholt et al. 2018, appendix D) and its public code; SEED RL (Espeholt et al. 2020) and its public
code (defaults of ``agents/vtrace/learner.py`` and ``dmlab/vtrace_main.py``).
"""

from __future__ import annotations

from dataclasses import replace

from frugalrl.algos.impala import ImpalaConfig
from frugalrl.algos.r2d2 import R2D2Config
from frugalrl.envs import default_protocol
from frugalrl.math.schedules import Schedule
from frugalrl.nets.config import NetConfig
from frugalrl.replay.sequences import SequenceReplayConfig
from frugalrl.run.config import BudgetConfig, EnvConfig, EvaluationConfig, RunConfig, ScheduleConfig
from frugalrl.sampling.config import SamplerConfig
from frugalrl.sampling.exploration import ExploreConfig

_EPSILON = Schedule(kind="constant", start=0.01)
"""Of the rules ``counteractive`` and ``uniform``; the rule ``policy`` has none."""
_LADDER = Schedule(kind="ladder", start=0.4, ladder_alpha=7.0)


def inline_vtrace(env_id: str) -> RunConfig:
    """V-trace with the environments in the learner's own thread: the small recipe without an engine.

    The same network, learner and number of environments as ``seed-vtrace-small``, so that what the engine is worth can
    be measured.
    """
    return replace(seed_vtrace_small(env_id), recipe="inline-vtrace", sampler=SamplerConfig(kind="inline"))


def seed_vtrace(env_id: str) -> RunConfig:
    """V-trace as in SEED RL: one engine acts for all environments, 32 unrolls of 100 steps per update.

    SEED's defaults: entropy cost 0.00025, baseline cost 0.5, gamma 0.99, Adam with beta1 0 and learning rate 4.8e-4
    that falls to 0, no gradient clipping; its networks are for DMLab and Football, ours is picked by the observation.
    """
    return RunConfig(
        recipe="seed-vtrace",
        env=EnvConfig(id=env_id, protocol=default_protocol(env_id), rows=64),
        net=NetConfig(torso="auto", hidden_units=(512,)),
        agent=ImpalaConfig(
            unroll_steps=100,
            batch_unrolls=32,
            learning_rate=4.8e-4,
            lr_decay_updates=1_000_000_000 // (4 * 100 * 32),
            adam_beta1=0.0,
            adam_eps=3.125e-7,
        ),
        explore=ExploreConfig(name="policy", epsilon=_EPSILON),
        sampler=SamplerConfig(kind="central"),
        schedule=ScheduleConfig(warmup_env_steps=1, steps_per_round=100),
        evaluation=EvaluationConfig(every_env_steps=1_000_000),
        budget=BudgetConfig(env_steps=250_000_000),
    )


def seed_vtrace_counteractive(env_id: str) -> RunConfig:
    """``seed-vtrace-small`` whose behaviour takes the least likely action with probability 0.01, corrected exactly."""
    small = seed_vtrace_small(env_id)
    return replace(
        small, recipe="seed-vtrace-counteractive", explore=ExploreConfig(name="counteractive", epsilon=_EPSILON)
    )


def seed_vtrace_small(env_id: str) -> RunConfig:
    """V-trace with one engine for all environments, for a laptop; the network is picked by the observation.

    Our own values. Atari: tried on Pong, 16 unrolls of 5 steps per update as in A2C, IMPALA's shallow network with
    orthogonal weights; the learning rate falls to 0 at 100,000 updates (8 million steps), so raise
    ``agent.lr_decay_updates`` with the budget. MinAtar: 8 unrolls of 20 steps, with the entropy cost 0.01, gradient
    norm 40 and baseline cost 0.5 of the public IMPALA code for Atari. Vectors: tried on CartPole-v1; the learning rate
    falls to 0 at 400 updates (128,000 steps).
    """
    protocol = default_protocol(env_id)
    agent, net, rows = _SMALL.get(protocol, _SMALL["plain"])
    evaluate_every, budget = {"atari100k": (500_000, 8_000_000), "minatar": (500_000, 10_000_000)}.get(
        protocol, (30_000, 120_000)
    )
    return RunConfig(
        recipe="seed-vtrace-small",
        env=EnvConfig(id=env_id, protocol=protocol, rows=rows),
        net=net,
        agent=agent,
        explore=ExploreConfig(name="policy", epsilon=_EPSILON),
        sampler=SamplerConfig(kind="central"),
        schedule=ScheduleConfig(warmup_env_steps=1, steps_per_round=agent.unroll_steps),
        evaluation=EvaluationConfig(every_env_steps=evaluate_every),
        budget=BudgetConfig(env_steps=budget),
    )


_SMALL = {
    "atari100k": (
        ImpalaConfig(
            unroll_steps=5,
            batch_unrolls=16,
            learning_rate=5e-4,
            lr_decay_updates=100_000,
            adam_eps=1e-5,
            max_grad_norm=0.5,
            entropy_cost=0.003,
            lambda_=0.95,
        ),
        NetConfig(torso="impala-shallow", hidden_units=(256,), init="orthogonal"),
        32,
    ),
    "minatar": (
        ImpalaConfig(
            unroll_steps=20,
            batch_unrolls=8,
            learning_rate=6e-4,
            adam_eps=1e-5,
            max_grad_norm=40.0,
            entropy_cost=0.01,
        ),
        NetConfig(torso="auto", hidden_units=(128,)),
        16,
    ),
    "plain": (
        ImpalaConfig(
            unroll_steps=20,
            batch_unrolls=16,
            learning_rate=3e-3,
            lr_decay_updates=400,
            adam_eps=1e-5,
            max_grad_norm=1.0,
            entropy_cost=0.01,
            lambda_=0.95,
            reward_scale=0.05,
        ),
        NetConfig(torso="auto", hidden_units=(64, 64)),
        16,
    ),
}
"""Learner, network and environments of ``seed-vtrace-small``, by protocol."""


def impala_deep(env_id: str) -> RunConfig:
    """IMPALA's deep residual network on Atari: 32 unrolls of 20 steps per update.

    Espeholt et al. 2018, table D.1: entropy cost 0.01, baseline cost 0.5, gamma 0.99, learning rate 6e-4 that falls to
    0 over 200 million frames, global gradient norm 40, rewards clipped to [-1, 1]. Ours: Adam with beta1 0 in place of
    RMSProp, and means over the batch in place of sums (docs/vtrace.md).
    """
    return RunConfig(
        recipe="impala-deep",
        env=EnvConfig(id=env_id, protocol=default_protocol(env_id), rows=64),
        net=NetConfig(torso="impala-deep", hidden_units=(256,)),
        agent=ImpalaConfig(
            unroll_steps=20,
            batch_unrolls=32,
            learning_rate=6e-4,
            lr_decay_updates=200_000_000 // (4 * 20 * 32),
            adam_beta1=0.0,
            adam_eps=0.01,
            max_grad_norm=40.0,
            entropy_cost=0.01,
            max_abs_reward=1.0,
        ),
        explore=ExploreConfig(name="policy", epsilon=_EPSILON),
        sampler=SamplerConfig(kind="central"),
        schedule=ScheduleConfig(warmup_env_steps=1, steps_per_round=20),
        evaluation=EvaluationConfig(every_env_steps=1_000_000),
        budget=BudgetConfig(env_steps=50_000_000),
    )


def seed_r2d2(env_id: str) -> RunConfig:
    """R2D2 as in SEED RL on Atari: sequences of 40 + 80 steps, one engine for 64 environments.

    The values of SEED's Atari script and code: replay of 100,000 sequences (frames of 120 steps each: about 850 kB, so
    85 GB when full), priorities 0.9 max + 0.1 mean with exponents 0.9 and 0.6, 5-step double Q with value rescaling,
    epsilon 0.4 ** linspace(1, 8) over the environments, each sequence trained 0.75 times on average. Its 610
    environments are 64 here.
    """
    rows = 64
    agent = R2D2Config()
    return RunConfig(
        recipe="seed-r2d2",
        env=EnvConfig(id=env_id, protocol=default_protocol(env_id), rows=rows),
        net=NetConfig(torso="auto", hidden_units=(512,), dueling=True, lstm_units=512),
        agent=agent,
        sequences=SequenceReplayConfig(capacity_sequences=100_000),
        explore=ExploreConfig(epsilon=_LADDER),
        sampler=SamplerConfig(kind="central"),
        schedule=_replayed(agent, rows, share=0.75, warmup_sequences=5_000),
        evaluation=EvaluationConfig(every_env_steps=1_000_000),
        budget=BudgetConfig(env_steps=250_000_000),
    )


def seed_r2d2_small(env_id: str) -> RunConfig:
    """R2D2 with one engine for all environments, for a laptop; the network is picked by the observation.

    Our own values, with the replay, the learning rate and the sequences shrunk.
    """
    protocol = default_protocol(env_id)
    images = protocol in ("atari100k", "minatar")
    rows = 16
    agent = R2D2Config(
        unroll_steps=40 if protocol == "atari100k" else 16,
        burn_in_steps=20 if protocol == "atari100k" else 8,
        batch_size=16,
        gamma=0.99,
        learning_rate=1e-4 if protocol == "atari100k" else 5e-4,
        target_period_updates=500 if images else 100,
        max_grad_norm=40.0,
    )
    return RunConfig(
        recipe="seed-r2d2-small",
        env=EnvConfig(id=env_id, protocol=protocol, rows=rows),
        net=NetConfig(
            torso="auto",
            hidden_units={"atari100k": (256,), "minatar": (128,)}.get(protocol, (64,)),
            dueling=True,
            lstm_units={"atari100k": 256, "minatar": 128}.get(protocol, 64),
        ),
        agent=agent,
        sequences=SequenceReplayConfig(capacity_sequences=2_000 if protocol == "atari100k" else 4_000),
        explore=ExploreConfig(epsilon=_LADDER),
        sampler=SamplerConfig(kind="central"),
        schedule=_replayed(agent, rows, share=1.0 if images else 4.0, warmup_sequences=100),
        evaluation=EvaluationConfig(every_env_steps=250_000 if images else 20_000),
        budget=BudgetConfig(env_steps=5_000_000 if images else 100_000),
    )


def _replayed(agent: R2D2Config, rows: int, *, share: float, warmup_sequences: int) -> ScheduleConfig:
    """Every sequence is trained ``share`` times on average: one update per ``batch / share`` new sequences."""
    new_steps = agent.length - agent.overlap
    return ScheduleConfig(
        warmup_env_steps=warmup_sequences * new_steps,
        steps_per_round=max(1, round(agent.batch_size * new_steps / (share * rows))),
        updates_per_round=1,
    )
