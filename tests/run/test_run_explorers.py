"""Runs with every explorer, killed and resumed: what an explorer remembers goes on bit for bit."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kill_resume import bill_counts, differences, exact_state, scores
from run_support import TINY, Killed, Watcher, cartpole, die
from test_run_resume import assert_same_run

from frugalrl.envs import RowEnv
from frugalrl.recipes import build_config
from frugalrl.run.config import RunConfig
from frugalrl.run.config_io import override
from frugalrl.run.status import Silent
from frugalrl.run.train import resume, train
from frugalrl.types import EnvFailed, RunFailed, Step, UserError

STEPS = 400
HALF = ("explore.epsilon.kind=constant", "explore.epsilon.start=0.5")


def frozen_lake(*settings: str) -> RunConfig:
    """classic-dqn on a table of 16 states, shrunk."""
    known = ("replay.capacity_transitions=500", "evaluation.every_env_steps=200", *TINY, f"budget.env_steps={STEPS}")
    return override(build_config("FrozenLake-v1", "classic-dqn"), [*known, *settings])


CASES: dict[str, Callable[[], RunConfig]] = {
    "softmin": lambda: cartpole("explore.name=softmin", "explore.temperature.start=0.1", *HALF, steps=STEPS),
    "boltzmann": lambda: cartpole(
        "explore.name=boltzmann",
        "explore.temperature.kind=exponential",
        "explore.temperature.half_life_steps=100",
        steps=STEPS,
    ),
    "ez": lambda: cartpole(
        "explore.name=epsilon-z-greedy", "explore.ez_mu=1.1", "env.rows=2", "replay.n_step=2", *HALF, steps=STEPS
    ),
    "fixed-random": lambda: frozen_lake("explore.name=fixed-random", *HALF),
    "ucb": lambda: frozen_lake("explore.name=ucb", "explore.ucb_c=0.5", "env.rows=2"),
}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    @cache
    def run(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name) / "whole"
        train(CASES[name](), folder, Silent())
        return folder

    return run


def saved(run: Path, name: str) -> np.ndarray[Any, Any]:
    """What the explorer remembers in the newest checkpoint."""
    found: np.ndarray[Any, Any] = exact_state(run)[f"sampler/explorer/{name}"]
    return found


@pytest.mark.parametrize("name", CASES)
def test_a_killed_run_ends_as_if_nothing_had_happened(
    uninterrupted: Callable[[str], Path], name: str, tmp_path: Path
) -> None:
    whole, run = uninterrupted(name), tmp_path / "run"
    train(CASES[name](), run, Watcher(at_step=STEPS * 2 // 5, act=lambda: os.kill(os.getpid(), signal.SIGTERM)))
    if name == "ez":
        assert saved(run, "left").max() > 1, "the checkpoint lies in the middle of a repetition"
    elif name == "ucb":
        assert saved(run, "choices")[0] > 50
    with pytest.raises(Killed):
        resume(run, Watcher(at_step=STEPS * 3 // 5, act=die))
    assert resume(run, Silent()).completed
    assert_same_run(whole, run)
    assert scores(run) == scores(whole)
    assert bill_counts(run)[1] > 0, "steps after the checkpoint were done again"


@pytest.mark.parametrize("name", ["ez", "ucb"])
def test_after_an_environment_failed_the_memory_is_that_of_the_block_before(
    uninterrupted: Callable[[str], Path], name: str, tmp_path: Path
) -> None:
    whole, run, taken, real = uninterrupted(name), tmp_path / "run", [0], RowEnv.step

    def step(env: RowEnv, action: np.ndarray[Any, Any]) -> Step:
        answer = real(env, action)
        taken[0] += env.num_rows if env.training else 0
        if taken[0] >= STEPS // 2 + 6:
            raise EnvFailed("Environment X, row 0, step 3: stepping it failed with OSError: gone.")
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RowEnv, "step", step)
        with pytest.raises(RunFailed, match="OSError: gone"):
            train(CASES[name](), run, Silent())
    assert resume(run, Silent()).completed
    assert_same_run(whole, run)


def test_a_memory_that_is_lost_is_caught(uninterrupted: Callable[[str], Path], tmp_path: Path) -> None:
    """The wrong variant: a resumed run whose repetitions are lost ends elsewhere."""
    whole, run = uninterrupted("ez"), tmp_path / "run"
    train(CASES["ez"](), run, Watcher(at_step=STEPS * 2 // 5, act=lambda: os.kill(os.getpid(), signal.SIGTERM)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("frugalrl.sampling.inline._copies", lambda memory: {k: 0 * v for k, v in memory.items()})
        resume(run, Silent())
    assert "rows/action" in differences(exact_state(whole), exact_state(run))


def test_fixed_random_takes_one_action_per_state(uninterrupted: Callable[[str], Path]) -> None:
    """In a run, from the stored transitions: the action that explores in a state of FrozenLake never changes."""
    state = exact_state(uninterrupted("fixed-random"))
    obs, action, explored = (state[f"rows/{name}"][:, 0] for name in ("obs", "action", "explored"))
    after = np.flatnonzero(explored[1:]) + 1
    after = after[after > 70]  # the prefill is uniform
    pairs = {(int(obs[t - 1]), int(action[t])) for t in after}
    assert len(pairs) == len({s for s, _ in pairs}) > 2
    assert len({a for _, a in pairs}) > 1


def test_ucb_on_vectors_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'ucb' .*needs .*Discrete.*CartPole-v1 gives vector observations"):
        train(cartpole("explore.name=ucb"), tmp_path / "run", Silent())
    assert not (tmp_path / "run").exists()


def test_knobs_that_the_explorer_does_not_read_are_told(tmp_path: Path) -> None:
    reporter = Watcher()
    settings = ("explore.temperature.start=0.5", "explore.ez_mu=3", "explore.name=softmin", *HALF)
    train(cartpole(*settings, steps=70), tmp_path / "run", reporter)
    assert [n for n in reporter.notes if "explore." in n] == [
        "explore.ez_mu is set, but the explorer 'softmin' does not read it; epsilon-z-greedy would"
    ]
