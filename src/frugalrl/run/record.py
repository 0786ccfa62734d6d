"""A run's folder: configuration, machine, metrics, bill, and counters that survive a kill."""

from __future__ import annotations

import errno
import functools
import hashlib
import importlib.metadata
import json
import os
import struct
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import IO, Any

try:
    import fcntl
except ImportError:  # not a Unix: two processes in one run folder are not noticed there
    fcntl = None  # type: ignore[assignment]

from frugalrl.run.config import RunConfig
from frugalrl.run.config_io import from_dict, to_dict
from frugalrl.types import RunFailed, UserError

PROGRESS = "progress.bin"


def write_json(path: Path, document: Any) -> None:
    """Write a JSON file atomically. Raises RunFailed when the disk refuses; what was there before stays."""
    part = path.with_name(f".part-{path.name}")
    try:
        with part.open("w") as file:
            json.dump(document, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        with suppress(OSError):
            part.unlink()
        raise RunFailed(f"{path} cannot be written: {error.strerror or error}") from error


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises UserError that names the file."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; is {path.parent} the folder of a run?") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error


@dataclass(frozen=True, slots=True)
class Done:
    """What one process of a run had done when it last finished a block."""

    session: int
    """Number of that process in the run, from 0."""
    env_steps: int
    updates: int
    cpu_s: float
    """Of that process alone."""
    wall_s: float


class Progress:
    """Two ``Done`` per process, at its beginning and after its last block, in a file: they survive a kill -9.

    The open file is also the lock of the run folder: a second process is refused until the first one is gone.
    """

    _RECORD = struct.Struct("<qqqdd")

    def __init__(self, path: Path) -> None:
        """Raises UserError when another process works in the folder, RunFailed when it cannot be written."""
        try:
            self._file = path.open("r+b" if path.exists() else "w+b", buffering=0)
        except OSError as error:
            raise RunFailed(f"{path} cannot be written: {error.strerror}") from error
        if fcntl is not None and not _locked(self._file):
            self._file.close()
            raise UserError(f"another process is working in the run folder {path.parent}; wait for it, or stop it")
        self._at = 0

    def begin(self, done: Done) -> None:
        """Note where this process begins; ``write`` goes behind it."""
        self._at = len(self.read()) * self._RECORD.size
        self.write(done)
        self._at += self._RECORD.size

    def write(self, done: Done) -> None:
        """Replace what this process wrote last. Raises RunFailed when the disk refuses."""
        try:
            self._file.seek(self._at)
            record = self._RECORD.pack(done.session, done.env_steps, done.updates, done.cpu_s, done.wall_s)
            if self._file.write(record) != len(record):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise RunFailed(f"{self._file.name} cannot be written: {error.strerror}") from error

    def read(self) -> list[Done]:
        """All records, oldest first."""
        self._file.seek(0)
        return read_progress(self._file.read())

    def close(self) -> None:
        self._file.close()


def read_progress(data: bytes) -> list[Done]:
    """The records in the bytes of ``progress.bin``; one that was cut short is left out."""
    record = Progress._RECORD
    return [Done(*values) for values in record.iter_unpack(data[: len(data) // record.size * record.size])]


def _locked(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def _stands(line: Mapping[str, Any], resume: Mapping[str, Any]) -> bool:
    """Whether a line is older than the checkpoint that a process went on from: it is not written again."""
    last = "evaluated" if line["kind"] == "evaluation" and "evaluated" in resume else "env_steps"
    return bool(line.get("env_steps", 0) <= resume[last])


@functools.cache
def code_version() -> Mapping[str, str]:
    """The package's version and the SHA-256 of its source files, so that a result names the code that made it; of the
    first call in a process, which has loaded its code by then."""
    import frugalrl

    root = Path(frugalrl.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return {"version": importlib.metadata.version("frugalrl"), "source_sha256": digest.hexdigest()}


def refuse_used(path: Path, called: Path | None = None) -> None:
    """Raises UserError when a new run folder cannot be made here because something is in it; ``called``: its name."""
    if path.is_dir() and any(path.iterdir()):
        verb = "continue it with `frugal resume`, or choose" if (path / "config.json").exists() else "choose"
        raise UserError(f"the run folder {called or path} is already used; {verb} another --out")


class RunFolder:
    """Paths and files of one run."""

    def __init__(self, path: Path, shown: Path | None = None) -> None:
        """``shown``: how the user calls it, where that is not ``path``."""
        self.path = path.absolute()  # an environment may change the working directory
        self.shown = path if shown is None else shown
        self.checkpoints = self.path / "checkpoints"
        self._metrics_path = self.path / "metrics.jsonl"

    @classmethod
    def create(cls, path: Path, config: RunConfig, machine: Mapping[str, Any], shown: Path | None = None) -> RunFolder:
        """Make a new run folder. Raises UserError when the folder is used or cannot be written."""
        called, mine = path if shown is None else shown, False
        refuse_used(path, called)
        try:
            path.mkdir(parents=True, exist_ok=True)
            try:
                (path / PROGRESS).touch(exist_ok=False)  # of processes that found the folder empty, one gets it
            except FileExistsError:
                raise UserError(f"the run folder {called} was just taken by another process; choose another") from None
            mine = True
            write_json(path / "machine.json", dict(machine))
            write_json(path / "config.json", to_dict(config))  # last: what has it is a run, and a run has both
        except (OSError, RunFailed) as error:
            for name in ("config.json", "machine.json", PROGRESS) if mine else ():  # else the folder counts as used
                with suppress(OSError):
                    (path / name).unlink()
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise UserError(f"the run folder {called} cannot be written ({why}); choose another --out") from error
        return cls(path, called)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open an existing run folder. Raises UserError."""
        if path.is_file():
            raise UserError(f"{path} is a file; give the folder of a run")
        if not path.is_dir():
            raise UserError(
                f"there is no run folder {path}; give the folder that 'frugal train' named, as in runs/NAME"
            )
        if not (path / "config.json").exists():
            raise UserError(f"{path} is not a run folder: it has no config.json")
        return cls(path)

    def config(self) -> RunConfig:
        """Raises UserError that names the file when it is not a configuration."""
        path = self.path / "config.json"
        document = read_json(path)
        try:
            return from_dict(RunConfig, document)
        except UserError as error:
            raise UserError(f"{path} is damaged: {error}") from error

    def begun_with(self) -> str | None:
        """The source hash of the code that began the run; None when machine.json does not tell."""
        try:
            return str(read_json(self.path / "machine.json")["code"]["source_sha256"])
        except (UserError, KeyError, TypeError):
            return None

    def price_file(self) -> Path | None:
        """The user's price file that the run began with, if any; it may be gone."""
        try:
            return Path(read_json(self.path / "machine.json")["price_file"])
        except (UserError, KeyError, TypeError):
            return None

    def log(self, kind: str, **values: Any) -> None:
        """Append one line to metrics.jsonl, whose meters that are not finite become null. Raises RunFailed when the
        disk refuses."""
        finite = {name: None if isinstance(v, float) and not isfinite(v) else v for name, v in values.items()}
        line = json.dumps({"kind": kind, **finite}) + "\n"
        try:
            with self._metrics_path.open("a+b") as file:
                if file.tell():
                    file.seek(-1, os.SEEK_END)
                    if file.read(1) != b"\n":  # a kill or a full disk cut the last line short: it stays alone
                        line = "\n" + line
                file.write(line.encode())
        except OSError as error:
            raise RunFailed(f"{self._metrics_path} cannot be written: {error.strerror}") from error

    def lines(self) -> list[dict[str, Any]]:
        """Lines of metrics.jsonl that count: what a resumed run did again replaces what was there before."""
        kept: list[dict[str, Any]] = []
        if not self._metrics_path.exists():
            return kept
        for text in self._metrics_path.read_text(errors="replace").splitlines():
            try:
                line = json.loads(text)
            except ValueError:  # a line cut short by a kill
                continue
            if not isinstance(line, dict) or "kind" not in line:  # damaged
                continue
            if line["kind"] == "resume":
                kept = [k for k in kept if _stands(k, line)]
            kept.append(line)
        return kept

    def progress(self) -> Progress:
        return Progress(self.path / PROGRESS)
