"""Replay of sequences: what comes out is what went in, drawn by priority; late priorities; resume."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from frugalrl.replay import SequenceReplay, SequenceReplayConfig
from frugalrl.run.checkpoint import Checkpoints
from frugalrl.types import UserError
from oracles.replay import Stream, random_events
from oracles.sequences import STEP_FIELDS, cut, joined

B, LENGTH, OVERLAP = 3, 7, 3


def with_state(rows, first):
    """Each row remembers its own number, as a policy would its hidden state."""
    number = np.arange(first, first + rows.action.size, dtype=np.float32).reshape(rows.action.shape)
    return replace(rows, state={"h": np.repeat(number[..., None], 2, -1), "action_tm1": rows.action})


def played(seed, blocks=6, stack=3, num_rows=B, dtype="float32"):
    stream, rng = Stream(num_rows, stack, dtype=dtype), np.random.default_rng(seed)
    out, first = [], 0
    for _ in range(blocks):
        rows = with_state(stream.play(random_events(int(rng.integers(1, 9)), num_rows, rng)), first)
        first += rows.action.size
        out.append(rows)
    return stream.spec, out


def made(spec, capacity=1000, seed=0, num_rows=B, **knobs):
    state = {"h": np.zeros((num_rows, 2), np.float32), "action_tm1": np.zeros(num_rows, np.int64)}
    config = SequenceReplayConfig(capacity_sequences=capacity, **knobs)
    rng = np.random.default_rng(seed)
    return SequenceReplay(config, spec, num_rows, rng, length=LENGTH, overlap=OVERLAP, state=state)


def filled(seed=0, capacity=1000, **knobs):
    spec, blocks = played(seed, blocks=20)
    replay = made(spec, capacity, **knobs)
    for block in blocks:
        replay.add(block)
    return replay, blocks


def assert_same(one, other):
    np.testing.assert_array_equal(one.obs, other.obs)
    for name in STEP_FIELDS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for name in other.state_at_start:
        np.testing.assert_array_equal(one.state_at_start[name], other.state_at_start[name])


@pytest.mark.parametrize("stack", [1, 2, 4])
@pytest.mark.parametrize("seed", range(4))
def test_sequences_come_back_as_they_were_seen(seed, stack):
    spec, blocks = played(seed, blocks=12, stack=stack)
    replay = made(spec)
    for block in blocks:
        replay.add(block)
    wanted = cut(joined(blocks), LENGTH, OVERLAP)
    assert replay.size == replay.rows_written == len(wanted) > 6
    drawn = replay.sample(60, env_step=0)
    assert len(set(drawn.keys.tolist())) > 5
    for i, key in enumerate(drawn.keys):
        one = {n: getattr(drawn.batch, n)[:, i : i + 1] for n in ("obs", *STEP_FIELDS)}
        state = {k: v[i : i + 1] for k, v in drawn.batch.state_at_start.items()}
        assert_same(replace(drawn.batch, **one, state_at_start=state), wanted[key])


def test_stacks_that_run_on_across_a_reset_would_be_seen():
    _spec, blocks = played(0, blocks=12, stack=4)
    rows = joined(blocks)
    newest = rows.obs.reshape(*rows.obs.shape[:2], 4, 2)[:, :, -1]
    naive = np.stack([newest[k : len(newest) - 3 + k] for k in range(4)], 2).reshape(-1, *rows.obs.shape[1:])
    assert (naive != rows.obs[3:]).any()


def test_a_frame_is_kept_once_and_bytes_are_those_that_the_docs_say():
    spec, _ = played(0, blocks=1, stack=4)
    frame = 2 * 4
    state = 2 * 4 + 8
    per_sequence = (LENGTH + 4) * frame + LENGTH * 31 + state
    small, large = made(spec, 64), made(spec, 128)
    # the tree's upper levels are rounded up to 64 nodes
    assert 0 <= large.nbytes - small.nbytes - 64 * (per_sequence + 8) <= 512


def test_drawing_follows_the_priorities_and_weights_undo_it():
    replay, _ = filled(alpha=0.5, beta=1.0, priority_eps=0.0)
    keys = np.arange(replay.size)
    priority = np.where(keys % 3 == 0, 9.0, 1.0)
    replay.set_priorities(keys, priority)
    drawn = replay.sample(20_000, env_step=0)
    share = np.bincount(drawn.keys, minlength=len(keys)) / 20_000
    wanted = np.sqrt(priority) / np.sqrt(priority).sum()
    np.testing.assert_allclose(share, wanted, rtol=0.1)
    np.testing.assert_allclose(drawn.weight, (wanted.min() / wanted)[drawn.keys], rtol=1e-5)
    assert not np.allclose(share, priority / priority.sum(), rtol=0.1)  # as if without the exponent


def test_new_sequences_get_the_highest_priority_seen():
    replay, blocks = filled(alpha=1.0, priority_eps=0.0)
    old = np.arange(replay.size)
    replay.set_priorities(old, np.where(old == 0, 50.0, 0.0))
    replay.set_priorities(old[:1], np.zeros(1))
    unroll = cut(joined(blocks), LENGTH, OVERLAP)[0]
    replay.insert(unroll, np.array([1]))
    assert set(replay.sample(50, env_step=0).keys) == {len(old)}
    assert replay.state_dict()["priorities"][len(old)] == 50.0


def test_without_any_mass_drawing_is_uniform():
    replay, _ = filled(alpha=1.0, priority_eps=0.0)
    replay.set_priorities(np.arange(replay.size), np.zeros(replay.size))
    drawn = replay.sample(4000, env_step=0)
    assert set(drawn.keys) == set(range(replay.size))
    assert (drawn.weight == 1.0).all()


def test_priorities_that_come_late_change_nothing():
    spec, blocks = played(1, blocks=30)
    replay = made(spec, capacity=4)
    late = None
    for block in blocks:
        replay.add(block)
        if late is None and replay.size == 4:
            late = replay.sample(8, env_step=0).keys
    assert late.max() < replay.oldest_row
    before = replay.state_dict()["priorities"]
    replay.set_priorities(late, np.full(8, 77.0))
    np.testing.assert_array_equal(replay.state_dict()["priorities"], before)
    assert replay.state_dict()["max_priority"] == 1.0
    slots = late % 4 + replay.oldest_row - replay.oldest_row % 4  # the mistake: a slot for a name
    replay.set_priorities(slots[slots >= replay.oldest_row], np.full(np.count_nonzero(slots >= replay.oldest_row), 7.0))
    assert (replay.state_dict()["priorities"] != before).any()


def test_a_small_ring_holds_the_newest():
    spec, blocks = played(1, blocks=30)
    replay = made(spec, capacity=4)
    for block in blocks:
        replay.add(block)
    wanted = cut(joined(blocks), LENGTH, OVERLAP)
    drawn = replay.sample(100, env_step=0)
    assert set(drawn.keys) == set(range(len(wanted) - 4, len(wanted)))
    for i in range(100):
        np.testing.assert_array_equal(drawn.batch.obs[:, i], wanted[drawn.keys[i]].obs[:, 0])


def test_a_resumed_replay_draws_the_same(tmp_path):
    spec, blocks = played(2, blocks=24)
    whole, saved = made(spec, 10), made(spec, 10)
    checkpoints = Checkpoints(tmp_path)
    for k, block in enumerate(blocks[:16]):
        whole.add(block)
        saved.add(block)
        if whole.can_sample(3):
            for replay in (whole, saved):
                drawn = replay.sample(3, env_step=k)
                replay.set_priorities(drawn.keys, drawn.keys % 5 + 0.5)
        if k in (3, 9, 15):  # rows are saved piece by piece
            checkpoints.save(k, {"replay": saved.state_dict()}, saved)
    back = made(spec, 10, seed=99)
    loaded = Checkpoints(tmp_path).load(back)
    back.load_state_dict(loaded.state["replay"])
    for block in blocks[16:]:
        whole.add(block)
        back.add(block)
        a, b = whole.sample(20, env_step=0), back.sample(20, env_step=0)
        np.testing.assert_array_equal(a.keys, b.keys)
        np.testing.assert_array_equal(a.weight, b.weight)
        assert_same(a.batch, b.batch)


def test_a_state_of_another_layout_is_refused():
    replay, _ = filled()
    spec, _ = played(0, blocks=1, stack=2)
    with pytest.raises(ValueError, match="frame_stack: 3 saved, 2 here"):
        made(spec).load_state_dict(replay.state_dict())
    state = replay.state_dict()
    del state["open"]
    with pytest.raises(ValueError, match="lacks open"):
        replay.load_state_dict(state)
    rows = replay.read_rows(0, 2)
    with pytest.raises(ValueError, match="need the fields"):
        replay.write_rows(0, {k: v for k, v in rows.items() if k != "valid"} | {"valued": rows["valid"]})


def test_wrong_calls_are_named():
    replay, blocks = filled(capacity=5)
    with pytest.raises(ValueError, match="batch_size 6 is larger than the 5 sequences"):
        replay.can_sample(6)
    with pytest.raises(ValueError, match="ask can_sample first"):
        made(played(0)[0]).sample(1, env_step=0)
    with pytest.raises(ValueError, match="finite and at least 0, but one is nan"):
        replay.set_priorities(np.array([0]), np.array([np.nan]))
    with pytest.raises(ValueError, match="do not name a sequence"):
        replay.set_priorities(np.array([10_000]), np.array([1.0]))
    unroll = cut(joined(blocks), LENGTH, OVERLAP)[0]
    with pytest.raises(ValueError, match="1 unrolls came with rows"):
        replay.insert(unroll, np.arange(2))
    with pytest.raises(ValueError, match="unrolls of 7 steps"):
        replay.insert(cut(joined(blocks), 5, 0)[0], np.arange(1))
    runs_on = replace(unroll, last=np.ones_like(unroll.last), valid=np.ones_like(unroll.valid))
    with pytest.raises(ValueError, match="NEXT_STEP"):
        replay.insert(runs_on, np.arange(1))
    with pytest.raises(ValueError, match="recurrent state"):
        replay.insert(replace(unroll, state_at_start={}), np.arange(1))


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"capacity_sequences": 0}, "at least 1, but is 0"),
        ({"alpha": 1.5}, r"alpha must lie in \[0, 1\], but is 1.5"),
        ({"priority_eps": -1.0}, "priority_eps must be finite"),
        ({"kind": "sequence"}, "did you mean 'sequences'"),
    ],
)
def test_wrong_knobs_are_named(knobs, message):
    with pytest.raises(UserError, match=message):
        SequenceReplayConfig(**knobs)


def test_many_rows_overwrite_the_ring_within_one_insert():
    spec, blocks = played(3, blocks=12, num_rows=6)
    replay = made(spec, capacity=4, num_rows=6)
    for block in blocks:
        replay.add(block)
    wanted = cut(joined(blocks), LENGTH, OVERLAP)
    drawn = replay.sample(50, env_step=0)
    assert len(Counter(drawn.keys.tolist())) == 4
    for i in range(50):
        np.testing.assert_array_equal(drawn.batch.obs[:, i], wanted[drawn.keys[i]].obs[:, 0])
