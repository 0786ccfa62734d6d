"""Groups of environment rows in threads of this process.

C++ vector environments let go of the interpreter while they step, so the environments of one group work while the
engine infers for another. A Python environment keeps the interpreter and wins nothing here; for those there are
processes. A thread cannot be killed: one that hangs is left behind, and its group goes on in a new one.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frugalrl.envs import RowEnv
from frugalrl.envs.rows import say_error
from frugalrl.sampling.transport import Fault, Message
from frugalrl.types import Cost, Costs, EnvFailed, EnvSpec, RunFailed, Step

MakeRows = Callable[[int, int, int, int], RowEnv]
"""(group, first row, number of rows, incarnation from 0) -> environments. A later incarnation must play other episodes:
``make_env(..., first_row=first_row, first_episode=EPISODES_PER_LIFE * incarnation)``."""
EPISODES_PER_LIFE = 1 << 20
_LIVE_S = 1.0
"""A step that takes longer is no sign of life."""
_CLOSE_S = 5.0


@dataclass(eq=False)
class _Life:
    """One incarnation of a group: what its thread and the transport share."""

    group: int
    run_id: int
    env: RowEnv | None
    at: Step | None = None
    """Where restored environments stand; None: they begin with a reset."""
    actions: SimpleQueue[NDArray[np.int64] | None] = field(default_factory=SimpleQueue)
    busy_since: float | None = None
    """When it began what it does now; None while it waits for actions."""
    seen_since: float | None = None
    seen_s: float = 0.0
    """How long we have watched it do what it began at ``seen_since``."""
    thread: threading.Thread | None = None
    thread_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class _Failure:
    life: _Life
    kind: str
    sentence: str
    cause: BaseException | None


class ThreadTransport:
    """See `frugalrl.sampling.transport.Transport`."""

    def __init__(
        self, make: MakeRows, group_rows: tuple[int, ...], *, restarts: int = 10, hang_s: float = 60.0
    ) -> None:
        """All environments are made here, one group after another, in the calling thread.

        Args:
            make: see `MakeRows`.
            group_rows: rows of each group.
            restarts: how often groups may be started again in all.
            hang_s: seconds after which a step counts as hung.

        Raises:
            UserError: what ``make`` says of wrong settings.
        """
        self._make, self.group_rows, self._restarts, self._hang_s = make, group_rows, restarts, hang_s
        self.num_rows = sum(group_rows)
        self._first = [sum(group_rows[:group]) for group in range(len(group_rows))]
        self._incarnation = [0] * len(group_rows)
        self._restarted = 0
        self._looked_at = 0.0
        self._came: SimpleQueue[Message | _Failure] = SimpleQueue()
        self._faults: list[Fault] = []
        self._left_behind: list[_Life] = []
        self._calls = self._env_steps = 0
        self._closed = False
        self._restored: tuple[int, ...] = ()
        self._lives: list[_Life] = []
        try:
            for group in range(len(group_rows)):
                self._lives.append(_Life(group, secrets.randbits(63), self._born(group)))
        except BaseException:
            for life in self._lives:
                assert life.env is not None
                life.env.close()
            raise
        first = self._lives[0].env
        assert first is not None
        self.spec: EnvSpec = first.spec

    def _born(self, group: int) -> RowEnv:
        return self._make(group, self._first[group], self.group_rows[group], self._incarnation[group])

    # ------------------------------------------------------------------ the thread of a group

    def _run(self, life: _Life) -> None:
        doing = "birth"
        try:
            step = self._begin(life)
            doing, seq = "raised", 0
            while True:
                life.busy_since = None
                now = time.monotonic()
                self._came.put(Message(life.group, self._first[life.group], life.run_id, seq, step, now))
                action = life.actions.get()
                if action is None:
                    break
                life.busy_since = time.monotonic()
                assert life.env is not None
                step = life.env.step(action)
                seq += 1
        except EnvFailed as error:
            # what an environment gave and must not give has no cause; what it raised has
            kind = "bad_data" if doing == "raised" and error.__cause__ is None else doing
            self._came.put(_Failure(life, kind, str(error), error.__cause__))
        except BaseException as error:  # a wrong argument to the environments: whatever it is, the group is gone
            self._came.put(_Failure(life, doing, f"Group {life.group} failed with {say_error(error)}.", error))
        finally:
            if life.env is not None:
                with suppress(Exception, SystemExit):  # it failed before, or the run is over
                    life.env.close()

    def _begin(self, life: _Life) -> Step:
        # without a lock, which one that hangs would keep: groups that begin together may claim each other's native
        # threads, found by what is new in the process, but the clock reads those of all groups, each once
        if life.env is None:
            life.env = self._born(life.group)
        if life.at is not None:
            return life.at
        step = life.env.reset()
        life.thread_ids = life.env.thread_ids
        return step

    def _start(self, life: _Life) -> None:
        name = f"environments {life.group}.{self._incarnation[life.group]}"
        life.busy_since = time.monotonic()
        life.thread = threading.Thread(target=self._run, args=(life,), name=name, daemon=True)
        life.thread.start()

    # ------------------------------------------------------------------ what the engine calls

    def start(self) -> None:
        """Start all groups; their resets come as messages."""
        for life in self._lives:
            assert life.env is not None
            life.thread_ids = life.env.thread_ids
            self._start(life)

    def poll(self, timeout_s: float) -> list[Message]:
        """The messages that have come. Raises EnvFailed when the restarts are spent."""
        messages: list[Message] = []
        try:
            self._take(self._came.get(timeout=timeout_s) if timeout_s > 0 else self._came.get_nowait(), messages)
            while True:
                self._take(self._came.get_nowait(), messages)
        except Empty:
            pass
        self._look_for_hung()
        return messages

    def _take(self, came: Message | _Failure, messages: list[Message]) -> None:
        if isinstance(came, Message):
            if self._lives[came.group].run_id == came.run_id:
                messages.append(came)
                self._calls += came.seq > 0  # the first says where a group stands
                self._env_steps += int(np.count_nonzero(came.step.valid))
        elif self._lives[came.life.group] is came.life:
            self._again(came.life, came.kind, came.sentence, came.cause)

    def _look_for_hung(self) -> None:
        now = time.monotonic()
        # at most a quarter is counted at once: the whole process may have been stopped, or we did not look
        looked_for_s = min(now - self._looked_at, self._hang_s / 4)
        self._looked_at = now
        for life in self._lives:
            since = life.busy_since
            if since != life.seen_since:
                life.seen_since, life.seen_s = since, 0.0
            elif since is not None:
                life.seen_s += looked_for_s
            if life.seen_s > self._hang_s:
                first, rows = self._first[life.group], self.group_rows[life.group]
                self._again(
                    life,
                    "hung",
                    f"Environment {self.spec.id}, rows {first} to {first + rows - 1}: a step took longer than "
                    f"{self._hang_s:g} s.",
                )

    def _again(self, life: _Life, kind: str, sentence: str, cause: BaseException | None = None) -> None:
        """Start a group again, or raise when that was done often enough."""
        self._faults.append(Fault(life.group, kind, sentence, cause))
        if kind == "hung":
            self._left_behind.append(life)
            life.actions.put(None)
        if self._restarted >= self._restarts:
            if not self._restarts:
                raise EnvFailed(sentence) from cause
            raise EnvFailed(
                f"{sentence} Environments were started again {self._restarted} times before, which is the limit "
                f"(sampler.restarts={self._restarts})."
            ) from cause
        self._restarted += 1
        self._incarnation[life.group] += 1
        self._lives[life.group] = new = _Life(life.group, secrets.randbits(63), None)
        self._start(new)

    def reply(self, message: Message, action: NDArray[np.int64]) -> None:
        """Answer a message; dropped when its incarnation is gone."""
        life = self._lives[message.group]
        if life.run_id == message.run_id:
            life.busy_since = time.monotonic()
            life.actions.put(action)

    def live_rows(self) -> int:
        """Rows of groups that wait for actions, or have been stepping for a second at most."""
        now = time.monotonic()
        busy = [life.busy_since for life in self._lives]
        return sum(
            rows for rows, since in zip(self.group_rows, busy, strict=True) if since is None or now - since <= _LIVE_S
        )

    def take_faults(self) -> tuple[Fault, ...]:
        """What happened since the last call."""
        faults, self._faults = tuple(self._faults), []
        return faults

    def take_costs(self) -> Costs:
        """Calls and steps; CPU-seconds are on the clocks of the threads, see ``thread_ids``."""
        steps = self._env_steps
        cost = Cost(calls=self._calls, env_steps=steps, frames=steps * self.spec.frames_per_step)
        self._calls = self._env_steps = 0
        return {"environment": cost}

    def thread_ids(self) -> tuple[int, ...]:
        """The groups' own threads and the pools of their environments; others after a restart. Also those of a thread
        that hangs, which may use the processor."""
        found: set[int] = set()
        for life in (*self._lives, *self._left_behind):
            found.update(life.thread_ids)
            if life.thread is not None and life.thread.native_id is not None:
                found.add(life.thread.native_id)
        return tuple(sorted(found))

    # ------------------------------------------------------------------ saving and coming back

    def mark(self) -> None:
        """All groups wait for actions: remember how they stand, for ``roll_back``."""
        for life in self._lives:
            assert life.env is not None
            life.env.mark()

    def roll_back(self) -> None:
        """``exact_state_dict`` then gives how the groups stood at the last ``mark``; they cannot be stepped on."""
        until = time.monotonic() + self._hang_s
        for life in self._lives:  # a group may be stepping yet
            while life.busy_since is not None and life.thread is not None and life.thread.is_alive():
                if time.monotonic() > until:
                    break
                time.sleep(0.001)
        for life in self._lives:
            if life.env is not None:
                life.env.roll_back()

    def state_dict(self) -> dict[str, Any]:
        """How often each group was started: while groups step there is no more to save, other episodes play next."""
        return {"incarnation": list(self._incarnation), "groups": {}}

    def exact_state_dict(self) -> dict[str, Any]:
        """As ``state_dict``, with the state of every row: all groups wait for actions, or were rolled back."""
        groups = {}
        for life in self._lives:
            assert life.env is not None
            groups[str(life.group)] = life.env.state_dict()
        return {"incarnation": list(self._incarnation), "groups": groups}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Before ``start``. Groups whose rows were saved stand where they stood; others begin episodes never played.

        Raises:
            RunFailed: the state belongs to other environments.
        """
        saved = [int(count) for count in state["incarnation"]]
        if len(saved) != len(self.group_rows):
            raise RunFailed(
                f"{len(saved)} groups of environments were saved, but there are {len(self.group_rows)}; use the run's "
                f"own settings."
            )
        lost: list[int] = []
        for life in self._lives:
            group = life.group
            assert life.env is not None
            env_state = state["groups"].get(str(group))
            if env_state is None:
                self._incarnation[group] = saved[group] + 1
                life.env.close()
                life.env = self._born(group)
                lost += range(self._first[group], self._first[group] + self.group_rows[group])
                continue
            self._incarnation[group] = saved[group]
            restored = life.env.load_state_dict(env_state)
            life.at = restored.step
            life.env.mark()  # a block that fails at once is rolled back to here
            lost += [self._first[group] + row for row in restored.not_restored]
        self._restored = tuple(lost)

    @property
    def not_restored(self) -> tuple[int, ...]:
        """Rows that ``load_state_dict`` could not bring back exactly."""
        return self._restored

    def close(self) -> None:
        """End all threads; one that hangs is left to end with the process. Harmless when called twice."""
        if self._closed:
            return
        self._closed = True
        until = time.monotonic() + _CLOSE_S
        for life in self._lives:
            life.actions.put(None)
        for life in self._lives:
            if life.thread is not None:
                life.thread.join(max(until - time.monotonic(), 0.0))
            elif life.env is not None:
                life.env.close()
