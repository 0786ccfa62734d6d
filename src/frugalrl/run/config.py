"""The whole configuration of a run, as it is written into its folder."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from frugalrl.algos.agents import AgentConfig, SequenceConfig, TokenConfig, check_sampled
from frugalrl.algos.dqn import DQNConfig
from frugalrl.algos.ppo import PPOConfig
from frugalrl.algos.r2d2 import R2D2Config
from frugalrl.math.explore import Actions
from frugalrl.nets.config import NetConfig, TokenNetConfig
from frugalrl.replay.config import ReplayConfig
from frugalrl.replay.sequences import SequenceReplayConfig
from frugalrl.sampling.config import SamplerConfig
from frugalrl.sampling.exploration import ExploreConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvConfig:
    """Which environment, under which protocol, how many rows."""

    id: str
    """A Gymnasium id or ``module:id``."""
    protocol: str
    """Name of the protocol that sets everything an environment leaves open."""
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments for the environment's constructor."""
    rows: int = 1
    """Environments stepped together."""
    threads: int = 1
    """Native threads of a native vector environment."""

    def __post_init__(self) -> None:
        if self.rows < 1 or self.threads < 1:
            raise ValueError(f"env.rows={self.rows}, env.threads={self.threads}: both must be at least 1")
        try:
            json.dumps(dict(self.kwargs), allow_nan=False)
        except ValueError:
            raise ValueError(f"env.kwargs={dict(self.kwargs)!r}: expected finite numbers") from None
        except TypeError as error:
            raise ValueError(f"env.kwargs={dict(self.kwargs)!r}: expected what JSON can hold ({error})") from None


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleConfig:
    """When to update. A block is the agent steps between two rounds of updates, times the rows, and with several rows
    up to ``rows - 1`` more, as a row that is reset makes none."""

    warmup_env_steps: int = 1_000
    """Agent steps (not frames) before the first update; the prefill policy acts in them."""
    steps_per_round: int = 4
    """Agent steps of each row between two rounds of updates."""
    updates_per_round: int = 1
    lag_blocks: int = 0
    """0: collect a block, then make the updates due (serial). 1: collect a block in a second thread while the updates
    due after the block before are made (pipelined)."""

    def __post_init__(self) -> None:
        if self.lag_blocks not in (0, 1):
            raise ValueError(f"schedule.lag_blocks={self.lag_blocks}: must be 0 (serial) or 1 (pipelined)")
        if self.warmup_env_steps < 1 or self.steps_per_round < 1 or self.updates_per_round < 1:
            raise ValueError(
                f"schedule.warmup_env_steps={self.warmup_env_steps}, steps_per_round={self.steps_per_round}, "
                f"updates_per_round={self.updates_per_round}: each must be at least 1"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationConfig:
    """The score: full episodes on separate environments with seeds of their own."""

    every_env_steps: int = 10_000
    """Agent steps between evaluations."""
    episodes: int | None = None
    """Episodes per evaluation while training; None takes the protocol's number."""
    rows: int = 10
    """Environments stepped together in an evaluation."""
    seed: int = 1_000_003
    """Seed of the evaluation's episodes and of its action noise: the same for every evaluation and method."""
    actions: Actions = "greedy"
    """``greedy``: the best action, but for the protocol's epsilon. ``sampled``: an actor-critic's actions are drawn
    from its policy, as in training; no epsilon. These are different scores: runs that differ in it are not compared."""

    probe_rows: int = 0
    """Environments in which argmin and uniform actions are tried at each evaluation, for the meters of the theory;
    billed apart, 0 for none. For agents that learn Q-values from transitions."""
    probe_steps: int = 200
    """Agent steps of each of them."""

    def __post_init__(self) -> None:
        if self.probe_rows < 0 or self.probe_steps < 1:
            raise ValueError(
                f"evaluation.probe_rows={self.probe_rows}, probe_steps={self.probe_steps}: "
                f"need at least 0, and at least 1"
            )
        if self.seed < 0:
            raise ValueError(f"evaluation.seed={self.seed}: must be at least 0")
        if self.every_env_steps < 1 or self.rows < 1 or (self.episodes is not None and self.episodes < 1):
            raise ValueError(
                f"evaluation.every_env_steps={self.every_env_steps}, rows={self.rows}, episodes={self.episodes}: "
                "each must be at least 1"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointConfig:
    """When to save, and how much to keep."""

    every_s: float = 300.0
    """Wall seconds between checkpoints; one is always written at step 0 and at the end."""
    keep: int = 2
    """Checkpoints kept; the one before the newest is the way back when the newest is damaged."""

    def __post_init__(self) -> None:
        if self.every_s <= 0 or self.keep < 2:
            raise ValueError(f"checkpoint.every_s={self.every_s}, keep={self.keep}: need a positive time and keep >= 2")


@dataclass(frozen=True, kw_only=True, slots=True)
class BudgetConfig:
    """What ends a run; the first limit that is reached does."""

    env_steps: int | None = None
    """Agent steps, checked after each block."""
    hours: float | None = None
    """Wall hours, earlier sessions of the run included."""
    eur: float | None = None
    """Money by the machine profile's on-demand price."""
    target_score: float | None = None
    """Stop once an evaluation reaches this mean return."""

    def __post_init__(self) -> None:
        for name in ("env_steps", "hours", "eur"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"budget.{name}={value}: must be positive")
        if self.env_steps is not None and self.env_steps % 1 != 0:  # the rest of infinity is NaN
            raise ValueError(f"budget.env_steps={self.env_steps}: must be a whole number")
        if self.target_score is not None and math.isnan(self.target_score):
            raise ValueError("budget.target_score=nan: no score ever reaches that")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig:
    """A run. Same config, machine and thread count give the same weights bit for bit."""

    recipe: str
    """Name of the recipe this started from; the fields below are what counts."""
    env: EnvConfig
    net: NetConfig | TokenNetConfig = field(default_factory=NetConfig)
    agent: AgentConfig = field(default_factory=DQNConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    sequences: SequenceReplayConfig = field(default_factory=SequenceReplayConfig)
    """The replay of agents that learn from sequences."""
    explore: ExploreConfig = field(default_factory=ExploreConfig)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 1
    """Threads of one tensor operation."""
    machine: str | None = None
    """Machine profile for prices and modelled joules; None detects one."""

    def __post_init__(self) -> None:
        if self.seed < 0 or self.threads < 1:
            raise ValueError(f"seed={self.seed}, threads={self.threads}: need seed >= 0 and threads >= 1")
        if isinstance(self.agent, TokenConfig) != isinstance(self.net, TokenNetConfig):
            raise ValueError(
                f"agent.kind={self.agent.kind} and net.kind={self.net.kind} do not fit: language models "
                f"(agent.kind=grpo) have net.kind=llama, all others net.kind=torso"
            )
        if self.device == "cuda" and self.agent.kind == "tabular":
            raise ValueError(
                "device=cuda: a table is looked up on the CPU, whatever there is; use --device cpu or auto"
            )
        if self.evaluation.actions != "greedy":
            check_sampled(self.agent)
        if isinstance(self.agent, SequenceConfig) and self.evaluation.probe_rows:
            raise ValueError(
                f"evaluation.probe_rows={self.evaluation.probe_rows}: the probe judges Q-values in the units of the "
                f"rewards, and agent.kind={self.agent.kind} has logits or rescaled values; leave --probe-envs out"
            )
        if isinstance(self.agent, R2D2Config) and self.agent.batch_size > self.sequences.capacity_sequences:
            raise ValueError(
                f"agent.batch_size={self.agent.batch_size} > "
                f"sequences.capacity_sequences={self.sequences.capacity_sequences}: learning would never start"
            )
        by_unroll = isinstance(self.agent, SequenceConfig) and not isinstance(self.agent, R2D2Config)
        if by_unroll and self.schedule.updates_per_round != 1:
            raise ValueError(
                f"schedule.updates_per_round={self.schedule.updates_per_round}: agent.kind={self.agent.kind} learns "
                "from each batch of unrolls when it is there, whatever this says; leave it at 1"
            )
        if isinstance(self.agent, PPOConfig) and self.agent.unroll_steps == 1:
            raise ValueError(
                "agent.unroll_steps=1: a batch of ppo could hold nothing but rows between episodes; use 2 or more"
            )
        if isinstance(self.net, NetConfig) and self.net.init != "torch" and not by_unroll:
            raise ValueError(
                f"net.init={self.net.init!r}: networks of Q-values begin with PyTorch's weights; set net.init=torch, "
                f"or use an actor-critic (agent.kind=impala or ppo)"
            )
        if isinstance(self.net, NetConfig) and self.net.lstm_units and not isinstance(self.agent, SequenceConfig):
            raise ValueError(
                f"net.lstm_units={self.net.lstm_units}: agent.kind={self.agent.kind} learns from single transitions "
                f"and cannot train a memory; set net.lstm_units=None, or use an agent of sequences, such as r2d2"
            )
        if isinstance(self.agent, SequenceConfig | TokenConfig):
            return  # its experience never enters the replay of transitions
        if self.schedule.warmup_env_steps > self.replay.capacity_transitions:
            raise ValueError(
                f"schedule.warmup_env_steps={self.schedule.warmup_env_steps} > "
                f"replay.capacity_transitions={self.replay.capacity_transitions}: steps would be lost before learning"
            )
        if self.agent.batch_size > self.replay.capacity_transitions:
            raise ValueError(
                f"agent.batch_size={self.agent.batch_size} > "
                f"replay.capacity_transitions={self.replay.capacity_transitions}: learning would never start"
            )
