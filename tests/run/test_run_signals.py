"""A process that is asked to stop, and one that is killed: what is left of the run."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest
from kill_resume import FRUGAL, compare, in_words, killed_run, play
from run_support import add_short_protocol

from frugalrl.run.record import RunFolder, read_progress
from frugalrl.run.status import Silent
from frugalrl.run.train import train

TRAIN = [
    *FRUGAL["cartpole"], "train", "CartPole-v1", "--device", "cpu", "--quiet", "--budget-steps", "10_000_000",
    "--set", "schedule.warmup_env_steps=64", "agent.batch_size=8", "net.hidden_units=16", "evaluation.episodes=2",
]  # fmt: skip


def stop_at(folder: Path, step: int, number: signal.Signals, *settings: str) -> tuple[int, str, str]:
    """Start a long run, send a signal at a step; returns the exit code and what it said."""
    process = subprocess.Popen(
        [*TRAIN, *settings, "--out", str(folder)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            path = folder / "progress.bin"
            records = read_progress(path.read_bytes()) if path.exists() else []
            if records and records[-1].env_steps >= step:
                break
            time.sleep(0.005)
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    return process.returncode, out, err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_with_a_checkpoint_and_a_bill(tmp_path: Path, number: signal.Signals) -> None:
    run = tmp_path / "run"
    code, out, err = stop_at(run, 300, number)
    assert code == 1
    (sentence,) = [line for line in err.splitlines() if line.startswith("frugal: ")]
    rows = {r["name"]: r["value"] for r in json.loads((run / "bill.json").read_text())["rows"] if r["role"] is None}
    steps = int(rows["agent_steps"])
    assert steps >= 300
    assert sentence == f"frugal: interrupted by {number.name} at step {steps:,}; go on with: frugal resume {run}"
    assert "Traceback" not in out + err
    assert [f.name.split("-")[2] for f in sorted((run / "checkpoints").glob("[0-9]*"))][-1] == f"{steps:012d}"
    last = RunFolder(run).lines()[-1]
    assert (last["kind"], last["completed"], last["env_steps"]) == ("end", False, steps)
    assert read_progress((run / "progress.bin").read_bytes())[-1].env_steps == steps


# -- kill -9 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("game", "plan"), [("cartpole", [("loop", 777)]), ("breakout", [("writer", 210)])])
def test_after_kill_9_a_run_ends_as_if_nothing_had_happened(
    game: str, plan: list[tuple[str, int]], tmp_path: Path
) -> None:
    """Two kills; the slow tests below have twenty for each game."""
    run = tmp_path / game
    kills = list(killed_run(game, run, 0, plan, every_s=0.15))
    for kill in kills:
        print(in_words(kill))
    assert len(kills) == len(plan)
    # the uninterrupted run is made here, in another process than the killed ones
    add_short_protocol()
    train(RunFolder(run).config(), tmp_path / "uninterrupted", Silent())
    checked = compare(game, run, tmp_path / "uninterrupted", kills)
    assert checked.differences == []
    assert checked.redone_on_the_bill == sum(kill.redone_steps for kill in kills)


@pytest.mark.slow
@pytest.mark.parametrize("game", ["breakout", "cartpole"])
def test_after_twenty_kills_a_run_ends_as_if_nothing_had_happened(game: str, tmp_path: Path) -> None:
    kills, checked = play(game, tmp_path, points=20, seed=0)
    assert len(kills) == 20
    assert [c.differences for c in checked] == [[]] * len(checked)
    assert sum(kill.inside_writer for kill in kills) >= 2
    assert len({kill.died_step for kill in kills}) > 10
