"""Wrong use, wrong settings, memory, and the guards at the edges."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from frugalrl.replay import Replay, ReplayConfig
from frugalrl.types import EnvSpec, UserError
from oracles.replay import BREAK, GAME_OVER, GOES_ON, Stream

ATARI = EnvSpec(
    id="ALE/Pong-v5", protocol="atari100k", obs_kind="image", obs_shape=(4, 84, 84), obs_dtype="uint8", num_actions=6,
    frame_stack=4, frames_per_step=4,
)  # fmt: skip


def make(num_rows: int = 1, stack: int = 1, **knobs: Any) -> tuple[Replay, Stream]:
    stream = Stream(num_rows, stack)
    config = ReplayConfig(**{"capacity_transitions": 10, **knobs})
    return Replay(config, stream.spec, num_rows, 0.9, np.random.default_rng(0)), stream


@pytest.mark.parametrize("kind", ["uniform", "prioritized"])
@pytest.mark.parametrize(("steps", "gigabytes"), [(100_000, 0.75), (1_000_000, 7.4)])
def test_atari_fits_its_budget(kind: Any, steps: int, gigabytes: float) -> None:
    """One frame per step; the arrays are not touched, so this test needs no memory."""
    config = ReplayConfig(kind=kind, capacity_transitions=steps, n_step=3)
    replay = Replay(config, ATARI, 1, 0.99, np.random.default_rng(0))
    assert steps * 84 * 84 < replay.nbytes < gigabytes * 1e9


@pytest.mark.parametrize("kind", ["uniform", "prioritized"])
def test_empty_replay_cannot_be_drawn_from(kind: str) -> None:
    """D9 (a guard that is always true): before the first transition is whole, sampling is an error."""
    replay, stream = make(kind=kind, n_step=2)
    for events in ([], [[GOES_ON]], [[GOES_ON]]):
        if events:
            replay.add(stream.play(events))
        assert replay.size == 0
        assert not replay.can_sample(1)
        with pytest.raises(ValueError, match="holds 0: ask can_sample first"):
            replay.sample(1, env_step=0)
    replay.add(stream.play([[GOES_ON]]))
    assert replay.size == 1
    assert replay.can_sample(1)
    assert not replay.can_sample(2)
    assert len(replay.sample(3, env_step=0).keys) == 3
    with pytest.raises(ValueError, match="cannot draw 0"):
        replay.sample(0, env_step=0)


def test_rows_without_a_transition_cannot_be_drawn() -> None:
    replay, stream = make(kind="prioritized")
    replay.add(stream.play([[BREAK]] * 30))
    assert replay.size == 0
    assert not replay.can_sample(1)


def test_batch_that_never_fits_is_an_error() -> None:
    replay, _ = make(num_rows=3, capacity_transitions=10)
    assert not replay.can_sample(12)
    with pytest.raises(ValueError, match="13 is larger than the 12 transitions"):
        replay.can_sample(13)


@pytest.mark.parametrize("kind", ["uniform", "prioritized"])
@pytest.mark.parametrize("num_rows", [1, 2])
def test_a_full_replay_can_be_drawn_from_though_resets_take_room(kind: str, num_rows: int) -> None:
    """Episodes of one step: every second row is a reset, so a batch of the whole capacity is never there."""
    replay, stream = make(kind=kind, num_rows=num_rows, capacity_transitions=10)
    drawable = []
    for _ in range(20):
        replay.add(stream.play([[GAME_OVER] * num_rows]))
        drawable.append(replay.can_sample(10))
    assert replay.size < 10
    assert drawable.index(True) == 10 // num_rows
    assert all(drawable[drawable.index(True) :])
    assert len(replay.sample(10, env_step=0).keys) == 10


def test_size_counts_starts_of_the_newest_rows() -> None:
    replay, stream = make(num_rows=2, capacity_transitions=10, n_step=2)
    for rows in range(1, 30):
        replay.add(stream.play([[GOES_ON, GOES_ON]]))
        assert replay.size == min(2 * max(rows - 2, 0), 10)
        assert replay.rows_written == rows
        assert replay.oldest_row == max(0, rows - 7)


def test_first_row_must_be_the_reset() -> None:
    replay, stream = make()
    rows = stream.play([[GOES_ON], [GOES_ON]])
    with pytest.raises(ValueError, match="must be the reset"):
        replay.add(replace(rows, valid=np.ones((2, 1), np.bool_)))


def test_an_ended_episode_cannot_go_on() -> None:
    """The dead row after ``last`` is missing: values of the next episode would leak into this one (D3)."""
    replay, stream = make(num_rows=2)
    rows = stream.play([[GOES_ON, GOES_ON], [GOES_ON, GAME_OVER], [GOES_ON, GOES_ON]])
    with pytest.raises(ValueError, match="NEXT_STEP"):
        replay.add(replace(rows, valid=np.asarray([[False, False], [True, True], [True, True]])))


@pytest.mark.parametrize("name", ["obs", "reward", "explored"])
def test_shapes_are_checked(name: str) -> None:
    replay, stream = make(num_rows=2)
    rows = stream.play([[GOES_ON, GOES_ON]])
    with pytest.raises(ValueError, match=rf"{name} \(1, 1"):
        replay.add(replace(rows, **{name: getattr(rows, name)[:, :1]}))


@pytest.mark.parametrize(("num_rows", "gamma"), [(0, 0.9), (1, 1.1), (1, -0.1), (1, float("nan"))])
def test_arguments_are_checked(num_rows: int, gamma: float) -> None:
    with pytest.raises(ValueError, match="num_rows >= 1 and gamma"):
        Replay(ReplayConfig(), Stream(1, 1).spec, num_rows, gamma, np.random.default_rng(0))


def test_frame_stack_must_divide_the_shape() -> None:
    with pytest.raises(ValueError, match="frame_stack 3 must divide"):
        Replay(ReplayConfig(), replace(ATARI, frame_stack=3), 1, 0.9, np.random.default_rng(0))


def test_too_little_memory_is_a_clear_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("frugalrl.replay.ring.np.empty", no_memory)
    with pytest.raises(UserError, match="lower capacity_transitions"):
        Replay(ReplayConfig(), ATARI, 1, 0.9, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"kind": "prioritised"}, "did you mean 'prioritized'"),
        ({"kind": "zzz"}, "uniform, prioritized"),
        ({"capacity_transitions": 0}, "capacity_transitions must be at least 1, but is 0"),
        ({"n_step": 0}, "n_step must be at least 1"),
        ({"beta_steps": 0}, "beta_steps must be at least 1"),
        ({"alpha": 1.5}, r"alpha must lie in \[0, 1\], but is 1.5"),
        ({"beta_start": -0.1}, "beta_start"),
        ({"beta_end": float("nan")}, "beta_end"),
        ({"uniform_share": 2.0}, "uniform_share"),
        ({"priority_eps": -1e-6}, "priority_eps"),
        ({"priority_eps": float("inf")}, "priority_eps"),
        ({"n_step": 5, "capacity_transitions": 4}, "n_step=5 is larger than capacity_transitions=4"),
    ],
)
def test_bad_settings_are_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        ReplayConfig(**wrong)


def test_every_knob_changes_something() -> None:
    """D10 (a knob nobody reads): each field, changed alone, changes what is drawn, weighted or kept."""
    base: dict[str, Any] = {
        "kind": "prioritized", "capacity_transitions": 20, "n_step": 1, "alpha": 0.6, "beta_start": 0.4,
        "beta_end": 1.0, "beta_steps": 100, "priority_eps": 1e-6, "uniform_share": 0.0,
    }  # fmt: skip
    changed = {
        "kind": "uniform", "capacity_transitions": 10, "n_step": 2, "alpha": 0.9, "beta_start": 0.9, "beta_end": 0.5,
        "beta_steps": 200, "priority_eps": 1.0, "uniform_share": 0.5,
    }  # fmt: skip
    assert set(changed) == {f.name for f in fields(ReplayConfig)}

    def outcome(**knobs: Any) -> str:
        replay, stream = make(**knobs)
        replay.add(stream.play([[GOES_ON]] * 40))
        replay.set_priorities(np.arange(30, 38), np.linspace(0.1, 3.0, 8))
        replayed = replay.sample(16, env_step=50)
        return str([replay.size, replayed.keys, replayed.weight, replayed.batch.r_t])

    for name, value in changed.items():
        assert outcome(**{**base, name: value}) != outcome(**base), name
