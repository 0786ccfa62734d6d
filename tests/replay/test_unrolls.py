"""Rows of environments cut into unrolls."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frugalrl.replay.ring import SCALARS
from frugalrl.replay.unroll_arrays import as_arrays, from_arrays, join, split
from frugalrl.replay.unroll_queue import UnrollQueue
from frugalrl.replay.unrolls import UnrollStore
from frugalrl.types import EnvSpec, Rows, Unroll
from oracles.unrolls import windows

SPEC = EnvSpec(id="X", protocol="plain", obs_kind="vector", obs_shape=(2,), obs_dtype="float32", num_actions=3)


def one(number: int, rng: np.random.Generator) -> dict[str, Any]:
    """One step of one row whose observation and state name it."""
    return {
        "obs": np.array([number, -number], np.float32),
        "action": int(rng.integers(3)),
        "reward": float(rng.normal()),
        "discount": float(rng.integers(2)),
        "last": bool(rng.integers(2)),
        "valid": bool(rng.integers(2)),
        "log_mu": float(rng.normal()),
        "version": number,
        "explored": bool(rng.integers(2)),
        "state": np.array([number + 0.5]),
    }


def feed(store: UnrollStore, rows: list[int], steps: list[dict[str, Any]]) -> Any:
    fields = {name: np.array([s[name] for s in steps], dtype) for name, dtype in SCALARS.items()}
    return store.append(
        np.array(rows), np.array([s["obs"] for s in steps]), fields, {"h": np.array([s["state"] for s in steps])}
    )


def check(unroll: Unroll, b: int, window: list[dict[str, Any]], state_row: int = 0) -> None:
    np.testing.assert_array_equal(unroll.obs[:, b], [s["obs"] for s in window])
    for name, dtype in SCALARS.items():
        np.testing.assert_array_equal(getattr(unroll, name)[:, b], np.array([s[name] for s in window[1:]], dtype))
    np.testing.assert_array_equal(unroll.state_at_start["h"][b], window[state_row]["state"])


@settings(max_examples=40, deadline=None)
@given(
    length=st.integers(1, 5),
    data=st.data(),
    seed=st.integers(0, 1000),
)
def test_whatever_the_order_each_row_is_cut_as_the_definition_says(length: int, data: Any, seed: int) -> None:
    overlap = data.draw(st.integers(0, length - 1))
    rng = np.random.default_rng(seed)
    store = UnrollStore(SPEC, 3, length=length, overlap=overlap, state={"h": np.zeros((3, 1))})
    sent: list[list[dict[str, Any]]] = [[], [], []]
    got: list[list[tuple[Unroll, int]]] = [[], [], []]
    for number in range(30):
        rows = data.draw(st.lists(st.integers(0, 2), min_size=1, max_size=3, unique=True))
        steps = [one(number, rng) for _ in rows]
        for row, step in zip(rows, steps, strict=True):
            sent[row].append(step)
        done = feed(store, rows, steps)
        if done is not None:
            for b, row in enumerate(done[1]):
                got[row].append((done[0], b))
    for row in range(3):
        expected = windows(sent[row], length=length, overlap=overlap)
        assert len(got[row]) == len(expected)
        for (unroll, b), window in zip(got[row], expected, strict=True):
            check(unroll, b, window)


def test_a_state_that_is_overlap_steps_late_is_found() -> None:
    """SEED RL stores the state before the last step for an unroll that begins ``overlap`` steps earlier."""
    rng = np.random.default_rng(0)
    store = UnrollStore(SPEC, 1, length=3, overlap=2, state={"h": np.zeros((1, 1))})
    steps = [one(n, rng) for n in range(6)]
    done = [d for s in steps if (d := feed(store, [0], [s])) is not None]
    check(done[1][0], 0, steps[1:5])
    with pytest.raises(AssertionError):
        check(done[1][0], 0, steps[1:5], state_row=2)


def test_no_unroll_holds_two_incarnations() -> None:
    rng = np.random.default_rng(0)
    store = UnrollStore(SPEC, 2, length=4, state={"h": np.zeros((2, 1))})
    for n in range(4):
        assert feed(store, [0, 1], [one(n, rng) | {"valid": True}, one(n, rng)]) is None
    assert store.drop(np.array([0])) == 3
    late = [one(n, rng) for n in range(10, 15)]
    done = [d for s in late if (d := feed(store, [0], [s])) is not None]
    assert len(done) == 1
    check(done[0][0], 0, late)


@pytest.mark.parametrize(
    ("overlap", "seen", "lost"), [(3, 5, 0), (2, 6, 1), (1, 4, 3), (1, 6, 1), (0, 5, 0), (0, 7, 2)]
)
def test_what_an_unroll_held_already_is_not_lost(overlap: int, seen: int, lost: int) -> None:
    """Unrolls of four transitions; ``seen`` steps make one transition less."""
    rng = np.random.default_rng(0)
    store = UnrollStore(SPEC, 2, length=4, overlap=overlap, state={"h": np.zeros((2, 1))})
    for n in range(seen):
        feed(store, [0, 1], [one(n, rng) | {"valid": True}, one(n, rng) | {"valid": True}])
    other = UnrollStore(SPEC, 2, length=4, overlap=overlap, state={"h": np.zeros((2, 1))})
    other.load_state_dict(store.state_dict())
    for of in (store, other):
        assert of.drop(np.array([0])) == lost
        assert of.drop(np.array([0])) == 0
        for n in range(3):
            feed(of, [0], [one(n, rng) | {"valid": True}])
        assert of.drop(np.array([0, 1])) == 2 + lost, "what a row had handed out before it was dropped is still known"


def test_a_store_comes_back_from_a_checkpoint_that_does_not_say_what_was_handed_out() -> None:
    store = UnrollStore(SPEC, 1, length=4, overlap=3)
    store.load_state_dict({k: v for k, v in store.state_dict().items() if k != "handed_out"})
    with pytest.raises(KeyError):
        store.load_state_dict({k: v for k, v in store.state_dict().items() if k != "filled"})


def test_an_overlap_as_long_as_the_unroll_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot share 4"):
        UnrollStore(SPEC, 1, length=4, overlap=4)


def block(start: int, steps: int, rows: int, rng: np.random.Generator) -> Rows:
    made = [[one(start + t, rng) for _ in range(rows)] for t in range(steps)]
    return Rows(
        obs=np.array([[s["obs"] for s in row] for row in made]),
        **{name: np.array([[s[name] for s in row] for row in made], dtype) for name, dtype in SCALARS.items()},
        state={"h": np.array([[s["state"] for s in row] for row in made])},
    )


def test_the_queue_hands_out_each_unroll_once_and_comes_back_from_a_checkpoint() -> None:
    rng = np.random.default_rng(1)
    queue = UnrollQueue(SPEC, 2, length=3)
    queue.add(block(0, 9, 2, rng))
    assert queue.size == 4
    assert queue.can_sample(4)
    assert not queue.can_sample(5)
    first = queue.sample(3, env_step=0)
    assert first.keys.tolist() == [0, 1, 2]
    assert first.batch.num_rows == 3
    assert first.batch.obs[0, :, 0].tolist() == [0, 0, 3]
    other = UnrollQueue(SPEC, 2, length=3)
    other.load_state_dict(queue.state_dict())
    more = block(9, 4, 2, rng)
    queue.add(more)
    other.add(more)
    mine, theirs = queue.sample(3, env_step=0), other.sample(3, env_step=0)
    assert mine.keys.tolist() == theirs.keys.tolist() == [3, 4, 5]
    for name, array in as_arrays(mine.batch).items():
        np.testing.assert_array_equal(array, as_arrays(theirs.batch)[name])
    with pytest.raises(ValueError, match="ask can_sample first"):
        queue.sample(30, env_step=0)


def test_unrolls_side_by_side_and_one_by_one_are_inverse() -> None:
    rng = np.random.default_rng(2)
    queue = UnrollQueue(SPEC, 3, length=2)
    queue.add(block(0, 3, 3, rng))
    unroll = queue.sample(3, env_step=0).batch
    again = join(split(unroll))
    for name, array in as_arrays(from_arrays(as_arrays(again))).items():
        np.testing.assert_array_equal(array, as_arrays(unroll)[name])
