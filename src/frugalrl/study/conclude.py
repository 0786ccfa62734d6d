"""From the runs of a study to its comparison, its JSON and its report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from frugalrl.cost.tables import Tables
from frugalrl.report.comparison import compare
from frugalrl.report.comparison_io import to_json
from frugalrl.report.results import Anchor, Comparison
from frugalrl.report.write import write_report
from frugalrl.run.record import write_json
from frugalrl.study.folder import StudyFolder
from frugalrl.types import RunFailed

COMPARISON, REPORT = "comparison.json", "report.html"


def conclude(
    folder: StudyFolder, tables: Tables, *, command: Sequence[str] = (), anchors: Sequence[Anchor] = ()
) -> tuple[Comparison, Path]:
    """Compare what is there, write ``comparison.json`` and ``report.html``; returns the comparison and where that is.

    The same runs give the same figures: the bootstrap has a fixed seed. Raises RunFailed when no run scored anything.
    """
    records, study = folder.records(), folder.study
    if not any(record.points for record in records):
        raise RunFailed(
            f"no run of {folder.path} has been evaluated, so there is nothing to compare; "
            f"why is in {folder.path / 'failures.json'}"
        )
    comparison = compare(
        records,
        baseline=study.baseline,
        targets=study.targets or None,
        tables=tables,
        rng=np.random.default_rng(0),
        anchors=anchors,
        command=command,
    )
    comparison = replace(comparison, method_docs={m.name: m.words() for m in study.methods})
    write_json(folder.path / COMPARISON, to_json(comparison))
    write_report(comparison, records, folder.path / REPORT)
    return comparison, folder.path / REPORT
