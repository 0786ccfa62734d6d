"""Central runs that nothing happens to: which settings fit together, which episodes are played, what is stored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from central_support import R2D2, r2d2, vtrace, workers_here
from run_support import Watcher, cartpole

from frugalrl.algos.r2d2 import R2D2Config
from frugalrl.cli import main
from frugalrl.cost.meters import LapTimer
from frugalrl.envs import PROTOCOLS
from frugalrl.envs.rows import episode_seed
from frugalrl.recipes import build_config
from frugalrl.run.assemble import Parts, assemble, stream_seed
from frugalrl.run.config import RunConfig
from frugalrl.run.config_io import override
from frugalrl.run.last_policy import last_policy
from frugalrl.run.record import RunFolder
from frugalrl.run.samplers import make_rows
from frugalrl.run.status import Silent
from frugalrl.run.train import train
from frugalrl.sampling.background import BackgroundSampler
from frugalrl.types import Episode, UserError

# -- settings --------------------------------------------------------------------------------------------------------


def frugal(capsys: pytest.CaptureFixture[str], folder: Path, *words: str) -> tuple[int, str]:
    code = main(["train", "CartPole-v1", "--quiet", "--out", str(folder), *words])
    shown = capsys.readouterr()
    assert "Traceback" not in shown.out + shown.err
    return code, shown.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--workers 2", "agent.kind=dqn learns in lockstep with its environments, and those in worker processes are"),
        ("--recipe inline-vtrace --set sampler.workers=2", "sampler.workers=2 needs the central sampler"),
        ("--recipe seed-vtrace-small --sampler inline --workers 2", "sampler.workers=2 needs the central sampler"),
        ("--recipe seed-vtrace-small --workers 2 --set sampler.lockstep=true", "use sampler.workers=0"),
        ("--recipe seed-vtrace-small --workers 9", "use at least 18 environments, or fewer workers or groups"),
        ("--recipe seed-vtrace-small --workers 1 --envs 1", "use at least 2 environments, or fewer workers or groups"),
        (
            "--recipe seed-vtrace-small --envs 3 --workers 1 --set sampler.groups=4",
            "3 environments are too few for sampler.workers=1 with sampler.groups=4 each",
        ),
        ("--recipe seed-vtrace-small --set schedule.lag_blocks=1", "schedule.lag_blocks=1: an asynchronous central"),
        ("--recipe seed-vtrace-small --set sampler.kind=centrl", "did you mean 'central'?"),
        ("--recipe seed-vtrace-small --set sampler.groops=1", "did you mean 'sampler.groups'?"),
    ],
)
def test_settings_that_do_not_fit_are_one_sentence(
    words: str, says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, err = frugal(capsys, tmp_path / "run", *words.split())
    (sentence,) = err.splitlines()
    assert (code, sentence.startswith("frugal: error: ")) == (2, True)
    assert says in sentence
    assert not (tmp_path / "run").exists()
    assert workers_here() == []


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (cartpole("sampler.kind=central", "env.rows=3", steps=200), "central, 3 environments in threads, lockstep"),
        (vtrace("CartPole-v1", "env.rows=1", steps=200), "central, 1 environments in threads"),
        (
            vtrace("CartPole-v1", "env.rows=3", "sampler.groups=5", steps=200),
            "central, 3 environments in threads",
        ),
    ],
    ids=["dqn goes in lockstep", "one environment", "more groups than environments, in threads"],
)
def test_settings_that_fit_run(config: RunConfig, told: str, tmp_path: Path) -> None:
    reporter = Watcher()
    done = train(config, tmp_path / "run", reporter)
    assert (done.completed, done.env_steps >= 200) == (True, True)
    assert reporter.headers[0].sampler == told


def test_an_assembly_that_fails_leaves_no_worker() -> None:
    config = r2d2("frugalrl/Recall-v0", "sampler.workers=1", 'env.kwargs={"delay": 1}')
    with pytest.raises(UserError, match="needs images of at least 36x36 pixels"):
        assemble(override(config, ["net.torso=nature"]), LapTimer())
    assert workers_here() == []


# -- episodes --------------------------------------------------------------------------------------------------------


def first_episodes(config: RunConfig, each: int) -> dict[int, list[Episode]]:
    """The first episodes of each row, as its sampler tells them."""
    timer = LapTimer()
    timer.start()
    parts = assemble(config, timer)
    found: dict[int, list[Episode]] = {row: [] for row in range(config.env.rows)}
    sampler = parts.sampler
    try:
        sampler.load(parts.learner.snapshot())
        if isinstance(sampler, BackgroundSampler):
            sampler.start()
        while min(map(len, found.values())) < each:
            if isinstance(sampler, BackgroundSampler):
                sampler.get(1, 1.0)
                episodes = sampler.take().episodes
            else:
                episodes = sampler.collect(config.env.rows * 20).episodes
            for episode in episodes:
                found[episode.row].append(episode)
    finally:
        sampler.close()
    return {row: episodes[:each] for row, episodes in found.items()}


def test_threads_workers_and_inline_play_the_same_episodes_row_by_row() -> None:
    ways = {
        "inline": ["sampler.kind=inline"],
        "lockstep": ["sampler.lockstep=true"],
        "threads": ["sampler.groups=3"],
        "workers": ["sampler.workers=2"],
    }
    told = {name: first_episodes(vtrace("CartPole-v1", "env.rows=5", *way), 3) for name, way in ways.items()}
    seeds = {name: {row: [e.seed for e in of_row] for row, of_row in rows.items()} for name, rows in told.items()}
    assert seeds["inline"] == seeds["lockstep"] == seeds["threads"] == seeds["workers"]
    other = first_episodes(vtrace("CartPole-v1", "env.rows=5", "seed=1", "sampler.kind=inline"), 3)
    assert all(seeds["inline"][row] != [e.seed for e in of_row] for row, of_row in other.items())
    first = seeds["inline"][4][0]
    assert first not in {episode_seed(seed, 0, 0) for seed in range(100)}, "a row that takes itself for row 0"
    assert len({seed for of_row in seeds["workers"].values() for seed in of_row}) == 15


# -- from the central sampler to a drawn batch -----------------------------------------------------------------------


class Recorded:
    """Unrolls of a central sampler with weights that stand still, in the order in which they came."""

    def __init__(self, config: RunConfig, each: int) -> None:
        timer = LapTimer()
        timer.start()
        self.parts: Parts = assemble(config, timer)
        sampler = self.parts.sampler
        assert isinstance(sampler, BackgroundSampler)
        self.came: list[tuple[int, Any, int]] = []
        """Row, unroll, column."""
        try:
            sampler.load(self.parts.learner.snapshot())
            sampler.start()
            rows = list(range(config.env.rows))
            while min(sum(row == r for r, _, _ in self.came) for row in rows) < each:
                got = sampler.get(1, 10.0)
                assert got is not None
                self.parts.replay.insert(*got)
                self.came += [(int(row), got[0], b) for b, row in enumerate(got[1])]
        finally:
            sampler.close()

    def of_row(self, row: int) -> list[tuple[int, Any, int]]:
        """(number in the replay, unroll, column) of one row, oldest first."""
        return [(number, unroll, b) for number, (r, unroll, b) in enumerate(self.came) if r == row]


def stream_of(unrolls: list[tuple[int, Any, int]], stride: int) -> dict[str, Any]:
    """All that a row went through, put together from its overlapping unrolls; obs [T + 1, ...], the rest [T]."""
    whole: dict[str, list[Any]] = {name: [] for name in ("obs", "action", "reward", "valid")}
    for k, (_, unroll, b) in enumerate(unrolls):
        for name, pieces in whole.items():
            column = getattr(unroll, name)[:, b]
            pieces.append(column if k == 0 else column[-stride:])
    return {name: np.concatenate(pieces) for name, pieces in whole.items()}


def states_from_the_beginning(policy: Any, row: dict[str, Any]) -> list[dict[str, Any]]:
    """The recurrent state before each observation of a row, step by step from its first one."""
    initial = policy.initial_state(1)
    state, found = initial, []
    for t, obs in enumerate(row["obs"]):
        if t == 0 or not row["valid"][t - 1]:
            state = {name: array.copy() for name, array in initial.items()}
        else:
            state["action_tm1"][:], state["reward_tm1"][:] = row["action"][t - 1], row["reward"][t - 1]
        found.append({name: array[0].copy() for name, array in state.items()})
        state = {name: np.array(array) for name, array in policy.values(obs[None], state)[1].items()}
    return found


def test_a_drawn_sequence_carries_the_state_at_its_true_first_burn_in_step() -> None:
    burn_in = 3
    config = r2d2(
        "frugalrl/Recall-v0", "env.rows=3", "agent.unroll_steps=5", f"agent.burn_in_steps={burn_in}",
        'env.kwargs={"delay": 3}',
    )  # fmt: skip
    assert isinstance(config.agent, R2D2Config)
    path = Recorded(config, each=6)
    stride = config.agent.length - config.agent.overlap
    drawn = path.parts.replay.sample(200, env_step=0)
    checked = noticed = 0
    for row in range(3):
        unrolls = path.of_row(row)
        stream = stream_of(unrolls, stride)
        states = states_from_the_beginning(path.parts.sampler._policy, stream)
        for k, (number, _, _) in enumerate(unrolls):
            right, late = states[k * stride], states[k * stride + burn_in]
            for at in np.flatnonzero(drawn.keys == number):
                np.testing.assert_array_equal(drawn.batch.obs[0, at], stream["obs"][k * stride])
                given = {name: array[at] for name, array in drawn.batch.state_at_start.items()}
                assert given.keys() == right.keys() >= {"h", "c", "action_tm1", "reward_tm1"}
                for name, array in given.items():
                    np.testing.assert_allclose(array, right[name], rtol=1e-5, atol=1e-6, err_msg=name)
                checked += 1
                noticed += not np.allclose(given["h"], late["h"], atol=1e-3)
    assert checked > 60
    assert noticed > 0.9 * checked, "a state that is burn_in steps late would not be noticed"


def test_priorities_of_sequences_that_were_overwritten_meanwhile_are_ignored() -> None:
    path = Recorded(r2d2("frugalrl/Recall-v0", "sequences.capacity_sequences=6"), each=2)
    replay = path.parts.replay
    drawn = replay.sample(8, env_step=0)
    for _, unroll, _ in path.came[:3]:
        replay.insert(unroll, np.arange(unroll.action.shape[1]))
    gone = drawn.keys < replay.oldest_row
    assert gone.any()
    before = replay.state_dict()["priorities"].copy()
    replay.set_priorities(drawn.keys[gone], np.full(int(gone.sum()), 77.0))
    np.testing.assert_array_equal(replay.state_dict()["priorities"], before)


def test_a_warm_up_that_ends_before_there_is_a_batch_does_not_stop_the_run(tmp_path: Path) -> None:
    # 32 sequences take 128 steps and more; by then more than a round of updates would be due
    settings = ("agent.batch_size=32", "schedule.warmup_env_steps=5", "budget.hours=0.02")
    done = train(r2d2("frugalrl/Recall-v0", *settings, steps=300), tmp_path / "run", Silent())
    assert done.reason == "the budget of 300 steps is used"
    updates = done.bill.find("updates").value
    # one per 16 steps since there was a batch; 18 if the steps before were made up for
    assert updates is not None
    assert 5 <= updates <= 12


def test_rows_between_episodes_are_counted_once_where_sequences_overlap(tmp_path: Path) -> None:
    config = r2d2("frugalrl/Recall-v0", "agent.overlap_steps=5", "schedule.warmup_env_steps=300", steps=300)
    bill = train(config, tmp_path / "run", Silent()).bill
    episodes, between = (bill.find(name).value for name in ("episodes", "invalid_rows"))
    assert episodes is not None
    assert between is not None
    # the first resets of four rows, and one after each episode but those that have just ended
    assert episodes <= between <= episodes + 4


@pytest.mark.parametrize("config", [vtrace("CartPole-v1"), cartpole("budget.env_steps=600")], ids=["central", "inline"])
def test_the_cpu_time_of_a_score_is_that_of_its_evaluation(config: RunConfig, tmp_path: Path) -> None:
    """While a central run is evaluated its engine goes on until the queue is full: that is no part of the score."""
    settings = ["evaluation.every_env_steps=200", "evaluation.episodes=4"]
    if config.sampler.kind == "central":
        settings.append("sampler.queue_batches=200")  # the engine has work for the whole evaluation
    train(override(config, settings), tmp_path / "run", Silent())
    lines = [line for line in RunFolder.open(tmp_path / "run").lines() if line["kind"] == "evaluation"]
    charged = [0.0, *(line["costs"]["evaluation"]["cpu_s"] for line in lines)]
    assert len(lines) >= 3
    assert [line["score"]["cpu_s"] for line in lines] == pytest.approx(np.diff(charged).tolist())


def test_rows_beyond_max_lag_are_masked(tmp_path: Path) -> None:
    """With many batches in the queue the newest weights are several updates ahead of what acted."""
    for most, share in (("None", (0.0, 0.0)), ("0", (0.5, 1.0))):
        settings = ("sampler.queue_batches=4", f"agent.max_lag={most}", "agent.batch_unrolls=2")
        train(vtrace("CartPole-v1", *settings, steps=400), tmp_path / most, Silent())
        last = [line for line in RunFolder(tmp_path / most).lines() if line["kind"] == "progress"][-1]
        assert 0 <= last["lag_min"] <= last["lag_mean"] <= last["lag_max"]
        assert last["lag_mean"] > 1
        assert share[0] <= last["too_old_share"] <= share[1]


@pytest.mark.parametrize(
    "config",
    [cartpole("env.rows=4", steps=400), r2d2("frugalrl/Recall-v0", steps=300)],
    ids=["dqn", "r2d2"],
)
def test_a_lockstep_with_one_group_is_the_inline_run(config: RunConfig, tmp_path: Path) -> None:
    ways = {
        "inline": ["sampler.kind=inline"],
        "central": ["sampler.kind=central", "sampler.groups=1", "sampler.lockstep=true"],
    }
    found = {}
    for name, settings in ways.items():
        outcome = train(override(config, settings), tmp_path / name)
        rows = {row.name: row.value for row in outcome.bill.rows if row.section == "counts"}
        found[name] = rows, last_policy(tmp_path / name).snapshot.parameters
    (counts, weights), (counts_too, weights_too) = found["inline"], found["central"]
    assert counts["invalid_rows"] > 4  # episodes ended: resets are no agent steps
    assert counts == counts_too
    assert weights.keys() == weights_too.keys()
    for key, value in weights.items():
        np.testing.assert_array_equal(value, weights_too[key], err_msg=key)


# -- Atari -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("frame_skip", "least"), [(1, 0.2), pytest.param(4, 0.9, marks=pytest.mark.slow)])
def test_every_frame_really_changes(frame_skip: int, least: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """SEED RL's script plays Atari with a screen that stands still where no frame is skipped. Pong itself moves little
    from one frame of the emulator to the next."""
    pytest.importorskip("ale_py")
    protocol = replace(PROTOCOLS["atari100k"], name="changes", frame_skip=frame_skip, noop_max=0)
    monkeypatch.setitem(PROTOCOLS, "changes", protocol)
    config = override(
        build_config("ALE/Pong-v5", "seed-r2d2-small"),
        [*R2D2, "env.protocol=changes", "env.rows=2", "agent.unroll_steps=40"],
    )
    path = Recorded(config, each=1)
    for row in range(2):
        _, unroll, b = path.of_row(row)[0]
        obs = unroll.obs[:, b]
        changed = (obs[1:, -1] != obs[:-1, -1]).any(axis=(1, 2))
        assert changed.mean() > least, f"the screen of row {row} changes in {changed.mean():.0%} of the steps"
        env = make_rows(config, stream_seed(config.seed, 0), 0, row, 1, 0)  # the same game without a sampler
        seen = [env.reset().obs[0], *(env.step(np.array([action])).obs[0] for action in unroll.action[:, b])]
        np.testing.assert_array_equal(obs, np.stack(seen))
        env.close()
