"""What ends a whole run, and what a run says on its way."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from run_support import Watcher, cartpole

from frugalrl.cost.tables import load_tables
from frugalrl.run.config import BudgetConfig
from frugalrl.run.config_io import override
from frugalrl.run.record import RunFolder
from frugalrl.run.status import Silent
from frugalrl.run.train import resume, train
from frugalrl.types import UserError


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["budget.env_steps=130"], "the budget of 130 steps is used"),
        (["budget.env_steps=None", "budget.hours=0.0002"], "the budget of 0.0002 hours is used"),
        (["budget.env_steps=None", "budget.eur=2e-5", "machine=cloud-2vcpu"], "the budget of 2e-05 EUR is used"),
        (["budget.env_steps=100000", "budget.target_score=1"], "the target score of 1 is reached"),
    ],
    ids=["steps", "hours", "eur", "target"],
)
def test_each_limit_ends_a_run_with_a_score_a_checkpoint_and_a_bill(
    tmp_path: Path, settings: list[str], says: str
) -> None:
    run = tmp_path / "run"
    done = train(cartpole("evaluation.every_env_steps=100", *settings), run, Silent())
    assert (done.reason, done.completed) == (says, True)
    assert 0 < done.env_steps < 10_000
    assert done.env_steps % 2 == 0, "checked after each block"
    assert done.score is not None
    rows = json.loads((run / "bill.json").read_text())["rows"]
    assert next(r["value"] for r in rows if r["name"] == "mean_return") == done.score.mean_return
    assert [f.name.split("-")[2] for f in sorted((run / "checkpoints").glob("[0-9]*"))][-1] == f"{done.env_steps:012d}"
    lines = RunFolder(run).lines()
    assert lines[-1] == {"kind": "end", "env_steps": done.env_steps, "reason": says, "completed": True}
    assert [line["env_steps"] for line in lines if line["kind"] == "evaluation"][-1] == done.env_steps


def test_hours_go_on_where_the_process_before_stopped(tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = train(cartpole(steps=200), run, Silent())
    hours = first.bill.find("wall_h").value
    assert hours is not None
    done = resume(run, Silent(), budget=BudgetConfig(hours=hours / 2))
    assert done.env_steps == 200, "the hours before count"


def test_a_budget_in_money_needs_a_price(tmp_path: Path) -> None:
    tables = load_tables()
    free = replace(tables, prices={k: v for k, v in tables.prices.items() if k != "laptop-4c"})
    with pytest.raises(UserError, match="has no price, so a budget in euro cannot be kept"):
        train(cartpole("budget.eur=1", "machine=laptop-4c"), tmp_path / "run", Silent(), tables=free)
    assert not (tmp_path / "run").exists()


def test_the_start_up_is_not_booked_as_a_checkpoint(tmp_path: Path) -> None:
    class Slow(Watcher):
        def start(self, header: Any) -> None:
            np.linalg.svd(np.random.default_rng(0).normal(size=(400, 400)))

    done = train(cartpole(steps=10), tmp_path / "run", Slow())
    startup, checkpoint = (done.bill.find("cpu_s", role).value for role in ("startup", "checkpoint"))
    assert startup is not None
    assert checkpoint is not None
    assert startup > 2 * checkpoint


def test_an_evaluation_that_costs_too_much_is_said(tmp_path: Path) -> None:
    reporter = Watcher()
    train(cartpole("evaluation.every_env_steps=4", "evaluation.episodes=10", steps=40), tmp_path / "run", reporter)
    notes = [note for note in reporter.notes if note.startswith("evaluation takes ")]
    assert len(notes) == 1, "once, not at each of ten evaluations"
    assert "raise evaluation.every_env_steps=4 or evaluate fewer episodes (now 10)" in notes[0]


def test_what_a_reader_sees(tmp_path: Path) -> None:
    reporter = Watcher(at_step=0, act=lambda: None)
    done = train(cartpole("checkpoint.every_s=0.001", steps=300), tmp_path / "run", reporter)
    (header,) = reporter.headers
    assert (header.env, header.protocol, header.explorer, header.seed) == ("CartPole-v1", "plain", "epsilon-greedy", 0)
    assert (header.budget, header.resumed_at) == ("300 steps", None)
    phases = [phase for phase, _ in itertools.groupby(s.phase for s in reporter.statuses)]
    assert phases[:2] == ["filling the replay", "training"]
    assert "evaluating" in phases
    assert [step for step, _ in reporter.scores] == [200, 300]
    steps = [s.env_steps for s in reporter.statuses]
    assert steps == sorted(steps)
    last = reporter.statuses[-1]
    assert (last.env_steps, last.updates, last.done, last.epsilon) == (300, done.bill.find("updates").value, 1.0, 1.0)
    assert {"loss", "td_mean", "td_abs", "q_mean"} <= reporter.statuses[-3].metrics.keys()
    assert last.flop is not None
    assert last.flop > 0
    assert len(list((tmp_path / "run" / "checkpoints").glob("[0-9]*-step-*"))) == 2, "old ones are deleted"


class Drifting(gym.Env[Any, Any]):
    """Never the same twice, whatever the seed: it cannot be brought back."""

    observation_space = Box(-1, 1, (2,), np.float32)
    action_space = Discrete(2)
    noise = np.random.default_rng()

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.time = 0
        return self.noise.uniform(-1, 1, 2).astype(np.float32), {}

    def step(self, action: int) -> Any:
        self.time += 1
        return self.noise.uniform(-1, 1, 2).astype(np.float32), 1.0, self.time % 9 == 0, False, {}


@pytest.fixture
def drifting() -> Iterator[None]:
    gym.register("Drifting-v0", Drifting)
    yield
    del gym.registry["Drifting-v0"]


def test_rows_that_cannot_be_brought_back_are_named(tmp_path: Path, drifting: None) -> None:
    config = override(cartpole(steps=100), ["env.id=Drifting-v0", "env.rows=2", PRIORITIZED])
    run = tmp_path / "run"
    train(config, run, Silent())
    reporter = Watcher()
    done = resume(run, reporter, budget=BudgetConfig(env_steps=200))
    assert done.completed
    (note,) = [note for note in reporter.notes if "could not be brought back" in note]
    assert note.startswith("environment rows 0, 1 could not be brought back")
    assert note.endswith("this run is no longer exact")
    (line,) = [line for line in RunFolder(run).lines() if line["kind"] == "not_restored"]
    assert line["rows"] == [0, 1]


PRIORITIZED = "replay.kind=prioritized"


class Wandering(Drifting):
    """Changes the working directory when it is made and when it is reset, as simulators with files of their own do."""

    def __init__(self) -> None:
        super().__init__()
        os.chdir("/")

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        os.chdir("/")
        return super().reset(seed=seed, options=options)


def test_an_environment_that_changes_the_working_directory(
    tmp_path: Path, drifting: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    gym.register("tests/Wandering-v0", Wandering)
    monkeypatch.chdir(tmp_path)
    config = cartpole(steps=200)
    config = replace(config, env=replace(config.env, id="tests/Wandering-v0"))
    try:
        assert train(config, Path("run"), Watcher()).folder == Path("run")
        assert (tmp_path / "run" / "bill.json").exists()
        monkeypatch.chdir(tmp_path)
        assert resume(Path("run"), Watcher(), budget=BudgetConfig(env_steps=300)).completed
        assert RunFolder.open(tmp_path / "run").lines()[-1]["env_steps"] >= 300
    finally:
        del gym.registry["tests/Wandering-v0"]


def test_a_run_on_a_machine_that_has_a_spot_price_only(tmp_path: Path) -> None:
    """No money is shown while it runs, and that ends nothing."""
    tables = load_tables()
    spot = replace(tables.prices["cloud-2vcpu"], eur_per_hour_on_demand=None)
    tables = replace(tables, prices={**tables.prices, "cloud-2vcpu": spot})
    done = train(cartpole("machine=cloud-2vcpu", steps=200), tmp_path / "run", Watcher(), tables=tables)
    assert done.completed
    assert done.bill.find("spot_eur").value is not None
    assert done.bill.find("on_demand_eur").value is None
