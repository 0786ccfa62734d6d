"""What evidence/ says of the README's comparison is what this version makes of its runs."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from frugalrl.cost.tables import load_tables
from frugalrl.report.comparison_io import read_comparison
from frugalrl.study.conclude import conclude
from frugalrl.study.folder import StudyFolder

EVIDENCE = Path(__file__).parents[2] / "evidence" / "compare-cartpole"


def test_the_kept_comparison_is_that_of_the_kept_runs(tmp_path: Path) -> None:
    """It was an older study's once. `frugal compare --out COPY --resume` makes it again (benchmarks/keep_study.py)."""
    shutil.copytree(EVIDENCE / "runs", tmp_path / "runs")
    shutil.copy(EVIDENCE / "study.json", tmp_path)
    made, _ = conclude(StudyFolder.open(tmp_path, None, ()), load_tables())
    kept = read_comparison(EVIDENCE / "comparison.json")
    assert replace(made, made=kept.made, command=kept.command) == kept
