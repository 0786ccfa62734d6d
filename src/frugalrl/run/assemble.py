"""From a configuration to the parts of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from frugalrl.algos.agents import LEARNERS, Learner, PolicyConfig, SequenceConfig, TokenConfig, explorer_of
from frugalrl.algos.r2d2 import R2D2Config
from frugalrl.algos.tabular import TabularConfig
from frugalrl.cost.flops import bytes_min_forward, count_flops
from frugalrl.cost.meters import LapTimer, threads_that_worked
from frugalrl.math.explore import Explorer
from frugalrl.nets.actor_critic import build_actor_critic
from frugalrl.nets.config import TokenNetConfig
from frugalrl.nets.q_network import build_q_network
from frugalrl.nets.recurrent_q import build_sequence_q
from frugalrl.policies.sampler_policy import SamplerPolicy
from frugalrl.policies.sequence import SequencePolicy
from frugalrl.policies.value import ValuePolicy
from frugalrl.replay import Replay
from frugalrl.replay.buffer import ReplayBuffer
from frugalrl.replay.sequences import SequenceReplay
from frugalrl.replay.unroll_queue import UnrollQueue
from frugalrl.run.config import RunConfig
from frugalrl.run.sampler_policy import sampler_policy
from frugalrl.run.samplers import Acting, AnySampler, Worlds, is_asynchronous, make_sampler, open_worlds
from frugalrl.run.worker import Worker
from frugalrl.sampling.inline import InlineSampler
from frugalrl.sampling.row_policy import QValues
from frugalrl.sampling.tokens import TokenSampler
from frugalrl.types import Cost, EnvSpec, UserError

Build = Callable[[], Any]
"""Makes the configured network: a `ValueNetwork`, or a `SequenceNetwork` for agents that learn from sequences."""

# one stream of random numbers per purpose: adding a part never shifts the draws of another
_ENV, _EXPLORE, _NET, _REPLAY, _NOISE, _TRANSFORM = range(6)


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything a loop needs."""

    worlds: Worlds
    sampler: AnySampler
    replay: ReplayBuffer
    learner: Learner
    device: torch.device
    sampler_timer: LapTimer
    """The loop thread's own when the sampler works in it."""
    hand: Worker
    """The thread that collects in a pipelined loop; idle otherwise."""

    @property
    def spec(self) -> EnvSpec:
        """The environment after its protocol."""
        return self.worlds.spec

    def keep_output(self, folder: Path) -> None:
        """Have an engine in a process of its own keep what it prints in the run's folder."""
        if isinstance(self.sampler, TokenSampler):
            self.sampler.keep_output(folder)


def assemble(config: RunConfig, timer: LapTimer, inline: type[InlineSampler] = InlineSampler) -> Parts:
    """Build environment, sampler, replay and learner, which mark their laps in the loop thread's ``timer``, or in a
    timer of the sampler's own where that works in another thread.

    Raises UserError for what does not fit together.
    """
    explorer = explorer_of(config.agent, config.explore.name)
    # a table is looked up, not multiplied: it stays on the CPU
    device = pick_device("cpu" if isinstance(config.agent, TabularConfig) else config.device)
    torch.set_num_threads(config.threads)
    watch_tensor_threads(config.threads, timer)
    elsewhere = config.schedule.lag_blocks > 0 or is_asynchronous(config)
    sampler_timer = LapTimer() if elsewhere else timer
    worlds = open_worlds(config, stream_seed(config.seed, _ENV))
    try:
        return _join(config, worlds, explorer, device, timer, sampler_timer, inline)
    except BaseException:
        worlds.close()
        raise


def _join(
    config: RunConfig,
    worlds: Worlds,
    explorer: Explorer,
    device: torch.device,
    timer: LapTimer,
    sampler_timer: LapTimer,
    inline: type[InlineSampler],
) -> Parts:
    spec = worlds.spec
    build = network_builder(config, spec)
    noise_seed = stream_seed(config.seed, _NOISE)
    make_learner = LEARNERS[type(config.agent)]
    learner = make_learner(config.agent, spec, build, device=device, seed=stream_seed(config.seed, _NET), timer=timer)
    policy: ValuePolicy | SequencePolicy | SamplerPolicy
    if config.sampler.as_the_learner:
        policy = acting_policy(config, build, device, noise_seed=noise_seed, share=sampler_timer is timer)
    else:
        policy = sampler_policy(
            config,
            build,
            spec,
            lambda p: acting_policy(config, build, device, precision=p, noise_seed=noise_seed, share=False),
            device=device.type,
            seed=stream_seed(config.seed, _TRANSFORM),
        )
    acting = Acting(
        policy=policy,
        explorer=explorer,
        seed=stream_seed(config.seed, _EXPLORE),
        cost_of_forward=partial(forward_cost, build(), spec, policy.weight_bytes),
        needs_log_mu=isinstance(config.agent, PolicyConfig),
        timer=sampler_timer,
    )
    sampler = make_sampler(config, worlds, acting, inline)
    return Parts(worlds, sampler, make_replay(config, spec, acting), learner, device, sampler_timer, Worker("sampler"))


def watch_tensor_threads(threads: int, timer: LapTimer, claimed: Iterable[int] = ()) -> None:
    """Let ``timer`` follow the tensor threads of the calling thread; every thread that computes has its own.

    ``claimed``: native threads that another clock follows.
    """
    if threads > 1:
        # asked by work, not by birth: a process that trained before has its pool already
        timer.watch(threads_that_worked(lambda: torch.ones(1 << 22).add_(1), claimed))


def make_replay(config: RunConfig, spec: EnvSpec, acting: Acting) -> ReplayBuffer:
    """What the loop puts experience into, and the learner's batches come from."""
    agent, rows = config.agent, config.env.rows
    if isinstance(agent, PolicyConfig):
        return UnrollQueue(spec, rows, length=agent.length)
    rng = np.random.default_rng(stream_seed(config.seed, _REPLAY))
    if isinstance(agent, R2D2Config):
        state = acting.policy.initial_state(rows)
        length, overlap = agent.length, agent.overlap
        return SequenceReplay(config.sequences, spec, rows, rng, length=length, overlap=overlap, state=state)
    return Replay(config.replay, spec, rows, agent.gamma, rng)


def network_builder(config: RunConfig, spec: EnvSpec) -> Build:
    """Builds the configured network for this environment."""
    net, agent = config.net, config.agent
    if isinstance(agent, TokenConfig) or isinstance(net, TokenNetConfig):
        raise TypeError("language models are built by run/language/assemble.py")
    if isinstance(agent, PolicyConfig):
        return lambda: build_actor_critic(spec, net)
    if isinstance(agent, R2D2Config):
        return lambda: build_sequence_q(spec, net, net.lstm_units)
    return lambda: build_q_network(spec, net, agent.head())


def acting_policy(
    config: RunConfig,
    build: Build,
    device: torch.device,
    *,
    precision: str | None = None,
    noise_seed: int | None = None,
    share: bool = True,
) -> ValuePolicy | SequencePolicy:
    """The policy that acts with snapshots of this run; ``precision``: the learner's when None."""
    precision = precision or config.agent.precision
    if isinstance(config.agent, SequenceConfig):
        return SequencePolicy(build, config.agent.head(), device, precision, share=share)
    return ValuePolicy(build, device, precision, noise_seed=noise_seed, share=share)


def plays_with(policy: ValuePolicy | SequencePolicy) -> QValues | SequencePolicy:
    """What an evaluation asks for actions."""
    return policy if isinstance(policy, SequencePolicy) else policy.q_values


def forward_cost(net: nn.Module, spec: EnvSpec, weight_bytes: Callable[[int], int], rows: int) -> Cost:
    """FLOPs and lower-bound bytes of one forward pass over ``rows`` observations.

    FLOPs are those of ``net``, whatever computes it; ``weight_bytes`` is of the policy that acts.
    """
    obs = torch.zeros((rows, *spec.obs_shape), dtype=getattr(torch, spec.obs_dtype))
    values = torch.zeros((rows, spec.num_actions))
    one = OneStep(net) if hasattr(net, "initial_state") else net
    moved = bytes_min_forward(net, (obs,), values, weight_bytes(rows))
    return Cost(flop=count_flops(one, obs).forward, bytes_min=float(moved))


class OneStep(nn.Module):
    """One step of a `SequenceNetwork` from its initial state, as a function of observations."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.net.step(obs, self.net.initial_state(len(obs)))[0]
        return out


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
