"""A run's folder: configuration, machine, metrics, bill, and counters that survive a kill."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import mmap
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frugalrl.run.config import RunConfig
from frugalrl.run.config_io import from_dict, to_dict
from frugalrl.types import RunFailed, UserError


def write_json(path: Path, document: Any) -> None:
    """Write a JSON file atomically."""
    part = path.with_name(f".part-{path.name}")
    with part.open("w") as file:
        json.dump(document, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


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
    """What the newest process of a run had done when it last finished a block."""

    session: int
    """Number of that process in the run, from 0."""
    env_steps: int
    updates: int
    cpu_s: float
    """Of that process alone."""
    wall_s: float


class Progress:
    """``Done`` in a memory-mapped file, written after every block: it survives a kill -9."""

    _FORMAT = struct.Struct("<qqqdd")

    def __init__(self, path: Path) -> None:
        if not path.exists() or path.stat().st_size != self._FORMAT.size:
            path.write_bytes(self._FORMAT.pack(0, 0, 0, 0.0, 0.0))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), self._FORMAT.size)

    def write(self, done: Done) -> None:
        self._map[:] = self._FORMAT.pack(done.session, done.env_steps, done.updates, done.cpu_s, done.wall_s)

    def read(self) -> Done:
        return Done(*self._FORMAT.unpack(self._map[:]))

    def close(self) -> None:
        self._map.close()


def code_version() -> dict[str, str]:
    """The package's version and the SHA-256 of its source files, so that a result names the code that made it."""
    import frugalrl

    root = Path(frugalrl.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return {"version": importlib.metadata.version("frugalrl"), "source_sha256": digest.hexdigest()}


class RunFolder:
    """Paths and files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self._metrics_path = path / "metrics.jsonl"

    @classmethod
    def create(cls, path: Path, config: RunConfig, machine: Mapping[str, Any]) -> RunFolder:
        """Make a new run folder. Raises UserError when the folder is used or cannot be written."""
        if path.is_dir() and any(path.iterdir()):
            verb = "continue it with `frugal resume`, or choose" if (path / "config.json").exists() else "choose"
            raise UserError(f"the run folder {path} is already used; {verb} another --out")
        try:
            path.mkdir(parents=True, exist_ok=True)
            write_json(path / "config.json", to_dict(config))
            write_json(path / "machine.json", dict(machine))
        except OSError as error:
            raise UserError(
                f"the run folder {path} cannot be written ({error.strerror}); choose another --out"
            ) from error
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open an existing run folder. Raises UserError."""
        if not path.is_dir():
            raise UserError(f"there is no run folder {path}")
        if not (path / "config.json").exists():
            raise UserError(f"{path} is not a run folder: it has no config.json")
        return cls(path)

    def config(self) -> RunConfig:
        return from_dict(RunConfig, read_json(self.path / "config.json"))

    def log(self, kind: str, **values: Any) -> None:
        """Append one line to metrics.jsonl. Raises RunFailed when the disk refuses."""
        try:
            with self._metrics_path.open("a") as file:
                file.write(json.dumps({"kind": kind, **values}) + "\n")
        except OSError as error:
            raise RunFailed(f"{self._metrics_path} cannot be written: {error.strerror}") from error

    def lines(self) -> list[dict[str, Any]]:
        """Lines of metrics.jsonl that count: what a resumed run did again replaces what was there before."""
        kept: list[dict[str, Any]] = []
        if not self._metrics_path.exists():
            return kept
        for text in self._metrics_path.read_text().splitlines():
            try:
                line = json.loads(text)
            except ValueError:  # a line cut short by a kill
                continue
            if line["kind"] == "resume":
                kept = [k for k in kept if k.get("env_steps", 0) <= line["env_steps"]]
            kept.append(line)
        return kept

    def progress(self) -> Progress:
        return Progress(self.path / "progress.bin")
