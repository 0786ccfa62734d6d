"""Runs the cells of a study in parallel processes, one thread each, and follows them."""

from __future__ import annotations

import json
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

import frugalrl
from frugalrl.run.record import write_json
from frugalrl.run.stop import Interrupt, interruptible
from frugalrl.study.folder import Failure, StudyFolder
from frugalrl.study.job import Job
from frugalrl.study.matrix import Cell

_PATIENCE_S = 60.0
_ROOT = str(Path(frugalrl.__file__).parent.parent)
_CODE = (
    f"import sys; sys.path.insert(0, {_ROOT!r}); import frugalrl; sys.path.pop(0); "
    f"from frugalrl.cli.job import main; sys.exit(main())"
)
"""A job, of this very package and without the working folder in front of the path: there a user's queue.py would hide
Python's own. Modules of environments are found in that folder all the same, as in a run."""


@dataclass
class Progressing:
    """Where a cell is."""

    cell: Cell
    done: float = 0.0
    """Share of its budget."""
    env_steps: int = 0
    cpu_s: float = 0.0
    score: float | None = None
    began: float | None = None
    """On the monotonic clock; None before it begins."""
    began_at: float = 0.0
    """Share that was done when it began: more than 0 for a resumed run."""
    wall_s: float | None = None
    """How long it took; None while it goes on."""
    ended: str | None = None
    """``completed``, ``interrupted`` or ``failed``."""
    together: int = 1
    """Cells that its process does at the same time."""


class Listener(Protocol):
    """Shows a study while it runs."""

    interval_s: float

    def show(self, view: View) -> None:
        """Called every ``interval_s`` and at the end."""

    def ended(self, progressing: Progressing, reason: str) -> None:
        """A cell ended."""

    def note(self, text: str) -> None: ...

    def close(self) -> None:
        """Nothing more is shown; harmless when called twice."""


@dataclass
class View:
    """The whole study at one moment."""

    cells: Mapping[str, Progressing]
    """Cells of this session, by key."""
    before: int
    """Cells that an earlier session has finished."""
    processes: int
    began: float = field(default_factory=time.monotonic)

    def eta_s(self) -> float | None:
        """Wall seconds to the end, from how long the same environment and method took; None before that is known."""
        speeds: dict[tuple[str, str], list[float]] = {}
        for p in self.cells.values():
            share = (1.0 if p.ended == "completed" else p.done) - p.began_at
            if p.began is not None and share > 0.02:
                took = p.wall_s if p.wall_s is not None else time.monotonic() - p.began
                speeds.setdefault((p.cell.env, p.cell.method), []).append(took / share / p.together)
        if not speeds:
            return None
        mean = {key: sum(v) / len(v) for key, v in speeds.items()}
        anywhere = sum(mean.values()) / len(mean)
        left = sum(
            (1 - p.done) * mean.get((p.cell.env, p.cell.method), anywhere)
            for p in self.cells.values()
            if p.ended is None
        )
        jobs = sum(1 / p.together for p in self.cells.values() if p.ended is None)
        return left / max(1.0, min(self.processes, jobs))


@dataclass
class _Process:
    """A running job."""

    job: Job
    cells: tuple[Cell, ...]
    popen: subprocess.Popen[str]
    log: Path
    told: set[str] = field(default_factory=set)
    """Cells whose end it has told."""


class Runner:
    """Does jobs of a study until all are done or a signal comes."""

    def __init__(
        self,
        folder: StudyFolder,
        jobs: Sequence[tuple[Cell, ...]],
        listener: Listener,
        *,
        processes: int,
        environment: Mapping[str, str],
        prices: Path | None = None,
        command: Sequence[str] = (),
    ) -> None:
        """``jobs``: cells that one process does; ``environment``: variables of the processes."""
        self._folder, self._listener = folder, listener
        self._waiting = list(jobs)
        self._processes, self._environment = processes, dict(environment)
        self._prices, self._command = prices, tuple(command)
        self._running: list[_Process] = []
        self._noted: set[str] = set()
        self._interrupted = False
        self._lines: queue.SimpleQueue[tuple[_Process, str | None]] = queue.SimpleQueue()
        before = sum(folder.finished(cell) for cell in folder.cells)
        self.view = View(
            {cell.key: Progressing(cell, together=len(job)) for job in jobs for cell in job}, before, processes
        )

    def run(self) -> bool:
        """Returns whether it came to its end; False after Ctrl-C or SIGTERM, with all runs saved."""
        with interruptible() as interrupt:
            try:
                self._run(interrupt)
            finally:
                self._stop()
                self._listener.close()
            return not interrupt

    def _run(self, interrupt: Interrupt) -> None:
        shown = -self._listener.interval_s
        while (self._waiting or self._running) and not interrupt:
            while self._waiting and len(self._running) < self._processes:
                self._start(self._waiting.pop(0))
            self._hear(0.2)
            if time.monotonic() - shown >= self._listener.interval_s:
                shown = time.monotonic()
                self._listener.show(self.view)
        if interrupt:
            self._interrupted = True
            self._listener.note(f"{interrupt.name}: the runs save a checkpoint and stop")
        self._waiting.clear()
        for process in self._running:
            _close(process.popen.stdin)
        until = time.monotonic() + _PATIENCE_S
        while self._running and time.monotonic() < until:
            self._hear(0.2)
        self._listener.show(self.view)

    def _start(self, cells: tuple[Cell, ...]) -> None:
        logs = self._folder.path / "logs"
        logs.mkdir(exist_ok=True)
        # a character that no name has: joined by "_", methods a_b on Grid and b on Grid_a would share a file
        name = cells[0].key.replace("/", "@") + ("" if len(cells) == 1 else f"-and-{len(cells) - 1}-more")
        job = Job(
            keys=tuple(c.key for c in cells),
            configs=tuple(c.config for c in cells),
            folders=tuple(self._folder.path / c.path for c in cells),
            prices=self._prices,
            command=self._command,
        )
        write_json(logs / f"{name}.json", job.to_document())
        log = logs / f"{name}.log"
        with log.open("a") as errors:
            popen = subprocess.Popen(
                [sys.executable, "-P", "-c", _CODE, str(logs / f"{name}.json")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                errors="replace",
                env=self._environment,
                start_new_session=True,  # Ctrl-C reaches the parent alone, which then ends the runs in order
            )
        process = _Process(job, cells, popen, log)
        self._running.append(process)
        for cell in cells:
            self.view.cells[cell.key].began = time.monotonic()
        threading.Thread(target=self._listen, args=(process,), daemon=True).start()

    def _listen(self, process: _Process) -> None:
        assert process.popen.stdout is not None
        for line in process.popen.stdout:
            self._lines.put((process, line))
        self._lines.put((process, None))

    def _hear(self, timeout_s: float) -> None:
        try:
            process, line = self._lines.get(timeout=timeout_s)
        except queue.Empty:
            return
        if line is None:
            self._reap(process)
            return
        try:
            told = json.loads(line)
        except ValueError:  # a line cut short by a kill
            return
        p = self.view.cells.get(str(told.get("key"))) if isinstance(told, dict) else None
        if p is not None:
            self._take(process, p, told)

    def _take(self, process: _Process, p: Progressing, told: dict[str, Any]) -> None:
        event = told["event"]
        if event == "status":
            p.env_steps, p.cpu_s, p.done = told["env_steps"], told["cpu_s"], told["done"] or 0.0
        elif event == "start" and told["resumed_at"]:
            steps = p.cell.config.budget.env_steps
            p.began_at = p.done = told["resumed_at"] / steps if steps else 0.0
        elif event == "score":
            p.score = told["score"]
        elif event == "note":
            what = re.sub(r"\d+", "", f"{p.cell.env} {p.cell.method} {told['text']}")
            if what not in self._noted:  # seeds of one method have the same to say
                self._noted.add(what)
                self._listener.note(f"{p.cell.key}: {told['text']}")
        elif event == "end":
            process.told.add(p.cell.key)
            self._end(p, told["outcome"], told["reason"], killed=False)

    def _end(self, p: Progressing, outcome: str, reason: str, *, killed: bool) -> None:
        p.ended = outcome
        p.wall_s = None if p.began is None else time.monotonic() - p.began
        if outcome == "completed":
            p.done = 1.0
            p.score = self._folder.final_score(p.cell)  # stacked seeds tell theirs without saying whose it is
        failure = Failure(reason, killed) if outcome == "failed" else None
        self._folder.note_failure(p.cell, failure)
        self._listener.ended(p, reason)

    def _reap(self, process: _Process) -> None:
        """The process is gone; cells whose end it has not told are lost."""
        code = process.popen.wait()
        _close(process.popen.stdin)
        _close(process.popen.stdout)
        self._running.remove(process)
        for cell in process.cells:
            if cell.key in process.told:
                continue
            if self._interrupted and code == -signal.SIGTERM:  # it was not yet so far as to catch the signal
                self._end(self.view.cells[cell.key], "interrupted", "stopped while it was starting", killed=False)
                continue
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            memory = ", perhaps for want of memory" if code == -9 else ""
            reason = f"its process ended with {how}{memory}; what it said is in {process.log.name}"
            self._end(self.view.cells[cell.key], "failed", reason, killed=True)

    def _stop(self) -> None:
        for process in self._running:
            process.popen.kill()
            process.popen.wait()
            _close(process.popen.stdin)


def _close(stream: IO[str] | None) -> None:
    if stream is not None and not stream.closed:
        try:
            stream.close()
        except OSError:  # the process is gone
            return
