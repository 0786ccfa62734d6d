"""Runs of PPO: every loop, images, corrections, and samplers that no ratio corrects."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from kill_resume import differences, exact_state
from run_support import SHORT, Watcher, add_short_protocol, ppo
from safetensors.numpy import load_file

from frugalrl import build_config, override
from frugalrl.cli.app import main
from frugalrl.run.config import RunConfig
from frugalrl.run.status import Silent
from frugalrl.run.train import Outcome, resume, train
from frugalrl.types import RunFailed

LOCKSTEP = ("sampler.kind=central", "sampler.lockstep=true")


def metrics(folder: Path) -> dict[str, float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return next(line for line in reversed(lines) if line["kind"] == "progress")


def finish(config: RunConfig, folder: Path) -> Outcome:
    done = train(config, folder, Silent())
    assert done.completed
    return done


@pytest.mark.parametrize(
    ("settings", "lag"),
    [
        ((), 0.0),
        (LOCKSTEP, 0.0),
        (("schedule.lag_blocks=1", "agent.correction=token-tis:2"), 1.0),
        (("sampler.kind=central", "agent.correction=ppo-denominator"), None),
    ],
    ids=["serial", "lockstep", "pipelined", "asynchronous"],
)
def test_every_loop_runs_it_and_counts_gradient_steps(
    settings: tuple[str, ...], lag: float | None, tmp_path: Path
) -> None:
    """In a serial loop a batch is one block: all of it was acted by the weights that it updates."""
    config = ppo("evaluation.every_env_steps=10_000", *settings, steps=400)
    bill = finish(config, tmp_path / "run").bill
    told = metrics(tmp_path / "run")
    if lag is not None:
        assert told["lag_max"] <= lag
        # a batch of 40 rows, some of them resets, is 2 epochs of 2 minibatches
        batches = told["updates"] / 4
        assert 400 / 40 - lag <= batches <= 600 / 40
    assert bill.find("updates").value == bill.find("calls", "learner").value == told["updates"]
    corrects = "agent.correction=token-tis:2" in settings
    assert (bill.find("flop", "correction").value is not None) == corrects


@pytest.mark.parametrize(
    ("env", "recipe", "torso"),
    [("MinAtar/Breakout-v1", "ppo-minatar", "auto"), ("ALE/Pong-v5", "ppo-atari", "impala-shallow")],
)
def test_images(env: str, recipe: str, torso: str, tmp_path: Path) -> None:
    small = (
        f"net.torso={torso}", "net.hidden_units=16", "env.rows=2", "agent.batch_unrolls=2", "agent.unroll_steps=8",
        "schedule.steps_per_round=8", "agent.minibatches=2", "agent.epochs=1", "budget.env_steps=32",
        "evaluation.every_env_steps=1000", "evaluation.episodes=1", "evaluation.rows=1", "device=cpu",
    )  # fmt: skip
    add_short_protocol()
    config = override(build_config(env, recipe), small)
    if env.startswith("ALE"):
        config = override(config, [f"env.protocol={SHORT}"])
    assert finish(config, tmp_path / "run").env_steps >= 32


@pytest.mark.slow
@pytest.mark.parametrize("way", [LOCKSTEP, ("schedule.lag_blocks=1",)], ids=["lockstep", "pipelined"])
def test_lstm_runs_come_back_bit_for_bit(way: tuple[str, ...], tmp_path: Path) -> None:
    config = ppo("net.lstm_units=8", "agent.correction=sequence-tis:2", *way)
    finish(config, tmp_path / "whole")
    stop = Watcher(at_step=240, act=lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert not train(config, tmp_path / "cut", stop).completed
    assert resume(tmp_path / "cut", Silent()).completed
    assert differences(exact_state(tmp_path / "whole"), exact_state(tmp_path / "cut")) == []


def test_a_sampler_without_chance_ends_the_run_with_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Purely counteractive: only the least likely action. The batch and the weights before it are kept."""
    run = tmp_path / "run"
    command = [
        "train", "CartPole-v1", "--recipe", "ppo", "--explore", "counteractive", "--out", str(run), "--quiet",
        "--set", "explore.epsilon.start=1", "agent.unroll_steps=10", "schedule.steps_per_round=10", "device=cpu",
    ]  # fmt: skip
    assert main(command) == 1
    said = capsys.readouterr().err
    assert "the batch of update 2 cannot be used: log_mu is 0 for all" in said
    assert "use a mixture, such as explore.epsilon below 1; the batch is in" in said
    assert "learning_rate" not in said
    assert "Traceback" not in said
    kept = load_file(run / "bad_batch.safetensors")
    assert not kept["log_mu"][kept["valid"]].any()
    with pytest.raises(RunFailed, match="the batch of update 2 cannot be used"):
        resume(run, Silent())
