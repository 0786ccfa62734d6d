from __future__ import annotations

from pathlib import Path

import pytest
from cli_fakes import FakeRun

from frugalrl.cli.environment import PRICES


@pytest.fixture(autouse=True)
def _own_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test in an empty folder, without the user's settings, and without leaving settings behind."""
    monkeypatch.chdir(tmp_path)
    for name in (PRICES, "OMP_WAIT_POLICY", "KMP_BLOCKTIME", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "")  # so that it is put back at the end, whatever the command does
        monkeypatch.delenv(name)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeRun:
    run = FakeRun()
    monkeypatch.setattr("frugalrl.run.train.train", run.train)
    monkeypatch.setattr("frugalrl.run.train.resume", run.resume)
    return run
