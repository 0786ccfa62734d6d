"""One process of a study: trains one cell, or all seeds of a method stacked, and tells its parent on stdout."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from frugalrl.cost.tables import load_tables
from frugalrl.run.config import RunConfig
from frugalrl.run.config_io import differences, from_dict, to_dict
from frugalrl.run.record import RunFolder
from frugalrl.run.stacked import resume_stacked, train_stacked
from frugalrl.run.train import Outcome, resume, train
from frugalrl.types import RunFailed, UserError

if TYPE_CHECKING:
    from frugalrl.run.evaluate import Score
    from frugalrl.run.status import Header, Status


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What one process does."""

    keys: tuple[str, ...]
    """Cells, by the names that the parent knows them by."""
    configs: tuple[RunConfig, ...]
    folders: tuple[Path, ...]
    prices: Path | None = None
    command: tuple[str, ...] = ()

    def to_document(self) -> dict[str, Any]:
        return {
            "keys": list(self.keys),
            "configs": [to_dict(c) for c in self.configs],
            "folders": [str(f) for f in self.folders],
            "prices": None if self.prices is None else str(self.prices),
            "command": list(self.command),
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Job:
        prices = document["prices"]
        return cls(
            keys=tuple(document["keys"]),
            configs=tuple(from_dict(RunConfig, c) for c in document["configs"]),
            folders=tuple(Path(f) for f in document["folders"]),
            prices=None if prices is None else Path(prices),
            command=tuple(document["command"]),
        )


class Teller:
    """A reporter that writes one JSON object per line."""

    interval_s = 2.0

    def __init__(self, stream: IO[str], keys: Sequence[str]) -> None:
        self._stream, self._keys = stream, keys

    def start(self, header: Header) -> None:
        self._tell(event="start", resumed_at=header.resumed_at)

    def status(self, status: Status) -> None:
        self._tell(event="status", env_steps=status.env_steps, done=status.done, cpu_s=status.cpu_s)

    def score(self, env_steps: int, score: Score) -> None:
        self._tell(event="score", env_steps=env_steps, score=score.mean_return)

    def note(self, text: str) -> None:
        self._tell(self._keys[0], event="note", text=text)

    def end(self, key: str, outcome: str, reason: str) -> None:
        """``completed``, ``interrupted`` or ``failed``."""
        self._tell(key, event="end", outcome=outcome, reason=reason)

    def close(self) -> None: ...

    def _tell(self, *keys: str, **values: Any) -> None:
        """Without a key it goes for all cells: stacked seeds are at the same point."""
        try:
            for key in keys or self._keys:
                print(json.dumps({"key": key, **values}), file=self._stream, flush=True)
        except OSError:  # nobody listens any more; the watcher of stdin ends the run
            return


def run_job(path: Path) -> int:
    """Do the job in this file; returns 0 when every cell completed, else 1."""
    job = Job.from_document(json.loads(path.read_text(encoding="utf-8")))
    stream = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a library in C or a child process prints past sys.stdout
    end_with_parent()
    with redirect_stdout(sys.stderr):  # whatever an environment prints goes into the log
        return _do(job, Teller(stream, job.keys))


def _do(job: Job, teller: Teller) -> int:
    try:
        answers = _play(job, teller)
    except (UserError, RunFailed) as error:
        answers = [error] * len(job.keys)
    except Exception as error:
        for key in job.keys:
            teller.end(key, "failed", f"unexpected {type(error).__name__}: {' '.join(str(error).split())[:300]}")
        raise  # the traceback goes into the log
    for key, answer in zip(job.keys, answers, strict=True):
        if isinstance(answer, Exception):
            teller.end(key, "failed", " ".join(str(answer).split()))
        else:
            teller.end(key, "completed" if answer.completed else "interrupted", answer.reason)
    return 0 if all(not isinstance(a, Exception) and a.completed for a in answers) else 1


def _play(job: Job, teller: Teller) -> Sequence[Outcome | UserError | RunFailed]:
    settings: dict[str, Any] = {"command": job.command, "tables": load_tables(job.prices), "whole_process": True}
    begun = [(folder / "config.json").exists() for folder in job.folders]
    for folder, config, known in zip(job.folders, job.configs, begun, strict=True):
        if known:
            check_same(RunFolder.open(folder).config(), config, folder)
        elif folder.is_dir():  # the process died before it had written what it was to do
            shutil.rmtree(folder)
    if len(job.folders) == 1:
        if begun[0]:
            return [resume(job.folders[0], teller, **settings)]
        return [train(job.configs[0], job.folders[0], teller, **settings)]
    if all(begun):
        return resume_stacked(job.folders, reporter=teller, **settings)
    return train_stacked(job.configs, job.folders, reporter=teller, **settings)


def check_same(known: RunConfig, wanted: RunConfig, folder: Path) -> None:
    """Raises UserError that names the first field in which a run differs from its cell."""
    for name, (mine, theirs) in differences(to_dict(known), to_dict(wanted)).items():
        raise UserError(
            f"{folder} was begun with {name}={mine!r}, but the study asks for {theirs!r}; give the study another --out"
        )


def end_with_parent() -> None:
    """Stop like after Ctrl-C, with a checkpoint, once the parent is gone: its end of our stdin closes."""

    def watch() -> None:
        while os.read(0, 1):  # not sys.stdin: a thread that waits in its lock would break the interpreter's end
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(120)
        os._exit(1)  # a run that hangs in an environment does not outlive its study

    threading.Thread(target=watch, daemon=True, name="end-with-parent").start()
