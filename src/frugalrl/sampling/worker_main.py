"""What runs in a worker process: the environments of some groups, stepped when their actions come.

Started by ``worker_process.py``. It imports neither torch nor any part that learns. Its standard input is the pipe of
its parent: one line that holds the `Job`, then wake-ups of one byte. It ends when that pipe ends.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import asdict
from types import TracebackType

from frugalrl.envs import RowEnv, make_env
from frugalrl.envs.rows import say_error
from frugalrl.sampling.life import die_with_parent
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
    TEXT,
    TRANSPORT_NS,
    WAITING,
    Control,
    slots,
)  # fmt: skip
from frugalrl.sampling.threads import EPISODES_PER_LIFE
from frugalrl.sampling.worker_job import EnvPlan, Job
from frugalrl.types import EnvFailed, EnvSpec, Step, UserError

BEAT_EVERY_S = 0.2
"""Seconds between two signs of life of a worker that waits."""
_TRACE_CHARS = 8_000
"""The end of a traceback, which is where it went wrong."""
_READERS = ("frugalrl.envs.spaces", "frugalrl.envs.python_rows", "frugalrl.envs.vector_rows")


def open_rows(plan: EnvPlan, num_rows: int, first_row: int) -> RowEnv:
    """Rows of one group, which begin at row ``first_row`` of the sampler. Raises UserError."""
    return make_env(
        plan.env_id,
        protocol=plan.protocol,
        num_rows=num_rows,
        seed=plan.seed,
        training=plan.training,
        threads=plan.threads,
        env_kwargs=plan.env_kwargs,
        first_row=first_row,
    )


class Worker:
    """Environments of some groups and the parent's pipe."""

    def __init__(self, job: Job, control: Control, pipe: int) -> None:
        self._job, self._control, self._words, self._pipe = job, control, control.words, pipe
        self._poller = select.poll()
        self._poller.register(pipe, select.POLLIN)
        self._envs: list[RowEnv] = []
        self._asked_s = [0.0] * len(job.group_rows)
        self._look_at_s = 0.0
        self._patience_ms = min(BEAT_EVERY_S, job.retry_s) * 1000
        self._cpu_ns = 0

    @property
    def spec(self) -> EnvSpec | None:
        """Of its environments; None before there are any."""
        return self._envs[0].spec if self._envs else None

    def run(self) -> None:
        """From making the environments until the parent's pipe ends. Raises UserError, EnvFailed and what they do."""
        job, words = self._job, self._words
        words[DOING] = STARTING
        for first_row, rows in zip(job.first_rows, job.group_rows, strict=True):
            self._envs.append(open_rows(job.plan, rows, first_row))
            words[BEAT] += 1
        spec = self._envs[0].spec
        self._slots = slots(job.memory_fd, job.group_rows, spec)
        self._control.write_text(json.dumps({"spec": asdict(spec)}))
        self._charge(STARTUP_NS)
        self.tell(TEXT)
        if not self._go_on():
            return
        for group, env in enumerate(self._envs):
            env.first_episode = EPISODES_PER_LIFE * words[INCARNATION]
            words[DOING] = 2 * group
            step = env.reset()
            self._charge(ENVIRONMENT_NS)
            self._publish(group, 0, step)
        while (ready := self._wait()) is not None:
            for group in ready:
                self._step(group)

    def _go_on(self) -> bool:
        """Wait for the parent's word; False when it is gone."""
        while True:
            came = self._read()
            if came is None:
                return False
            if GO in came:
                return True

    def _step(self, group: int) -> None:
        words = self._words
        words[DOING] = 2 * group + 1
        action = self._slots[group].action.copy()
        self._charge(TRANSPORT_NS)
        step = self._envs[group].step(action)
        self._charge(ENVIRONMENT_NS)
        words[CALLS] += 1
        self._publish(group, words[self._control.at(group) + SEQ] + 1, step)

    def _publish(self, group: int, seq: int, step: Step) -> None:
        self._slots[group].write(step)
        self._words[self._control.at(group) + SEQ] = seq
        self._words[BEAT] += 1
        self._words[DOING] = WAITING
        self._ask(group)

    def _ask(self, group: int) -> None:
        self._asked_s[group] = time.monotonic()
        self.tell(group)

    def tell(self, byte: int) -> None:
        """Wake the parent."""
        os.write(self._job.report_fd, bytes((byte,)))

    def _wait(self) -> list[int] | None:
        """Groups whose actions have come; None when the parent is gone."""
        while True:
            came = self._read()
            if came is None:
                return None
            # a wake-up may come twice, or not at all: what counts is the word
            ready = [group for group in (dict.fromkeys(came) if len(came) > 1 else came) if self._answered(group)]
            if time.monotonic() >= self._look_at_s:
                ready += [group for group in self._ask_again() if group not in ready]
            if ready:
                return ready

    def _ask_again(self) -> list[int]:
        """Groups that were answered without a wake-up; those that wait for too long send theirs once more."""
        now, retry_s = time.monotonic(), self._job.retry_s
        self._look_at_s = now + min(retry_s, BEAT_EVERY_S)
        late = [group for group, asked_s in enumerate(self._asked_s) if now - asked_s >= retry_s]
        ready = [group for group in late if self._answered(group)]
        for group in late:
            if group not in ready:
                self._ask(group)
        return ready

    def _answered(self, group: int) -> bool:
        at = self._control.at(group)
        return self._words[at + SEQ] == self._words[at + ANSWERED]

    def _read(self) -> bytes | None:
        """Bytes from the parent, none after a while; None when it is gone."""
        if not self._poller.poll(self._patience_ms):
            self._words[BEAT] += 1
            return b"" if os.getppid() == self._job.parent else None
        return os.read(self._pipe, 4096) or None

    def _charge(self, word: int) -> None:
        now = time.process_time_ns()
        self._words[word] += now - self._cpu_ns
        self._cpu_ns = now

    def close(self) -> None:
        """Close the environments; whatever they say, the process is about to end."""
        for env in self._envs:
            env.close()


def failure(error: BaseException, doing: int, spec: EnvSpec | None) -> dict[str, str | int]:
    """Kind, sentence, group (of this worker) and traceback of what ended a worker."""
    group, what = max(doing, 0) // 2, "stepping" if doing % 2 else "resetting"
    if isinstance(error, UserError):
        kind, sentence = "user", str(error)
    elif doing == STARTING:
        kind, sentence = "birth", f"Starting a worker process failed with {say_error(error)}."
    elif isinstance(error, EnvFailed):
        kind, sentence = "bad_data" if _read_badly(error) else "raised", str(error)
    else:
        name = "an environment" if spec is None else f"environment {spec.id}"
        kind, sentence = "raised", f"{what.capitalize()} {name} failed with {say_error(error)}."
    raised = error.__cause__ or error  # an EnvFailed says where, its cause says what
    trace = "".join(traceback.format_exception(raised))[-_TRACE_CHARS:]
    return {"failed": kind, "sentence": sentence, "group": group, "traceback": trace}


def _read_badly(error: EnvFailed) -> bool:
    """Whether the environment gave something that could not be read, rather than raised."""
    if error.__cause__ is None:
        return True
    at: TracebackType | None = error.__cause__.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    return at is not None and at.tb_frame.f_globals.get("__name__") in _READERS


def _read_job(pipe: int) -> Job:
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(pipe, 1)
        if not byte:
            os._exit(1)
        line += byte
    return Job.from_json(line.decode())


def main() -> None:
    """Be a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pipe = os.dup(0)
    job = _read_job(pipe)
    for fd in (job.memory_fd, job.report_fd, job.life_fd):
        os.set_inheritable(fd, False)
    die_with_parent(job.life_fd)
    # an environment must not eat wake-ups, nor write between the lines of the parent's output
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    sys.path[:] = job.path
    control = Control(job.memory_fd)
    worker = Worker(job, control, pipe)
    try:
        worker.run()
    except BaseException as error:
        control.write_text(json.dumps(failure(error, control.words[DOING], worker.spec)))
        with suppress(OSError):
            worker.tell(TEXT)
        os._exit(1)
    worker.close()


if __name__ == "__main__":
    main()
