"""A transport whose events come at given times of a clock that only it moves, and actors whose order a test decides."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from frugalrl.sampling.transport import Fault, Message
from frugalrl.types import Cost, EnvSpec, Step

SPEC = EnvSpec(
    id="Scripted", protocol="plain", obs_kind="vector", obs_shape=(3,), obs_dtype="float32", num_actions=3,
    frames_per_step=1,
)  # fmt: skip


class Clock:
    """Fake seconds."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def a_step(
    run_id: int, seq: int, rows: int, *, last: Iterable[int] = (), invalid: Iterable[int] = (), first_row: int = 0
) -> Step:
    """The observation says (run id, number of the step, row); the reward is that number."""
    ended, valid = np.zeros(rows, np.bool_), np.full(rows, seq > 0)
    ended[list(last)] = True
    valid[list(invalid)] = False
    obs = np.stack([np.full(rows, run_id), np.full(rows, seq), first_row + np.arange(rows)], 1).astype(np.float32)
    return Step(obs, np.full(rows, seq, np.float32), np.ones(rows, np.float32), ended, valid)


@dataclass(frozen=True)
class Say:
    """A message comes."""

    at: float
    group: int
    run_id: int
    seq: int
    last: tuple[int, ...] = ()
    invalid: tuple[int, ...] = ()


@dataclass(frozen=True)
class Die:
    """The rows of a group are not live any more; another message makes them live."""

    at: float
    group: int


@dataclass
class ScriptedTransport:
    """Events at fixed times; whether they are answered changes nothing."""

    events: list[Say | Die]
    group_rows: tuple[int, ...]
    clock: Clock
    live: set[int] = field(default_factory=set)
    """Groups that are live from the beginning; all when empty."""
    replies: list[tuple[int, int, int, list[int], float]] = field(default_factory=list)
    """(group, run id, seq, actions, time) of all answers."""
    spec: EnvSpec = SPEC

    def __post_init__(self) -> None:
        self.events = sorted(self.events, key=lambda e: e.at)
        self.live = self.live or set(range(len(self.group_rows)))
        self.faults: list[Fault] = []

    @property
    def num_rows(self) -> int:
        return sum(self.group_rows)

    def start(self) -> None:
        pass

    def first(self, group: int) -> int:
        return sum(self.group_rows[:group])

    def poll(self, timeout_s: float) -> list[Message]:
        until, messages = self.clock.now + timeout_s, []
        while self.events and self.events[0].at <= (self.clock.now if messages else until):
            event = self.events.pop(0)
            self.clock.now = max(self.clock.now, event.at)
            if isinstance(event, Die):
                self.live.discard(event.group)
                self.faults.append(Fault(event.group, "died", "it died"))
                continue
            self.live.add(event.group)
            rows, first = self.group_rows[event.group], self.first(event.group)
            step = a_step(event.run_id, event.seq, rows, last=event.last, invalid=event.invalid, first_row=first)
            messages.append(Message(event.group, first, event.run_id, event.seq, step, event.at))
        if not messages:
            self.clock.now = max(self.clock.now, until)
        return messages

    def reply(self, message: Message, action: np.ndarray) -> None:
        self.replies.append((message.group, message.run_id, message.seq, action.tolist(), self.clock.now))

    def live_rows(self) -> int:
        return sum(self.group_rows[group] for group in self.live)

    def take_faults(self) -> tuple[Fault, ...]:
        faults, self.faults = tuple(self.faults), []
        return faults

    def take_costs(self) -> dict[str, Cost]:
        return {}

    def thread_ids(self) -> tuple[int, ...]:
        return ()

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass

    def close(self) -> None:
        pass


@dataclass
class PlannedActors(ScriptedTransport):
    """Actors that really wait for their actions. Each poll takes the next group of a plan and lets it do something:

    ``step`` sends its next step, if it was answered; ``again`` sends the newest one once more; ``restart`` begins a
    new incarnation; ``old`` sends the last message of an earlier one.
    """

    plan: list[tuple[int, str]] = field(default_factory=list)
    sent: dict[tuple[int, int], list[Step]] = field(default_factory=dict)
    """What was sent, by group and run id, once each."""
    given: dict[tuple[int, int, int], list[int]] = field(default_factory=dict)
    """Answers by group, run id and seq."""
    length: Callable[[int], int] = lambda row: 3 + row

    def __post_init__(self) -> None:
        super().__post_init__()
        self.run = dict.fromkeys(range(len(self.group_rows)), 0)
        self.newest: dict[int, Message] = {}
        self.old: dict[int, Message] = {}

    def poll(self, timeout_s: float) -> list[Message]:
        self.clock.now += 0.001
        if not self.plan:
            self.clock.now += timeout_s
            return []
        group, what = self.plan.pop(0)
        newest = self.newest.get(group)
        if what == "old":
            return [self.old[group]] if group in self.old else []
        if what == "again":
            return [newest] if newest is not None else []
        if what == "restart" or newest is None:
            if newest is not None:
                self.old[group] = newest
            self.run[group] += 1
            return [self._send(group, 0)]
        answered = (group, newest.run_id, newest.seq) in self.given
        return [self._send(group, newest.seq + 1)] if answered else []

    def _send(self, group: int, seq: int) -> Message:
        first, rows, run_id = self.first(group), self.group_rows[group], 100 * group + self.run[group]
        lengths = [self.length(first + row) for row in range(rows)]
        # an episode of n steps, then one row that leads to the next
        last = [row for row, n in enumerate(lengths) if seq % (n + 1) == n]
        invalid = [row for row, n in enumerate(lengths) if seq % (n + 1) == 0]
        step = a_step(run_id, seq, rows, last=last, invalid=invalid, first_row=first)
        self.sent.setdefault((group, run_id), []).append(step)
        self.newest[group] = Message(group, first, run_id, seq, step, self.clock.now)
        return self.newest[group]

    def reply(self, message: Message, action: np.ndarray) -> None:
        key = (message.group, message.run_id, message.seq)
        if key in self.given:
            assert self.given[key] == action.tolist(), "a repeated request got another answer"
        self.given[key] = action.tolist()
