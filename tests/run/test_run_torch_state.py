"""Called from somebody's own program, a run neither depends on torch's global state nor leaves it changed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kill_resume import differences, exact_state
from run_support import cartpole, ppo

from frugalrl.run.config import BudgetConfig, EnvConfig
from frugalrl.run.record import RunFolder
from frugalrl.run.score_run import evaluate_run
from frugalrl.run.stacked import resume_stacked, train_stacked
from frugalrl.run.torch_state import own_torch_state
from frugalrl.run.train import Outcome, resume, train
from frugalrl.types import UserError


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode, nullcontext])
def test_modes_and_defaults_of_the_caller_change_nothing(
    around: Callable[[], AbstractContextManager[None]], tmp_path: Path
) -> None:
    train(cartpole(steps=200), tmp_path / "alone")
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    torch.set_default_dtype(torch.float64)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with around():
            done = train(cartpole(steps=200), str(tmp_path / "inside"))
            assert resume(str(tmp_path / "inside"), budget=BudgetConfig(env_steps=200)).completed
            score = evaluate_run(str(tmp_path / "inside"), episodes=2)
        assert (torch.get_num_threads(), torch.get_default_dtype()) == (2, torch.float64)
        assert torch.equal(torch.rand(1, dtype=torch.float32), expected)
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_num_threads(threads)
    assert done.completed
    assert score.episodes == 2
    assert differences(exact_state(tmp_path / "alone"), exact_state(tmp_path / "inside")) == []


def test_a_default_device_of_the_caller_changes_nothing(tmp_path: Path) -> None:
    """On a GPU machine ``torch.set_default_device("cuda")`` drew other weights; a device without data shows it here."""
    train(cartpole(steps=200), tmp_path / "alone")
    torch.set_default_device("meta")
    try:
        assert train(cartpole(steps=200), tmp_path / "inside").completed
        assert evaluate_run(tmp_path / "inside", episodes=2).episodes == 2
        assert torch.zeros(1).device.type == "meta"
    finally:
        torch.set_default_device(None)
    assert differences(exact_state(tmp_path / "alone"), exact_state(tmp_path / "inside")) == []


def test_numbers_of_numpy_are_taken_as_what_they_are(tmp_path: Path) -> None:
    """``for seed in np.arange(3)`` ended in a traceback of json's, and the folder was taken."""
    mine = cartpole(steps=200)
    config = replace(
        mine,
        seed=np.int64(1),  # type: ignore[arg-type]
        agent=replace(mine.agent, learning_rate=np.float32(0.0009765625), batch_size=16.0),  # type: ignore[arg-type]
        budget=BudgetConfig(env_steps=np.int64(200)),  # type: ignore[arg-type]
    )
    done = train(config, tmp_path / "run")
    assert done.reason == "the budget of 200 steps is used"
    kept = RunFolder.open(tmp_path / "run").config()
    assert (kept.seed, kept.agent.batch_size, kept.budget.env_steps) == (1, 16, 200)
    assert resume(tmp_path / "run", budget=BudgetConfig(env_steps=np.int64(300))).completed  # type: ignore[arg-type]
    stacked = train_stacked([config, replace(config, seed=np.int64(2))], [tmp_path / "a", tmp_path / "b"])  # type: ignore[arg-type]
    assert all(isinstance(one, Outcome) and one.completed for one in stacked)


@pytest.mark.parametrize(
    ("group", "field", "value", "said"),
    [
        ("agent", "precision", "fp8", r"config\.agent\.precision='fp8': expected one of fp32"),
        ("agent", "learning_rate", float("nan"), r"config\.agent\.learning_rate=nan: expected a finite number"),
        ("schedule", "steps_per_round", 2.5, r"config\.schedule\.steps_per_round=2\.5: expected a whole number"),
        (None, "device", "gpu", r"config\.device='gpu': expected one of auto, cpu, cuda"),
    ],
)
def test_a_value_of_another_kind_is_refused_before_anything_is_made(
    group: str | None, field: str, value: object, said: str, tmp_path: Path
) -> None:
    """Dataclasses do not look at types: a precision that there is not was trained with as fp32."""
    config: Any = cartpole(steps=200)
    changed = {field: value} if group is None else {group: replace(getattr(config, group), **{field: value})}
    with pytest.raises(UserError, match=said):
        train(replace(config, **changed), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_is_no_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"needs a RunConfig, but got 'CartPole-v1'; frugalrl\.build_config\(ENV\)"):
        train("CartPole-v1", tmp_path / "run")  # type: ignore[arg-type]


def test_arguments_of_an_environment_that_no_file_can_hold_are_refused(tmp_path: Path) -> None:
    """Before a folder is made that would then be taken."""
    with pytest.raises(ValueError, match=r"env\.kwargs=.*: expected what JSON can hold \(Object of type"):
        EnvConfig(id="CartPole-v1", protocol="plain", kwargs={"wrapper": len})


def test_no_episodes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="episodes=0: play at least 1"):
        evaluate_run(tmp_path, episodes=0)


@pytest.mark.parametrize("episodes", [3.5, np.nan, np.inf])
def test_a_number_of_episodes_that_is_no_whole_one_is_refused(episodes: float, tmp_path: Path) -> None:
    """3.5 episodes were played for ever: a half was always missing."""
    with pytest.raises(UserError, match="play at least 1 and a whole number"):
        evaluate_run(tmp_path, episodes=episodes)  # type: ignore[arg-type]


def test_a_way_to_choose_actions_that_there_is_not_is_refused(tmp_path: Path) -> None:
    """Everything but "greedy" was played as "sampled", and the score was labelled with what was asked for."""
    train(ppo("evaluation.every_env_steps=10_000", steps=200), tmp_path / "run")
    assert evaluate_run(tmp_path / "run", episodes=2, actions="sampled").actions == "sampled"
    with pytest.raises(UserError, match=r"evaluation\.actions='Greedy': expected one of greedy, sampled"):
        evaluate_run(tmp_path / "run", episodes=2, actions="Greedy")  # type: ignore[arg-type]


def test_budgets_that_never_end_a_run_are_refused() -> None:
    with pytest.raises(ValueError, match=r"budget\.hours=nan: must be positive"):
        BudgetConfig(hours=np.nan)
    with pytest.raises(ValueError, match=r"budget\.env_steps=2000\.5: must be a whole number"):
        BudgetConfig(env_steps=2000.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"budget\.env_steps=inf: must be a whole number"):
        BudgetConfig(env_steps=np.inf)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"budget\.target_score=nan"):
        BudgetConfig(target_score=np.nan)


def test_a_second_run_in_another_thread_is_refused(tmp_path: Path) -> None:
    """It would draw its weights from the first one's stream, and both bills would hold both runs' work."""
    refused: list[str] = []

    def second() -> None:
        with pytest.raises(UserError, match="another thread of this process") as error:
            train(cartpole(steps=100), tmp_path / "second")
        refused.append(str(error.value))

    with own_torch_state():
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
        assert train(cartpole(steps=100), tmp_path / "first").completed, "the thread that is in here may go on"
    assert refused
    assert not (tmp_path / "second").exists()
    assert train(cartpole(steps=100), tmp_path / "second").completed


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_process_forked_during_a_run_may_run(tmp_path: Path) -> None:
    """The thread that is in a run does not exist there; the copy of its lock was held for ever."""
    inside, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with own_torch_state():
            inside.set()
            go_on.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait(30)
    if not (child := os.fork()):
        try:
            with own_torch_state():
                os._exit(0)
        except UserError:
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    go_on.set()
    thread.join()
    assert os.waitstatus_to_exitcode(status) == 0


def test_stacked_runs_leave_the_state_alone_too(tmp_path: Path) -> None:
    configs = [replace(cartpole(steps=200), seed=seed) for seed in (1, 2)]
    train_stacked(configs, [str(tmp_path / "1"), str(tmp_path / "2")])
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    with torch.no_grad():
        done = train_stacked(configs, [str(tmp_path / "a"), str(tmp_path / "b")])
        done += resume_stacked([str(tmp_path / "a"), str(tmp_path / "b")])
    assert all(isinstance(one, Outcome) and one.completed for one in done)
    assert torch.equal(torch.rand(1), expected)
    assert differences(exact_state(tmp_path / "2"), exact_state(tmp_path / "b")) == []
