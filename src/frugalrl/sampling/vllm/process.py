"""The learner's handle of the process in which vLLM runs: start it, ask it, see how it ended.

It has a session of its own, so that Ctrl-C reaches the learner only and a kill reaches all that it started. It is ended
by the kernel when the learner is gone (``life.die_with_parent``). What it prints goes to a log file.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import frugalrl
from frugalrl.sampling.life import how_it_ended, kill_group
from frugalrl.sampling.vllm.wire import Blob, Ended, Message, Pipe, TooLate, WireError
from frugalrl.types import Cost, Costs, RunFailed

_ROOT = str(Path(frugalrl.__file__).parent.parent)
_SETTINGS = {
    # more than one thread spins on a shared machine; the engine's step runs in this process; no hub, no statistics
    "OMP_NUM_THREADS": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}
# this package's folder is on the path for one import only: it may hold packages of another environment, torch too
_CODE = (
    f"import os, sys; os.environ.update({_SETTINGS!r}); sys.path.insert(0, {_ROOT!r}); "
    f"from frugalrl.sampling.vllm.main import main; sys.path.remove({_ROOT!r}); main(*map(int, sys.argv[1:]))"
)
_LAST_WORDS = 300


class EngineProcess:
    """One process and the pipes that lead to it."""

    def __init__(self, python: Path, log: Path | None = None) -> None:
        """Start it. ``log``: where its output goes, appended; None for a temporary file that goes with it.

        Raises:
            RunFailed: it cannot be started.
        """
        self.log = log
        self._log: IO[bytes] = tempfile.TemporaryFile() if log is None else log.open("a+b")  # noqa: SIM115
        self._log_from = self._log.seek(0, os.SEEK_END)
        self._code: int | None = None
        self._total: dict[str, int] = {}
        self._taken: dict[str, int] = {}
        ask, self._ask_fd = os.pipe()
        self._answer_fd, answer = os.pipe()
        life, self._life_fd = os.pipe()
        try:
            self._process = subprocess.Popen(
                [str(python), "-I", "-c", _CODE, str(ask), str(answer), str(life)],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                pass_fds=(ask, answer, life),
                start_new_session=True,
            )
        except OSError as error:
            self._close_fds()
            self._log.close()
            raise RunFailed(f"Cannot start vLLM's process with {python}: {error}.") from error
        finally:
            for fd in (ask, answer, life):
                os.close(fd)
        self._pipe = Pipe(self._answer_fd, self._ask_fd)

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def ask(
        self, what: str, head: Mapping[str, Any], arrays: Mapping[str, Blob] | None = None, *, timeout_s: float
    ) -> Message:
        """Have it do something and wait for the answer. After an error the process is gone.

        Raises:
            RunFailed: it died, hung, said that it failed, or sent what is no message.
        """
        if self._code is not None:
            raise RunFailed(f"vLLM's process {how_it_ended(self._code)} before it was to {what}.")
        try:
            self._pipe.send(Message({"do": what, **head}, arrays or {}), timeout_s)
            answer = self._pipe.receive(timeout_s)
        except Ended:
            raise self._failed(f"{how_it_ended(self._wait())} while it was to {what}") from None
        except TooLate:
            raise self._failed(f"gave no answer for {timeout_s:g} s when it was to {what}") from None
        except WireError as error:
            raise self._failed(f"sent what is no message when it was to {what}: {error}") from error
        except BaseException:
            self.kill()  # an answer that nobody waits for would be taken for the next one's
            raise
        if "failed" in answer.head:
            raise self._failed(f"could not {what}", f": {str(answer.head['failed']).rstrip('.')}")
        self._total = {str(role): int(ns) for role, ns in answer.head["cpu_ns"].items()}
        return answer

    def take_costs(self) -> Costs:
        """CPU-seconds by role since the last time, as of its last answer.

        `ProcessClock` has the CPU-seconds of child processes in its total: these are the same ones.
        """
        grown = {role: ns - self._taken.get(role, 0) for role, ns in self._total.items()}
        self._taken = dict(self._total)
        return {role: Cost(cpu_s=ns / 1e9) for role, ns in grown.items() if ns}

    def _failed(self, how: str, words: str | None = None) -> RunFailed:
        self.kill()
        log = "" if self.log is None else f"; its output is in {self.log}"
        return RunFailed(f"vLLM's process {how}{self._last_words() if words is None else words}{log}.")

    def _last_words(self) -> str:
        """The last line that says what is wrong, if there is one."""
        self._log.seek(self._log_from)
        lines = self._log.read().decode(errors="replace").splitlines()
        errors = [line.strip() for line in lines if "Error" in line and " WARNING " not in line]
        return f" ({errors[-1][:_LAST_WORDS].rstrip('.')})" if errors else ""

    def _wait(self) -> int:
        try:
            return self._process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:  # it closed its pipes and lives on
            return self.kill()

    def kill(self) -> int:
        """SIGKILL to it and all that it started; wait for it; its exit code, negative for a signal."""
        if self._code is None:
            self._code = kill_group(self._process)
            self._close_fds()
        return self._code

    def close(self) -> None:
        """End it; harmless when called twice."""
        self.kill()
        self._log.close()

    def _close_fds(self) -> None:
        for fd in (self._ask_fd, self._answer_fd, self._life_fd):
            if fd >= 0:
                os.close(fd)
        self._ask_fd = self._answer_fd = self._life_fd = -1
