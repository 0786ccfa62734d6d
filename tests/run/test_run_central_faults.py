"""Environments and workers that fail in the middle of a central run: the run goes on, or ends with one sentence."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from central_envs import EPISODE_STEPS
from central_support import VTRACE, is_alive, vtrace, workers_here
from kill_resume import newest_checkpoint, newest_folder
from run_support import Watcher

from frugalrl.algos.impala import ImpalaLearner
from frugalrl.cli import main
from frugalrl.cost.record import bill_from_json
from frugalrl.replay.unrolls import UnrollStore
from frugalrl.run.config_io import override
from frugalrl.run.record import RunFolder
from frugalrl.run.train import train
from frugalrl.types import ReplayedUnrolls, RunFailed, Unroll

PID, BIRTH, EPISODE, TIME = range(4)


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[ReplayedUnrolls]:
    """All that the learner was given."""
    seen: list[ReplayedUnrolls] = []
    update = ImpalaLearner.update

    def spy(self: ImpalaLearner, replayed: ReplayedUnrolls) -> Any:
        seen.append(replayed)
        return update(self, replayed)

    monkeypatch.setattr(ImpalaLearner, "update", spy)
    return seen


@pytest.fixture(autouse=True)
def _no_worker_is_left() -> Iterator[None]:
    yield
    assert workers_here() == []


def is_one_life(unroll: Unroll, b: int) -> bool:
    """Whether sequence b follows one environment step by step, from episode to episode."""
    obs, valid, last = unroll.obs[:, b], unroll.valid[:, b], unroll.last[:, b]
    if len(np.unique(obs[:, [PID, BIRTH]], axis=0)) != 1:
        return False
    before, after = obs[:-1], obs[1:]
    goes_on = (after[:, EPISODE] == before[:, EPISODE]) & (after[:, TIME] == before[:, TIME] + 1)
    begins = (after[:, EPISODE] == before[:, EPISODE] + 1) & (before[:, TIME] == EPISODE_STEPS) & (after[:, TIME] == 0)
    ends = after[:, TIME] == EPISODE_STEPS
    return bool((np.where(valid, goes_on, begins) & (last == (valid & ends))).all())


def test_the_check_of_unrolls_is_not_blind() -> None:
    obs = np.array([[1, 1, 0, t] for t in range(4)], np.float64)[:, None]
    flags = {"valid": np.ones((3, 1), bool), "last": np.zeros((3, 1), bool)}
    rest = {name: np.zeros((3, 1)) for name in ("action", "reward", "discount", "log_mu", "version", "explored")}

    def unroll(obs: np.ndarray[Any, Any]) -> Unroll:
        return Unroll(obs=obs, **flags, **rest, state_at_start={})

    assert is_one_life(unroll(obs), 0)
    for column, value in ((PID, 2), (BIRTH, 2), (EPISODE, 1), (TIME, 0)):
        mixed = obs.copy()
        mixed[2:, 0, column] = value
        assert not is_one_life(unroll(mixed), 0)


def run_with_a_kill(folder: Path) -> tuple[int, Watcher]:
    """A run of which a worker is killed in the middle -> its process id, and what was told."""
    killed: list[int] = []

    def kill() -> None:
        killed.append(max(workers_here()))
        os.kill(killed[0], signal.SIGKILL)

    # environments of known speed: 1,000 steps/s of each worker at most, whatever else the machine does
    config = vtrace(
        "central_envs:Counted", "sampler.workers=2", "sampler.groups=1", 'env.kwargs={"step_s": 0.001}', steps=3_000
    )
    reporter = Watcher(at_step=800, act=kill)
    assert train(config, folder, reporter).completed
    return killed[0], reporter


def sequences(given: list[ReplayedUnrolls]) -> list[tuple[Unroll, int]]:
    return [(replayed.batch, b) for replayed in given for b in range(replayed.batch.obs.shape[1])]


def test_kill_9_of_a_worker_in_the_middle_of_a_run(given: list[ReplayedUnrolls], tmp_path: Path) -> None:
    killed, reporter = run_with_a_kill(tmp_path / "run")
    assert not is_alive(killed)
    (note,) = [n for n in reporter.notes if "Worker process" in n]
    assert "was killed by SIGKILL" in note
    assert note.endswith("Started again with new episodes (restart 1 of 10).")
    (line,) = [line for line in RunFolder(tmp_path / "run").lines() if line["kind"] == "fault"]
    assert line["sentence"] == note
    assert 800 <= line["env_steps"] < 3_000
    assert reporter.statuses[-1].metrics["restarts"] == 1.0

    assert all(is_one_life(unroll, b) for unroll, b in sequences(given))
    pids = [int(unroll.obs[0, b, PID]) for unroll, b in sequences(given)]
    lives = list(dict.fromkeys(pids))
    assert len(lives) == 3
    assert killed in lives[:2]
    new = lives[2]
    tail = pids[pids.index(new) :]
    assert killed not in tail, "somebody who is gone is heard"
    print(f"share of the worker that was started again: {tail.count(new) / len(tail):.2f}")
    assert tail.count(new) > 0.4 * len(tail), "its throughput does not come back"


@pytest.mark.slow
def test_an_engine_that_keeps_open_unrolls_of_the_dead_would_be_noticed(
    given: list[ReplayedUnrolls], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(UnrollStore, "drop", lambda self, rows: 0)
    run_with_a_kill(tmp_path / "run")
    assert not all(is_one_life(unroll, b) for unroll, b in sequences(given))


LIVES = [
    ("step:raise", "stepping it failed with ZeroDivisionError: the wheel came off"),
    ("reset:raise", "resetting it failed with ZeroDivisionError: the wheel came off"),
    ("birth:raise", "ZeroDivisionError: the wheel came off"),
    ("step:nan", "its observation holds NaN"),
    ("reset:shape", "the observation has shape (3,) but its space says (2,)"),
    ("step:hang", ""),
]


@pytest.mark.parametrize("workers", [1, 0])
def test_a_run_survives_environments_that_fail_in_every_way(workers: int, tmp_path: Path) -> None:
    """One life after another fails in another way; then nothing happens any more."""
    (tmp_path / "lives").mkdir()
    kwargs = f'{{"faults": {[fault for fault, _ in LIVES]}, "lives": "{tmp_path / "lives"}"}}'.replace("'", '"')
    if not workers:  # the first environments are made in the main thread, where nothing fails
        kwargs = kwargs.replace('"birth:raise", ', "")
    lives = [life for life in LIVES if life[0] in kwargs]
    config = vtrace(
        "central_envs:Faulty", f"env.kwargs={kwargs}", f"sampler.workers={workers}", "sampler.groups=1",
        "sampler.hang_s=1.5", "env.rows=1", steps=200,
    )  # fmt: skip
    reporter = Watcher()
    done = train(config, tmp_path / "run", reporter)
    assert (done.completed, done.env_steps >= 200) == (True, True)
    faults = [line for line in RunFolder(tmp_path / "run").lines() if line["kind"] == "fault"]
    assert [f["sentence"] for f in faults] == reporter.notes
    assert len(faults) == len(lives)
    for fault, (_, says) in zip(faults, lives, strict=True):
        assert says in fault["sentence"]
    assert ("no sign of life for 1.5 s" if workers else "a step took longer than 1.5 s") in faults[-1]["sentence"]
    raised = sum("the wheel came off" in fault["sentence"] for fault in faults)
    assert told_lines(tmp_path / "run") == raised > 0


def told_lines(folder: Path) -> int:
    """How often error.txt shows the line of the environment that raised."""
    text = (folder / "error.txt").read_text()
    raises = text.count('raise ZeroDivisionError("the wheel came off")')
    assert text.count("ZeroDivisionError: the wheel came off") == raises
    assert text.count("central_envs.py") >= raises
    return raises


@pytest.mark.parametrize("lockstep", [True, False])
def test_error_txt_names_the_line_of_an_environment_in_a_thread(lockstep: bool, tmp_path: Path) -> None:
    config = vtrace(
        "central_envs:Faulty", 'env.kwargs={"always":"step:raise"}', "sampler.groups=1", "env.rows=1", steps=200,
    )  # fmt: skip
    how = ["sampler.lockstep=true"] if lockstep else ["sampler.restarts=0"]
    with pytest.raises(RunFailed, match="the wheel came off"):
        train(override(config, how), tmp_path / "run")
    assert told_lines(tmp_path / "run") == 1


def frugal(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    """Exit code, and the one line of standard error."""
    code = main([str(word) for word in words])
    shown = capsys.readouterr()
    assert "Traceback" not in shown.out + shown.err
    (sentence,) = shown.err.splitlines()
    return code, sentence


def command(folder: Path, *words: str, settings: tuple[str, ...] = ()) -> list[str]:
    return [
        "train", "central_envs:Faulty", "--recipe", "seed-vtrace-small", "--envs", "2", "--workers", "1", "--quiet",
        "--budget-steps", "500", *words, "--out", str(folder), "--set", *VTRACE, "sampler.groups=1", *settings,
    ]  # fmt: skip


def test_when_the_restarts_are_spent_the_run_ends_with_the_cause_and_its_checkpoint(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    always = ("--env-kwargs", "always=step:raise", "at=40")
    code, sentence = frugal(capsys, *command(folder, *always, settings=("sampler.restarts=1",)))
    assert code == 1
    assert "row 0, step 5 of the episode with seed " in sentence
    assert "ZeroDivisionError: the wheel came off" in sentence
    assert "Workers had been started again once before, and sampler.restarts=1 allows no more" in sentence
    saved = newest_checkpoint(folder)
    assert saved > 0
    assert sentence.endswith(f"`frugal resume {folder}` goes on from the checkpoint at step {saved:,}")
    lines = RunFolder(folder).lines()
    assert (lines[-1]["kind"], lines[-1]["completed"]) == ("end", False)
    state = json.loads(json.loads((newest_folder(folder) / "state.json").read_text())["document"])["state"]
    assert state["sampler"]["taken_steps"] == state["sampler"]["env_steps"] == saved, "steps are missing on the bill"
    bill = bill_from_json(json.loads((folder / "bill.json").read_text()))
    assert bill.find("agent_steps").value == saved
    assert told_lines(folder) == 2, "that of the fault which was survived, and the last one once"


@pytest.mark.parametrize(
    ("kwargs", "says"),
    [("wheels=4", "unexpected keyword argument 'wheels'"), ("always=birth:raise", "the wheel came off")],
)
def test_an_environment_that_cannot_be_made_is_wrong_usage(
    kwargs: str, says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, sentence = frugal(capsys, *command(tmp_path / "run", "--env-kwargs", kwargs))
    assert code == 2
    assert sentence.startswith("frugal: error: Cannot make central_envs:Faulty")
    assert says in sentence
    assert not (tmp_path / "run").exists()
