"""The lockstep sampler against the inline one, with real environments in real threads."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from sampling_support import Linear, Remembering, Timed, cost_of, exploring, make_rows, running_timer

from frugalrl.math.explore import EXPLORERS
from frugalrl.math.schedules import Schedule
from frugalrl.sampling.central import CentralSampler
from frugalrl.sampling.inline import InlineSampler
from frugalrl.sampling.threads import ThreadTransport
from frugalrl.types import Collected, EnvFailed, PolicySnapshot

FALLING = Schedule(kind="linear", start=1.0, end=0.1, steps=40)


def central(
    groups: tuple[int, ...],
    make: Any = None,
    policy: Any = None,
    prefill: int = 10,
    whole_unrolls: bool = True,
    **explore: Any,
) -> Any:
    config = exploring(**explore)
    sampler = CentralSampler(
        ThreadTransport(make or make_rows(), groups, restarts=0),
        policy or Linear(),
        EXPLORERS[config.name],
        config,
        prefill_env_steps=prefill,
        seed=11,
        forward_cost=cost_of,
        timer=running_timer(),
        needs_log_mu=True,
        whole_unrolls=whole_unrolls,
    )
    sampler.load(PolicySnapshot(version=1, parameters={}))
    return sampler


def inline(rows: int, prefill: int = 10, **explore: Any) -> InlineSampler:
    sampler = InlineSampler(
        make_rows()(0, 0, rows, 0),
        Linear(),  # type: ignore[arg-type]
        exploring(**explore),
        prefill_env_steps=prefill,
        seed=11,
        inference_cost=cost_of(rows),
        timer=running_timer(),
        needs_log_mu=True,
    )
    sampler.load(PolicySnapshot(version=1, parameters={}))
    return sampler


def play(sampler: Any, blocks: int, n: int) -> list[Collected]:
    """Collect, with a new snapshot after each block."""
    found = []
    for block in range(blocks):
        found.append(sampler.collect(n))
        sampler.load(PolicySnapshot(version=block + 2, parameters={}))
    return found


def columns(blocks: list[Collected], name: str) -> np.ndarray:
    return np.concatenate([getattr(b.data, name) for b in blocks])


FIELDS = ("obs", "action", "reward", "discount", "last", "valid", "log_mu", "explored")


@pytest.mark.parametrize("groups", [(4,), (2, 2), (1, 3)])
@pytest.mark.parametrize(
    "explore",
    [{"epsilon": FALLING}, {"name": "epsilon-z-greedy", "ez_max_steps": 4}, {"name": "counteractive-mixed"}],
    ids=["falling", "with memory", "mixed"],
)
def test_rows_are_those_of_an_inline_sampler(groups: tuple[int, ...], explore: dict[str, Any]) -> None:
    sampler = central(groups, **explore)
    mine = play(sampler, 6, 16)
    theirs = [inline(4, **explore).collect(110)]
    valid = columns(mine, "valid")
    for name in FIELDS:
        left, right = columns(mine, name), columns(theirs, name)[: len(valid)]
        if len(groups) > 1 and name in ("action", "log_mu", "explored"):
            # a group whose rows are all about to be reset needs no forward pass; their actions are not used
            left, right = left[valid], right[valid]
        np.testing.assert_array_equal(left, right, err_msg=name)
    assert [len(b.data.last) for b in mine] == [5, 4, 4, 4, 4, 4]
    assert sum(b.env_steps for b in mine) == sampler.env_steps == columns(mine, "valid").sum()
    ended = {e for b in mine for e in b.episodes}
    assert ended <= set(theirs[0].episodes)
    assert len(ended) == columns(mine, "last").sum() > 4
    assert columns(mine, "version").tolist() == [[1] * 4] * 5 + [[v] * 4 for v in (2, 3, 4, 5, 6) for _ in range(4)]
    sampler.close()


@pytest.mark.parametrize("groups", [(4,), (2, 2), (1, 3)])
@pytest.mark.parametrize("n", [1, 3, 16, 31])
def test_blocks_of_transitions_end_where_those_of_an_inline_sampler_do(groups: tuple[int, ...], n: int) -> None:
    sampler, other = central(groups, whole_unrolls=False), inline(4)
    mine, theirs = play(sampler, 8, n), play(other, 8, n)
    assert [b.data.last.shape for b in mine] == [b.data.last.shape for b in theirs]
    assert [b.env_steps for b in mine] == [b.env_steps for b in theirs]
    assert all(n <= b.env_steps < n + 4 for b in mine)
    for name in ("obs", "reward", "discount", "last", "valid", "version"):
        np.testing.assert_array_equal(columns(mine, name), columns(theirs, name), err_msg=name)
    for one, two in zip(mine, theirs, strict=True):
        if len(groups) == 1 and two.q is not None:
            np.testing.assert_array_equal(one.q, two.q)
    sampler.close()


def test_values_go_to_the_step_they_led_to() -> None:
    sampler, other = central((4,), prefill=0), inline(4, prefill=0)
    one, two = sampler.collect(40), other.collect(40)
    assert one.q is not None
    assert two.q is not None
    np.testing.assert_array_equal(one.q[: len(two.q)], two.q[: len(one.q)])
    sampler.close()


def test_groups_change_nothing_and_costs_are_counted() -> None:
    whole, parts = central((4,)), central((2, 2))
    one, two = whole.collect(40), parts.collect(40)
    for name in ("obs", "reward", "discount", "last", "valid"):
        np.testing.assert_array_equal(getattr(one.data, name), getattr(two.data, name))
    assert (whole.forwards, parts.forwards) != (0, 0)
    assert two.costs["inference"].calls == parts.forwards
    assert two.costs["inference"].flop == 200.0 * parts.forwards
    assert two.costs["environment"].env_steps == two.env_steps
    assert two.costs["transport"].calls == 1
    whole.close()
    parts.close()


def test_one_group_steps_while_another_is_acted_for() -> None:
    stepped = threading.Event()

    def make(group: int, first_row: int, num_rows: int, incarnation: int) -> Any:
        env = make_rows()(group, first_row, num_rows, incarnation)
        step = env.step
        if group == 0:
            env.step = lambda action: (stepped.set(), step(action))[1]  # type: ignore[method-assign]
        return env

    class Waits(Linear):
        met = False

        def values(self, obs: np.ndarray, state: Any, draw: int = 0) -> Any:
            if len(self.sizes) == 1:  # the forward pass of group 1 ends when group 0 has begun to step
                self.met = stepped.wait(10)
            return super().values(obs, state, draw)

    policy = Waits()
    sampler = central((2, 2), make, policy, prefill=0)
    sampler.collect(4)
    sampler.close()
    assert policy.met


def test_state_of_a_recurrent_policy_is_the_recomputed_one() -> None:
    policy = Remembering()
    sampler = central((2, 2), policy=policy, prefill=10)
    data = [b.data for b in play(sampler, 5, 24)]
    sampler.close()

    def all_of(name: str) -> np.ndarray:
        return np.concatenate([getattr(d, name) for d in data])

    stored = {k: np.concatenate([d.state[k] for d in data]) for k in data[0].state}
    obs, action, reward, valid = (all_of(n) for n in ("obs", "action", "reward", "valid"))
    after: dict[str, np.ndarray] = {}
    for t in range(len(obs)):
        fresh = policy.initial_state(4)
        before = dict(fresh)
        if t:
            before = {**after, "action_tm1": action[t], "reward_tm1": reward[t]}
            for name in before:
                before[name] = np.where(valid[t].reshape(-1, *[1] * (fresh[name].ndim - 1)), before[name], fresh[name])
        for name, array in before.items():
            np.testing.assert_allclose(stored[name][t], array, atol=1e-12, err_msg=f"{name} at {t}")
        after = policy.values(obs[t], before)[1]
    assert (stored["h"] != 0).any()
    assert not valid[1:].all()


@pytest.mark.parametrize("explore", [{}, {"name": "epsilon-z-greedy", "ez_max_steps": 4}])
def test_a_resumed_sampler_goes_on_exactly(explore: dict[str, Any]) -> None:
    first = central((2, 2), policy=Remembering(), **explore)
    play(first, 2, 12)
    state = first.state_dict()
    rest = play(first, 3, 12)
    second = central((2, 2), policy=Remembering(), **explore)
    assert second.load_state_dict(state) == ()
    again = play(second, 3, 12)
    for name in FIELDS:
        np.testing.assert_array_equal(columns(rest, name), columns(again, name))
    np.testing.assert_array_equal(rest[0].data.state["h"], again[0].data.state["h"])
    first.close()
    second.close()


def test_rows_that_cannot_be_replayed_are_named() -> None:
    first = central((1, 1), make_rows("Forgetful"))
    first.collect(6)
    second = central((1, 1), make_rows("Forgetful"))
    assert second.load_state_dict(first.state_dict()) == (0, 1)
    assert not second.collect(2).data.valid.any()
    first.close()
    second.close()


def test_schedules_count_only_transitions_after_a_resume_that_lost_rows() -> None:
    first = central((1, 1), make_rows("Forgetful"))
    first.collect(6)
    second = central((1, 1), make_rows("Forgetful"))
    second.load_state_dict(first.state_dict())
    counted: list[int] = []
    act = second._actor.act
    second._actor.act = lambda rows, step, state, env_steps: (  # type: ignore[method-assign]
        counted.append(env_steps),
        act(rows, step, state, env_steps),
    )[1]
    before = second.env_steps
    made = second.collect(40).data.valid.sum(1)
    assert made[0] == 0
    assert (made < 2).sum() > 1, "an episode ended as well"
    begun = before + np.cumsum([0, *made[:-1]])
    assert counted == [n for n in begun for _ in range(2)]
    first.close()
    second.close()


def test_a_failure_ends_the_block_and_the_state_before_it_can_be_saved() -> None:
    def make(group: int, first_row: int, num_rows: int, incarnation: int) -> Any:
        name = {"fault": "raise", "fault_step": 3} if group == 1 and not healthy else {}
        return make_rows(**name)(group, first_row, num_rows, incarnation)

    healthy = False
    broken = central((2, 2), make)
    broken.collect(8)
    state = broken.state_dict()
    with pytest.raises(EnvFailed, match=r"row 2.*the wheel came off"):
        broken.collect(8)
    after = broken.state_dict()
    np.testing.assert_equal(_plain(after), _plain(state))
    broken.close()
    healthy = True
    good, resumed = central((2, 2), make), central((2, 2), make)
    good.collect(8)
    good.load(PolicySnapshot(version=1, parameters={}))
    assert resumed.load_state_dict(after) == ()
    np.testing.assert_array_equal(good.collect(8).data.obs, resumed.collect(8).data.obs)
    good.close()
    resumed.close()


def test_a_failure_in_the_first_block_leaves_nothing_to_go_on_from() -> None:
    broken = central((2,), make_rows(fault="raise", fault_step=2))
    with pytest.raises(EnvFailed):
        broken.collect(8)
    assert broken.state_dict()["started"] is False
    broken.close()


def test_no_thread_is_left() -> None:
    before = threading.active_count()
    sampler = central((1, 1, 1))
    sampler.collect(9)
    assert threading.active_count() == before + 3
    sampler.close()
    sampler.close()
    assert threading.active_count() == before


def _plain(state: Any) -> Any:
    return {k: _plain(v) for k, v in state.items()} if isinstance(state, dict) else state


def test_seconds_of_a_gpu_are_those_of_the_block() -> None:
    sampler = central((2, 2), policy=Timed(), prefill=0, epsilon=Schedule(kind="constant", start=0.0))
    for steps in (3, 2):
        cost = sampler.collect(4 * steps).costs["inference"]
        assert cost.gpu_s == cost.calls / 2 > 0
    sampler.close()
    other = central((2, 2))
    assert other.collect(8).costs["inference"].gpu_s is None
    other.close()
