"""What a run says before it gets going."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_support import Watcher, cartpole

from frugalrl.run.train import train


@pytest.mark.parametrize(("precision", "slow", "notes"), [("bf16", True, 1), ("bf16", False, 0), ("fp32", True, 0)])
def test_bf16_where_it_is_slow_is_said_once(
    precision: str, slow: bool, notes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frugalrl.run.tell.bf16_is_slow", lambda device: slow)
    reporter = Watcher()
    train(cartpole(f"agent.precision={precision}", steps=70), tmp_path / "run", reporter)
    assert len([note for note in reporter.notes if "agent.precision=bf16" in note]) == notes
