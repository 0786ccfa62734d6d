"""The serial loop: collect a block, then make the updates due. A generator; everything else reads its events."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from frugalrl.cost.meters import LapTimer
from frugalrl.replay import Replay
from frugalrl.run.config import ScheduleConfig
from frugalrl.types import Collected, Cost, Costs, NonFiniteLoss, PolicySnapshot, Replayed, Updated


class Sampler(Protocol):
    """Turns a snapshot into data."""

    def load(self, snapshot: PolicySnapshot) -> None: ...

    def collect(self, n: int) -> Collected: ...


class Learner(Protocol):
    """Turns data into a better snapshot."""

    def update(self, replayed: Replayed) -> Updated: ...

    def snapshot(self) -> PolicySnapshot: ...


@dataclass
class Counters:
    """What the loop has done; the only state it keeps."""

    env_steps: int = 0
    updates: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """One block: what was collected, what was learned, what it cost."""

    collected: Collected
    updated: tuple[Updated, ...]
    costs: tuple[Costs, ...]
    """What was counted; the seconds are on the loop thread's timer."""
    failure: NonFiniteLoss | None = None
    """The learner could not finish this block's updates; the reader raises it once the block is booked."""


def serial(
    sampler: Sampler,
    learner: Learner,
    replay: Replay,
    schedule: ScheduleConfig,
    counters: Counters,
    *,
    num_rows: int,
    batch_size: int,
    row_bytes: int,
    batch_bytes: int,
    timer: LapTimer,
) -> Iterator[Event]:
    """``row_bytes``, ``batch_bytes``: lower bound of what the replay moves per stored row and per sampled batch.

    Runs for ever; the reader stops it. Between two events nothing is in flight, so state can be saved."""
    sampler.load(learner.snapshot())
    while True:
        collected = sampler.collect(schedule.steps_per_round * num_rows)
        replay.add(collected.data)
        counters.env_steps += collected.env_steps
        timer.lap("replay")
        updated: list[Updated] = []
        failure: NonFiniteLoss | None = None
        if counters.env_steps >= schedule.warmup_env_steps and replay.can_sample(batch_size):
            for _ in range(schedule.updates_per_round):
                replayed = replay.sample(batch_size, env_step=counters.env_steps)
                timer.lap("replay")
                try:
                    update = learner.update(replayed)
                except NonFiniteLoss as error:
                    failure = error
                    break
                if update.priorities is not None:
                    replay.set_priorities(replayed.keys, update.priorities)
                updated.append(update)
                counters.updates += 1
            timer.lap("replay")
            sampler.load(learner.snapshot())
            timer.lap("transport")
        moved = row_bytes * collected.data.last.size + batch_bytes * len(updated)
        traffic = {"replay": Cost(calls=len(updated), bytes_min=float(moved))}
        yield Event(collected, tuple(updated), (collected.costs, traffic, *(u.costs for u in updated)), failure)
