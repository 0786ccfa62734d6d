"""The transport whose environments run in worker processes: a crash, a hang or a leak stays in one of them.

A worker holds ``SamplerConfig.groups`` groups, so that it steps one while the engine works for another. A message is
one byte in a pipe, however many environments it stands for; the step itself lies in shared memory (``slots.py``). The
engine's side waits for all workers at once.

A worker that fails in any way is killed with all its groups and started again: new ``run_id``, other episodes. Whole
frame stacks are sent: to rebuild them from the newest frame moves the same bytes once more than it saves.
"""

from __future__ import annotations

import select
import sys
import threading
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frugalrl.sampling.config import SamplerConfig
from frugalrl.sampling.life import how_it_ended
from frugalrl.sampling.slots import MAX_GROUPS, TEXT
from frugalrl.sampling.transport import Fault, FromWorker, Message
from frugalrl.sampling.worker_job import EnvPlan, enough_for_each_group
from frugalrl.sampling.worker_process import WorkerProcess
from frugalrl.types import Costs, EnvFailed, EnvSpec, RunFailed, UserError, merge_costs

_LOOK_EVERY_S = 0.2
_LIVE_S = 1.0
"""Without a sign of life for so long, the rows of a worker are not waited for."""


class ProcessTransport:
    """Groups of environments in worker processes; see `Transport`."""

    def __init__(
        self,
        plan: EnvPlan,
        config: SamplerConfig,
        *,
        num_rows: int,
        retry_s: float = 5.0,
        birth_s: float = 120.0,
    ) -> None:
        """Nothing is started before ``spec`` is read or ``start`` is called.

        Args:
            plan: the environment.
            config: ``workers``, ``groups`` of each of them, ``hang_s`` and ``restarts`` (of workers) are read.
            num_rows: environments of all groups.
            retry_s: a worker asks again when it has no answer for so long.
            birth_s: how long a worker may take to make its environments.

        Raises:
            UserError: more groups than rows or than a worker can hold, or a system without what workers need.
        """
        if sys.platform == "win32":
            raise UserError("Worker processes need Linux or macOS; use sampler.workers=0.")
        if config.workers < 1:
            raise UserError(f"sampler.workers={config.workers}: worker processes need at least 1.")
        if config.groups > MAX_GROUPS:
            raise UserError(f"sampler.groups={config.groups}: a worker holds at most {MAX_GROUPS} groups.")
        self._plan, self._config, self._retry_s, self._birth_s = plan, config, retry_s, birth_s
        self._group_rows = enough_for_each_group(num_rows, config.workers, config.groups)
        self._first_rows = tuple(sum(self._group_rows[:group]) for group in range(len(self._group_rows)))
        self._incarnations = [0] * config.workers
        self._workers: list[WorkerProcess] = []
        self._by_fd: dict[int, int] = {}
        self._poller = select.poll()
        self._lock = threading.RLock()
        self._spec: EnvSpec | None = None
        self._born = self._started = self._closed = False
        self._failure: str | None = None
        self._faults: list[Fault] = []
        self._restarts = 0
        self._costs: Costs = {}
        self._looked_s = 0.0

    @property
    def spec(self) -> EnvSpec:
        """Of the environments. The first reading makes them. Raises UserError, EnvFailed."""
        self._bear()
        assert self._spec is not None
        return self._spec

    @property
    def num_rows(self) -> int:
        """Rows of all groups."""
        return sum(self._group_rows)

    @property
    def group_rows(self) -> tuple[int, ...]:
        """Rows of each group."""
        return self._group_rows

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the workers, in their order."""
        return tuple(worker.pid for worker in self._workers)

    def start(self) -> None:
        """Start all groups; their resets come as messages.

        Raises:
            UserError: the environment cannot be made as described.
            EnvFailed: workers died while they made it, more often than ``restarts``.
        """
        self._bear()
        with self._lock:
            self._started = True
            for worker in self._workers:
                worker.go()

    def _bear(self) -> None:
        if self._born:
            return
        if self._closed:
            raise RuntimeError("the transport is closed")
        try:
            with self._lock:
                for number in range(self._config.workers):
                    self._workers.append(self._spawn(number))
            while not all(worker.spec is not None for worker in self._workers):
                with self._lock:
                    if self._closed:
                        raise RuntimeError("the transport is closed")
                    self._pump(_LOOK_EVERY_S)
        except BaseException:
            self.close()
            raise
        self._born = True

    def _spawn(self, number: int) -> WorkerProcess:
        groups = self._config.groups
        mine = slice(number * groups, (number + 1) * groups)
        try:
            worker = WorkerProcess(
                self._plan,
                first_group=mine.start,
                first_rows=self._first_rows[mine],
                group_rows=self._group_rows[mine],
                incarnation=self._incarnations[number],
                retry_s=self._retry_s,
            )
        except OSError as error:
            raise RunFailed(f"Cannot start a worker process: {error}.") from error
        self._by_fd[worker.report_fd] = number
        self._poller.register(worker.report_fd, select.POLLIN)
        return worker

    def poll(self, timeout_s: float) -> list[Message]:
        """The messages that have come, at least one unless ``timeout_s`` has passed or it is closed.

        Raises:
            EnvFailed: the restarts are spent.
        """
        until_s = time.monotonic() + timeout_s
        while True:
            with self._lock:
                if self._closed:
                    return []
                if self._failure is not None:
                    raise EnvFailed(self._failure)
                found = self._pump(min(max(until_s - time.monotonic(), 0.0), _LOOK_EVERY_S))
            if found or time.monotonic() >= until_s:
                return found

    def _pump(self, timeout_s: float) -> list[Message]:
        """Wait once; read what came; look after the workers when it is time."""
        found: list[Message] = []
        for fd, _ in self._poller.poll(timeout_s * 1000):
            self._hear(self._workers[self._by_fd[fd]], found)
        now_s = time.monotonic()
        if now_s - self._looked_s >= _LOOK_EVERY_S:
            self._looked_s = now_s
            for worker in tuple(self._workers):
                self._look_after(worker, now_s, found)
        return found

    def _hear(self, worker: WorkerProcess, found: list[Message]) -> bool:
        """Read what this worker sent and add its messages to ``found``; whether there was anything."""
        came = worker.read()
        if came is None:
            return False
        if not came:
            self._died(worker)
        for byte in dict.fromkeys(came) if len(came) > 1 else came:
            if byte == TEXT:
                self._told(worker)
            elif byte < len(worker.slots) and (message := self._message(worker, byte)):
                found.append(message)
        return True

    def _message(self, worker: WorkerProcess, place: int) -> Message | None:
        seq = worker.seq(place)
        if worker.answered(place):  # it asked again while the answer was on its way, and may be writing now
            worker.wake(place)
            return None
        group = worker.first_group + place
        return Message(
            group=group,
            first_row=self._first_rows[group],
            run_id=worker.run_id,
            seq=seq,
            step=worker.slots[place].read(),
            arrived_s=time.monotonic(),
        )

    def reply(self, message: Message, action: NDArray[np.int64]) -> None:
        """Answer a message with the actions [rows of the group].

        Raises:
            ValueError: another number of actions.
        """
        rows = self._group_rows[message.group]
        if action.shape != (rows,):
            raise ValueError(f"action has shape {action.shape}, not ({rows},)")
        number, place = divmod(message.group, self._config.groups)
        with self._lock:
            if self._closed:
                return
            worker = self._workers[number]
            if worker.run_id != message.run_id or worker.seq(place) != message.seq or worker.answered(place):
                return
            worker.slots[place].action[:] = action
            worker.answer(place, message.seq)

    def live_rows(self) -> int:
        """Rows of workers that gave a sign of life within the last second."""
        with self._lock:
            return sum(worker.num_rows for worker in self._workers if worker.running and worker.silent_s < _LIVE_S)

    def take_faults(self) -> tuple[Fault, ...]:
        """What happened since the last call; one fault per restart, with the group that was worked for."""
        faults, self._faults = tuple(self._faults), []
        return faults

    def take_costs(self) -> Costs:
        """CPU-seconds of the workers since the last call: ``startup`` (imports, making the environments),
        ``environment`` and ``transport`` (waiting and copying), and calls of ``step``.

        `ProcessClock` has the CPU-seconds of child processes in its total: these are the same ones.
        """
        with self._lock:
            costs = merge_costs([self._costs, *(worker.take_costs() for worker in self._workers)])
            self._costs = {}
        return costs

    def thread_ids(self) -> tuple[int, ...]:
        """None: all threads of the environments are in other processes."""
        return ()

    def state_dict(self) -> dict[str, Any]:
        """How often each worker was started."""
        return {"incarnations": list(self._incarnations)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Before ``start``: all groups play episodes that no part of the run has played."""
        if self._started:
            raise RuntimeError("call load_state_dict() before start()")
        next_one = 1 + max(int(count) for count in state["incarnations"])
        self._incarnations = [next_one + count for count in self._incarnations]
        for worker, incarnation in zip(self._workers, self._incarnations, strict=False):
            worker.set_incarnation(incarnation)

    # ------------------------------------------------------------------ looking after the workers

    def _look_after(self, worker: WorkerProcess, now_s: float, found: list[Message]) -> None:
        limit_s = self._config.hang_s if worker.running else self._birth_s
        worker.look(now_s, max(limit_s / 4, 2 * _LOOK_EVERY_S))
        if worker.silent_s > 0 and worker.is_dead():
            # its last words come first; without any, something that it started still holds its end of the pipe
            if not self._hear(worker, found):
                self._died(worker)
        elif worker.silent_s >= limit_s:
            group, doing = worker.doing()
            self._fail(worker, "hung", group, f"{self._name(worker)} gave no sign of life for {limit_s:g} s {doing}.")

    def _told(self, worker: WorkerProcess) -> None:
        told = worker.told()
        if "spec" in told:
            self._opened(worker, told["spec"])
            return
        group = worker.first_group + int(told["group"])
        if told["failed"] == "user" and not self._born:
            raise UserError(told["sentence"])
        kind = "birth" if told["failed"] == "user" else told["failed"]
        self._fail(worker, kind, group, told["sentence"], FromWorker(f"\n{told['traceback']}"))

    def _opened(self, worker: WorkerProcess, spec: dict[str, Any]) -> None:
        worker.opened(spec)
        if self._spec is None:
            self._spec = worker.spec
        if worker.spec != self._spec:
            cause = f"{self._name(worker)} made environments with other spaces than before: {worker.spec}."
            self._fail(worker, "bad_data", worker.first_group, cause)
        elif self._started:
            worker.go()

    def _died(self, worker: WorkerProcess) -> None:
        group, doing = worker.doing()
        how = how_it_ended(self._retire(worker))
        kind = "died" if worker.spec is not None else "birth"
        self._fail(worker, kind, group, f"{self._name(worker)} {how} {doing}.")

    def _name(self, worker: WorkerProcess) -> str:
        return f"Worker process {worker.first_group // self._config.groups} of {self._plan.env_id}"

    def _fail(
        self, worker: WorkerProcess, kind: str, group: int, cause: str, raised: BaseException | None = None
    ) -> None:
        """Kill it and start another, or raise EnvFailed."""
        number = worker.first_group // self._config.groups
        self._retire(worker)
        most = self._config.restarts
        if self._restarts >= most:
            self._faults.append(Fault(group, kind, cause, raised))
            self._failure = f"{cause} {_spent(most)}"
            raise EnvFailed(self._failure) from raised
        self._restarts += 1
        self._incarnations[number] += 1
        again = f"Started again with new episodes (restart {self._restarts} of {most})."
        self._faults.append(Fault(group, kind, f"{cause} {again}", raised))
        self._workers[number] = self._spawn(number)

    def _retire(self, worker: WorkerProcess) -> int:
        """Kill it and keep what it used; its exit code."""
        if self._by_fd.pop(worker.report_fd, None) is not None:
            self._poller.unregister(worker.report_fd)
        code = worker.kill()
        self._costs = merge_costs([self._costs, worker.take_costs()])
        return code

    def close(self) -> None:
        """End all workers: those that wait close their environments, the others get SIGTERM, then SIGKILL.

        From any thread; takes less than three seconds.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
            workers = self._workers
            for worker in workers:
                worker.let_end()
            if not _ended(workers, 1.0):
                for worker in workers:
                    worker.terminate()
                _ended(workers, 1.0)
            for worker in workers:
                self._retire(worker)


def _spent(restarts: int) -> str:
    if restarts == 0:
        return "sampler.restarts=0 allows no restart."
    times = "once" if restarts == 1 else f"{restarts} times"
    return f"Workers had been started again {times} before, and sampler.restarts={restarts} allows no more."


def _ended(workers: list[WorkerProcess], within_s: float) -> bool:
    until_s = time.monotonic() + within_s
    while not all(worker.is_dead() for worker in workers):
        if time.monotonic() >= until_s:
            return False
        time.sleep(0.01)
    return True
