"""The asynchronous loop: the engine samples without a pause in its own thread, the learner takes what is complete.

The learner publishes after each update, so unrolls are acted by weights a few updates old; each row says which.
Both wait for the other at the bounded queue between them, and nowhere else: whoever waits names the bottleneck.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from frugalrl.cost.meters import LapTimer
from frugalrl.replay.sequences import SequenceReplay
from frugalrl.replay.unroll_arrays import unroll_bytes
from frugalrl.replay.unroll_queue import UnrollQueue
from frugalrl.run.config import ScheduleConfig
from frugalrl.run.loop import Counters, Event, Learner, make_updates
from frugalrl.sampling.background import BackgroundSampler
from frugalrl.sampling.transport import Fault
from frugalrl.types import Cost, Costs, EnvFailed, Gathered

_LOOK_EVERY_S = 0.1
"""How long the learner waits at most before the reader of events has a word: signals, statuses, budgets."""


def asynchronous(
    sampler: BackgroundSampler,
    learner: Learner,
    replay: UnrollQueue | SequenceReplay,
    schedule: ScheduleConfig,
    counters: Counters,
    *,
    num_rows: int,
    batch_size: int,
    timer: LapTimer,
) -> Iterator[Event]:
    """Runs for ever; the reader stops it, and closes the sampler.

    Unrolls that are used once make an update as soon as ``batch_size`` of them are there. For a replay the schedule's
    ratio of updates to agent steps is kept, up to one round: while more updates are due, nothing is fetched, and the
    engine stops at the full queue. As in the serial loop, steps before there is a batch owe no updates.
    """
    sampler.load(learner.snapshot())
    sampler.start()
    timer.lap("transport")
    ratio = Ratio(schedule, num_rows, counters)
    wanted = batch_size if replay.once else 1
    while True:
        moved = 0
        try:
            unrolls = None if ratio.learner_is_behind and not replay.once else sampler.get(wanted, _LOOK_EVERY_S)
            timer.lap("waiting")
            if unrolls is not None:
                replay.insert(*unrolls)
                moved = unroll_bytes(unrolls[0])
                timer.lap("replay")
            taken = sampler.take()
        except (EnvFailed, FloatingPointError) as error:
            yield _last(sampler, counters, error)
            return
        counters.env_steps += taken.env_steps
        if not replay.can_sample(batch_size):
            ratio.forgive()
        updated, failure = make_updates(
            learner,
            replay,
            schedule,
            counters,
            batch_size=batch_size,
            timer=timer,
            most=None if replay.once else ratio.due(),
        )
        if updated:
            sampler.load(learner.snapshot())
            timer.lap("transport")
        gathered = Gathered(taken.episodes, taken.env_steps, taken.invalid_rows, taken.costs)
        moved += replay.batch_bytes * len(updated)
        traffic: Costs = {"replay": Cost(calls=len(updated), bytes_min=float(moved))}
        costs = (taken.costs, traffic, *(u.costs for u in updated))
        sentences, causes = _told(taken.faults)
        yield Event(
            gathered, tuple(updated), costs, failure, engine=taken.statistics, faults=sentences, causes=causes
        )  # fmt: skip


def _last(sampler: BackgroundSampler, counters: Counters, error: EnvFailed | FloatingPointError) -> Event:
    """What was done before the engine failed, for the bill; its unrolls are lost."""
    try:
        taken = sampler.take()
    except (EnvFailed, FloatingPointError):  # nothing more
        return Event(Gathered((), 0, 0, {}), (), (), error)
    counters.env_steps += taken.env_steps
    gathered = Gathered(taken.episodes, taken.env_steps, taken.invalid_rows, taken.costs)
    sentences, causes = _told(taken.faults, error.__cause__)
    return Event(
        gathered, (), (taken.costs,), error, engine=taken.statistics, faults=sentences, causes=causes
    )  # fmt: skip


def _told(
    faults: Sequence[Fault], known: BaseException | None = None
) -> tuple[tuple[str, ...], tuple[BaseException, ...]]:
    """Sentences, and what was raised, but for ``known``, which goes with the failure of the run."""
    causes = tuple(f.cause for f in faults if f.cause is not None and f.cause is not known)
    return tuple(f.sentence for f in faults), causes


class Ratio:
    """Updates per agent step, counted and not in lockstep: either side may be up to a round ahead."""

    def __init__(self, schedule: ScheduleConfig, num_rows: int, counters: Counters) -> None:
        self._schedule, self._counters = schedule, counters
        self._per_step = schedule.updates_per_round / (schedule.steps_per_round * num_rows)
        # a resumed run owes no updates for the steps that it made before
        self.forgive()

    def forgive(self) -> None:
        """Owe no updates for the steps so far."""
        self._ahead = self._counters.updates - self._due_now()

    def _due_now(self) -> float:
        return max(0, self._counters.env_steps - self._schedule.warmup_env_steps) * self._per_step

    def due(self) -> int:
        """Updates to make now, at most a round."""
        return min(max(0, int(self._owed())), self._schedule.updates_per_round)

    @property
    def learner_is_behind(self) -> bool:
        """More than a round of updates is due."""
        return self._owed() > self._schedule.updates_per_round

    def _owed(self) -> float:
        return self._due_now() + self._ahead - self._counters.updates
