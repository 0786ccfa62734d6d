"""Stacked seeds: each ends like its own run, in double precision down to the last weight."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from run_support import Killed, Watcher, cartpole, die
from stacked_support import apart, end_of, stack

from frugalrl.algos.stacked import StackedLearner
from frugalrl.recipes import build_config
from frugalrl.replay.stacked import StackedReplay
from frugalrl.run import stacked_loop
from frugalrl.run.config import RunConfig
from frugalrl.run.config_io import override
from frugalrl.run.last_policy import last_policy
from frugalrl.run.record import RunFolder
from frugalrl.run.stacked import resume_stacked, train_stacked
from frugalrl.run.stacked_loop import StackedLoop
from frugalrl.run.stacked_seed import SeedRun
from frugalrl.run.train import Outcome, resume, train
from frugalrl.sampling.stacked import SeedSampler
from frugalrl.types import RunFailed, UserError

SEEDS = (3, 4, 5, 11)
PAIR = SEEDS[:2]
SMALL = (
    "agent.precision=fp64", "net.hidden_units=(16,8)", "agent.batch_size=16", "schedule.warmup_env_steps=60",
    "schedule.steps_per_round=1", "agent.learning_rate=3e-3", "agent.max_grad_norm=0.5", "evaluation.episodes=1",
    "explore.epsilon.start_step=60", "explore.epsilon.steps=200", "replay.n_step=3",
)  # fmt: skip


def balancing(*settings: str) -> RunConfig:
    """CartPole with two rows, whose blocks need different numbers of steps in different seeds."""
    known = ("env.rows=2", "replay.capacity_transitions=200", "evaluation.every_env_steps=220")
    return cartpole(*SMALL, *known, "explore.name=counteractive", *settings, steps=480)


def short() -> RunConfig:
    """Enough rounds for something to go wrong."""
    return balancing("budget.env_steps=200", "evaluation.every_env_steps=10_000")


def catching(*settings: str) -> RunConfig:
    """Catch by its index, prioritised, two updates per round."""
    known = (
        'env.kwargs={"observation":"index"}', "env.rows=1", "replay.kind=prioritized", "schedule.updates_per_round=2",
        "replay.capacity_transitions=100", "agent.kind=qrdqn", "agent.quantiles=4", "evaluation.every_env_steps=100",
        "device=cpu", "schedule.warmup_env_steps=20", "budget.env_steps=125", "agent.target_period_updates=7",
        "checkpoint.every_s=3600",
    )  # fmt: skip
    return override(build_config("frugalrl/Catch-v0", "classic-dqn"), [*SMALL, *known, *settings])


Alone = dict[int, dict[str, Any]]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Alone:
    """The ends of separate runs."""
    folder = tmp_path_factory.mktemp("alone")
    for seed in SEEDS:
        train(replace(balancing(), seed=seed), folder / str(seed))
    return {seed: end_of(folder / str(seed)) for seed in SEEDS}


@pytest.fixture(scope="module")
def short_alone(tmp_path_factory: pytest.TempPathFactory) -> Alone:
    """The ends of two separate short runs."""
    folder = tmp_path_factory.mktemp("short")
    for seed in PAIR:
        train(replace(short(), seed=seed), folder / str(seed))
    return {seed: end_of(folder / str(seed)) for seed in PAIR}


@pytest.fixture(scope="module")
def stacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the same seeds, stacked."""
    folder = tmp_path_factory.mktemp("stacked")
    stack(balancing(), folder, SEEDS, command=("frugal", "compare"))
    return folder


def test_each_seed_ends_like_its_own_run(alone: Alone, stacked: Path) -> None:
    assert alone[SEEDS[0]]["counters/updates"] >= 200
    steps = {alone[seed]["counters/env_steps"] for seed in SEEDS}
    assert len(steps) > 1, "episodes that end at different times give blocks of different lengths"
    for seed in SEEDS:
        assert apart(alone[seed], end_of(stacked / str(seed))) == []


def test_index_observations_priorities_and_several_updates_per_round(tmp_path: Path) -> None:
    for seed in (1, 2):
        train(replace(catching(), seed=seed), tmp_path / "alone" / str(seed))
    stack(catching(), tmp_path / "stacked", (1, 2))
    for seed in ("1", "2"):
        ends = [end_of(tmp_path / how / seed) for how in ("alone", "stacked")]
        assert ends[0]["counters/updates"] >= 200
        assert apart(*ends) == []


# -- what must not be equal -------------------------------------------------------------------------------------------


def clip_by_the_joint_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    real = StackedLearner._step

    def step(self: StackedLearner, gradients: torch.Tensor, losses: Sequence[float]) -> list[str | None]:
        joint = float(torch.linalg.vector_norm(gradients))
        return real(self, gradients * min(1.0, 0.5 / (joint + 1e-6)), losses)

    monkeypatch.setattr(StackedLearner, "_step", step)


def draw_from_one_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    first: list[SeedSampler] = []

    def decide(self: SeedSampler, real: Callable[[SeedSampler], Any] = SeedSampler.decide) -> Any:
        first.append(self)
        self._streams = first[0]._streams
        return real(self)

    monkeypatch.setattr(SeedSampler, "decide", decide)


def draw_from_one_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    real = StackedReplay.sample
    monkeypatch.setattr(
        StackedReplay, "sample", lambda self, seeds, size, steps: real(self, [0] * len(seeds), size, steps)
    )


def step_who_has_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeds whose block is complete go on while others collect."""

    class Idle(stacked_loop.StackedSampler):
        def collect(self, n: int) -> Any:
            seeds, longest = self._seeds, [True]
            wants = [seed.wants for seed in seeds]
            for seed in seeds:
                seed.wants = lambda n, all_=wants: any(w(n) for w in all_)  # type: ignore[method-assign]
            try:
                return super().collect(n)
            finally:
                longest.clear()
                for seed in seeds:
                    del seed.wants

    monkeypatch.setattr(stacked_loop, "StackedSampler", Idle)


@pytest.mark.parametrize(
    "wrong", [clip_by_the_joint_norm, draw_from_one_stream, draw_from_one_replay, step_who_has_finished]
)
def test_seeds_that_are_mixed_are_found(
    wrong: Callable[[pytest.MonkeyPatch], None], short_alone: Alone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong(monkeypatch)
    stack(short(), tmp_path, PAIR)
    differing = apart(short_alone[PAIR[1]], end_of(tmp_path / str(PAIR[1])))
    assert any(name.startswith("learner/online") for name in differing)


# -- folders, bills, failures -----------------------------------------------------------------------------------------


def test_each_folder_is_that_of_an_ordinary_run(stacked: Path) -> None:
    for seed in SEEDS:
        record = RunFolder.open(stacked / str(seed))
        assert record.config() == replace(balancing(), seed=seed)
        machine = json.loads((record.path / "machine.json").read_text())
        assert machine["stacked_seeds"] == len(SEEDS)
        assert machine["command"] == ["frugal", "compare"]
        kinds = [line["kind"] for line in record.lines()]
        assert kinds.count("evaluation") == 3
        assert kinds[-1] == "end"
        last = last_policy(record.path)
        assert last.step >= 480
        assert last.policy(_spec()).q_values(np.zeros((1, 4), np.float32)).shape == (1, 2)


def _spec() -> Any:
    from frugalrl.envs import make_env, named_protocol

    env = make_env("CartPole-v1", protocol=named_protocol("plain"), num_rows=1, seed=0, training=False)
    env.close()
    return env.spec


def test_the_bills_share_the_process_and_say_so(stacked: Path) -> None:
    bills = [json.loads((stacked / str(seed) / "bill.json").read_text()) for seed in SEEDS]
    assert {bill["about"]["sampler"] for bill in bills} == {"inline, 4 seeds stacked"}
    for bill in bills:
        rows = {(row["role"], row["name"]): row for row in bill["rows"]}
        assert rows["learner", "cpu_s"]["source"].endswith("1/4 of a process that trained 4 seeds")
        assert rows["learner", "cpu_s"]["how"] == "measured"
        assert rows[None, "peak_memory"]["source"].endswith("of the process that trained 4 seeds")
        assert "process that trained" not in rows["learner", "flop"]["source"]
        used = sum(row["value"] for (role, name), row in rows.items() if name == "cpu_s" and role is not None)
        assert used == pytest.approx(rows[None, "cpu_s"]["value"], rel=1e-9), "one reading of the clock"
        assert abs(rows["unassigned", "cpu_s"]["value"]) < 0.1 * rows[None, "cpu_s"]["value"]


def test_the_gpu_memory_of_a_stack_is_that_of_its_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("frugalrl.cost.meters._peak_gpu_bytes", lambda: 10**9)
    stack(short(), tmp_path, PAIR)
    rows = json.loads((tmp_path / str(PAIR[0]) / "bill.json").read_text())["rows"]
    (row,) = (row for row in rows if row["name"] == "peak_gpu_memory")
    assert row["source"].endswith("of the process that trained 2 seeds")


def test_a_stacked_seed_goes_on_alone(stacked: Path, tmp_path: Path) -> None:
    """The last checkpoint is an ordinary one."""
    seed = SEEDS[1]
    shutil.copytree(stacked / str(seed), tmp_path / "run")
    longer = replace(balancing().budget, env_steps=500)
    assert resume(tmp_path / "run", budget=longer).completed


def test_a_killed_stack_goes_on_exactly(short_alone: Alone, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    at_round(monkeypatch, 60, lambda runs: runs[1].save())
    at_round(monkeypatch, 80, lambda runs: die())
    with pytest.raises(Killed):
        stack(short(), tmp_path, PAIR)
    monkeypatch.undo()
    steps = [last_policy(tmp_path / str(seed)).step for seed in PAIR]
    assert steps[0] == 0
    assert steps[1] > 100, "one seed was saved on the way, the other was not"
    ends = resume_stacked([tmp_path / str(seed) for seed in PAIR])
    assert all(isinstance(end, Outcome) and end.completed for end in ends)
    for seed in PAIR:
        redone = {"ledger", "bill"}  # work that was lost is counted apart
        differing = apart(short_alone[seed], end_of(tmp_path / str(seed)))
        assert [name for name in differing if name.split("/")[0] not in redone] == []


def at_round(monkeypatch: pytest.MonkeyPatch, number: int, act: Callable[[Sequence[SeedRun]], None]) -> None:
    """Do something to the seeds of a stack before one of its rounds."""
    real, count = StackedLoop.round, [0]

    def round_(self: StackedLoop) -> Any:
        count[0] += 1
        if count[0] == number:
            act(self._runs)
        return real(self)

    monkeypatch.setattr(StackedLoop, "round", round_)


def poison_reward(run: SeedRun) -> None:
    run.parts.replay.ring._fields["reward"][:] = np.inf


def poison_weights(run: SeedRun) -> None:
    for tensor in run.parts.learner.weights().values():  # type: ignore[union-attr]
        tensor.fill_(np.nan)


def break_environment(run: SeedRun) -> None:
    def step(action: Any) -> Any:
        raise ValueError("no more")

    run.parts.worlds._envs[1].step = step  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("poison", "sentence"),
    [
        (poison_reward, "the loss of update"),
        (poison_weights, "the network has diverged"),
        (break_environment, "stepping it failed with ValueError: no more"),
    ],
)
def test_a_seed_that_fails_leaves_the_others_alone(
    poison: Callable[[SeedRun], None],
    sentence: str,
    short_alone: Alone,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    at_round(monkeypatch, 70, lambda runs: poison(runs[1]))
    ends = stack(short(), tmp_path, PAIR)
    assert [type(end) for end in ends] == [Outcome, RunFailed]
    assert sentence in str(ends[1])
    lines = RunFolder.open(tmp_path / str(PAIR[1])).lines()
    assert lines[-1]["kind"] == "end"
    assert not lines[-1]["completed"]
    assert sentence in lines[-1]["reason"]
    assert (tmp_path / str(PAIR[1]) / "bill.json").exists()
    assert apart(short_alone[PAIR[0]], end_of(tmp_path / str(PAIR[0]))) == []


def test_a_seed_whose_checkpoints_are_damaged_leaves_the_others_alone(
    short_alone: Alone, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """All seeds had failed with the sentence of the one."""
    at_round(monkeypatch, 60, lambda runs: die())
    with pytest.raises(Killed):
        stack(short(), tmp_path, PAIR)
    monkeypatch.undo()
    for file in (tmp_path / str(PAIR[0])).glob("checkpoints/*-step-*/state.json"):
        file.write_text("cut short")
    ends = resume_stacked([tmp_path / str(seed) for seed in PAIR])
    assert [type(end) for end in ends] == [RunFailed, Outcome]
    assert f"{PAIR[0]}/checkpoints holds no usable checkpoint" in str(ends[0])
    assert not (tmp_path / str(PAIR[0]) / "bill.json").exists(), "it has not run"
    differing = apart(short_alone[PAIR[1]], end_of(tmp_path / str(PAIR[1])))
    assert [name for name in differing if name.split("/")[0] not in {"ledger", "bill"}] == []


def test_the_replays_of_a_stack_need_memory_together(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[int] = []

    def too_much(nbytes: int) -> tuple[str, ...]:
        asked.append(nbytes)
        return ("too much",)

    monkeypatch.setattr("frugalrl.run.tell.memory_cautions", too_much)
    config = override(cartpole(steps=70), SMALL)
    reporter = Watcher()
    train(config, tmp_path / "alone")
    stack(config, tmp_path, PAIR, reporter=reporter)
    assert asked == [asked[0], 2 * asked[0]]
    assert asked[0] > 1_000
    assert [note for note in reporter.notes if "too much" in note] == ["too much"]


def test_wrong_calls(tmp_path: Path) -> None:
    config = balancing()
    with pytest.raises(UserError, match=r"agent.learning_rate is 0.003 for seed 1 and 0.5 for seed 2"):
        train_stacked(
            [replace(config, seed=1), replace(override(config, ["agent.learning_rate=0.5"]), seed=2)],
            [tmp_path / "1", tmp_path / "2"],
        )
    with pytest.raises(UserError, match="seed 1 is there more than once"):
        stack(config, tmp_path, (1, 1))
    with pytest.raises(UserError, match="2 seeds need as many run folders, but got 1"):
        train_stacked([replace(config, seed=s) for s in (1, 2)], [tmp_path])
    with pytest.raises(UserError, match="at least one"):
        train_stacked([], [])
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "config.json").write_text("{}")
    with pytest.raises(UserError, match="is already used"):
        stack(config, tmp_path, (1, 2))
    assert not (tmp_path / "1").exists(), "nothing is begun that cannot be finished"
    with pytest.raises(UserError, match=r"cannot be stacked: net\.dueling=True"):
        stack(override(config, ["net.dueling=true"]), tmp_path, (5, 6))
