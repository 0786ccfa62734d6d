"""The engine in its own thread: queue, weights, failures, an end in any state."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest
import torch
from sampling_support import Linear, Remembering, Timed, cost_of, exploring, make_rows
from scripted import SPEC, Clock, ScriptedTransport

from frugalrl.cost.meters import LapTimer
from frugalrl.math.explore import EXPLORERS
from frugalrl.policies.handover import Handover
from frugalrl.replay.unrolls import UnrollStore
from frugalrl.sampling.background import BackgroundSampler
from frugalrl.sampling.config import SamplerConfig
from frugalrl.sampling.handoff import Handoff
from frugalrl.sampling.threads import ThreadTransport
from frugalrl.types import EnvFailed, PolicySnapshot, Unroll

CONFIG = SamplerConfig(kind="central", deadline_ms=5.0)


class Weighted(Linear):
    """Acts with the weights of the snapshot; notes what it saw of them."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[float, float]] = []
        self.parameters: Any = None
        self.pause_s = 0.0

    def load(self, snapshot: PolicySnapshot) -> int:
        self.parameters = snapshot.parameters
        return super().load(snapshot)

    def values(self, obs: np.ndarray, state: Any, draw: int = 0) -> Any:
        first = float(self.parameters["w"][0])
        time.sleep(self.pause_s)
        self.seen.append((first, float(self.parameters["w"][-1])))
        return super().values(obs, state, draw)


def snapshot(version: int, size: int = 4) -> PolicySnapshot:
    return PolicySnapshot(version=version, parameters={"w": torch.full((size,), float(version))})


def background(transport: Any = None, policy: Any = None, config: SamplerConfig = CONFIG, size: int = 4) -> Any:
    explore = exploring()
    sampler = BackgroundSampler(
        transport or ThreadTransport(make_rows(), (2, 2), restarts=3),
        policy or Linear(),
        EXPLORERS[explore.name],
        explore,
        config,
        unroll_steps=4,
        batch_unrolls=4,
        prefill_env_steps=0,
        seed=3,
        forward_cost=cost_of,
        timer=LapTimer(),
    )
    sampler.load(snapshot(1, size))
    return sampler


def an_unroll(rows: list[int], length: int = 2) -> tuple[Unroll, np.ndarray]:
    n = len(rows)
    store = UnrollStore(SPEC, max(rows) + 1, length=length, state={"h": np.zeros((max(rows) + 1, 1))})
    fields = {
        "action": np.array(rows), "reward": np.ones(n), "discount": np.ones(n), "last": np.zeros(n, bool),
        "valid": np.ones(n, bool), "log_mu": np.zeros(n), "version": np.zeros(n, int), "explored": np.zeros(n, bool),
    }  # fmt: skip
    done = None
    for _ in range(length + 1):
        done = store.append(np.array(rows), np.zeros((n, 3), np.float32), fields, {"h": np.array(rows)[:, None]})
    assert done is not None
    return done


# -- the queue -------------------------------------------------------------------------------------------------------


def test_unrolls_leave_the_queue_in_order_and_in_the_size_asked_for() -> None:
    queue = Handoff(8)
    for rows in ([0, 1, 2], [3], [4, 5, 6, 7]):
        assert queue.put(*an_unroll(rows), timeout_s=0.0)
    for wanted in ([0, 1], [2, 3, 4, 5], [6, 7]):
        got = queue.get(len(wanted), 0.0)
        assert got is not None
        unroll, rows = got
        assert rows.tolist() == wanted
        assert unroll.action.tolist() == [wanted] * 2
        assert unroll.state_at_start["h"][:, 0].tolist() == wanted
    assert queue.get(1, 0.0) is None
    assert len(queue) == 0


def test_a_full_queue_blocks_and_says_for_how_long() -> None:
    queue = Handoff(2)
    assert queue.put(*an_unroll([0, 1, 2]), timeout_s=0.0)
    assert not queue.put(*an_unroll([3]), timeout_s=0.05)
    assert queue.blocked_s >= 0.05
    assert len(queue) == 3


def test_a_learner_that_wants_more_than_fits_is_served() -> None:
    queue = Handoff(1)
    got: list[Any] = []
    learner = threading.Thread(target=lambda: got.append(queue.get(5, 10.0)))
    learner.start()
    for row in range(5):
        assert queue.put(*an_unroll([row]), timeout_s=5.0)
    learner.join(5)
    assert got[0][1].tolist() == [0, 1, 2, 3, 4]
    assert queue.starved_s > 0.0


def test_whoever_waits_for_unrolls_hears_of_a_failure() -> None:
    queue = Handoff(1)
    threading.Timer(0.05, lambda: queue.fail(EnvFailed("gone"))).start()
    with pytest.raises(EnvFailed, match="gone"):
        queue.get(1, 10.0)


# -- weights ---------------------------------------------------------------------------------------------------------


def test_what_was_taken_is_not_written_before_the_next_is_taken() -> None:
    handover, live = Handover(), {"w": torch.zeros(3)}
    assert handover.take() is None
    handover.publish(PolicySnapshot(version=1, parameters=live))
    live["w"] += 7  # a learner changes its tensors in place
    first = handover.take()
    assert first is not None
    assert handover.take() is None
    for version in (2, 3, 4):
        live["w"].fill_(version)
        handover.publish(PolicySnapshot(version=version, parameters=live))
        assert first.parameters["w"].tolist() == [0.0] * 3
    newest = handover.take()
    assert newest is not None
    assert (newest.version, newest.parameters["w"].tolist()) == (4, [4.0] * 3)
    with pytest.raises(ValueError, match="other parameters"):
        handover.publish(PolicySnapshot(version=5, parameters={"v": live["w"]}))
    with pytest.raises(ValueError, match="has shape"):
        handover.publish(PolicySnapshot(version=5, parameters={"w": torch.zeros(4)}))


def test_the_policy_never_sees_half_of_a_snapshot() -> None:
    policy = Weighted()
    policy.pause_s = 0.002
    live = torch.zeros(200_000)  # so many that a copy takes a while
    sampler = background(policy=policy, size=len(live))
    sampler.start()
    version, until = 1, time.monotonic() + 5
    while version < 60 and time.monotonic() < until:
        version += 1
        live.fill_(version)
        sampler.load(PolicySnapshot(version=version, parameters={"w": live}))
        sampler.get(4, 0.01)
    sampler.close()
    assert all(first == last for first, last in policy.seen)
    assert len({first for first, _ in policy.seen}) > 5


# -- the sampler -----------------------------------------------------------------------------------------------------


def test_unrolls_episodes_and_costs_agree() -> None:
    sampler = background(policy=Remembering())
    sampler.start()
    valid = ended = 0
    for _ in range(20):
        unroll, rows = sampler.get(4, 10.0)
        assert rows.shape == (4,)
        assert unroll.num_steps == 4
        valid += int(unroll.valid.sum())
        ended += int(unroll.last.sum())
    sampler.close()
    taken = sampler.take()
    assert taken.env_steps == sampler.env_steps >= valid
    assert len(taken.episodes) >= ended > 0
    assert {e.row for e in taken.episodes} == {0, 1, 2, 3}
    assert taken.costs["inference"].calls == sampler.forwards
    assert taken.costs["environment"].env_steps == taken.env_steps
    assert taken.costs["transport"].calls == 1
    assert taken.costs["transport"].bytes_min > 0
    again = sampler.take()
    assert (again.env_steps, again.episodes, again.costs["inference"].calls) == (0, (), 0)
    statistics = taken.statistics
    assert statistics.batches == sum(statistics.by_rule.values()) > 0
    assert statistics.forward_s is not None
    assert 0 < statistics.fill <= 1


class Copying(Linear):
    """Keeps a copy of what it loads, as a policy does whose learner works in another thread."""

    def __init__(self) -> None:
        super().__init__()
        self.moved = 0

    def load(self, snapshot: PolicySnapshot) -> int:
        super().load(snapshot)
        one = 2 * sum(p.nbytes for p in snapshot.parameters.values())
        self.moved += one
        return one


def test_the_copy_that_the_policy_makes_is_billed_beside_that_of_the_handover() -> None:
    sampler = background(policy=(policy := Copying()))
    sampler.start()
    assert sampler.get(4, 10.0) is not None
    sampler.load(snapshot(2))
    while sampler.acting().version < 2:
        time.sleep(0.01)
    sampler.close()
    handed_over = 2 * 2 * snapshot(1).parameters["w"].nbytes  # two snapshots, each read once and written once
    assert policy.moved == handed_over
    assert sampler.take().costs["transport"].bytes_min == handed_over + policy.moved


def test_a_learner_that_does_not_come_stops_the_engine() -> None:
    sampler = background()
    sampler.start()
    until = time.monotonic() + 10
    while sampler.statistics().blocked_s < 0.1 and time.monotonic() < until:
        time.sleep(0.02)
    steps = sampler.env_steps
    time.sleep(0.1)
    assert sampler.env_steps == steps
    assert 4 <= len(sampler._queue) <= 8
    state = sampler.state_dict()  # a blocked engine still answers
    assert state["env_steps"] == steps
    assert sampler.acting().version == 1
    began = time.monotonic()
    sampler.close()
    assert time.monotonic() - began < 2


def test_an_environment_that_fails_is_a_fault_and_then_an_error() -> None:
    sampler = background(ThreadTransport(make_rows(fault="raise", fault_step=3), (1, 1), restarts=2))
    sampler.start()
    with pytest.raises(EnvFailed, match="the wheel came off"):
        sampler.get(100, 10.0)
    taken = sampler.take()
    assert [f.kind for f in taken.faults] == ["raised"] * 3
    assert taken.statistics.restarts >= 1
    with pytest.raises(EnvFailed):
        sampler.take()
    sampler.close()


def test_no_unroll_mixes_two_incarnations() -> None:
    def make(group: int, first_row: int, num_rows: int, incarnation: int) -> Any:
        fault = {"fault": "raise", "fault_step": 2} if incarnation < 3 and group == 0 else {}
        return make_rows(**fault)(group, first_row, num_rows, incarnation)

    sampler = background(ThreadTransport(make, (1, 1), restarts=3))
    sampler.start()
    until = time.monotonic() + 10
    while sampler.statistics().restarts < 3 and time.monotonic() < until:
        sampler.get(4, 0.05)
    found = [sampler.get(2, 10.0) for _ in range(4)]
    sampler.close()
    assert sampler.statistics().dropped_steps > 0
    assert {int(row) for _, rows in found for row in rows} == {0, 1}
    for unroll, _ in found:
        # the reward of `Counting` is its step, so that a hole would show
        times = unroll.obs[..., 1]
        follows = np.where(unroll.valid, times[1:] == times[:-1] + 1, times[1:] == 0)
        assert follows.all()


def test_values_that_are_not_finite_reach_the_learner() -> None:
    policy = Linear()
    policy.weight[0, 0] = np.nan
    sampler = background(policy=policy)
    sampler.start()
    with pytest.raises(FloatingPointError, match="must be finite"):
        sampler.get(1, 10.0)
    sampler.close()


def test_fewer_live_rows_than_a_batch_still_get_answers() -> None:
    """A group that hangs must not stop the others, whatever size a batch may have."""
    hang = threading.Event()

    def make(group: int, first_row: int, num_rows: int, incarnation: int) -> Any:
        env = make_rows()(group, first_row, num_rows, incarnation)
        if group:
            env.step = lambda action: hang.wait(20)  # type: ignore[method-assign, assignment, return-value]
        return env

    config = SamplerConfig(kind="central", deadline_ms=2.0, live_share=1.0, max_batch_rows=4)
    sampler = background(ThreadTransport(make, (1, 1, 1, 1), hang_s=30), config=config)
    sampler.start()
    for _ in range(3):
        got = sampler.get(4, 10.0)
        assert got is not None
        assert set(got[1].tolist()) == {0}
    assert sampler.take().statistics.by_rule["deadline"] > 0
    hang.set()
    sampler.close()


def test_a_resumed_sampler_keeps_its_counts_and_plays_other_episodes() -> None:
    first = background(policy=Remembering())
    first.start()
    one = first.get(4, 10.0)
    taken = first.take().env_steps
    state = first.state_dict()
    first.close()
    second = background(policy=Remembering())
    assert second.load_state_dict(state) == (0, 1, 2, 3)
    assert second.env_steps == state["env_steps"] > 0
    second.start()
    two = second.get(4, 10.0)
    first_of_row = np.unique(two[1], return_index=True)[1]  # one group may be twice as fast as the other
    assert (two[0].state_at_start["h"][first_of_row] == 0).all()
    assert not np.array_equal(one[0].obs, two[0].obs)
    second.close()
    assert taken + second.take().env_steps == second.env_steps, "every step is told once"


def test_it_ends_whatever_state_it_is_in() -> None:
    before = threading.active_count()
    never = background(ScriptedTransport([], (2,), Clock()))
    never.close()
    silent = background(ThreadTransport(make_rows(), (1,)))
    silent.start()
    silent.close()
    silent.close()
    assert threading.active_count() == before


def test_seconds_of_a_gpu_are_on_the_bill_once() -> None:
    sampler = background(policy=Timed())
    sampler.start()
    for _ in range(3):
        assert sampler.get(4, 10.0) is not None
        cost = sampler.take().costs["inference"]
        assert cost.gpu_s == cost.calls / 2 > 0
    sampler.close()
