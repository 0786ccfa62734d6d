"""Saving and restoring a replay, and whose randomness it uses."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from frugalrl.replay import Replay, ReplayConfig
from frugalrl.types import Replayed
from oracles.replay import Stream, random_events


def make(kind: Any, stream: Stream, *, seed: int = 0, **knobs: Any) -> Replay:
    knobs = {"capacity_transitions": 24, "n_step": 3, "uniform_share": 0.1, **knobs}
    return Replay(ReplayConfig(kind=kind, **knobs), stream.spec, stream.num_rows, 0.9, np.random.default_rng(seed))


def equal(a: Replayed, b: Replayed) -> bool:
    names = ("obs_tm1", "a_tm1", "r_t", "discount_t", "obs_t", "log_mu_tm1", "version_tm1", "explored_tm1")
    return (
        np.array_equal(a.keys, b.keys)
        and np.array_equal(a.weight, b.weight)
        and all(np.array_equal(getattr(a.batch, n), getattr(b.batch, n)) for n in names)
    )


def learn(replay: Replay, rng: np.random.Generator) -> Replayed:
    """One draw, with priorities given back late, some of them for keys long gone."""
    replayed = replay.sample(8, env_step=5)
    replay.set_priorities(np.maximum(replayed.keys - rng.integers(0, 2) * 1000, 0), rng.random(8))
    replay.set_priorities(replayed.keys, rng.random(8) * 5)
    return replayed


def through_files(state: dict[str, Any]) -> dict[str, Any]:
    """All but the arrays goes through JSON, as in a checkpoint."""
    arrays = {k: v.copy() for k, v in state.items() if isinstance(v, np.ndarray)}
    return {**json.loads(json.dumps({k: v for k, v in state.items() if k not in arrays})), **arrays}


@pytest.mark.parametrize("kind", ["uniform", "prioritized"])
@pytest.mark.parametrize("rows_before", [12, 29, 200])
@pytest.mark.parametrize("state_first", [True, False])
def test_goes_on_bit_for_bit(kind: str, rows_before: int, state_first: bool) -> None:
    """Rows saved piece by piece, state through JSON: the next 100 samples are equal, with new rows coming in."""
    stream = Stream(2, 3)
    original = make(kind, stream)
    saved: dict[int, dict[str, np.ndarray]] = {}
    events = random_events(rows_before, 2, np.random.default_rng(1))
    for start in range(0, rows_before, 7):
        original.add(stream.play(events[start : start + 7]))
        last_saved = max(saved, default=0)
        last_saved += len(saved[last_saved]["valid"]) if saved else 0
        saved[max(last_saved, original.oldest_row)] = original.read_rows(
            max(last_saved, original.oldest_row), original.rows_written
        )
        if original.can_sample(1):
            learn(original, np.random.default_rng(start))

    restored = make(kind, stream, seed=77)
    state = through_files(original.state_dict())
    if state_first:
        restored.load_state_dict(state)
    for start, rows in sorted(saved.items()):  # pieces that are partly or wholly overwritten do no harm, oldest first
        restored.write_rows(start, rows)
    if not state_first:
        restored.load_state_dict(state)

    assert (restored.size, restored.rows_written, restored.oldest_row) == (
        original.size,
        original.rows_written,
        original.oldest_row,
    )
    more = random_events(100, 2, np.random.default_rng(2))
    for i in range(100):
        a, b = (learn(replay, np.random.default_rng(i)) for replay in (original, restored))
        assert equal(a, b)
        block = stream.play(more[i : i + 1])
        original.add(block)
        restored.add(block)
    assert json.dumps(original.state_dict()["rng"]) == json.dumps(restored.state_dict()["rng"])


@pytest.mark.parametrize("kind", ["uniform", "prioritized"])
def test_randomness_is_handed_in(kind: str) -> None:
    """D7 (``random_state`` ignored, the global seed rules): the generator alone decides."""
    drawn = {}
    for global_seed, seed in ((0, 5), (1, 5), (0, 6)):
        np.random.seed(global_seed)  # noqa: NPY002
        stream = Stream(1, 1)
        replay = make(kind, stream, seed=seed)
        replay.add(stream.play(random_events(60, 1, np.random.default_rng(3))))
        drawn[global_seed, seed] = [replay.sample(8, env_step=0) for _ in range(5)]
    assert all(equal(a, b) for a, b in zip(drawn[0, 5], drawn[1, 5], strict=True))
    assert not all(equal(a, b) for a, b in zip(drawn[0, 5], drawn[0, 6], strict=True))


def test_state_does_not_follow_the_replay() -> None:
    stream = Stream(1, 1)
    replay = make("prioritized", stream)
    replay.add(stream.play(random_events(60, 1, np.random.default_rng(3))))
    state, rows = replay.state_dict(), replay.read_rows(replay.oldest_row, replay.rows_written)
    before = json.dumps({k: np.asarray(v).tolist() if k == "priorities" else v for k, v in state.items()})
    kept = rows["reward"].copy()
    learn(replay, np.random.default_rng(0))
    replay.add(stream.play(random_events(40, 1, np.random.default_rng(4))))
    assert before == json.dumps({k: np.asarray(v).tolist() if k == "priorities" else v for k, v in state.items()})
    np.testing.assert_array_equal(rows["reward"], kept)


def test_state_of_another_layout_is_refused() -> None:
    stream = Stream(2, 1)
    state = make("uniform", stream).state_dict()
    for other, words in (
        (make("prioritized", stream), "kind: uniform saved, prioritized here"),
        (make("uniform", stream, n_step=1), "n_step: 3 saved, 1 here"),
        (make("uniform", stream, capacity_transitions=30), "num_starts: 12 saved, 15 here"),
        (make("uniform", Stream(2, 2)), r"frame_stack: 1 saved, 2 here.*obs_shape"),
        (make("uniform", Stream(3, 1)), "num_rows: 2 saved, 3 here"),
    ):
        with pytest.raises(ValueError, match=words):
            other.load_state_dict(state)


def test_damaged_state_is_refused() -> None:
    stream = Stream(1, 1)
    replay = make("prioritized", stream)
    replay.add(stream.play(random_events(60, 1, np.random.default_rng(3))))
    for bad in (np.full(24, np.nan), np.full(24, -1.0), np.ones(23)):
        with pytest.raises(ValueError, match="priorities to restore"):
            replay.load_state_dict({**replay.state_dict(), "priorities": bad})
    for key in ("rng", "size", "layout", "priorities"):
        with pytest.raises(ValueError, match=f"saved replay lacks.*{key}"):
            replay.load_state_dict({k: v for k, v in replay.state_dict().items() if k != key})
    rows = replay.read_rows(40, 50)
    with pytest.raises(ValueError, match="need the fields"):
        replay.write_rows(40, {k: v for k, v in rows.items() if k != "reward"})
    with pytest.raises(ValueError, match=r"need reward \[10, 1\] float32, but got \[9, 1\]"):
        replay.write_rows(40, {**rows, "reward": rows["reward"][:9]})
    with pytest.raises(ValueError, match="float64"):
        replay.write_rows(40, {**rows, "reward": rows["reward"].astype(np.float64)})
    with pytest.raises(ValueError, match="do not fit"):
        replay.write_rows(-1, rows)
    many = {k: np.repeat(v, 9, axis=0) for k, v in rows.items()}
    with pytest.raises(ValueError, match="do not fit"):
        replay.write_rows(0, many)


def test_rows_that_are_gone_cannot_be_read() -> None:
    stream = Stream(1, 2)
    replay = make("uniform", stream)
    replay.add(stream.play(random_events(60, 1, np.random.default_rng(3))))
    # 24 starts, 3 rows for their windows, 1 row for the oldest stack
    assert replay.oldest_row == 60 - 28
    assert len(replay.read_rows(32, 60)["obs"]) == 28
    assert len(replay.read_rows(60, 60)["obs"]) == 0
    for start, stop in ((31, 60), (32, 61), (50, 40)):
        with pytest.raises(ValueError, match="which holds 32 to 60"):
            replay.read_rows(start, stop)
