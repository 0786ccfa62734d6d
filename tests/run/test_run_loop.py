from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
import pytest
from run_support import block, collected

from frugalrl.cost.meters import LapTimer
from frugalrl.run.config import ScheduleConfig
from frugalrl.run.loop import Counters, Event, serial
from frugalrl.types import Collected, Cost, NonFiniteLoss, PolicySnapshot, Replayed, Rows, Updated


@dataclass
class Tape:
    """Sampler, learner and replay in one, which write down how they are called."""

    rows: int = 1
    fail_at: int | None = None
    priorities: bool = True
    calls: list[Any] = field(default_factory=list)
    size: int = 0
    version: int = 0
    extra_invalid: int = 0
    once: bool = False

    # sampler
    def load(self, snapshot: PolicySnapshot) -> None:
        self.calls.append(("load", snapshot.version))

    def collect(self, n: int) -> Collected:
        self.calls.append(("collect", n))
        rows = block(n // self.rows, self.rows, np.zeros((n // self.rows, self.rows, 2), np.float32))
        got = collected(rows)
        return Collected(data=rows, episodes=(), env_steps=got.env_steps, costs={"environment": Cost(calls=n)})

    # replay
    def add(self, rows: Rows) -> None:
        self.calls.append(("add", rows.last.size))
        self.size += rows.last.size

    def can_sample(self, batch_size: int) -> bool:
        return self.size >= batch_size

    def sample(self, batch_size: int, *, env_step: int) -> Replayed:
        self.calls.append(("sample", batch_size, env_step))
        return Replayed(batch=None, keys=("keys", len(self.calls)), weight=("weight", len(self.calls)))  # type: ignore[arg-type]

    def set_priorities(self, keys: Any, priorities: Any) -> None:
        self.calls.append(("set_priorities", keys, priorities))

    # learner
    def update(self, replayed: Replayed) -> Updated:
        self.calls.append(("update", replayed.keys, replayed.weight))
        self.version += 1
        if self.version == self.fail_at:
            raise NonFiniteLoss("the loss is nan", replayed)
        priorities = ("priorities", self.version) if self.priorities else None
        return Updated(metrics={"loss": 1.0}, priorities=priorities, costs={"learner": Cost(updates=1)})

    def snapshot(self) -> PolicySnapshot:
        return PolicySnapshot(version=self.version, parameters={})

    def names(self) -> list[str]:
        return [call[0] for call in self.calls]


def play(tape: Any, blocks: int, counters: Counters | None = None, batch_size: int = 4, **schedule: int) -> list[Event]:
    timer = LapTimer()
    timer.start()
    config = ScheduleConfig(**({"warmup_env_steps": 1, "steps_per_round": 4, "updates_per_round": 1} | schedule))
    events = serial(
        tape, tape, tape, config, counters or Counters(),
        num_rows=tape.rows, batch_size=batch_size, row_bytes=3, batch_bytes=lambda: 50, timer=timer,
    )  # fmt: skip
    return list(islice(events, blocks))


def test_one_block_after_the_other() -> None:
    tape = Tape()
    play(tape, 2)
    assert tape.names() == [
        "load", "collect", "add", "sample", "update", "set_priorities", "load",
        "collect", "add", "sample", "update", "set_priorities", "load",
    ]  # fmt: skip
    assert [c for c in tape.calls if c[0] == "load"] == [("load", 0), ("load", 1), ("load", 2)]


@pytest.mark.parametrize(("rows", "steps"), [(1, 4), (3, 4), (8, 1)])
def test_a_block_is_the_steps_between_rounds_times_the_rows(rows: int, steps: int) -> None:
    tape, counters = Tape(rows=rows), Counters()
    events = play(tape, 3, counters, steps_per_round=steps)
    assert [c[1] for c in tape.calls if c[0] == "collect"] == [steps * rows] * 3
    assert counters.env_steps == 3 * steps * rows
    assert [e.collected.env_steps for e in events] == [steps * rows] * 3


def test_no_update_before_the_warm_up_is_over() -> None:
    tape, counters = Tape(), Counters()
    events = play(tape, 6, counters, warmup_env_steps=14)
    assert [len(e.updated) for e in events] == [0, 0, 0, 1, 1, 1]
    assert (counters.env_steps, counters.updates) == (24, 3)
    assert [c[2] for c in tape.calls if c[0] == "sample"] == [16, 20, 24]
    assert tape.names().count("load") == 1 + 3, "without an update there is nothing to publish"


def test_no_update_before_a_batch_is_there() -> None:
    events = play(Tape(), 5, batch_size=10)
    assert [len(e.updated) for e in events] == [0, 0, 1, 1, 1]


def test_all_updates_of_a_round_are_made_and_published_once() -> None:
    tape, counters = Tape(), Counters()
    events = play(tape, 2, counters, updates_per_round=3)
    assert [len(e.updated) for e in events] == [3, 3]
    assert counters.updates == tape.version == 6
    assert [c for c in tape.calls if c[0] == "load"] == [("load", 0), ("load", 3), ("load", 6)]


def test_the_weight_reaches_the_learner_and_the_priorities_go_back_to_their_keys() -> None:
    tape = Tape()
    play(tape, 3, updates_per_round=2)
    samples = [i for i, c in enumerate(tape.calls) if c[0] == "sample"]
    assert len(samples) == 6
    for number, at in enumerate(samples, 1):
        assert tape.calls[at + 1] == ("update", ("keys", at + 1), ("weight", at + 1))
        assert tape.calls[at + 2] == ("set_priorities", ("keys", at + 1), ("priorities", number))


def test_a_learner_without_priorities_gives_none_back() -> None:
    tape = Tape(priorities=False)
    play(tape, 2)
    assert "set_priorities" not in tape.names()


def test_a_loop_goes_on_from_its_counters() -> None:
    tape = Tape(size=100, version=7)
    counters = Counters(env_steps=40, updates=7)
    events = play(tape, 2, counters, warmup_env_steps=30)
    assert (counters.env_steps, counters.updates) == (48, 9)
    assert [len(e.updated) for e in events] == [1, 1]
    assert tape.calls[0] == ("load", 7)


def test_an_event_carries_what_was_counted() -> None:
    (event,) = play(Tape(), 1, updates_per_round=2)
    assert event.failure is None
    assert event.costs[0] == {"environment": Cost(calls=4)}
    assert event.costs[1] == {"replay": Cost(calls=2, bytes_min=3.0 * 4 + 50.0 * 2)}
    assert event.costs[2:] == ({"learner": Cost(updates=1)},) * 2


def test_a_loss_that_is_not_finite_is_an_event_that_counts_what_was_done() -> None:
    tape, counters = Tape(fail_at=5), Counters()
    events = play(tape, 2, counters, updates_per_round=3)
    assert events[0].failure is None
    assert len(events[1].updated) == 1
    assert isinstance(events[1].failure, NonFiniteLoss)
    assert (counters.env_steps, counters.updates) == (8, 4)
