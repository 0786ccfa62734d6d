"""A pipelined run that was cut, killed or let down by its environment ends like one that was not: bit for bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_run_faults
import torch
from kill_resume import bill_counts, compare, differences, exact_state, in_words, killed_run, scores
from run_support import Killed, Watcher, add_short_protocol, breakout, cartpole, die, vtrace
from safetensors.numpy import load_file
from test_run_faults import Wild, wild
from test_run_resume import Whole, assert_same_run
from test_run_signals import stop_at

from frugalrl.envs import RowEnv
from frugalrl.run.checkpoint import Checkpoints
from frugalrl.run.config import RunConfig
from frugalrl.run.record import RunFolder, read_progress
from frugalrl.run.status import Silent
from frugalrl.run.stop import Interrupt
from frugalrl.run.train import resume, train
from frugalrl.run.worker import Worker
from frugalrl.sampling.inline import InlineSampler
from frugalrl.types import EnvFailed, RunFailed, Step
from oracles.hands import SamplerFirst

LAG = "schedule.lag_blocks=1"
CASES: dict[str, tuple[Callable[..., RunConfig], list[str], int]] = {
    "cartpole": (cartpole, [], 400),
    "cartpole-3-rows-prioritized": (
        cartpole,
        ["env.rows=3", "replay.n_step=3", "replay.kind=prioritized", "replay.capacity_transitions=150"],
        400,
    ),
    "breakout-2-updates": (breakout, ["schedule.updates_per_round=2", "replay.capacity_transitions=100"], 160),
    "vtrace-lockstep": (
        vtrace,
        [
            "sampler.kind=central",
            "sampler.lockstep=true",
            "agent.unroll_steps=2",
            "schedule.steps_per_round=2",
            "env.rows=2",
        ],
        400,
    ),
}
_wild = test_run_faults._wild


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Whole]:
    @cache
    def run(name: str) -> Whole:
        build, settings, steps = CASES[name]
        config = build(LAG, "explore.epsilon.kind=constant", "explore.epsilon.start=0.1", *settings, steps=steps)
        folder = tmp_path_factory.mktemp(name) / "whole"
        return Whole(config, folder, train(config, folder, Silent()))

    return run


Runs = Callable[[str], Whole]


@pytest.mark.parametrize("name", CASES)
def test_interrupted_and_killed_and_resumed_is_as_if_nothing_had_happened(
    uninterrupted: Runs, name: str, tmp_path: Path
) -> None:
    whole, cut = uninterrupted(name), tmp_path / "cut"
    steps = whole.config.budget.env_steps or 0
    stopped = train(whole.config, cut, Watcher(at_step=steps // 3, act=lambda: os.kill(os.getpid(), signal.SIGTERM)))
    assert (stopped.reason, stopped.completed) == ("interrupted by SIGTERM", False)
    dead = Watcher(at_step=steps * 2 // 3, act=die)
    with pytest.raises(Killed):
        resume(cut, dead)
    done = resume(cut, Silent())
    assert (done.reason, done.completed, done.env_steps) == (whole.outcome.reason, True, whole.outcome.env_steps)
    assert_same_run(whole.folder, cut)
    assert scores(cut) == scores(whole.folder)
    assert bill_counts(cut)[1] == dead.statuses[-1].env_steps - stopped.env_steps > 0


def test_one_thread_ends_in_the_same_folder(
    uninterrupted: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = uninterrupted("cartpole")
    monkeypatch.setattr("frugalrl.run.assemble.Worker", SamplerFirst)
    train(whole.config, tmp_path / "run", Silent())
    assert_same_run(whole.folder, tmp_path / "run")
    assert scores(tmp_path / "run") == scores(whole.folder)


# -- an environment that fails ----------------------------------------------------------------------------------------


def break_at(patch: pytest.MonkeyPatch, steps: int) -> None:
    """The emulator moves, and what it says is lost, from so many training steps of this process on."""
    taken, real = [0], RowEnv.step

    def step(env: RowEnv, action: np.ndarray[Any, Any]) -> Step:
        answer = real(env, action)
        taken[0] += env.num_rows if env.training else 0
        if taken[0] >= steps:
            raise EnvFailed("Environment X, row 0, step 3: stepping it failed with OSError: gone.")
        return answer

    patch.setattr(RowEnv, "step", step)


@contextmanager
def already_interrupted() -> Iterator[Interrupt]:
    interrupt = Interrupt()
    interrupt.name = "SIGTERM"
    yield interrupt


@pytest.mark.parametrize("at", [20, 150])
@pytest.mark.parametrize("name", CASES)
def test_after_an_environment_failed_nothing_is_done_again(
    uninterrupted: Runs, name: str, at: int, tmp_path: Path
) -> None:
    """In the warm-up and later; the next process fails at once as well, and the one after is interrupted at once."""
    whole, run = uninterrupted(name), tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        break_at(patch, at)
        with pytest.raises(RunFailed, match="OSError: gone; when that is mended, `frugal res"):
            train(whole.config, run, Silent())
    with pytest.MonkeyPatch.context() as patch:
        break_at(patch, 1)
        with pytest.raises(RunFailed, match="OSError: gone; when that is mended, `frugal res"):
            resume(run, Silent())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("frugalrl.run.train.interruptible", already_interrupted)
        assert not resume(run, Silent()).completed
    state = Checkpoints(run / "checkpoints").load(None).state
    assert state["counters"]["learner_ahead"] is True
    learns = at > whole.config.schedule.warmup_env_steps
    assert (state["acting"]["version"] < state["learner"]["version"]) == learns
    saved = int(bill_counts(run)[0]["counts/agent_steps"])
    assert at // 2 <= saved < at
    reporter = Watcher()
    assert resume(run, reporter).completed
    assert reporter.headers[0].resumed_at == saved
    assert not [n for n in reporter.notes if "done again" in n or "brought back" in n]
    assert_same_run(whole.folder, run)
    assert scores(run) == scores(whole.folder)
    assert bill_counts(run)[1] == 0


def test_weights_that_are_too_new_would_be_found(uninterrupted: Runs, tmp_path: Path) -> None:
    """The wrong variant: after a failed environment the block is collected with the newest weights."""
    whole, run = uninterrupted("cartpole"), tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        break_at(patch, 150)
        with pytest.raises(RunFailed):
            train(whole.config, run, Silent())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InlineSampler, "load", lambda self, snapshot: None)
        patch.setattr("frugalrl.run.train.interruptible", already_interrupted)
        resume(run, Silent())  # saves what acts: not the weights that it was given
    resume(run, Silent())
    assert "rows/obs" in differences(exact_state(whole.folder), exact_state(run))


# -- learning that diverges -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hand", [Worker, SamplerFirst])
def test_a_loss_that_is_not_finite_keeps_the_block_and_the_batch(
    hand: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frugalrl.run.assemble.Worker", hand)
    Wild.after, run = "huge reward", tmp_path / "run"
    with pytest.raises(RunFailed, match=r"the loss of update .* the batch is in .*bad_batch.safetensors"):
        train(wild(LAG, "agent.huber_delta=None", "schedule.updates_per_round=3"), run, Silent())
    assert load_file(run / "bad_batch.safetensors")["r_t"].max() == np.float32(1e30)
    state = Checkpoints(run / "checkpoints").load(None).state
    rows = bill_counts(run)[0]
    steps = state["counters"]["env_steps"]
    assert rows["counts/agent_steps"] == steps > 200
    assert rows["counts/updates"] == state["counters"]["updates"] == state["learner"]["version"]
    # the block that was collected beside the failing update is there: a reset row after each episode of ten steps
    assert state["replay"]["rows_written"] == steps + 1 + (steps - 1) // 10
    assert state["counters"]["learner_ahead"] is False
    assert all(np.isfinite(array).all() for array in state["learner"]["online"].values())


# -- signals and kills ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_with_a_checkpoint_and_a_bill(tmp_path: Path, number: signal.Signals) -> None:
    run = tmp_path / "run"
    code, out, err = stop_at(run, 300, number, LAG)
    assert code == 1
    (sentence,) = [line for line in err.splitlines() if line.startswith("frugal: ")]
    assert sentence.startswith(f"frugal: interrupted by {number.name} at step ")
    assert "Traceback" not in out + err
    last = RunFolder(run).lines()[-1]
    assert read_progress((run / "progress.bin").read_bytes())[-1].env_steps == last["env_steps"] >= 300


STUCK = """
import time
import gymnasium as gym
from gymnasium.envs.classic_control import CartPoleEnv

class Stuck(CartPoleEnv):
    taken = 0
    def step(self, action):
        Stuck.taken += 1
        if Stuck.taken == 100:
            open("stuck", "w").close()
            time.sleep(600)
        return super().step(action)

gym.register("Stuck-v0", Stuck)
"""


def test_a_second_ctrl_c_ends_a_process_whose_environment_hangs(tmp_path: Path) -> None:
    (tmp_path / "stuck_env.py").write_text(STUCK)
    words = ["train", "stuck_env:Stuck-v0", "--out", "run", "--device", "cpu", "--quiet", "--set", LAG]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, str(tmp_path)])}
    process = subprocess.Popen(
        [sys.executable, "-m", "frugalrl.cli", *words], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None and not (tmp_path / "stuck").exists():
            time.sleep(0.05)
        for _ in range(2):
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, said
    assert "Traceback" not in said


@pytest.mark.parametrize(("game", "plan"), [("cartpole", [("loop", 777)]), ("breakout", [("writer", 210)])])
def test_after_kill_9_a_run_ends_as_if_nothing_had_happened(
    game: str, plan: list[tuple[str, int]], tmp_path: Path
) -> None:
    run = tmp_path / game
    kills = list(killed_run(game, run, 0, plan, every_s=0.15, lag_blocks=1))
    for kill in kills:
        print(in_words(kill))
    assert len(kills) == len(plan)
    add_short_protocol()
    config = RunFolder(run).config()
    assert config.schedule.lag_blocks == 1
    train(config, tmp_path / "uninterrupted", Silent())
    checked = compare(game, run, tmp_path / "uninterrupted", kills)
    assert checked.differences == []
    assert checked.redone_on_the_bill == sum(kill.redone_steps for kill in kills)


# -- the bill ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
def test_every_second_of_both_threads_is_in_a_role(threads: int, tmp_path: Path) -> None:
    config = breakout(LAG, f"threads={threads}", "env.rows=2", "evaluation.every_env_steps=100000", steps=400)
    bill = train(config, tmp_path / "run", Silent()).bill
    torch.set_num_threads(1)
    roles = {(row.role, row.name): row.value for row in bill.rows if row.section == "role" and row.value is not None}
    cpu_s, wall_s = bill.find("cpu_s").value, 3600 * bill.find("wall_h").value
    assert abs(roles["unassigned", "cpu_s"]) < 0.03 * cpu_s
    busy_s = sum(value for (_, name), value in roles.items() if name == "busy_s")
    assert busy_s == pytest.approx(2 * wall_s, rel=0.05), "two threads have twice the wall time"
    # the start-up, the evaluation and the bill are one thread's work; waiting of both threads is charged besides
    assert roles["waiting", "busy_s"] > 0.01 * wall_s
    copies = roles["transport", "calls"]
    weights = sum(
        array.nbytes
        for array in Checkpoints(tmp_path / "run/checkpoints").load(None).state["learner"]["online"].values()
    )
    assert roles["transport", "bytes_min"] == copies * 2 * weights, "each copy is read and written"
    assert copies == roles["learner", "updates"] - 1, "the last one comes after the last block"
