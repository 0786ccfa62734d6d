"""``frugal report``: the comparison of runs that are there, as one HTML file."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frugalrl.cli import arguments, environment
from frugalrl.cli.errors import OK
from frugalrl.cli.output import console_for
from frugalrl.types import RunFailed, UserError

if TYPE_CHECKING:
    from frugalrl.report.records import RunRecord

SEED = 0
"""Of the bootstrap, so that the same runs make the same report."""


@dataclass
class _Found:
    """The runs, and what the studies they belong to say of them."""

    records: list[RunRecord] = field(default_factory=list)
    baseline: str | None = None
    targets: dict[str, Sequence[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def report(args: arguments.Report, words: Sequence[str]) -> int:
    """Compare the runs and write the report. Raises UserError."""
    environment.prepare()
    import numpy as np

    from frugalrl.cost.tables import load_tables
    from frugalrl.report.anchors import read_anchors
    from frugalrl.report.comparison import compare
    from frugalrl.report.comparison_io import one_line
    from frugalrl.report.write import write_report

    found = _find(args.runs)
    rng = np.random.default_rng(SEED)
    comparison = compare(
        found.records,
        baseline=args.baseline or found.baseline,
        targets={r.env: args.target for r in found.records} if args.target else found.targets or None,
        tables=load_tables(environment.price_file(args.prices)),
        rng=rng,
        anchors=() if args.against is None else read_anchors(args.against, rng=rng),
        command=("frugal", *words),
    )
    comparison = replace(comparison, notes=(*comparison.notes, *found.notes))
    out = args.out or (args.runs[0] if len(args.runs) == 1 else Path()) / "report.html"
    write_report(comparison, found.records, out)
    if args.json:
        print(one_line(comparison))
    console = console_for(sys.stderr if args.json else sys.stdout)
    texts = [*comparison.sentences, *(f"note: {note}" for note in comparison.notes)]
    for text in (*texts, "", f"report  {out}", f"files   {out.parent / 'figures'}"):
        console.print(text, highlight=False, markup=False, soft_wrap=True)
    return OK


def _find(places: Sequence[Path]) -> _Found:
    """Runs at and below the places; those of a study have its names, baseline and targets, unless studies differ."""
    from frugalrl.report.records import find_runs, read_run

    if not places:
        raise UserError("frugal report needs RUN, the folder of a run or of a study, or several of them")
    found = _Found()
    studies = [(place, _study(place)) for place in places if (place / "study.json").is_file()]
    for folder in find_runs(list(places)):
        inside = next((place for place, _ in studies if place in folder.parents), None)
        if inside is None:
            found.records.append(read_run(folder))
        else:
            found.records.append(read_run(folder, method=folder.parent.name, name=str(folder.relative_to(inside))))
    if not any(record.points for record in found.records):
        raise RunFailed("none of these runs has been evaluated yet, so there is nothing to report")
    for place, study in studies:
        found.notes += _never_begun(place, found.records)
        found.targets |= {env: list(values) for env, values in dict(study.get("targets", {})).items()}
        named = study.get("baseline")
        found.baseline = named if named in {r.method for r in found.records} else found.baseline
    envs = {record.env for record in found.records}
    found.targets = {env: values for env, values in found.targets.items() if env in envs}
    return found


def _study(place: Path) -> Mapping[str, Any]:
    from frugalrl.run.record import read_json

    document = read_json(place / "study.json")
    if not isinstance(document, dict):
        raise UserError(f"{place / 'study.json'} cannot be read: it holds no study")
    return document


def _never_begun(place: Path, records: Sequence[RunRecord]) -> list[str]:
    """Cells of a study that failed before they left a folder."""
    from frugalrl.run.record import read_json

    path = place / "failures.json"
    failures = read_json(path) if path.exists() else {}
    known = {record.name for record in records}
    return [
        f"{key} failed before it began: {failure.get('reason', 'no reason is known')}"
        for key, failure in failures.items()
        if f"runs/{key}" not in known
    ]
