"""The serial loop: collect a block, then make the updates due. A generator; everything else reads its events."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from frugalrl.cost.meters import LapTimer
from frugalrl.replay.buffer import ReplayBuffer
from frugalrl.run.config import ScheduleConfig
from frugalrl.sampling.engine_meters import EngineStatistics
from frugalrl.types import BadBatch, Collected, Cost, Costs, EnvFailed, Experience, PolicySnapshot, Updated


class Sampler(Protocol):
    """Turns a snapshot into data."""

    def load(self, snapshot: PolicySnapshot) -> None: ...

    def collect(self, n: int) -> Collected: ...


class Learner(Protocol):
    """Turns data into a better snapshot."""

    def update(self, replayed: Any) -> Updated: ...

    def snapshot(self) -> PolicySnapshot: ...


@dataclass
class Counters:
    """What the loop has done; the only state it keeps."""

    env_steps: int = 0
    updates: int = 0
    learner_ahead: bool = False
    """The sampler failed in a pipelined round: its updates are made, its block is still to be collected."""


@dataclass(frozen=True, slots=True)
class Event:
    """One round: what was collected, what was learned, what it cost."""

    collected: Experience | None
    """None when the sampler failed and its block was dropped, while the learner worked, and in a warm start."""
    updated: tuple[Updated, ...]
    costs: tuple[Costs, ...]
    """What was counted; the seconds are on the timers of the threads."""
    failure: BadBatch | EnvFailed | FloatingPointError | None = None
    """Why this round could not be finished; the reader raises it once the round is booked."""
    engine: EngineStatistics | None = None
    """What the inference engine tells about itself, where there is one."""
    faults: tuple[str, ...] = ()
    """Sentences about environments that failed and were started again."""
    causes: tuple[BaseException, ...] = ()
    """What they raised, but for that of ``failure``."""
    notes: tuple[str, ...] = ()
    """Other sentences worth reading."""


def serial(
    sampler: Sampler,
    learner: Learner,
    replay: ReplayBuffer,
    schedule: ScheduleConfig,
    counters: Counters,
    *,
    num_rows: int,
    batch_size: int,
    row_bytes: int,
    batch_bytes: Callable[[], int],
    timer: LapTimer,
) -> Iterator[Event]:
    """``row_bytes``, ``batch_bytes``: lower bound of what the replay moves per stored row, and per batch once sampled.

    Runs for ever; the reader stops it. Between two events nothing is in flight, so state can be saved."""
    sampler.load(learner.snapshot())
    while True:
        collected = sampler.collect(schedule.steps_per_round * num_rows)
        replay.add(collected.data)
        counters.env_steps += collected.env_steps
        timer.lap("replay")
        updated, failure = make_updates(learner, replay, schedule, counters, batch_size=batch_size, timer=timer)
        if updated:
            sampler.load(learner.snapshot())
            timer.lap("transport")
        yield Event(collected, tuple(updated), costs_of(collected, updated, row_bytes, batch_bytes()), failure)


def make_updates(
    learner: Learner,
    replay: ReplayBuffer,
    schedule: ScheduleConfig,
    counters: Counters,
    *,
    batch_size: int,
    timer: LapTimer,
    most: int | None = None,
) -> tuple[list[Updated], BadBatch | None]:
    """The updates of one round, none before the warm-up is over and a batch is there; and what cut them short.

    ``most``: updates; None for those of a round, or for experience that is used once as many as there are batches, as
    what was left for the next round would be older than it needs to be."""
    updated: list[Updated] = []
    if counters.env_steps < schedule.warmup_env_steps or not replay.can_sample(batch_size):
        return updated, None
    if most is None:
        most = replay.size // batch_size if replay.once else schedule.updates_per_round
    for _ in range(most):
        replayed = replay.sample(batch_size, env_step=counters.env_steps)
        timer.lap("replay")
        try:
            update = learner.update(replayed)
        except BadBatch as error:
            return updated, error
        if update.priorities is not None:
            replay.set_priorities(replayed.keys, update.priorities)
        updated.append(update)
        counters.updates += update.gradient_steps
    timer.lap("replay")
    return updated, None


def costs_of(
    collected: Collected | None, updated: Sequence[Updated], row_bytes: int, batch_bytes: int
) -> tuple[Costs, ...]:
    """What a round has counted, with the replay's traffic."""
    moved = batch_bytes * len(updated) + (0 if collected is None else row_bytes * collected.data.last.size)
    traffic = {"replay": Cost(calls=len(updated), bytes_min=float(moved))}
    own = () if collected is None else (collected.costs,)
    return (*own, traffic, *(u.costs for u in updated))
