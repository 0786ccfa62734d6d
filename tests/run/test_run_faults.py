"""What goes wrong while a run is on: one sentence, the right exit code, and what there is to keep is kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from kill_resume import newest_folder
from run_support import Watcher, cartpole
from safetensors.numpy import load_file
from test_run_record import files_of_at_most

from frugalrl.cli import main
from frugalrl.recipes import build_config
from frugalrl.run.checkpoint import Checkpoints
from frugalrl.run.config import BudgetConfig, RunConfig
from frugalrl.run.config_io import override
from frugalrl.run.record import RunFolder
from frugalrl.run.status import Silent
from frugalrl.run.train import Run, resume, train
from frugalrl.types import RunFailed, UserError


class Wild(gym.Env[Any, Any]):
    """Fine until its step 200; then what ``Wild.after`` says."""

    observation_space = Box(-1, 1, (2,), np.float32)
    action_space = Discrete(2)
    after: str | None = None

    def __init__(self) -> None:
        self.time = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return np.zeros(2, np.float32), {}

    def step(self, action: int) -> Any:
        self.time += 1
        obs, reward = np.full(2, self.time % 2, np.float32), 1.0
        if self.time > 200 and self.after is not None:
            if self.after == "raise":
                raise RuntimeError("the emulator\nis gone")
            if self.after == "exit":
                raise SystemExit(3)
            if self.after == "generator":
                raise GeneratorExit("it is over")
            reward = {"huge reward": 1e30, "nan reward": np.nan, "reward shape": np.ones(1)}.get(self.after, 1.0)
            obs = {"nan": obs * np.nan, "shape": np.zeros(3, np.float32)}.get(self.after, obs)
            if self.after in ("terminated", "truncated"):
                return obs, reward, *(np.array([n == self.after]) for n in ("terminated", "truncated")), {}
        return obs, reward, self.time % 10 == 0, False, {}

    def close(self) -> None:
        if self.after == "close":
            raise RuntimeError("it was closed before")
        if self.after == "exit in close":
            raise SystemExit(3)


@pytest.fixture(autouse=True)
def _wild(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    gym.register("Wild-v0", Wild)
    yield
    Wild.after = None
    del gym.registry["Wild-v0"]


def wild(*settings: str) -> RunConfig:
    config = cartpole(steps=400)
    fixed = [f"env.id={'Wild-v0'}", "evaluation.every_env_steps=100000", "env.protocol=plain"]
    return override(config, [*fixed, *settings])


# -- learning that diverges ------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_batch(tmp_path: Path) -> None:
    Wild.after = "huge reward"
    with pytest.raises(RunFailed) as caught:
        train(wild("agent.huber_delta=None", "schedule.updates_per_round=3"), tmp_path / "run", Silent())
    sentence = str(caught.value)
    path = tmp_path / "run" / "bad_batch.safetensors"
    assert sentence.startswith("the loss of update ")
    assert f"the batch is in {path}, the weights before it are in the checkpoint" in sentence
    batch = load_file(path)
    assert batch["r_t"].max() == np.float32(1e30)
    assert {"obs_tm1", "a_tm1", "discount_t", "obs_t", "keys", "weight"} <= batch.keys()
    # what was done up to there is saved and billed, and the two agree
    state = Checkpoints(tmp_path / "run" / "checkpoints").load(None).state
    rows = {r["name"]: r["value"] for r in bill(tmp_path / "run") if r["section"] == "counts"}
    assert rows["agent_steps"] == state["counters"]["env_steps"] > 200
    assert rows["updates"] == state["counters"]["updates"] == state["learner"]["version"]
    assert all(np.isfinite(array).all() for array in state["learner"]["online"].values())
    assert RunFolder(tmp_path / "run").lines()[-1]["completed"] is False


def test_a_disk_that_refuses_the_batch_costs_neither_checkpoint_nor_bill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("frugalrl.run.rescue.save_file", refuse)
    Wild.after = "huge reward"
    with pytest.raises(
        RunFailed, match=r"^the loss of update .*; its batch could not be kept \(.*No space left"
    ) as caught:
        train(wild("agent.huber_delta=None"), tmp_path / "run", Silent())
    assert "the weights before it are in the checkpoint" in str(caught.value)
    assert Checkpoints(tmp_path / "run" / "checkpoints").load(None).step > 200
    assert bill(tmp_path / "run")


def test_a_disk_that_refuses_the_last_checkpoint_too_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that are not in the checkpoint must not be said to be there."""
    saved = Checkpoints.save

    def refuse(self: Checkpoints, step: int, *rest: Any) -> None:
        if step > 200:
            raise RunFailed("the disk is full")
        saved(self, step, *rest)

    monkeypatch.setattr(Checkpoints, "save", refuse)
    Wild.after = "huge reward"
    with pytest.raises(RunFailed, match=r"^the loss of update .*the weights before it could not be saved \(the disk"):
        train(wild("agent.huber_delta=None"), tmp_path / "run", Silent())
    assert bill(tmp_path / "run")


def test_weights_that_overflow_end_the_run(tmp_path: Path) -> None:
    config = cartpole("agent.learning_rate=1e38", "agent.max_grad_norm=None", steps=400)
    with pytest.raises(RunFailed) as caught:
        train(config, tmp_path / "run", Silent())
    sentence = str(caught.value)
    assert "the network has diverged" in sentence or "the loss of update" in sentence
    assert "lower agent.learning_rate or set agent.max_grad_norm" in sentence
    assert (tmp_path / "run" / "bill.json").exists()


# -- environments ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "says"),
    [
        ("raise", "stepping it failed with RuntimeError: the emulator is gone"),
        ("nan", "its observation holds NaN"),
        ("nan reward", "it gave the reward nan"),
        ("shape", "stepping it failed with"),
        ("exit", "stepping it failed with SystemExit: 3"),
        ("generator", "stepping it failed with GeneratorExit: it is over"),
        ("reward shape", "the reward has shape (1,), but must be a single value"),
        ("terminated", "terminated has shape (1,), but must be a single value"),
        ("truncated", "terminated has shape (1,), but must be a single value"),
    ],
)
def test_an_environment_that_fails_ends_the_run_with_its_bill(tmp_path: Path, after: str, says: str) -> None:
    Wild.after = after
    run = tmp_path / "run"
    with pytest.raises(RunFailed) as caught:
        train(wild(), run, Silent())
    assert "Environment Wild-v0, row 0, step " in str(caught.value)
    assert says in str(caught.value)
    steps = next(r["value"] for r in bill(run) if r["name"] == "agent_steps")
    assert steps == 200
    assert str(caught.value).startswith(RunFolder(run).lines()[-1]["reason"].rstrip("."))
    assert f"goes on from the checkpoint at step {steps:.0f}" in str(caught.value)
    Wild.after = None  # mended: nothing was lost
    reporter = Watcher()
    assert resume(run, reporter, budget=BudgetConfig(env_steps=400)).completed
    assert not any("done again" in note for note in reporter.notes)


@pytest.mark.parametrize(
    ("after", "says"), [("close", "RuntimeError: it was closed before"), ("exit in close", "SystemExit: 3")]
)
def test_an_environment_that_cannot_be_closed_costs_nothing(tmp_path: Path, after: str, says: str) -> None:
    Wild.after = after
    with pytest.warns(RuntimeWarning, match=f"closing environment Wild-v0 failed in . of . rows with {says}"):
        done = train(wild(), tmp_path / "run", Silent())
    assert done.completed
    assert done.score is not None
    assert bill(tmp_path / "run")


def test_an_error_that_nobody_expected_leaves_a_bill_and_the_way_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Run, "_read", lambda self, event: 1 / 0)
    with pytest.raises(ZeroDivisionError) as caught:
        train(wild(), tmp_path / "run", Silent())
    (note,) = caught.value.__notes__
    assert note == f"`frugal resume {tmp_path / 'run'}` goes on from the checkpoint at step 0"
    assert bill(tmp_path / "run")
    assert RunFolder(tmp_path / "run").lines()[-1]["reason"] == "unexpected ZeroDivisionError"
    monkeypatch.undo()
    assert resume(tmp_path / "run", Silent()).completed


# -- disks -----------------------------------------------------------------------------------------------------------


def test_a_full_disk_ends_the_run_and_the_checkpoint_before_goes_on(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(cartpole(steps=150), run, Silent())
    # between the two, and far from both: the record's length changes by a few bytes with the digits of its times
    room = ((run / "metrics.jsonl").stat().st_size + (newest_folder(run) / "arrays.safetensors").stat().st_size) // 2
    with files_of_at_most(room), pytest.raises(RunFailed, match="the checkpoint at step 150 could not be written"):
        resume(run, Silent(), budget=BudgetConfig(env_steps=300))
    done = resume(run, Silent(), budget=BudgetConfig(env_steps=300))
    assert (done.completed, done.env_steps) == (True, 300)


# -- the command line over damaged folders ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of CartPole with two checkpoints, at steps 100 and 160."""
    run = tmp_path_factory.mktemp("finished") / "run"
    train(cartpole(steps=100), run, Silent())
    resume(run, Silent(), budget=BudgetConfig(env_steps=160))
    for folder in list((run / "checkpoints").glob("[0-9]*-step-*100")):
        assert folder.is_dir()
    return run


def frugal(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = main([str(word) for word in words])
    shown = capsys.readouterr()
    return code, shown.out, shown.err


def bill(run: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((run / "bill.json").read_text())["rows"]
    return rows


def empty(run: Path) -> None:
    shutil.rmtree(run)
    run.mkdir()


def break_newest(run: Path) -> None:
    (newest_folder(run) / "arrays.safetensors").write_bytes(b"short")


def break_all(run: Path) -> None:
    for folder in (run / "checkpoints").glob("[0-9]*"):
        (folder / "state.json").write_text("{}")


def rename_field(run: Path) -> None:
    text = (run / "config.json").read_text()
    (run / "config.json").write_text(text.replace('"seed": 0,', '"sed": 0,'))


def another_network(run: Path) -> None:
    text = (run / "config.json").read_text()
    (run / "config.json").write_text(text.replace("16\n", "17\n", 1))


def without_checkpoints(run: Path) -> None:
    shutil.rmtree(run / "checkpoints")


def only_the_record(run: Path) -> None:
    without_checkpoints(run)
    (run / "progress.bin").unlink()


@pytest.mark.parametrize("command", ["eval", "resume"])
@pytest.mark.parametrize(
    ("damage", "code", "says"),
    [
        (shutil.rmtree, 2, "there is no run folder"),
        (empty, 2, "is not a run folder: it has no config.json"),
        (lambda run: (run / "config.json").write_text("{"), 2, "config.json cannot be read"),
        (rename_field, 2, "config.json is damaged: config has no field 'sed'; did you mean 'seed'?"),
        (another_network, 1, "1.weight"),
        (break_all, 1, "holds no usable checkpoint"),
        (without_checkpoints, 1, "holds no usable checkpoint"),
        (only_the_record, 1, "holds no usable checkpoint"),
    ],
    ids=["missing", "empty", "cut-config", "wrong-field", "other-network", "all-broken", "no-checkpoints", "record"],
)
def test_a_damaged_folder_is_one_sentence(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, damage: Any, code: int, says: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    damage(run)
    options = ["--episodes", 1] if command == "eval" else ["--budget-steps", 180, "--quiet"]
    got, out, err = frugal(capsys, command, run, *options)
    assert got == code
    (sentence,) = err.splitlines()
    assert sentence.startswith("frugal: error: ")
    assert says in sentence
    assert "unexpected" not in sentence
    assert "Traceback" not in out + err
    assert not list(tmp_path.rglob("error.txt"))


def test_eval_uses_the_checkpoint_before_and_says_so(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    newest = newest_folder(run).name
    break_newest(run)
    code, out, err = frugal(capsys, "eval", run, "--episodes", 2, "--json")
    assert code == 0
    assert f"checkpoint {newest} is damaged (arrays.safetensors was cut short or changed); the one before it" in err
    answer = json.loads(out.splitlines()[-1])
    assert (answer["episodes"], answer["env_steps"] in (100, 160)) == (2, True)


def test_resume_uses_the_checkpoint_before_and_says_so(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    newest = newest_folder(run).name
    break_newest(run)
    code, out, err = frugal(capsys, "resume", run, "--budget-steps", 180, "--quiet")
    assert code == 0
    assert f"checkpoint {newest} is damaged" in out + err
    assert "score after 180 steps" in out


def test_a_used_folder_is_refused_by_train(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = frugal(capsys, "train", "CartPole-v1", "--out", finished, "--quiet")
    assert code == 2
    assert "is already used; continue it with `frugal resume`" in err


def test_a_configuration_that_cannot_learn_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    config = build_config("CartPole-v1")
    with pytest.raises(UserError, match="learning would never start"):
        override(config, ["agent.batch_size=60000"])
    with pytest.raises(UserError, match="a batch of ppo could hold nothing but rows between episodes"):
        override(build_config("CartPole-v1", "ppo"), ["agent.unroll_steps=1", "schedule.steps_per_round=1"])
    with pytest.raises(UserError, match="unknown explorer 'conteractive' for agent"):
        train(override(config, ["explore.name=conteractive"]), tmp_path / "run", Silent())
    assert not (tmp_path / "run").exists()
