"""What explorers remember: kept with the sampler's state, taken back with a failed block, ended with an episode."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_inline_sampler import ACTIONS, new

from frugalrl.math.schedules import Schedule
from frugalrl.sampling.exploration import ExploreConfig
from frugalrl.sampling.inline import InlineSampler
from frugalrl.sampling.streams import RowStreams
from frugalrl.types import EnvFailed, Rows, Step, UserError
from oracles.explore import SlowEz

EZ = {"explorer": "epsilon-z-greedy", "ez_mu": 1.2, "ez_max_steps": 40}
Q = [0.0, -1.0, 1.0, 0.5]


def remembered(sampler: InlineSampler) -> dict[str, list[int]]:
    return {name: array.tolist() for name, array in sampler.state_dict()["explorer"].items()}


def slow_actions(rows: Rows, eps: float, **wrong: Any) -> list[list[int]]:
    """What the slow rule does from the same streams; -1 where the action is that of a reset."""
    steps, num_rows = rows.last.shape
    streams, slow = RowStreams(11, num_rows), [SlowEz(1.2, 40, **wrong) for _ in range(num_rows)]
    found = []
    for t in range(1, steps):
        u, before = streams.next(), rows.last[t - 1]
        found.append([slow[b].act(Q, eps, u[b].tolist())[0] if not before[b] else -1 for b in range(num_rows)])
        for b in np.flatnonzero(before):
            slow[b].end()
    return found


@pytest.mark.parametrize("lengths", [[7], [5, 9, 200]])
def test_the_sampler_plays_repetitions_and_ends_them_with_the_episode(lengths: list[int]) -> None:
    sampler, _, _ = new(lengths, eps=0.2, **EZ)
    data = sampler.collect(400).data
    got = np.where(data.last[:-1], -1, data.action[1:]).tolist()
    assert got == slow_actions(data, 0.2)
    assert got != slow_actions(data, 0.2, survives=True)
    assert got != slow_actions(data, 0.2, extra=1)


def test_a_step_inside_repetitions_needs_no_forward_pass() -> None:
    skipping, env, policy = new([1_000, 1_000], eps=0.2, **EZ)
    computing, other, _ = new([1_000, 1_000], eps=0.2, needs_log_mu=True, **EZ)
    one, two = skipping.collect(600).data, computing.collect(600).data
    np.testing.assert_array_equal(env.taken, other.taken)
    np.testing.assert_array_equal(one.explored, two.explored)
    both = one.explored[1:].all(1)
    assert len(policy.seen) == skipping.forwards == (~both).sum()
    assert computing.forwards == 300
    # mu of a repeated action is known without a forward pass, that of a new one is not
    assert (one.log_mu[1:][both] == 0).any()
    assert np.isnan(one.log_mu[1:][both]).any()
    known = ~np.isnan(one.log_mu)
    np.testing.assert_array_equal(one.log_mu[known], two.log_mu[known])


@pytest.mark.parametrize("before", [1, 33, 300])
def test_a_restored_sampler_goes_on_inside_a_repetition(before: int) -> None:
    """Row 1 of the scripted environment cannot be restored, so it begins without a repetition."""
    one, env, _ = new([50, 50, 50], eps=0.5, **EZ)
    one.collect(before)
    while not (np.asarray(remembered(one)["left"]) > 2).all():
        one.collect(3)
    state = one.state_dict()
    other, fake, _ = new([50, 50, 50], eps=0.5, **EZ)
    assert other.load_state_dict(state) == (1,)
    assert remembered(other)["left"] == [remembered(one)["left"][0], 0, remembered(one)["left"][2]]
    mark = len(env.taken)
    one.collect(120)
    other.collect(120)
    expected, got = np.asarray(env.taken[mark:]), np.asarray(fake.taken)
    np.testing.assert_array_equal(got[:, [0, 2]], expected[:, [0, 2]])
    assert not np.array_equal(got[:, 1], expected[:, 1])
    assert remembered(one) != {k: v.tolist() for k, v in state["explorer"].items()}, "the saved state is a copy"


def test_a_failed_block_is_forgotten() -> None:
    """After EnvFailed the state is that before the block, so that a resumed run repeats it exactly."""
    whole, env, _ = new([30, 30, 30], eps=0.5, **EZ)
    broken, fragile, _ = new([30, 30, 30], eps=0.5, **EZ)
    whole.collect(60)
    broken.collect(60)
    before, mark, real = remembered(broken), len(env.taken), fragile.step
    assert max(before["left"]) > 0

    def step(action: np.ndarray) -> Step:
        answer: Step = real(action)
        if len(fragile.taken) == mark + 10:
            raise EnvFailed("gone")
        return answer

    fragile.step = step
    with pytest.raises(EnvFailed):
        broken.collect(60)
    assert remembered(broken) == before
    resumed, again, _ = new([30, 30, 30], eps=0.5, **EZ)
    resumed.load_state_dict(broken.state_dict())
    whole.collect(60)
    resumed.collect(60)
    # row 1 of the scripted environment cannot be restored
    np.testing.assert_array_equal(np.asarray(env.taken[mark:])[:, [0, 2]], np.asarray(again.taken)[:, [0, 2]])


def test_the_memory_of_another_explorer_is_refused() -> None:
    one, _, _ = new([50, 50], eps=0.5, **EZ)
    other, _, _ = new([50, 50], eps=0.5)
    one.collect(10)
    with pytest.raises(ValueError, match=r"'epsilon-greedy' remembers \{\}, but \{'left': "):
        other.load_state_dict(one.state_dict())


def test_a_state_without_memories_is_still_read() -> None:
    one, env, _ = new([50, 50], eps=0.5)
    one.collect(10)
    state = one.state_dict()
    assert state.pop("explorer") == {}
    other, fake, _ = new([50, 50], eps=0.5)
    other.load_state_dict(state)
    mark = len(env.taken)
    one.collect(20)
    other.collect(20)
    np.testing.assert_array_equal(env.taken[mark:], fake.taken)


def test_a_temperature_follows_its_schedule() -> None:
    falling = Schedule(kind="linear", start=1e3, end=0.0, start_step=50, steps=100)
    sampler, _, _ = new([1_000], "boltzmann", eps=0.3, temperature=falling)
    data = sampler.collect(400).data
    assert len(np.unique(data.action[1:50])) == ACTIONS
    np.testing.assert_allclose(np.exp(data.log_mu[1:50]), 1 / ACTIONS, rtol=0.01)
    assert np.unique(data.action[151:]).tolist() == [2]
    np.testing.assert_array_equal(data.explored[1:], data.action[1:] != 2)
    assert sampler.forwards == 400


def test_a_rule_without_epsilon_says_so() -> None:
    sampler, _, _ = new([1_000], "boltzmann", eps=0.3, prefill_env_steps=10)
    assert sampler.epsilon() == 1.0, "the prefill is uniform"
    sampler.collect(10)
    assert sampler.epsilon() is None


def test_ucb_needs_states_that_can_be_counted() -> None:
    with pytest.raises(UserError, match=r"'ucb' .*Scripted gives vector observations"):
        new([10], "ucb")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"epsilon": Schedule(kind="constant", start=1.5)}, r"explore.epsilon goes from 1.5 to 1.5"),
        ({"epsilon": Schedule(kind="linear", start=1.0, end=-0.1)}, r"explore.epsilon goes from -0.1 to 1: .*\[0, 1\]"),
        ({"temperature": Schedule(kind="linear", start=1.0, end=-2.0)}, "explore.temperature falls to -2"),
        ({"ez_mu": -1.0}, r"explore.ez_mu=-1.0"),
        ({"ez_max_steps": 0}, "ez_max_steps=0"),
        ({"ucb_c": -0.5}, "explore.ucb_c=-0.5"),
    ],
)
def test_values_outside_of_their_range_are_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ExploreConfig(**wrong)
