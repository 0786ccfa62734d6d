"""Meters as readers of events: known runs give known numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from run_support import block, collected

from frugalrl.run.loop import Event
from frugalrl.run.theory import BRANCH_METERS, EVERY, BranchMeter, ReplayedMeter, TheoryMeters, entropy_share
from frugalrl.run.tried import Tried
from frugalrl.types import Collected, EnvSpec, Seen, Updated

INDEX = EnvSpec(id="I", protocol="p", obs_kind="index", obs_shape=(), obs_dtype="int64", num_actions=3, num_indices=100)
VECTOR = replace(INDEX, obs_kind="vector", obs_shape=(2,), obs_dtype="float32", num_indices=None)


def seen(q: Any, td: Any, explored: Any, keys: Any) -> Seen:
    return Seen(np.array(q, np.float32), np.array(td, np.float32), np.array(explored, bool), np.array(keys))


def test_replayed_batches() -> None:
    meter = ReplayedMeter(3, 10)
    meter.add(seen([[0, 1, 2], [5, 4, 3]], [1.0, -2.0], [False, True], [0, 1]))
    meter.add(seen([[1, 0, 2], [5, 4, 3]], [3.0, 0.5], [False, True], [0, 11]))
    got = meter.close()
    assert got["gap"] == pytest.approx(1.0)
    assert (got["td_greedy"], got["td_abs_greedy"]) == pytest.approx((2.0, 2.0))
    assert (got["td_explored"], got["td_abs_explored"]) == pytest.approx((-0.75, 1.25))
    # key 0 was looked at twice and changed; key 11 is another transition in the place of key 1
    assert got["argmin_persistence"] == 0.0
    assert got["argmin_entropy"] == pytest.approx(entropy_share(np.array([1, 1, 2])))
    empty = meter.close()
    assert set(empty.values()) == {None}
    meter.add(seen([[1, 0, 2], [3, 4, 5]], [3.0, 0.5], [False, True], [0, 11]))
    assert meter.close()["argmin_persistence"] == 0.5


def test_tied_actions_share_the_argmin_of_a_state() -> None:
    """An untouched table: argmin is any action, and not action 0 everywhere."""
    meter = ReplayedMeter(4, 10)
    meter.add(seen(np.zeros((5, 4)), np.zeros(5), np.zeros(5), range(5)))
    assert meter.close()["argmin_entropy"] == pytest.approx(1.0)
    meter.add(seen([[0, 0, 1, 1]], [0.0], [False], [3]))
    assert meter.close()["argmin_entropy"] == pytest.approx(0.5)


def test_entropy_is_a_share() -> None:
    assert entropy_share(np.array([4, 4, 4])) == pytest.approx(1.0)
    assert entropy_share(np.array([9, 0, 0])) == 0.0
    assert entropy_share(np.array([0, 0])) is None


# -- tried actions -----------------------------------------------------------------------------------------------------


def walk(states: list[int], actions: list[int], **changes: Any) -> Any:
    """One row that starts in ``states[0]``; ``actions[t]`` led to ``states[t]``."""
    obs = np.array(states, np.int64)[:, None]
    return block(len(states), 1, obs, first=True, action=np.array(actions, np.int64)[:, None], **changes)


def test_untried_pairs() -> None:
    tried = Tried(INDEX)
    assert tried.share() is None
    tried.add(walk([7, 8, 7, 7], [0, 1, 2, 2]))  # 7 -1-> 8 -2-> 7 -2-> 7
    assert tried.share() == pytest.approx(1 - 3 / 6)  # in 7 actions 1 and 2, in 8 action 2, of 2 x 3 pairs


def test_a_reset_is_no_action() -> None:
    tried = Tried(INDEX)
    valid = np.array([[False], [True], [False], [True]])
    last = np.array([[False], [True], [False], [False]])
    tried.add(walk([1, 2, 3, 4], [0, 1, 1, 2], valid=valid, last=last))
    tried.share()
    assert set(tried._tried.values()) == {1 << 1, 1 << 2}
    assert len(tried._tried) == 2  # 1 and 3; nothing was done in 2, and 4 has not acted yet


def test_blocks_are_joined_and_the_state_comes_back() -> None:
    whole, parts = Tried(INDEX), Tried(INDEX)
    rng = np.random.default_rng(0)
    states, actions = rng.integers(0, 9, 50).tolist(), rng.integers(0, 3, 50).tolist()
    data = walk(states, actions)
    whole.add(data)
    fields = ("obs", "action", "reward", "discount", "last", "valid", "log_mu", "version", "explored")
    first = replace(data, **{f: getattr(data, f)[:20] for f in fields})
    parts.add(first)
    again = Tried(INDEX)
    again.load_state_dict(parts.state_dict())
    again.add(replace(data, **{f: getattr(data, f)[20:] for f in fields}))
    assert again.share() == whole.share()
    assert again._tried == whole._tried


def test_many_states_leave_a_random_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    import frugalrl.run.tried as module

    monkeypatch.setattr(module, "_MOST_STATES", 64)
    tried = Tried(replace(INDEX, num_indices=10_000))
    rng = np.random.default_rng(0)
    for _ in range(20):  # half of the states try one action, the others two
        s = rng.permutation(10_000)[:500]
        tried.add(walk(s.tolist(), [0] * 500))
        tried.add(walk([int(x) for x in s for _ in range(2)], [1, 2] * 500))
    tried.share()
    assert len(tried._tried) <= 64
    assert tried._stride >= 64


def test_float_vectors_have_no_such_number() -> None:
    tried = Tried(VECTOR)
    tried.add(block(4, 1, np.zeros((4, 1, 2), np.float32), first=True))
    assert tried.share() is None


# -- eta, delta, slack -------------------------------------------------------------------------------------------------


def mixed_blocks(number: int, seed: int = 0) -> list[Collected]:
    """Blocks of 4 rows in which action 0 is the minimiser and pays 1, the others pay 0; Q-values never change."""
    rng = np.random.default_rng(seed)
    blocks = []
    for k in range(number):
        shape = (4, 2)
        low = rng.random(shape) < 0.5
        action = np.where(low, 0, rng.integers(0, 3, shape))
        reward = (action == 0).astype(np.float32)
        data = block(4, 2, np.zeros((4, 2), np.int64), first=k == 0, action=action, reward=reward)
        data = replace(data, explored=np.ones(shape, np.bool_))
        q = np.broadcast_to(np.array([0.0, 1.0, 2.0], np.float32), (4, 2, 3)).copy()
        if k == 0:
            q[0] = np.nan
        blocks.append(replace(collected(data), q=q))
    return blocks


def test_eta_delta_and_slack_of_a_known_run() -> None:
    meter = BranchMeter(gamma=0.5, share=0.5)
    for c in mixed_blocks(4_000):
        meter.add(c)
    got = meter.close()
    assert got["eta"] == pytest.approx(2 / 3, abs=0.02)  # 1 after argmin, 1/3 after uniform actions
    assert got["delta"] == pytest.approx(0.0, abs=1e-6)
    # TD = r + 0.5 * 2 - Q: argmin 1 + 1 - 0 = 2; uniform (1 + 1 - 0, 0 + 1 - 1, 0 + 1 - 2) / 3 = 1/3
    assert got["td_gap"] == pytest.approx(5 / 3, abs=0.03)
    assert got["bound"] == pytest.approx(1.0 - 2 / 3, abs=0.02)
    assert got["slack"] == pytest.approx(5 / 3 - 1 / 3, abs=0.04)


def test_pieces_of_any_size_give_the_same_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    import frugalrl.run.theory as module

    results = []
    for size in (1, 37, 100_000):
        monkeypatch.setattr(module, "_BUFFER", size)
        meter = BranchMeter(gamma=0.5, share=0.5)
        for c in mixed_blocks(50):
            meter.add(c)
        results.append(meter.close())
    for other in results[1:]:
        assert other == pytest.approx(results[0])


def test_blocks_without_a_forward_pass_are_left_out() -> None:
    blocks = mixed_blocks(600)
    silent = [replace(c, q=None) for c in blocks[:100]]
    meter = BranchMeter(gamma=0.5, share=0.5)
    for c in silent:
        meter.add(c)
    assert set(meter.close().values()) == {None}
    for c in (*silent, *blocks[100:]):
        meter.add(c)
    assert meter.close()["td_gap"] == pytest.approx(5 / 3, abs=0.1)


def test_ends_count_no_more_than_their_share_where_steps_have_no_q_values() -> None:
    """Epsilon-greedy at epsilon near 1: most steps explore in all rows and make no forward pass."""
    rng = np.random.default_rng(0)
    steps, rows = 60_000, 2
    last = np.zeros((steps, rows), np.bool_)
    for t in range(1, steps):
        last[t] = (rng.random(rows) < 0.2) & ~last[t - 1]  # the step after an end is a reset
    valid = np.concatenate([np.zeros((1, rows), np.bool_), ~last[:-1]])
    action = rng.integers(0, 3, last.shape)
    data = block(
        steps,
        rows,
        np.zeros(last.shape, np.int64),
        action=action,
        reward=(last & (action == 0)).astype(np.float32),
        discount=(~last).astype(np.float32),
        last=last,
        valid=valid,
        explored=valid.copy(),
    )
    q = np.broadcast_to(np.array([0.0, 1.0, 2.0], np.float32), (steps, rows, 3)).copy()
    q[rng.random(steps) < 0.8] = np.nan
    q[1:][last[:-1].all(1)] = np.nan  # nor does a step in which all rows are reset
    meter = BranchMeter(gamma=0.5, share=1.0)
    meter.add(replace(collected(data), q=q))
    got = meter.close()
    # an episode ends with probability 0.2, and pays 1 if it does so after argmin: 0.2 against 0.2 / 3
    assert got["eta"] == pytest.approx(0.2 * 2 / 3, abs=0.04)


def test_the_meter_keeps_no_observations() -> None:
    meter = BranchMeter(gamma=0.5, share=0.5)
    for c in mixed_blocks(10):
        meter.add(c)
    assert "obs" not in meter._pending[0]._fields


def test_a_rule_that_is_no_mixture_has_no_slack() -> None:
    meters = TheoryMeters(INDEX, 0.9, None, 10)
    update = Updated(metrics={}, priorities=None, costs={}, seen=seen([[0, 1, 2]], [1.0], [True], [3]))
    for c in mixed_blocks(3):
        meters.read(Event(c, (update,) * EVERY, ()))
    got = meters.close()
    assert all(got[name] is None for name in BRANCH_METERS)
    assert got["td_explored"] == 1.0
    assert got["td_greedy"] is None
    assert got["untried_share"] is not None


def test_one_update_in_sixteen_is_read() -> None:
    meters = TheoryMeters(INDEX, 0.9, None, 10)
    data = mixed_blocks(1)[0]
    for k in range(2 * EVERY):
        update = Updated(metrics={}, priorities=None, costs={}, seen=seen([[0, 1, 2]], [float(k)], [False], [3]))
        meters.read(Event(data, (update,), ()))
    assert meters.close()["td_greedy"] == pytest.approx((EVERY - 1 + 2 * EVERY - 1) / 2)
