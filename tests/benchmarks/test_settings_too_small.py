"""A benchmark that is asked for too little says so in one sentence, and never counts steps that learn nothing."""

from __future__ import annotations

import runpy
import sys
import types
from pathlib import Path
from typing import Any

import frugal_dqn
import pytest

import frugalrl

BENCHMARKS = Path(frugal_dqn.__file__).parent


@pytest.mark.parametrize(
    ("script", "words", "said"),
    [
        ("frugal_dqn", ["cartpole", "--warmup", "200"], "--warmup is 200; it must be above 1000"),
        ("frugal_dqn", ["cartpole", "--steps", "0"], "--steps is 0"),
        ("vtrace_update", ["--rounds", "1"], "quartiles need 2 or more"),
        ("importance_cost", ["--rounds", "1"], "quartiles need 2 or more"),
        ("engine_overhead", ["--case", "Pongg"], "part of none of"),
        ("statistics_speed", ["--draws", "50"], "100 or more"),
        ("levers_table", [], "required: PAGE"),
    ],
)
def test_wrong_usage_is_one_sentence_before_any_work(
    script: str,
    words: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", [script, *words])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(BENCHMARKS / f"{script}.py"), run_name="__main__")
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_window_with_one_reading_of_the_clocks_has_no_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    def train(config: Any, folder: Path, reader: Any, **_: Any) -> None:
        reader.status(types.SimpleNamespace(env_steps=1_204, cpu_s=2.0, wall_s=2.0))

    monkeypatch.setattr(frugalrl, "train", train)
    monkeypatch.setattr(sys, "argv", ["frugal_dqn", "cartpole", "--steps", "4", "--warmup", "1200"])
    with pytest.raises(SystemExit, match="too few for two readings of the clocks"):
        frugal_dqn.main()
