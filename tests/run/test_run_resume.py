"""A run that was cut and resumed ends like one that was not: bit for bit, and with the same counts on its bill."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kill_resume import bill_counts, differences, exact_state, scores
from run_support import Killed, Watcher, breakout, cartpole, die, ppo, r2d2, vtrace

from frugalrl.cost.machine import find_facts
from frugalrl.envs import RowEnv
from frugalrl.report.check import check
from frugalrl.report.records import read_run
from frugalrl.run.config import BudgetConfig, RunConfig
from frugalrl.run.record import RunFolder, read_progress
from frugalrl.run.score_run import evaluate_run
from frugalrl.run.stacked import resume_stacked
from frugalrl.run.status import Silent
from frugalrl.run.train import Outcome, resume, train
from frugalrl.types import EnvFailed, RunFailed, Step, UserError

PRIORITIZED = "replay.kind=prioritized"
CASES: dict[str, tuple[Callable[..., RunConfig], list[str], int]] = {
    "cartpole": (cartpole, [], 600),
    "cartpole-prioritized": (cartpole, [PRIORITIZED, "net.dueling=true"], 600),
    "cartpole-3-rows": (cartpole, ["env.rows=3", "replay.n_step=3"], 600),
    "cartpole-wrap": (cartpole, ["replay.capacity_transitions=100", PRIORITIZED, "env.rows=2"], 600),
    "cartpole-counteractive": (cartpole, ["explore.name=counteractive", "explore.prefill=counteractive"], 600),
    "breakout-prioritized-wrap": (breakout, [PRIORITIZED], 240),
    "breakout-uniform-3-rows-bf16": (
        breakout,
        ["replay.kind=uniform", "env.rows=3", "replay.n_step=2", "agent.precision=bf16"],
        240,
    ),
    "vtrace": (vtrace, [], 600),
    "vtrace-lstm-counteractive": (vtrace, ["net.lstm_units=8", "explore.name=counteractive"], 600),
    "vtrace-lockstep": (vtrace, ["sampler.kind=central", "sampler.lockstep=true"], 600),
    "ppo-token-tis": (ppo, ["agent.correction=token-tis:2"], 600),
    "r2d2": (r2d2, [], 600),
    "r2d2-lockstep": (r2d2, ["sampler.kind=central", "sampler.lockstep=true"], 600),
}
"""Configuration, settings, budget. The frame budget of Breakout is larger than its replay everywhere."""


@dataclass(frozen=True)
class Whole:
    """A run that nothing interrupted; it is only looked at."""

    config: RunConfig
    folder: Path
    outcome: Outcome


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Whole]:
    @cache
    def run(name: str) -> Whole:
        build, settings, steps = CASES[name]
        config = build(*settings, steps=steps)
        folder = tmp_path_factory.mktemp(name) / "whole"
        return Whole(config, folder, train(config, folder, Silent()))

    return run


Runs = Callable[[str], Whole]


def assert_same_run(a: Path, b: Path, *, but_roles: Sequence[str] = ()) -> None:
    """Everything but the clocks; ``but_roles``: roles that did more on purpose."""
    one, other = exact_state(a), exact_state(b)
    for name in list(one.keys() | other.keys()):
        if any(name.startswith(f"work/{role}/") for role in but_roles):
            one.pop(name, None)
            other.pop(name, None)
    assert len(one) > 50
    assert differences(one, other) == []
    mine, theirs = bill_counts(a)[0], bill_counts(b)[0]
    assert {k for k in mine if mine[k] != theirs.get(k)} <= {k for k in mine if k.split("/")[0] in but_roles}


@pytest.mark.parametrize("name", CASES)
def test_interrupted_and_resumed_is_as_if_nothing_had_happened(uninterrupted: Runs, name: str, tmp_path: Path) -> None:
    whole = uninterrupted(name)
    config, steps = whole.config, whole.config.budget.env_steps or 0
    cut = tmp_path / "cut"
    reporter = Watcher(at_step=steps * 2 // 5, act=lambda: os.kill(os.getpid(), signal.SIGTERM))
    stopped = train(config, cut, reporter)
    assert (stopped.reason, stopped.completed) == ("interrupted by SIGTERM", False)
    assert steps * 2 // 5 <= stopped.env_steps < steps // 2
    assert bill_counts(cut)[0]["counts/agent_steps"] == stopped.env_steps
    again = Watcher()
    done = resume(cut, again)
    assert (done.reason, done.completed, done.env_steps) == (whole.outcome.reason, True, whole.outcome.env_steps)
    assert again.headers[0].resumed_at == stopped.env_steps
    assert not [n for n in again.notes if "checkpoint" in n or "brought back" in n]
    assert_same_run(whole.folder, cut)
    assert scores(cut) == scores(whole.folder)
    assert len(scores(cut)) >= 2
    assert bill_counts(cut)[1] == 0


def test_the_comparison_is_not_blind(tmp_path: Path) -> None:
    train(cartpole(steps=120), tmp_path / "a", Silent())
    train(cartpole("seed=1", steps=120), tmp_path / "b", Silent())
    found = differences(exact_state(tmp_path / "a"), exact_state(tmp_path / "b"))
    for name in ("learner/online/1.weight", "learner/target/1.weight", "learner/optimizer/1.weight/exp_avg",
                 "rows/obs", "replay/rng/state/state", "sampler/env/actions"):  # fmt: skip
        assert name in found


def test_a_larger_budget_goes_on(uninterrupted: Runs, tmp_path: Path) -> None:
    whole = uninterrupted("cartpole")
    config = cartpole(steps=200)
    assert train(config, tmp_path / "cut", Silent()).reason == "the budget of 200 steps is used"
    resume(tmp_path / "cut", Silent(), budget=BudgetConfig(env_steps=333))
    done = resume(tmp_path / "cut", Silent(), budget=BudgetConfig(env_steps=600))
    assert done.completed
    assert RunFolder(tmp_path / "cut").config().budget.env_steps == 600
    # at 333 there was one more evaluation, which changes nothing else
    assert_same_run(whole.folder, tmp_path / "cut", but_roles=["evaluation"])
    assert [s for s in scores(tmp_path / "cut") if s[0] != 334] == scores(whole.folder)


def test_a_run_that_is_over_stays_as_it_is(uninterrupted: Runs, tmp_path: Path) -> None:
    whole = uninterrupted("cartpole")
    shutil.copytree(whole.folder, tmp_path / "run")
    before, said = exact_state(tmp_path / "run"), scores(tmp_path / "run")
    again = resume(tmp_path / "run", Silent())
    assert (again.reason, again.completed, again.score) == (whole.outcome.reason, True, whole.outcome.score)
    assert differences(before, exact_state(tmp_path / "run")) == []
    assert scores(tmp_path / "run") == said
    assert RunFolder(tmp_path / "run").config() == whole.config


# -- killed ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cartpole-prioritized", "breakout-prioritized-wrap"])
def test_work_of_a_killed_run_is_done_again_and_booked_apart(uninterrupted: Runs, name: str, tmp_path: Path) -> None:
    steps = CASES[name][2]
    whole = uninterrupted(name)
    config = whole.config
    run = tmp_path / "run"
    # a first checkpoint by a signal, then two deaths without one
    train(config, run, Watcher(at_step=steps // 4, act=lambda: os.kill(os.getpid(), signal.SIGTERM)))
    saved = int(bill_counts(run)[0]["counts/agent_steps"])
    deaths = []
    for at in (steps // 2, steps * 2 // 3):
        reporter = Watcher(at_step=at, act=die)
        with pytest.raises(Killed):
            resume(run, reporter)
        deaths.append(reporter.statuses[-1].env_steps)
    # and one inside its very first checkpoint, which must not hide what the process before it lost
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("frugalrl.run.checkpoint.save_file", lambda *a, **k: die())
        with pytest.raises(Killed):
            resume(run, Silent())
    final = Watcher()
    done = resume(run, final)
    assert done.completed
    assert_same_run(whole.folder, run)
    assert scores(run) == scores(whole.folder)
    lost = sum(deaths) - 2 * saved
    assert bill_counts(run)[1] == lost > 0
    rows = {r.name: r.value for r in done.bill.rows if r.role == "redone"}
    frames = 4 if "breakout" in name else 1
    assert rows["frames"] == frames * lost
    assert rows["updates"] == lost // config.schedule.steps_per_round
    assert rows["cpu_s"] is not None
    assert rows["cpu_s"] > 0
    assert final.notes[0] == (
        f"the run died at step {deaths[1]:,}; it goes on from the checkpoint at step {saved:,}, and "
        f"{deaths[1] - saved:,} steps are done again (line 'redone' of the bill)"
    )
    total = sum(r.value for r in done.bill.rows if r.section == "role" and r.name == "cpu_s" and r.value is not None)
    assert total == pytest.approx(done.bill.find("cpu_s").value, abs=0.1), "every CPU-second is in one role"


def test_a_run_that_died_before_its_first_checkpoint_starts_from_its_beginning(
    uninterrupted: Runs, tmp_path: Path
) -> None:
    whole = uninterrupted("cartpole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("frugalrl.run.checkpoint.save_file", lambda *a, **k: die())
        with pytest.raises(Killed):
            train(whole.config, tmp_path / "run", Silent())
        with pytest.raises(Killed):
            resume(tmp_path / "run", Silent())
    died = [done.cpu_s for done in read_progress((tmp_path / "run" / "progress.bin").read_bytes())][1::2]
    again = Watcher()
    done = resume(tmp_path / "run", again)
    assert done.completed
    assert again.notes[0] == "the run died before its first checkpoint; it starts from its beginning"
    assert len(died) == 2
    assert done.bill.find("cpu_s", "redone").value == pytest.approx(sum(died)) != 0
    assert "3 processes" in done.bill.find("cpu_s").source
    assert done.bill.find("cpu_s", "unassigned").value == pytest.approx(0, abs=0.2)
    assert_same_run(whole.folder, tmp_path / "run")
    assert scores(tmp_path / "run") == scores(whole.folder)


def test_of_a_damaged_checkpoint_the_one_before_is_used_and_the_rest_done_again(
    uninterrupted: Runs, tmp_path: Path
) -> None:
    whole = uninterrupted("cartpole")
    run = tmp_path / "run"
    train(cartpole(steps=200), run, Silent())
    resume(run, Silent(), budget=BudgetConfig(env_steps=400))
    newest, *older = sorted((run / "checkpoints").glob("[0-9]*"), reverse=True)
    assert [int(f.name.split("-")[2]) for f in (newest, *older)] == [400, 200]
    (newest / "arrays.safetensors").write_bytes(b"nothing")
    reporter = Watcher()
    done = resume(run, reporter, budget=BudgetConfig(env_steps=600))
    assert f"checkpoint {newest.name} is damaged" in reporter.notes[0]
    assert "200 steps are done again" in reporter.notes[1]
    assert done.env_steps == whole.outcome.env_steps
    assert_same_run(whole.folder, run)
    assert scores(run) == scores(whole.folder)
    assert bill_counts(run)[1] == 200
    assert (run / "checkpoints" / f"damaged-{newest.name}").exists()


def test_an_interrupted_evaluation_is_made_at_its_own_step(uninterrupted: Runs, tmp_path: Path) -> None:
    whole = uninterrupted("cartpole")
    stop = Watcher(at_step=400, act=lambda: os.kill(os.getpid(), signal.SIGINT), phase="evaluating")
    stopped = train(whole.config, tmp_path / "run", stop)
    assert (stopped.reason, stopped.env_steps) == ("interrupted by SIGINT", 400)
    assert [step for step, _ in scores(tmp_path / "run")] == [200]
    resume(tmp_path / "run", Silent())
    assert scores(tmp_path / "run") == scores(whole.folder)
    # the few steps of the evaluation that was cut off are on the bill too
    assert_same_run(whole.folder, tmp_path / "run", but_roles=["evaluation"])


def test_an_evaluation_that_was_interrupted_at_the_very_end_is_made_after_all(tmp_path: Path) -> None:
    config = cartpole("evaluation.every_env_steps=100000", steps=150)
    whole = train(config, tmp_path / "whole", Silent())
    stop = Watcher(at_step=150, act=lambda: os.kill(os.getpid(), signal.SIGTERM), phase="evaluating")
    stopped = train(config, tmp_path / "run", stop)
    assert (stopped.completed, stopped.score, stopped.env_steps) == (False, None, 150)
    done = resume(tmp_path / "run", Silent())
    assert whole.score is not None
    assert done.score is not None
    assert replace(done.score, cpu_s=None) == replace(whole.score, cpu_s=None)


def test_a_signal_after_the_end_of_the_budget_does_not_spoil_the_outcome(tmp_path: Path) -> None:
    class Late(Watcher):
        def score(self, env_steps: int, score: object) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    config = cartpole("evaluation.every_env_steps=100000", steps=100)
    done = train(config, tmp_path / "run", Late())
    assert done.reason == "interrupted by SIGTERM"
    assert resume(tmp_path / "run", Silent()).completed


# -- an environment that fails ---------------------------------------------------------------------------------------


# bf16 changes nothing here and is many times slower on a processor without it
@pytest.mark.parametrize("part", ["training", "evaluation"])
@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if "bf16" in n else n for n in CASES])
def test_after_an_environment_failed_nothing_is_done_again(
    uninterrupted: Runs, name: str, part: str, tmp_path: Path
) -> None:
    whole, run = uninterrupted(name), tmp_path / "run"
    steps, taken, real = whole.config.budget.env_steps or 0, [0], RowEnv.step

    def step(env: RowEnv, action: np.ndarray[Any, Any]) -> Step:
        answer = real(env, action)  # the emulator moves, and what it says is lost
        taken[0] += env.num_rows if env.training == (part == "training") else 0
        if taken[0] >= (steps * 2 // 5 if part == "training" else 30):
            raise EnvFailed("Environment X, row 0, step 3: stepping it failed with OSError: gone.")
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RowEnv, "step", step)
        with pytest.raises(RunFailed, match="OSError: gone; when that is mended, `frugal res"):
            train(whole.config, run, Silent())
    saved = int(bill_counts(run)[0]["counts/agent_steps"])
    assert saved >= steps // 5
    reporter = Watcher()
    assert resume(run, reporter).completed
    assert reporter.headers[0].resumed_at == saved
    assert not [n for n in reporter.notes if "done again" in n or "brought back" in n]
    # steps of an evaluation that was cut off are on the bill
    assert_same_run(whole.folder, run, but_roles=["evaluation"] if part == "evaluation" else [])
    assert scores(run) == scores(whole.folder)
    assert bill_counts(run)[1] == 0


# -- what else the folder answers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cartpole", "breakout-prioritized-wrap"])
def test_the_last_checkpoint_scores_what_the_run_said(uninterrupted: Runs, name: str) -> None:
    whole = uninterrupted(name)
    config, run, done = whole.config, whole.folder, whole.outcome
    before = sorted((f, f.stat().st_mtime_ns) for f in run.rglob("*"))
    assert done.score is not None
    score = evaluate_run(run, episodes=config.evaluation.episodes)
    assert replace(score, cpu_s=None) == replace(done.score, cpu_s=None)
    assert evaluate_run(run, episodes=3, seed=5).episodes == 3
    assert sorted((f, f.stat().st_mtime_ns) for f in run.rglob("*")) == before, "it only reads"


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(cartpole(steps=100), run, Silent())
    good = (run / "config.json").read_text()
    for old, new in (('16\n', '17\n'), ('"kind": "uniform"', '"kind": "prioritized"'), ('"rows": 1', '"rows": 2'),
                     ('"capacity_transitions": 500', '"capacity_transitions": 400')):  # fmt: skip
        assert old in good
        (run / "config.json").write_text(good.replace(old, new, 1))
        with pytest.raises(RunFailed, match=r"does not fit .*config.json|different rows|with 1 rows"):
            resume(run, Silent())
    (run / "config.json").write_text(good.replace("16\n", "17\n", 1))
    with pytest.raises(RunFailed, match="cannot be played"):
        evaluate_run(run, episodes=1)
    (run / "config.json").write_text(good)
    assert resume(run, Silent(), budget=BudgetConfig(env_steps=120)).env_steps == 120


def test_a_run_that_other_code_began_says_so(tmp_path: Path) -> None:
    run, said = tmp_path / "run", "the code has changed since this run began"
    train(cartpole(steps=70), run, Silent())
    for change, expected in ((None, False), (("source_sha256", "source_of_old"), False), (('": "', '": "0'), True)):
        text = (run / "machine.json").read_text()
        reporter = Watcher()
        if change is not None:
            (run / "machine.json").write_text(text.replace(*change))
        resume(run, reporter)
        (run / "machine.json").write_text(text)
        assert any(note.startswith(said) for note in reporter.notes) == expected
    (run / "machine.json").unlink()
    assert resume(run, Silent()).completed


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    train(cartpole(steps=70), tmp_path / "run", Silent())
    progress = RunFolder(tmp_path / "run").progress()
    with pytest.raises(UserError, match="another process is working in the run folder"):
        resume(tmp_path / "run", Silent())
    progress.close()
    resume(tmp_path / "run", Silent())


@pytest.mark.parametrize("stacked", [False, True])
def test_a_run_that_goes_on_on_another_machine_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, stacked: bool
) -> None:
    """Its seconds were compared as if all of them had been measured on the first."""

    def notes(folder: Path) -> str:
        watcher = Watcher()
        if stacked:
            resume_stacked([folder], reporter=watcher)
        else:
            resume(folder, watcher, budget=BudgetConfig(env_steps=steps))
        return " ".join(watcher.notes)

    folder, steps = tmp_path / "run", 60
    train(cartpole(steps=steps), folder, Silent())
    steps = 120
    assert "another machine" not in notes(folder)
    assert read_run(folder).moved is None
    there = replace(find_facts(), gpus=("NVIDIA H100",))
    monkeypatch.setattr("frugalrl.cost.machine.find_facts", lambda: there)
    steps = 180
    assert "this run began on another machine (profile" in notes(folder)
    record = read_run(folder)
    assert record.moved is not None
    assert record.moved["profile"] == "cloud-h100"
    checked = check([record])
    assert not checked.same_machine
    assert "went on on another machine" in checked.notes[0]
    (charged,) = (row for row in (record.bill.rows if record.bill else ()) if row.name == "spot_eur")
    assert "EUR/h, cloud-h100" in charged.source
