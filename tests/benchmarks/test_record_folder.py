"""A benchmark that has measured for minutes does not lose its record because the folder of --out is not there yet."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
WRITES = re.compile(r"(?:args|given)\.(out|log)\.write_text|savefig\(args\.(out)")


@pytest.mark.parametrize("script", sorted(BENCHMARKS.glob("*.py")), ids=lambda path: path.stem)
def test_the_folder_is_made_before_the_record_is_written(script: Path) -> None:
    text = script.read_text()
    for written in WRITES.finditer(text):
        name = written[1] or written[2]
        assert f".{name}.parent.mkdir(parents=True, exist_ok=True)" in text[: written.start()], script.name


def test_a_record_goes_into_a_new_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import winograd_gradient

    out = tmp_path / "new" / "record.json"
    monkeypatch.setattr(sys, "argv", ["winograd_gradient", "--rounds", "1", "--rows", "1", "--out", str(out)])
    winograd_gradient.main()
    assert json.loads(out.read_text())["rounds"] == 1
