"""Checkpoints: safetensors and JSON, atomic, the replay saved incrementally, two kept.

Layout of ``checkpoints/``::

    rows/000000000000-000000004096.safetensors   replay rows by absolute number; shared by checkpoints
    000003-step-000000010000/arrays.safetensors  every array of the state, by its path
    000003-step-000000010000/state.json          everything else, and the SHA-256 of each file it needs
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from frugalrl.replay.buffer import ReplayBuffer
from frugalrl.types import RunFailed, StateDict

SCHEMA = "frugalrl.checkpoint/1"
_ROWS_PER_FILE = 8192
_BYTES_PER_FILE = 64 << 20
"""What a piece of the replay may take, as it is copied before it is written; a row that is larger stands alone."""


class DamagedCheckpoint(Exception):
    """A checkpoint that cannot be trusted, and why."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A checkpoint read back."""

    number: int
    step: int
    state: StateDict
    damaged: tuple[str, ...]
    """One sentence per newer checkpoint that could not be used."""


class Checkpoints:
    """Writes and reads the checkpoints of one run folder."""

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self._folder = folder
        self._rows = folder / "rows"
        self._keep = keep
        self._written: dict[str, str] = {}
        """Row file name -> SHA-256, of the files the newest checkpoint refers to."""

    @property
    def never_saved(self) -> bool:
        """No checkpoint was ever finished: a run that died while it wrote its first one has lost nothing."""
        return not any(f for f in self._folder.glob("*[0-9]-step-*") if not f.name.startswith(".part-"))

    @property
    def newest_step(self) -> int | None:
        """Agent step of the newest checkpoint, whole or not; None without one."""
        folders = self._newest_first()
        return int(folders[0].name.rsplit("-", 1)[1]) if folders else None

    def save(self, step: int, state: StateDict, replay: ReplayBuffer) -> Path:
        """Write a checkpoint. Raises RunFailed when the disk refuses; what was there before stays usable."""
        number = max((_number(f) for f in self._folder.glob("*[0-9]-step-*")), default=-1) + 1
        final = self._folder / f"{number:06d}-step-{step:012d}"
        part = self._folder / f".part-{final.name}"
        try:
            self._rows.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            files = self._save_rows(replay)
            _sync(self._rows)
            arrays: dict[str, np.ndarray[Any, Any]] = {}
            plain = _split(state, arrays)
            save_file(arrays, part / "arrays.safetensors")
            document = {
                "schema": SCHEMA,
                "step": step,
                "arrays_sha256": _sha256(part / "arrays.safetensors"),
                "rows": files,
                "state": plain,
            }
            text = json.dumps(document)
            (part / "state.json").write_text(json.dumps({"sha256": _digest(text), "document": text}))
            _sync(part / "arrays.safetensors", part / "state.json", part)
            os.replace(part, final)
            _sync(self._folder)
        except (OSError, SafetensorError) as error:  # safetensors says of a full disk what it says of a bad file
            shutil.rmtree(part, ignore_errors=True)
            why = (isinstance(error, OSError) and error.strerror) or error
            raise RunFailed(
                f"the checkpoint at step {step} could not be written ({why}); "
                f"the checkpoints before it are untouched: free space or mend the folder, then `frugal resume`"
            ) from error
        self._written = files
        self._drop_old()
        return final

    def load(self, replay: ReplayBuffer | None) -> Loaded:
        """Read the newest checkpoint that is whole, and fill the replay's rows if one is given.

        Without a replay its rows are not looked at. Raises RunFailed when there is no such checkpoint.
        """
        damaged: list[str] = []
        for folder in self._newest_first():
            try:
                document = _read_document(folder)
                arrays = load_file(folder / "arrays.safetensors")
                if replay is not None:
                    self._check_rows(document["rows"])
            except (DamagedCheckpoint, OSError) as error:
                damaged.append(f"checkpoint {folder.name} is damaged ({error}); the one before it is used")
                continue
            self._written = document["rows"]
            state = _join(document["state"], arrays)
            if replay is not None:
                for name in sorted(document["rows"]):
                    replay.write_rows(int(name.split("-")[0]), load_file(self._rows / name))
            return Loaded(_number(folder), document["step"], state, tuple(damaged))
        if replay is None and self.never_saved:
            raise RunFailed(
                f"{self._folder} holds no usable checkpoint: none was finished here; wait for the first one of a run "
                f"that has just begun, go on with one that died before it (frugal resume "
                f"{quote(str(self._folder.parent))}), or start the run anew in another folder"
            )
        why = f": {damaged[-1].rsplit(';', 1)[0]}" if damaged else ""
        raise RunFailed(f"{self._folder} holds no usable checkpoint{why}; start the run anew in another folder")

    def set_aside_after(self, loaded: Loaded) -> None:
        """Rename what lies after the checkpoint that a resumed run goes on from; it is damaged, but not deleted."""
        for folder in self._newest_first():
            if _number(folder) > loaded.number:
                os.replace(folder, folder.with_name(f"damaged-{folder.name}"))

    def _newest_first(self) -> list[Path]:
        return sorted(self._folder.glob("[0-9]*-step-*"), key=_number, reverse=True)

    def _save_rows(self, replay: ReplayBuffer) -> dict[str, str]:
        """Write the rows that no file holds yet; returns the files that hold all live rows."""
        live = {n: h for n, h in self._written.items() if int(n[13:25]) > replay.oldest_row}
        start = max((int(n[13:25]) for n in live), default=replay.oldest_row)
        size = _rows_per_file(replay) if start < replay.rows_written else 0
        while start < replay.rows_written:
            stop = min(start + size, replay.rows_written)
            name = f"{start:012d}-{stop:012d}.safetensors"
            part = self._rows / f".part-{name}"
            save_file({k: np.ascontiguousarray(v) for k, v in replay.read_rows(start, stop).items()}, part)
            _sync(part)
            live[name] = _sha256(part)
            os.replace(part, self._rows / name)
            start = stop
        return live

    def _check_rows(self, files: dict[str, str]) -> None:
        for name, digest in files.items():
            if not (self._rows / name).exists():
                raise DamagedCheckpoint(f"replay file {name} is missing")
            if _sha256(self._rows / name) != digest:
                raise DamagedCheckpoint(f"replay file {name} was changed")

    def _drop_old(self) -> None:
        """Delete what no kept checkpoint needs; a step-0 checkpoint goes like any other."""
        folders = self._newest_first()
        needed: set[str] = set()
        for folder in folders[: self._keep]:
            try:
                needed |= set(_read_document(folder, arrays=False)["rows"])
            except DamagedCheckpoint:
                continue
        for folder in folders[self._keep :]:
            shutil.rmtree(folder, ignore_errors=True)
        for stale in self._folder.glob(".part-*"):  # of a process that was killed while it wrote
            shutil.rmtree(stale, ignore_errors=True)
        for file in self._rows.iterdir():
            if file.name not in needed:
                with suppress(OSError):
                    file.unlink()


def _rows_per_file(replay: ReplayBuffer) -> int:
    """Transitions are small and come thousands to a file; a sequence of images may take a megabyte."""
    newest = replay.rows_written - 1
    row_bytes = sum(array.nbytes for array in replay.read_rows(newest, newest + 1).values())
    return max(1, min(_ROWS_PER_FILE, _BYTES_PER_FILE // max(row_bytes, 1)))


def _number(folder: Path) -> int:
    """The running number of a checkpoint, damaged ones included."""
    return int(folder.name.removeprefix("damaged-").removeprefix(".part-").split("-")[0])


def _read_document(folder: Path, *, arrays: bool = True) -> dict[str, Any]:
    """``arrays=False`` does not look whether the arrays are whole. Raises DamagedCheckpoint."""
    try:
        wrapper = json.loads((folder / "state.json").read_text())
        text = wrapper["document"]
        if _digest(text) != wrapper["sha256"]:
            raise DamagedCheckpoint("state.json was changed")
        document: dict[str, Any] = json.loads(text)
        if document["schema"] != SCHEMA:
            raise DamagedCheckpoint(f"its schema is {document['schema']}, this version reads {SCHEMA}")
        if arrays and _sha256(folder / "arrays.safetensors") != document["arrays_sha256"]:
            raise DamagedCheckpoint("arrays.safetensors was cut short or changed")
    except (OSError, AttributeError, KeyError, TypeError, ValueError) as error:
        said = f"state.json lacks {error}" if isinstance(error, KeyError) else f"{type(error).__name__}: {error}"
        raise DamagedCheckpoint(said) from error
    return document


def _split(state: Any, arrays: dict[str, np.ndarray[Any, Any]], path: str = "") -> Any:
    """Move every array of a nested dict into ``arrays`` under its path; returns the rest."""
    if isinstance(state, dict):
        return {k: _split(v, arrays, f"{path}/{k}" if path else k) for k, v in state.items()}
    if isinstance(state, torch.Tensor):
        state = state.detach().cpu().contiguous().numpy()
    if isinstance(state, np.ndarray):
        # a copy: views of live storage must not change while the file is written
        arrays[path] = np.array(state, order="C")
        return {"$array": path}
    if isinstance(state, np.generic):
        return state.item()
    return state


def _join(plain: Any, arrays: dict[str, np.ndarray[Any, Any]]) -> Any:
    """The inverse of ``_split``; tensors come back as numpy arrays."""
    if isinstance(plain, dict):
        if set(plain) == {"$array"}:
            return arrays[plain["$array"]]
        return {k: _join(v, arrays) for k, v in plain.items()}
    return plain


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise DamagedCheckpoint(f"{path.name} is missing") from error


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _sync(*paths: Path) -> None:
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
