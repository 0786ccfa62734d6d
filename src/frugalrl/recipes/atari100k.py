"""Recipes for 100,000 agent steps of an Atari game.

``der``, ``drq-eps`` and ``otr`` take the values of Dopamine's ``atari_100k`` configurations. Dopamine draws with
probability proportional to the square root of the loss and weights with the square root of its inverse: alpha 0.5,
beta 0.5. It counts target periods in agent steps, we in updates. Its buffer of 1,000,000 is never filled in 100,000
steps, so 100,000 are kept.
"""

from __future__ import annotations

from frugalrl.algos.dqn import DQNConfig
from frugalrl.algos.qrdqn import QRDQNConfig
from frugalrl.algos.rainbow import C51Config
from frugalrl.math.schedules import Schedule
from frugalrl.nets.config import NetConfig
from frugalrl.replay.config import ReplayConfig
from frugalrl.run.config import BudgetConfig, EnvConfig, EvaluationConfig, RunConfig, ScheduleConfig
from frugalrl.sampling.exploration import ExploreConfig

_STEPS = 100_000


def atari100k_ddqn(env_id: str) -> RunConfig:
    """Double DQN + prioritised replay, no dueling, 100,000 steps: the base agent of the CoAct TD paper.

    The paper leaves open what follows; these are choices. Learner: DQN Zoo's ``prioritized`` (one update per 4
    steps, PER alpha 0.6, beta 0.4 -> 1, uniform mix 1e-3) with Adam instead of centred RMSProp. Target period, warm-up
    and epsilon are scaled to a run of 100,000 steps: 500 updates, 1,600 steps, 1 -> 0.05 until step 20,000.
    """
    return RunConfig(
        recipe="atari100k-ddqn",
        env=EnvConfig(id=env_id, protocol="atari100k"),
        net=NetConfig(torso="nature", hidden_units=(512,)),
        agent=DQNConfig(
            gamma=0.99,
            double=True,
            batch_size=32,
            learning_rate=1e-4,
            adam_eps=1.5e-4,
            huber_delta=1.0,
            max_grad_norm=10.0,
            target_period_updates=500,
        ),
        replay=ReplayConfig(
            kind="prioritized",
            capacity_transitions=100_000,
            alpha=0.6,
            beta_start=0.4,
            beta_end=1.0,
            beta_steps=100_000,
            uniform_share=1e-3,
        ),
        explore=ExploreConfig(epsilon=Schedule(kind="linear", start=1.0, end=0.05, start_step=1_600, steps=18_400)),
        schedule=ScheduleConfig(warmup_env_steps=1_600, steps_per_round=4, updates_per_round=1),
        evaluation=EvaluationConfig(every_env_steps=25_000),
        budget=BudgetConfig(env_steps=100_000),
    )


def atari100k_qrdqn(env_id: str) -> RunConfig:
    """QR-DQN for 100,000 steps: the second base agent of the CoAct TD paper.

    Learner: DQN Zoo's ``qrdqn`` (201 quantiles, kappa 1, Adam 5e-5 with epsilon 0.01/32, gradient norm 10, uniform
    replay, no double Q-learning, one update per 4 steps). The paper leaves open what follows, so warm-up, epsilon and
    target period are those of ``atari100k-ddqn``.
    """
    return RunConfig(
        recipe="atari100k-qrdqn",
        env=EnvConfig(id=env_id, protocol="atari100k"),
        net=NetConfig(torso="nature", hidden_units=(512,)),
        agent=QRDQNConfig(
            double=False,
            learning_rate=5e-5,
            adam_eps=0.01 / 32,
            max_grad_norm=10.0,
            target_period_updates=500,
            quantiles=201,
            kappa=1.0,
        ),
        replay=ReplayConfig(kind="uniform", capacity_transitions=_STEPS),
        explore=ExploreConfig(epsilon=Schedule(kind="linear", start=1.0, end=0.05, start_step=1_600, steps=18_400)),
        schedule=ScheduleConfig(warmup_env_steps=1_600, steps_per_round=4, updates_per_round=1),
        evaluation=EvaluationConfig(every_env_steps=25_000),
        budget=BudgetConfig(env_steps=_STEPS),
    )


def _by_loss(n_step: int) -> ReplayConfig:
    """Dopamine's prioritised replay."""
    return ReplayConfig(
        kind="prioritized",
        capacity_transitions=_STEPS,
        n_step=n_step,
        alpha=0.5,
        beta_start=0.5,
        beta_end=0.5,
        priority_eps=1e-10,
    )


def der(env_id: str) -> RunConfig:
    """Data-efficient Rainbow (van Hasselt et al. 2019) as Dopamine has it: C51, noisy, dueling, double, 10 steps.

    Dopamine keeps epsilon at 0.01 beside the noisy layers, and begins their deviations at 0.1 / sqrt(inputs). Our
    priorities are KL divergences (Hessel et al. 2018), Dopamine's the cross-entropies.
    """
    return RunConfig(
        recipe="der",
        env=EnvConfig(id=env_id, protocol="atari100k"),
        net=NetConfig(torso="nature", hidden_units=(512,), dueling=True, noisy_sigma0=0.1),
        agent=C51Config(double=True, learning_rate=1e-4, adam_eps=1.5e-4, target_period_updates=2_000),
        replay=_by_loss(n_step=10),
        explore=ExploreConfig(epsilon=Schedule(kind="linear", start=1.0, end=0.01, start_step=1_600, steps=2_000)),
        schedule=ScheduleConfig(warmup_env_steps=1_600, steps_per_round=1, updates_per_round=1),
        evaluation=EvaluationConfig(every_env_steps=25_000),
        budget=BudgetConfig(env_steps=_STEPS),
    )


def drq_eps(env_id: str) -> RunConfig:
    """DrQ(eps) (Agarwal et al. 2021) as Dopamine has it: Double DQN, dueling, 10 steps, shifted images, no noise.

    Images are shifted by up to 4 pixels and scaled by 5 %; the target is copied after each update.
    """
    return RunConfig(
        recipe="drq-eps",
        env=EnvConfig(id=env_id, protocol="atari100k"),
        net=NetConfig(torso="nature", hidden_units=(512,), dueling=True),
        agent=DQNConfig(
            double=True,
            learning_rate=1e-4,
            adam_eps=1.5e-4,
            target_period_updates=1,
            shift_pixels=4,
            intensity_scale=0.05,
        ),
        replay=ReplayConfig(kind="uniform", capacity_transitions=_STEPS, n_step=10),
        explore=ExploreConfig(epsilon=Schedule(kind="linear", start=1.0, end=0.01, start_step=1_600, steps=5_000)),
        schedule=ScheduleConfig(warmup_env_steps=1_600, steps_per_round=1, updates_per_round=1),
        evaluation=EvaluationConfig(every_env_steps=25_000),
        budget=BudgetConfig(env_steps=_STEPS),
    )


def otr(env_id: str) -> RunConfig:
    """Overtrained Rainbow (Kielak 2020) as Dopamine has it: C51, 3 steps, 8 updates per step; costs 8 times DER.

    Neither noisy nor dueling nor double. The target is copied every 500 steps, which are 4,000 updates.
    """
    return RunConfig(
        recipe="otr",
        env=EnvConfig(id=env_id, protocol="atari100k"),
        net=NetConfig(torso="nature", hidden_units=(512,)),
        agent=C51Config(double=False, learning_rate=6.25e-5, adam_eps=1.5e-4, target_period_updates=4_000),
        replay=_by_loss(n_step=3),
        explore=ExploreConfig(epsilon=Schedule(kind="linear", start=1.0, end=0.01, start_step=20_000, steps=50_000)),
        schedule=ScheduleConfig(warmup_env_steps=20_000, steps_per_round=1, updates_per_round=8),
        evaluation=EvaluationConfig(every_env_steps=25_000),
        budget=BudgetConfig(env_steps=_STEPS),
    )
