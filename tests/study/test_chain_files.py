"""What is written: all or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from frugalrl.study import chain_files
from frugalrl.study.chain_files import NAMES, claimed, write
from frugalrl.study.chain_grid import Results, run_grid, settings_of
from frugalrl.study.chain_result import examine
from frugalrl.types import RunFailed


@pytest.fixture(scope="module")
def results() -> Results:
    return run_grid(settings_of([0.9], [0.9], [0.25]), 10, iterations=12)


def test_a_disk_that_refuses_is_a_sentence_and_leaves_what_was_there(results: Results, tmp_path: Path) -> None:
    study = examine(results)
    with pytest.raises(RunFailed, match=r"the results cannot be written to .*nowhere"):
        write(tmp_path / "nowhere", results, study)
    write(tmp_path, results, study)
    before = {name: (tmp_path / name).read_bytes() for name in NAMES}
    (tmp_path / f".part-{chain_files.FIGURE}").mkdir()  # the figure comes last and fails
    with pytest.raises(RunFailed, match="cannot be written"):
        write(tmp_path, results, study)
    assert {name: (tmp_path / name).read_bytes() for name in NAMES} == before


def test_a_new_folder_goes_again_when_the_work_fails(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), claimed(tmp_path / "new", overwrite=False):
        raise KeyboardInterrupt
    assert not (tmp_path / "new").exists()
    (tmp_path / "old").mkdir()
    with pytest.raises(KeyboardInterrupt), claimed(tmp_path / "old", overwrite=False):
        raise KeyboardInterrupt
    assert (tmp_path / "old").exists()


def test_equal_results_are_equal_files(results: Results, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write(tmp_path / name, results, examine(results))
    for name in NAMES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
