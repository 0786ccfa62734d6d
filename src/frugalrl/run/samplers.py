"""The sampler that a configuration asks for, with its environments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from frugalrl.algos.agents import PolicyConfig, SequenceConfig
from frugalrl.algos.ppo import PPOConfig
from frugalrl.cost.meters import LapTimer, LiveThreads, NativeThreads
from frugalrl.envs import RowEnv, make_env, named_protocol
from frugalrl.math.explore import Explorer
from frugalrl.policies.sampler_policy import SamplerPolicy
from frugalrl.policies.sequence import SequencePolicy
from frugalrl.policies.value import ValuePolicy
from frugalrl.run.config import RunConfig
from frugalrl.run.language.world import PromptWorld
from frugalrl.sampling.background import BackgroundSampler
from frugalrl.sampling.central import CentralSampler
from frugalrl.sampling.inline import InlineSampler
from frugalrl.sampling.processes import ProcessTransport
from frugalrl.sampling.threads import EPISODES_PER_LIFE, ThreadTransport
from frugalrl.sampling.tokens import TokenSampler
from frugalrl.sampling.transport import Transport
from frugalrl.sampling.worker_job import EnvPlan
from frugalrl.types import Cost, UserError

AnySampler = InlineSampler | CentralSampler | BackgroundSampler | TokenSampler
Worlds = RowEnv | Transport | PromptWorld
"""Environments of the sampler's own, what leads to those of others, or prompts."""


def is_asynchronous(config: RunConfig) -> bool:
    """Whether the engine works in a thread of its own and never waits for a round."""
    sampler = config.sampler
    return sampler.kind == "central" and not sampler.lockstep and isinstance(config.agent, SequenceConfig)


def open_worlds(config: RunConfig, seed: int) -> Worlds:
    """The environments, with their seeds derived from ``seed``. Raises UserError for what cannot be made."""
    check_sampler(config)
    if config.sampler.kind == "inline":
        return make_rows(config, seed, 0, 0, config.env.rows, 0)
    env, sampler = config.env, config.sampler
    if sampler.workers:
        plan = EnvPlan(
            env_id=env.id,
            protocol=named_protocol(env.protocol),
            seed=seed,
            threads=env.threads,
            env_kwargs=env.kwargs,
        )
        return ProcessTransport(plan, sampler, num_rows=env.rows)
    make = partial(make_rows, config, seed)
    # a group that begins anew cannot be part of a lockstep: there the first failure ends the run, which can be resumed
    restarts = sampler.restarts if is_asynchronous(config) else 0
    return ThreadTransport(make, split_rows(env.rows, sampler.groups), restarts=restarts, hang_s=sampler.hang_s)


def check_sampler(config: RunConfig) -> None:
    """Raises UserError for settings of sampler, schedule and agent that do not fit together."""
    workers, lag = config.sampler.workers, config.schedule.lag_blocks
    if is_asynchronous(config) and lag:
        raise UserError(
            f"schedule.lag_blocks={lag}: an asynchronous central sampler never waits for a block; use "
            f"schedule.lag_blocks=0, sampler.lockstep=true or --sampler inline"
        )
    if not workers or is_asynchronous(config):
        return
    if config.sampler.kind == "inline":
        raise UserError(
            f"sampler.workers={workers} needs the central sampler; use --sampler central, or sampler.workers=0"
        )
    without = "sampler.workers=0 (environments in threads)"
    if not isinstance(config.agent, SequenceConfig):
        raise UserError(
            f"sampler.workers={workers}: agent.kind={config.agent.kind} learns in lockstep with its environments, and "
            f"those in worker processes are not brought back exactly; use {without}, or an agent that learns from "
            f"sequences (--recipe seed-vtrace-small or seed-r2d2-small)"
        )
    raise UserError(
        f"sampler.workers={workers} with sampler.lockstep=true: environments in worker processes are not brought back "
        f"exactly, which a lockstep promises; use {without} or sampler.lockstep=false"
    )


def make_rows(config: RunConfig, seed: int, group: int, first_row: int, rows: int, incarnation: int) -> RowEnv:
    """The environments of one group; made again after a failure they play other episodes."""
    env = config.env
    return make_env(
        env.id,
        protocol=named_protocol(env.protocol),
        num_rows=rows,
        seed=seed,
        threads=env.threads,
        env_kwargs=env.kwargs,
        training=True,
        first_row=first_row,
        first_episode=EPISODES_PER_LIFE * incarnation,
    )


def split_rows(rows: int, groups: int) -> tuple[int, ...]:
    """Rows in groups as even as can be, none empty."""
    groups = min(groups, rows)
    return tuple(rows // groups + (group < rows % groups) for group in range(groups))


def environment_threads(worlds: Worlds) -> tuple[int, ...]:
    """The threads that belong to the environments now."""
    return worlds.thread_ids if isinstance(worlds, RowEnv) else worlds.thread_ids()


def environment_clock(worlds: Worlds) -> NativeThreads | LiveThreads:
    """The clock of the threads that belong to the environments."""
    if isinstance(worlds, RowEnv):
        return NativeThreads("environment", worlds.thread_ids)
    return LiveThreads("environment", worlds.thread_ids)


@dataclass(frozen=True, kw_only=True, slots=True)
class Acting:
    """What every sampler is given."""

    policy: ValuePolicy | SequencePolicy | SamplerPolicy
    explorer: Explorer
    seed: int
    cost_of_forward: Callable[[int], Cost]
    """FLOPs and bytes of a forward pass over so many rows."""
    needs_log_mu: bool
    timer: LapTimer
    """Of the thread in which the sampler works."""


def make_sampler(config: RunConfig, worlds: Worlds, acting: Acting, inline: type[InlineSampler]) -> AnySampler:
    """``inline``: the class of an inline sampler."""
    common: dict[str, Any] = {
        "prefill_env_steps": config.schedule.warmup_env_steps,
        "seed": acting.seed,
        "timer": acting.timer,
    }
    if isinstance(worlds, RowEnv):
        return inline(
            worlds,
            acting.policy,
            config.explore,
            inference_cost=acting.cost_of_forward(config.env.rows),
            explorer=acting.explorer,
            needs_log_mu=acting.needs_log_mu,
            whole_unrolls=isinstance(config.agent, PPOConfig),
            **common,
        )
    assert not isinstance(worlds, PromptWorld)
    agent = config.agent
    if is_asynchronous(config):
        assert isinstance(agent, SequenceConfig)
        return BackgroundSampler(
            worlds,
            acting.policy,
            acting.explorer,
            config.explore,
            config.sampler,
            unroll_steps=agent.length,
            overlap_steps=agent.overlap,
            batch_unrolls=agent.batch_size,
            forward_cost=acting.cost_of_forward,
            **common,
        )
    return CentralSampler(
        worlds,
        acting.policy,
        acting.explorer,
        config.explore,
        forward_cost=acting.cost_of_forward,
        needs_log_mu=acting.needs_log_mu,
        whole_unrolls=isinstance(config.agent, PolicyConfig),
        **common,
    )
