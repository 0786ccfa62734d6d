"""The runs that a command is given: run folders, folders that hold some, and studies, which name their runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from frugalrl.types import RunFailed, UserError

if TYPE_CHECKING:
    from frugalrl.report.records import RunRecord


@dataclass
class Found:
    """Records, and the baseline and targets of the studies that they come from."""

    records: list[RunRecord] = field(default_factory=list)
    baseline: str | None = None
    targets: dict[str, Sequence[float]] = field(default_factory=dict)


def find(command: str, places: Sequence[Path]) -> Found:
    """Read them; the cells of a study have its names, the failed ones included.

    Raises UserError for a place that holds no run, RunFailed when no run was evaluated.
    """
    from frugalrl.report.records import find_runs, read_run
    from frugalrl.study.folder import STUDY, StudyFolder

    if not places:
        raise UserError(f"frugal {command} needs RUN, the folder of a run or of a study, or several of them")
    found = Found()
    for place in places:
        if not (place / STUDY).is_file():
            found.records += [read_run(folder) for folder in find_runs([place])]
            continue
        folder = StudyFolder.open(place, None, ())
        found.records += folder.records()
        found.targets |= {env: list(values) for env, values in folder.study.targets.items()}
        found.baseline = found.baseline or folder.study.baseline
    if not any(record.points for record in found.records):
        raise RunFailed("none of these runs has been evaluated yet, so there is nothing to compare")
    found.targets = {env: t for env, t in found.targets.items() if env in {r.env for r in found.records}}
    return found
