"""From a configuration to the parts of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from frugalrl.algos.agents import LEARNERS, Learner
from frugalrl.algos.tabular import TabularConfig
from frugalrl.cost.flops import bytes_min_forward, count_flops
from frugalrl.cost.meters import LapTimer, threads_that_worked
from frugalrl.envs import RowEnv, make_env, named_protocol
from frugalrl.math.explore import EXPLORERS
from frugalrl.nets.q_network import ValueNetwork, build_q_network
from frugalrl.policies.value import ValuePolicy
from frugalrl.replay import Replay
from frugalrl.run.config import RunConfig
from frugalrl.run.config_io import hint
from frugalrl.run.worker import Worker
from frugalrl.sampling.inline import InlineSampler
from frugalrl.types import Cost, EnvSpec, UserError

# one stream of random numbers per purpose: adding a part never shifts the draws of another
_ENV, _EXPLORE, _NET, _REPLAY, _NOISE = range(5)


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything a loop needs."""

    env: RowEnv
    sampler: InlineSampler
    replay: Replay
    learner: Learner
    device: torch.device
    sampler_timer: LapTimer
    """The loop thread's own when the sampler works in it."""
    hand: Worker
    """The thread that collects in a pipelined loop; idle otherwise."""


def assemble(config: RunConfig, timer: LapTimer, make_sampler: Callable[..., InlineSampler] = InlineSampler) -> Parts:
    """Build environment, sampler, replay and learner, which mark their laps in the loop thread's ``timer``, or in a
    timer of the sampler's own where that works in another thread.

    Raises UserError for what does not fit together.
    """
    if config.explore.name not in EXPLORERS:
        raise UserError(f"unknown explorer {config.explore.name!r}{hint(config.explore.name, list(EXPLORERS))}")
    # a table is looked up, not multiplied: it stays on the CPU
    device = pick_device("cpu" if isinstance(config.agent, TabularConfig) else config.device)
    torch.set_num_threads(config.threads)
    watch_tensor_threads(config.threads, timer)
    pipelined = config.schedule.lag_blocks > 0
    sampler_timer = LapTimer() if pipelined else timer
    protocol = named_protocol(config.env.protocol)
    env = make_env(
        config.env.id,
        protocol=protocol,
        num_rows=config.env.rows,
        seed=stream_seed(config.seed, _ENV),
        threads=config.env.threads,
        env_kwargs=config.env.kwargs,
        training=True,
    )
    build = network_builder(config, env.spec)
    noise_seed = stream_seed(config.seed, _NOISE)
    policy = ValuePolicy(build, device, config.agent.precision, noise_seed=noise_seed, share=not pipelined)
    make_learner = LEARNERS[type(config.agent)]
    learner = make_learner(
        config.agent, env.spec, build, device=device, seed=stream_seed(config.seed, _NET), timer=timer
    )
    sampler = make_sampler(
        env,
        policy,
        config.explore,
        prefill_env_steps=config.schedule.warmup_env_steps,
        seed=stream_seed(config.seed, _EXPLORE),
        inference_cost=forward_cost(build(), env.spec, config.env.rows),
        timer=sampler_timer,
    )
    rng = np.random.default_rng(stream_seed(config.seed, _REPLAY))
    replay = Replay(config.replay, env.spec, config.env.rows, config.agent.gamma, rng)
    return Parts(env, sampler, replay, learner, device, sampler_timer, Worker("sampler"))


def watch_tensor_threads(threads: int, timer: LapTimer) -> None:
    """Let ``timer`` follow the tensor threads of the calling thread; every thread that computes has its own."""
    if threads > 1:
        # asked by work, not by birth: a process that trained before has its pool already
        timer.watch(threads_that_worked(lambda: torch.ones(1 << 22).add_(1)))


def network_builder(config: RunConfig, spec: EnvSpec) -> Callable[[], ValueNetwork]:
    """Builds the configured network for this environment."""
    return lambda: build_q_network(spec, config.net, config.agent.head())


def forward_cost(net: nn.Module, spec: EnvSpec, rows: int) -> Cost:
    """FLOPs and lower-bound bytes of one forward pass over ``rows`` observations."""
    obs = torch.zeros((rows, *spec.obs_shape), dtype=getattr(torch, spec.obs_dtype))
    q = torch.zeros((rows, spec.num_actions))
    return Cost(flop=count_flops(net, obs).forward, bytes_min=float(bytes_min_forward(net, (obs,), q)))


def pick_device(name: str) -> torch.device:
    """``auto`` takes a CUDA device if there is one. Raises UserError when ``cuda`` is asked for and absent."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device 'cuda' was asked for, but torch sees no CUDA device here; use --device cpu")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def stream_seed(seed: int, purpose: int) -> int:
    """A seed for one purpose, derived from the run's seed."""
    state: Any = np.random.SeedSequence([seed, purpose]).generate_state(1)
    return int(state[0]) & 0x7FFFFFFF
