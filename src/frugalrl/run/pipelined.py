"""The pipelined loop: while the learner works on the blocks so far, the sampler collects the next one.

Round k makes the updates due after block k-1, from a replay that holds the blocks up to k-1, and collects block k with
the snapshot that was published before those updates began. Both halves only touch what is theirs, and meet when both
are done; so timing cannot change the result, and the same schedule in one thread gives the same weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from frugalrl.cost.meters import LapTimer
from frugalrl.replay.buffer import ReplayBuffer
from frugalrl.run.config import ScheduleConfig
from frugalrl.run.loop import Counters, Event, Learner, Sampler, costs_of, make_updates
from frugalrl.types import Collected, EnvFailed


class Hand(Protocol):
    """Does one piece of work while the caller does another; see :class:`frugalrl.run.worker.Worker`."""

    def begin(self, work: Callable[[], Any]) -> None: ...

    def finish(self) -> Any: ...


def pipelined(
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
    sampler_timer: LapTimer,
    hand: Hand,
) -> Iterator[Event]:
    """``sampler_timer`` was started where ``hand`` works; the sampler's policy must keep a copy of what it loads.

    Runs for ever, or up to a sampler that fails; the reader stops it. Between two events nothing is in flight:
    block k is in the replay, the updates due after block k-1 are made, and the learner's newest snapshot acts next.
    Only after such a failure the updates are a round ahead (``counters.learner_ahead``); going on from there
    needs a sampler that has loaded what it acted with then."""

    def collect() -> Collected:
        sampler_timer.lap("waiting")
        return sampler.collect(schedule.steps_per_round * num_rows)

    published: int | None = None
    if not counters.learner_ahead:
        sampler.load(learner.snapshot())
        published = learner.snapshot().version
    while True:
        hand.begin(collect)
        timer.lap("waiting")
        updated, failure = (
            ([], None)
            if counters.learner_ahead
            else make_updates(learner, replay, schedule, counters, batch_size=batch_size, timer=timer)
        )
        try:
            collected: Collected = hand.finish()
        except (EnvFailed, FloatingPointError) as error:
            timer.lap("waiting")
            counters.learner_ahead = True
            yield Event(None, tuple(updated), costs_of(None, updated, row_bytes, batch_bytes()), failure or error)
            return
        timer.lap("waiting")
        counters.learner_ahead = False
        replay.add(collected.data)
        counters.env_steps += collected.env_steps
        timer.lap("replay")
        newest = learner.snapshot()
        if newest.version != published:
            sampler.load(newest)
            published = newest.version
            timer.lap("transport")
        yield Event(collected, tuple(updated), costs_of(collected, updated, row_bytes, batch_bytes()), failure)
