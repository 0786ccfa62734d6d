"""Central runs for tests: tiny configurations, real processes that are signalled at a step, and what they leave."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from kill_resume import writing

from frugalrl.recipes import build_config
from frugalrl.run.config import RunConfig
from frugalrl.run.config_io import override
from frugalrl.run.record import read_progress

COMMON = (
    "evaluation.every_env_steps=1_000_000", "evaluation.episodes=2", "evaluation.rows=2", "device=cpu",
    "net.hidden_units=8",
)  # fmt: skip
VTRACE = (*COMMON, "agent.unroll_steps=5", "agent.batch_unrolls=4")
R2D2 = (
    *COMMON, "agent.unroll_steps=4", "agent.burn_in_steps=2", "agent.batch_size=4", "agent.target_period_updates=5",
    "sequences.capacity_sequences=200", "schedule.warmup_env_steps=60", "schedule.steps_per_round=4",
    "net.lstm_units=8",
)  # fmt: skip


def vtrace(env_id: str, *settings: str, steps: int | None = 600) -> RunConfig:
    """seed-vtrace-small, shrunk."""
    in_lockstep = "schedule.steps_per_round=5"  # without, nothing reads it, and the command line refuses it
    known = (*VTRACE, in_lockstep, "env.rows=4", "checkpoint.every_s=3600", f"budget.env_steps={steps}")
    return override(build_config(env_id, "seed-vtrace-small"), [*known, *settings])


def r2d2(env_id: str, *settings: str, steps: int | None = 600) -> RunConfig:
    """seed-r2d2-small, shrunk."""
    known = (*R2D2, "env.rows=4", "checkpoint.every_s=3600", f"budget.env_steps={steps}")
    return override(build_config(env_id, "seed-r2d2-small"), [*known, *settings])


def workers_here() -> list[int]:
    """Process ids of the worker processes of this process."""
    return [child.pid for child in psutil.Process().children() if "worker_main" in " ".join(child.cmdline())]


def is_alive(pid: int) -> bool:
    """Neither gone nor a zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def within(seconds: float, what: Callable[[], bool]) -> bool:
    """Whether it came true in time."""
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def named_memory_of(pids: list[int]) -> set[str]:
    """What these processes hold or map of /dev/shm, where it would outlive them."""
    found: set[str] = set()
    for pid in pids:
        words = Path(f"/proc/{pid}/maps").read_text().split()
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                words.append(os.readlink(fd))
        found.update(word for word in words if word.startswith("/dev/shm/"))
    return found


class Started:
    """A run of the command line in a process group of its own, as a shell starts it."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "frugalrl.cli", "train", *words, "--out", str(folder), "--quiet", "--device", "cpu"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        self.workers: list[int] = []
        self.took_s = 0.0

    def step(self) -> int:
        """Agent steps that it has done."""
        path = self.folder / "progress.bin"
        records = read_progress(path.read_bytes()) if path.exists() else []
        return records[-1].env_steps if records else 0

    def wait_for_step(self, step: int) -> None:
        assert within(120, lambda: self.process.poll() is not None or self.step() >= step)
        assert self.process.poll() is None, self.process.communicate()
        self.workers = [child.pid for child in psutil.Process(self.process.pid).children(recursive=True)]
        assert named_memory_of([self.process.pid, *self.workers]) == set()

    def wait_for_writer(self) -> None:
        """Until something half-written lies in its checkpoints."""
        assert within(60, lambda: self.process.poll() is not None or writing(self.folder))
        assert self.process.poll() is None, self.process.communicate()

    def end(self, send: Callable[[], None]) -> tuple[int, str, str]:
        """Send a signal and wait -> exit code, standard output and error."""
        began = time.monotonic()
        send()
        out, err = self.process.communicate(timeout=60)
        self.took_s = time.monotonic() - began
        return self.process.returncode, out, err


@contextmanager
def started(folder: Path, *words: str) -> Iterator[Started]:
    """Killed at the end, whatever happens."""
    run = Started(folder, *words)
    try:
        yield run
    finally:
        run.process.kill()
        run.process.communicate()


def send(run: Started, number: signal.Signals, *, group: bool = False) -> Callable[[], None]:
    """Sends a signal to the process, or to all of its group as a terminal does."""
    to = os.killpg if group else os.kill
    return lambda: to(run.process.pid, number)
