"""The loop that a configuration asks for, with the parts of a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from frugalrl.algos.grpo import GRPOLearner
from frugalrl.cost.flops import bytes_min_replay_row, bytes_min_replay_sample
from frugalrl.cost.meters import LapTimer
from frugalrl.replay.sequences import SequenceReplay
from frugalrl.replay.unroll_queue import UnrollQueue
from frugalrl.run.assemble import Parts, watch_tensor_threads
from frugalrl.run.asynchronous import asynchronous
from frugalrl.run.config import RunConfig
from frugalrl.run.language.loop import token_rounds
from frugalrl.run.language.warm_start import WarmStart
from frugalrl.run.language.world import PromptWorld
from frugalrl.run.loop import Counters, Event, serial
from frugalrl.run.pipelined import pipelined
from frugalrl.run.samplers import environment_threads
from frugalrl.sampling.background import BackgroundSampler
from frugalrl.sampling.tokens import TokenSampler


def events(config: RunConfig, parts: Parts, counters: Counters, timer: LapTimer) -> Iterator[Event]:
    """Rounds without an end; ``timer`` is that of the calling thread, which makes the updates."""
    if isinstance(parts.sampler, TokenSampler):
        return _of_language(config, parts, counters, timer)
    assert not isinstance(parts.learner, GRPOLearner)
    spec, size = parts.spec, config.agent.batch_size
    if isinstance(parts.sampler, BackgroundSampler):
        assert isinstance(parts.replay, UnrollQueue | SequenceReplay)
        return asynchronous(
            parts.sampler,
            parts.learner,
            parts.replay,
            config.schedule,
            counters,
            num_rows=config.env.rows,
            batch_size=size,
            timer=timer,
        )
    replay, of_transitions = parts.replay, bytes_min_replay_sample(spec, size, n_step=config.replay.n_step)

    def batch_bytes() -> int:
        return replay.batch_bytes if isinstance(replay, UnrollQueue | SequenceReplay) else of_transitions

    settings: dict[str, Any] = {
        "num_rows": config.env.rows,
        "batch_size": size,
        "row_bytes": bytes_min_replay_row(spec),
        "batch_bytes": batch_bytes,
        "timer": timer,
    }
    if config.schedule.lag_blocks == 0:
        return serial(parts.sampler, parts.learner, parts.replay, config.schedule, counters, **settings)

    def settle_in() -> None:
        torch.set_num_threads(config.threads)  # every thread has its own number
        watch_tensor_threads(config.threads, parts.sampler_timer, (*timer.watched, *environment_threads(parts.worlds)))
        parts.sampler_timer.start()

    parts.hand.begin(settle_in)
    parts.hand.finish()
    settings |= {"sampler_timer": parts.sampler_timer, "hand": parts.hand}
    return pipelined(parts.sampler, parts.learner, parts.replay, config.schedule, counters, **settings)


def _of_language(config: RunConfig, parts: Parts, counters: Counters, timer: LapTimer) -> Iterator[Event]:
    learner, world = parts.learner, parts.worlds
    assert isinstance(parts.sampler, TokenSampler)
    assert isinstance(learner, GRPOLearner)
    assert isinstance(world, PromptWorld)
    warm_start = WarmStart(config, learner, world.task, parts.device, timer) if learner.imitating else None
    return token_rounds(parts.sampler, learner, warm_start, counters, timer)
