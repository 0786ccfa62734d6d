"""The folder of a study: what it compares, which cells are done, which failed and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frugalrl.cost.meters import LapTimer
from frugalrl.report.records import RunRecord, read_bill, read_run
from frugalrl.run.kinds import assemble_run
from frugalrl.run.record import Progress, RunFolder, code_version, read_json, write_json
from frugalrl.study.job import check_same
from frugalrl.study.matrix import Cell, Study, cells
from frugalrl.study.study_file import from_document, to_document
from frugalrl.types import RunFailed, UserError

STUDY, FAILURES, LOCK = "study.json", "failures.json", "lock.bin"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a cell has no finished run."""

    reason: str
    killed: bool
    """The process vanished; it was not the run itself that failed, so it is worth another try."""


class StudyFolder:
    """Paths and files of one study."""

    def __init__(self, path: Path, study: Study) -> None:
        self.path = path
        self.study = study
        self.cells = cells(study)
        self._failures: dict[str, Failure] = {}
        self._changed_by: tuple[str, ...] | None = None
        """The command that study.json does not know of yet."""

    @classmethod
    def create(cls, path: Path, study: Study, command: Sequence[str]) -> StudyFolder:
        """A new study. Raises UserError when it cannot run, or the folder is used or cannot be written."""
        found = cls(path, study)
        if path.is_dir() and any(path.iterdir()):
            known = (path / STUDY).exists()
            verb = "go on with it: add --resume, or choose" if known else "choose"
            raise UserError(f"the study folder {path} is already used; {verb} another --out")
        found.try_out()
        try:
            path.mkdir(parents=True, exist_ok=True)
            (path / LOCK).touch(exist_ok=False)  # of processes that found the folder empty, one gets it
        except OSError as error:
            if path.is_dir() and isinstance(error, FileExistsError):
                raise UserError(f"the study folder {path} was just taken by another process; choose another") from None
            raise UserError(
                f"the study folder {path} cannot be made ({error.strerror}); choose another --out"
            ) from error
        try:
            found._write(command)
        except RunFailed:  # else the folder counts as used
            (path / LOCK).unlink(missing_ok=True)
            raise
        return found

    @classmethod
    def open(cls, path: Path, study: Study | None, command: Sequence[str]) -> StudyFolder:
        """An existing study; ``study`` may have more cells than it had, but none that was begun differently.

        Raises UserError.
        """
        if not (path / STUDY).exists():
            raise UserError(f"there is no study in {path} to go on with: it has no {STUDY}; leave out --resume")
        known = from_document(read_json(path / STUDY), str(path / STUDY))
        found = cls(path, study or known)
        mine = {cell.key: cell for cell in found.cells}
        for cell in cells(known):
            if cell.key not in mine:
                raise UserError(
                    f"the study in {path} also has {cell.key}; name all that it has and what is new, or choose another "
                    f"--out"
                )
            check_same(cell.config, mine[cell.key].config, path / cell.path)
        if study is not None:
            found.try_out()
            found._changed_by = tuple(command)
        found._read_failures()
        return found

    def _read_failures(self) -> None:
        if not (self.path / FAILURES).exists():
            return
        failures = read_json(self.path / FAILURES)
        try:
            read = {key: Failure(f["reason"], f["killed"]) for key, f in failures.items()}
        except (TypeError, KeyError, AttributeError):
            raise UserError(f"{self.path / FAILURES} is damaged; delete it to run the failed cells again") from None
        # `frugal resume`, as the reason advises, may have ended a run since then
        done = {cell.key for cell in self.cells if cell.key in read and self.finished(cell)}
        self._failures = {key: failure for key, failure in read.items() if key not in done}

    def _write(self, command: Sequence[str]) -> None:
        write_json(self.path / STUDY, {**to_document(self.study), "command": list(command), "code": code_version()})

    def try_out(self) -> None:
        """Build the parts of each method and each environment once, so that a mistake costs no run.

        Raises UserError that names the method.
        """
        first_env, first_method = self.study.envs[0], self.study.methods[0].name
        for cell in self.cells:
            if cell.seed != self.study.seeds[0] or (cell.env != first_env and cell.method != first_method):
                continue
            try:
                assemble_run(cell.config, LapTimer()).sampler.close()
            except UserError as error:
                raise UserError(f"method {cell.method!r} on {cell.env}: {error}") from error

    def lock(self) -> Progress:
        """Held while the study runs; what was added is written down. Raises UserError when another process runs it."""
        held = Progress(self.path / LOCK)
        try:
            if self._changed_by is not None:  # not before: a command that is refused changes nothing for the other
                self._write(self._changed_by)
            self._read_failures()
        except BaseException:
            held.close()
            raise
        return held

    def finished(self, cell: Cell) -> bool:
        """Whether the cell's run used its whole budget, and has a bill that can be read: going on makes a new one."""
        folder = self.path / cell.path
        if not (folder / "config.json").exists() or read_bill(folder / "bill.json")[0] is None:
            return False
        lines = RunFolder.open(folder).lines()
        return bool(lines) and lines[-1]["kind"] == "end" and bool(lines[-1]["completed"])

    def final_score(self, cell: Cell) -> float | None:
        """Of the last evaluation."""
        last = read_run(self.path / cell.path).last
        return None if last is None else last.mean_return

    def without_score(self) -> list[Cell]:
        """Cells whose run used its whole budget but whose records hold no evaluation: going on would not make one."""
        return [cell for cell in self.cells if self.finished(cell) and self.final_score(cell) is None]

    def begun(self, cell: Cell) -> bool:
        """Whether the cell has a run, finished or not."""
        return (self.path / cell.path / "config.json").exists()

    def failure(self, cell: Cell) -> Failure | None:
        return self._failures.get(cell.key)

    def note_failure(self, cell: Cell, failure: Failure | None) -> None:
        """Write down why a cell failed, or that it did not."""
        if failure is None and cell.key not in self._failures:
            return
        if failure is None:
            del self._failures[cell.key]
        else:
            self._failures[cell.key] = failure
        document = {key: {"reason": f.reason, "killed": f.killed} for key, f in self._failures.items()}
        write_json(self.path / FAILURES, document)

    def to_do(self, *, retry_failed: bool) -> list[Cell]:
        """Cells without a finished run; those that failed by themselves only when asked for."""
        left = [cell for cell in self.cells if not self.finished(cell)]
        if retry_failed:
            return left
        return [cell for cell in left if (f := self.failure(cell)) is None or f.killed]

    def records(self) -> list[RunRecord]:
        """Every cell of the matrix that was begun or failed, the failed ones with their reason."""
        found = []
        for cell in self.cells:
            folder, failure = self.path / cell.path, self.failure(cell)
            if (folder / "machine.json").exists():
                found.append(read_run(folder, method=cell.method, name=cell.key))
            elif failure is not None:
                found.append(_never_begun(cell, failure))
        return found


def _never_begun(cell: Cell, failure: Failure) -> RunRecord:
    nothing: dict[str, Any] = {}
    return RunRecord(
        name=cell.key,
        method=cell.method,
        config=cell.config,
        points=(),
        bill=None,
        outcome="failed",
        reason=failure.reason,
        machine=nothing,
        code=nothing,
    )
