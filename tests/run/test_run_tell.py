"""What a run says before it gets going."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from run_support import Watcher, cartpole

from frugalrl.recipes import build_config
from frugalrl.run.config_io import override
from frugalrl.run.tell import cautions
from frugalrl.run.train import train


@pytest.mark.parametrize(("precision", "slow", "notes"), [("bf16", True, 1), ("bf16", False, 0), ("fp32", True, 0)])
def test_bf16_where_it_is_slow_is_said_once(
    precision: str, slow: bool, notes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("frugalrl.run.tell.bf16_is_slow", lambda device: slow)
    reporter = Watcher()
    train(cartpole(f"agent.precision={precision}", steps=70), tmp_path / "run", reporter)
    assert len([note for note in reporter.notes if "agent.precision=bf16" in note]) == notes


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ((), False),  # online: each transition once, when it is made
        (("env.rows=4",), True),
        (("env.rows=4", "schedule.updates_per_round=4"), False),
        (("env.rows=4", "replay.capacity_transitions=100"), False),
    ],
)
def test_transitions_that_are_never_learned_from_are_told(settings: tuple[str, ...], told: bool) -> None:
    found = cautions(override(build_config("FrozenLake-v1", "tabular-q"), settings), torch.device("cpu"))
    assert any("collects 4 transitions and learns from 1" in sentence for sentence in found) is told
    assert len(found) == told


@pytest.mark.parametrize(
    ("env", "recipe", "settings", "told"),
    [
        ("CartPole-v1", "ppo", (), None),
        ("CartPole-v1", "ppo", ("budget.env_steps=200_000",), "from about step 59,904 on (agent.lr_decay_batches=117)"),
        ("CartPole-v1", "ppo", ("budget.env_steps=200_000",), "--set agent.lr_decay_batches=390"),
        ("CartPole-v1", "ppo", ("budget.env_steps=200_000", "agent.lr_decay_batches=390"), None),
        ("CartPole-v1", "ppo", ("budget.env_steps=200_000", "agent.lr_decay_batches=None"), None),
        ("ALE/Pong-v5", "seed-vtrace", ("agent.lr_decay_updates=10",), "agent.lr_decay_updates=78125"),
        ("ALE/Pong-v5", "seed-vtrace", (), None),
    ],
)
def test_a_learning_rate_that_ends_long_before_the_budget_is_told(
    env: str, recipe: str, settings: tuple[str, ...], told: str | None
) -> None:
    found = cautions(override(build_config(env, recipe), settings), torch.device("cpu"))
    assert len(found) == (told is not None)
    assert told is None or told in found[0]
