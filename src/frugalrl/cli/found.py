"""The runs that a command is given: run folders, folders that hold some, and studies, which name their runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
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
    """Read them; the cells of a study have its names, the failed ones included. Where several studies give one name to
    methods with different settings, the name of the study stands behind it.

    Raises UserError for a place that holds no run, RunFailed when no run was evaluated.
    """
    from frugalrl.report.records import find_runs, read_run
    from frugalrl.study.folder import STUDY, StudyFolder

    if not places:
        raise UserError(f"frugal {command} needs RUN, the folder of a run or of a study, or several of them")
    found, studies = Found(), [place for place in places if (place / STUDY).is_file()]
    of: dict[Path, list[RunRecord]] = {}
    for place in places:
        if place not in studies:
            of.setdefault(place, [read_run(folder) for folder in find_runs([place])])
            continue
        folder = StudyFolder.open(place, None, ())
        of[place] = folder.records()
        for env, values in folder.study.targets.items():
            found.targets[env] = sorted({*found.targets.get(env, ()), *values})
        found.baseline = found.baseline or folder.study.baseline
    if len(studies) > 1:
        told = _told_apart({study: of[study] for study in studies})
        if found.baseline is not None:
            found.baseline = told[studies[0]].get(found.baseline, found.baseline)
        for study in studies:
            of[study] = [
                replace(r, name=f"{study}: {r.name}", method=told[study].get(r.method, r.method)) for r in of[study]
            ]
    found.records = [record for records in of.values() for record in records]
    if not any(record.points for record in found.records):
        raise RunFailed("none of these runs has been evaluated yet, so there is nothing to compare")
    found.targets = {env: t for env, t in found.targets.items() if env in {r.env for r in found.records}}
    return found


def _told_apart(studies: Mapping[Path, Sequence[RunRecord]]) -> dict[Path, dict[str, str]]:
    """New names by study for the methods that have one name in several and other settings in each."""
    from frugalrl.report.check import same_settings

    seen: dict[str, dict[Path, RunRecord]] = {}
    for study, records in studies.items():
        for record in records:
            seen.setdefault(record.method, {}).setdefault(study, record)
    short = len({study.name for study in studies}) == len(studies)
    new: dict[Path, dict[str, str]] = {study: {} for study in studies}
    for method, of in seen.items():
        first = next(iter(of.values()))
        if all(same_settings(first, record) for record in of.values()):
            continue
        for study in of:
            new[study][method] = f"{method} ({study.name if short else study})"
    return new
