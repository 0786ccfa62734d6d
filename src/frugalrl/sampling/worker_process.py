"""The parent's handle of one worker process: start it, hear it, see whether it lives, kill it.

A worker has a session of its own, so that Ctrl-C reaches the parent only and a kill reaches what the environment
started. It is ended by the kernel when the parent is gone (``life.die_with_parent``).
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import frugalrl
from frugalrl.sampling.life import kill_group
from frugalrl.sampling.slots import (
    ANSWERED,
    BEAT,
    CALLS,
    DOING,
    ENVIRONMENT_NS,
    GO,
    INCARNATION,
    SEQ,
    STARTING,
    STARTUP_NS,
    TRANSPORT_NS,
    WAITING,
    Control,
    Slot,
    new_file,
    slots,
)  # fmt: skip
from frugalrl.sampling.worker_job import EnvPlan, Job
from frugalrl.types import Cost, Costs, EnvSpec

_ROOT = str(Path(frugalrl.__file__).parent.parent)
_CODE = f"import sys; sys.path.insert(0, {_ROOT!r}); from frugalrl.sampling.worker_main import main; main()"


class WorkerProcess:
    """One process and the descriptors that lead to it."""

    def __init__(
        self, plan: EnvPlan, *, first_group: int, first_rows: tuple[int, ...], group_rows: tuple[int, ...],
        incarnation: int, retry_s: float,
    ) -> None:  # fmt: skip
        """Start it; it makes its environments and then waits for ``go``. Raises OSError."""
        self.first_group, self.group_rows = first_group, group_rows
        self.spec: EnvSpec | None = None
        """Known once it has said that its environments are made."""
        self.run_id = secrets.randbits(63)
        self._code: int | None = None
        self.running = False
        """Whether ``go`` was said."""
        self.silent_s = 0.0
        """Seconds that it gave no sign of life, as far as the parent was looking."""
        self.slots: list[Slot] = []
        self._memory_fd = new_file()
        self.control = Control(self._memory_fd)
        words = self.control.words
        words[DOING], words[INCARNATION] = STARTING, incarnation
        for group in range(len(group_rows)):
            words[Control.at(group) + SEQ] = words[Control.at(group) + ANSWERED] = -1
        self._taken = [0] * 4
        self._beat, self._looked_s = 0, time.monotonic()
        pipe, self._wake_fd = os.pipe()
        self.report_fd, report = os.pipe()
        life, self._life_fd = os.pipe()
        job = Job(
            plan=plan, first_rows=first_rows, group_rows=group_rows, retry_s=retry_s,
            path=tuple(sys.path), parent=os.getpid(), memory_fd=self._memory_fd, report_fd=report, life_fd=life,
        )  # fmt: skip
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _CODE],
                stdin=pipe,
                pass_fds=(self._memory_fd, report, life),
                start_new_session=True,
            )
        except OSError:
            self._close_fds()
            raise
        finally:
            for fd in (pipe, report, life):
                os.close(fd)
        with suppress(BrokenPipeError):  # it is dead already, which its end of the other pipe says
            os.write(self._wake_fd, f"{job.to_json()}\n".encode())
        # a stopped worker must not stop us; a wake-up that does not fit is sent again when it asks again
        os.set_blocking(self._wake_fd, False)
        os.set_blocking(self.report_fd, False)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def num_rows(self) -> int:
        """Rows of its groups."""
        return sum(self.group_rows)

    def told(self) -> dict[str, Any]:
        """What it has written for us: its ``spec``, or how it ``failed``."""
        told: dict[str, Any] = json.loads(self.control.read_text())
        return told

    def opened(self, spec: Mapping[str, Any]) -> None:
        """Its environments are made."""
        self.spec = EnvSpec(**{**spec, "obs_shape": tuple(spec["obs_shape"])})
        self.slots = slots(self._memory_fd, self.group_rows, self.spec)
        os.close(self._memory_fd)
        self._memory_fd = -1

    def go(self) -> None:
        """Reset the environments and begin."""
        self.running = True
        self.silent_s = 0.0
        self.wake(GO)

    def wake(self, byte: int) -> None:
        """Write a byte; one that is lost is no harm."""
        with suppress(BrokenPipeError, BlockingIOError):
            os.write(self._wake_fd, bytes((byte,)))

    def set_incarnation(self, incarnation: int) -> None:
        """Before ``go``."""
        self.control.words[INCARNATION] = incarnation

    def read(self) -> bytes | None:
        """The bytes that came, None for none yet; empty when the process is gone."""
        try:
            return os.read(self.report_fd, 4096)
        except BlockingIOError:
            return None

    def seq(self, group: int) -> int:
        """Number of the last step of its group, -1 for none."""
        return self.control.words[Control.at(group) + SEQ]

    def answered(self, group: int) -> bool:
        """Whether the last step has its actions."""
        at = Control.at(group)
        return self.control.words[at + ANSWERED] == self.control.words[at + SEQ]

    def answer(self, group: int, seq: int) -> None:
        """The actions for this step are in the slot."""
        self.control.words[Control.at(group) + ANSWERED] = seq
        self.wake(group)

    def look(self, now_s: float, most_s: float) -> None:
        """Read its sign of life. At most ``most_s`` are counted at once: we may have been asleep ourselves."""
        beat = self.control.words[BEAT]
        if beat != self._beat:
            self._beat, self.silent_s = beat, 0.0
        else:
            self.silent_s += min(now_s - self._looked_s, most_s)
        self._looked_s = now_s

    def is_dead(self) -> bool:
        """Whether the process has ended. It is not reaped, so that its number is not given to another."""
        if self._code is not None:
            return True
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def doing(self) -> tuple[int, str]:
        """The group (of the sampler) that it last worked for, and what it did, in words."""
        doing = self.control.words[DOING]
        if doing == STARTING:
            return self.first_group, "while it made its environments"
        if doing == WAITING:
            return self.first_group, "while it waited for actions"
        group = self.first_group + doing // 2
        return group, f"while it {'stepped' if doing % 2 else 'reset'} group {group}"

    def take_costs(self) -> Costs:
        """CPU-seconds and calls since the last time."""
        now = [self.control.words[word] for word in (STARTUP_NS, ENVIRONMENT_NS, TRANSPORT_NS, CALLS)]
        startup, environment, transport, calls = (a - b for a, b in zip(now, self._taken, strict=True))
        self._taken = now
        return {
            "startup": Cost(cpu_s=startup / 1e9),
            "environment": Cost(cpu_s=environment / 1e9, calls=calls),
            "transport": Cost(cpu_s=transport / 1e9),
        }

    def let_end(self) -> None:
        """Ask it to close its environments and end; ``kill`` must follow."""
        if self._wake_fd >= 0:
            os.close(self._wake_fd)
            self._wake_fd = -1

    def terminate(self) -> None:
        """SIGTERM."""
        if not self.is_dead():
            os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> int:
        """SIGKILL to it and all that it started; wait for it; its exit code, negative for a signal.

        Harmless when called twice.
        """
        if self._code is None:
            self._code = kill_group(self._process)
            self._close_fds()
            self.control.close()
            self.running = False
            self.slots = []
        return self._code

    def _close_fds(self) -> None:
        for fd in (self._wake_fd, self.report_fd, self._life_fd, self._memory_fd):
            if fd >= 0:
                os.close(fd)
        self._wake_fd = self.report_fd = self._life_fd = self._memory_fd = -1
