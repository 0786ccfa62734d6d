"""Learning with PPO to the last evaluation, on closed-form tasks and on CartPole; ``pytest -rP`` shows the scores."""

from __future__ import annotations

from pathlib import Path

import pytest

from frugalrl import build_config, evaluate_run, override, train
from frugalrl.envs.toys import best_without_memory

slow = pytest.mark.slow
NEVER = ("evaluation.every_env_steps=1_000_000", "evaluation.episodes=10", "device=cpu")
CATCH = (
    "agent.reward_scale=1", "agent.learning_rate=3e-3", "agent.lr_decay_batches=None", "agent.unroll_steps=32",
    "schedule.steps_per_round=32", "agent.minibatches=1", "agent.epochs=6", "budget.env_steps=9_000",
)  # fmt: skip
RECALL = (
    'env.kwargs={"cues": 2, "delay": 2}', "net.hidden_units=16", "agent.lr_decay_batches=None",
    "budget.env_steps=6_000",
)  # fmt: skip


def last_score(env: str, recipe: str, folder: Path, *settings: str) -> float:
    """Of the final policy over 100 new episodes."""
    config = override(build_config(env, recipe), [*NEVER, *settings])
    assert train(config, folder).completed
    score = evaluate_run(folder, episodes=100, seed=77).mean_return
    print(f"{env} {recipe} seed {config.seed}: {score:.2f}")
    return score


@slow
@pytest.mark.parametrize("seed", range(3))
def test_the_recipe_solves_cartpole(seed: int, tmp_path: Path) -> None:
    assert last_score("CartPole-v1", "ppo", tmp_path / "run", f"seed={seed}") >= 475


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=slow), pytest.param(2, marks=slow)])
def test_catch_is_learned_within_five_percent(seed: int, tmp_path: Path) -> None:
    """The best return is 1."""
    assert last_score("frugalrl/Catch-v0", "ppo", tmp_path / "run", *CATCH, f"seed={seed}") >= 0.95


@slow
@pytest.mark.parametrize("seed", range(2))
def test_with_an_lstm_it_remembers(seed: int, tmp_path: Path) -> None:
    settings = (*RECALL, "net.lstm_units=16", f"seed={seed}")
    assert last_score("frugalrl/Recall-v0", "ppo-lstm", tmp_path / "run", *settings) > 0.95


@slow
def test_without_one_it_earns_what_guessing_earns(tmp_path: Path) -> None:
    """Four standard deviations of 100 guesses."""
    score = last_score("frugalrl/Recall-v0", "ppo-lstm", tmp_path / "run", *RECALL, "net.lstm_units=None")
    assert score == pytest.approx(best_without_memory(2), abs=0.4)
