from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from frugalrl.cost.meters import LapTimer
from frugalrl.math.schedules import Schedule
from frugalrl.sampling.exploration import ExploreConfig
from frugalrl.sampling.inline import InlineSampler
from frugalrl.sampling.streams import RowStreams
from frugalrl.types import Cost, EnvSpec, Episode, PolicySnapshot, Step

ACTIONS = 4


@dataclass
class ScriptedEnv:
    """Rows whose episode k of row b lasts ``lengths[b]`` steps; the observation says (row, episode, time)."""

    lengths: list[int]
    taken: list[np.ndarray] = field(default_factory=list)
    closed: int = 0

    def __post_init__(self) -> None:
        self.num_rows = len(self.lengths)
        self.spec = EnvSpec(
            id="Scripted",
            protocol="plain",
            obs_kind="vector",
            obs_shape=(3,),
            obs_dtype="float32",
            num_actions=ACTIONS,
            frames_per_step=4,
        )
        self.episode = np.zeros(self.num_rows, np.int64)
        self.time = np.zeros(self.num_rows, np.int64)
        self.dead = np.zeros(self.num_rows, np.bool_)

    def _step(self, valid: np.ndarray, episodes: tuple[Episode, ...] = ()) -> Step:
        obs = np.stack([np.arange(self.num_rows), self.episode, self.time], 1).astype(np.float32)
        reward = np.where(valid, self.time, 0).astype(np.float32)
        return Step(
            obs=obs,
            reward=reward,
            discount=(~self.dead).astype(np.float32),
            last=self.dead.copy(),
            valid=valid,
            episodes=episodes,
        )

    def reset(self) -> Step:
        return self._step(np.zeros(self.num_rows, np.bool_))

    def step(self, action: np.ndarray) -> Step:
        assert action.shape == (self.num_rows,)
        assert action.dtype == np.int64
        assert ((action >= 0) & (action < ACTIONS)).all()
        self.taken.append(action.copy())
        valid = ~self.dead
        self.episode += self.dead
        self.time = np.where(self.dead, 0, self.time + 1)
        self.dead = valid & (self.time >= self.lengths)
        ended = tuple(
            Episode(int(b), int(self.episode[b]), float(self.time[b]), int(self.time[b]), False)
            for b in np.flatnonzero(self.dead)
        )
        return self._step(valid, ended)

    def mark(self) -> None:
        self.marked = self.state_dict()

    def roll_back(self) -> None:
        self.load_state_dict(self.marked)

    def state_dict(self) -> dict[str, Any]:
        return {"episode": self.episode.copy(), "time": self.time.copy(), "dead": self.dead.copy()}

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        self.episode, self.time, self.dead = state["episode"], state["time"], state["dead"]
        return SimpleNamespace(step=self._step(~self.dead), not_restored=(1,))

    def close(self) -> None:
        self.closed += 1


class FakePolicy:
    """Q is lowest for action 1 and highest for action 2."""

    version = 0
    gpu_s: float | None = None

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []

    def load(self, snapshot: PolicySnapshot) -> int:
        self.version = snapshot.version
        return 64

    def q_values(self, obs: np.ndarray, draw: int = 0) -> np.ndarray:
        self.seen.append(obs)
        return np.tile(np.array([0.0, -1.0, 1.0, 0.5], np.float32), (len(obs), 1))


def new(
    lengths: list[int], explorer: str = "epsilon-greedy", eps: float = 0.3, prefill_env_steps: int = 0, **changes: Any
) -> tuple[InlineSampler, Any, Any]:
    env, policy, timer = ScriptedEnv(lengths), FakePolicy(), LapTimer()
    timer.start()
    options = {k: changes.pop(k) for k in ("needs_log_mu",) if k in changes}
    config = ExploreConfig(name=explorer, epsilon=Schedule(kind="constant", start=eps), **changes)
    sampler = InlineSampler(
        env,  # type: ignore[arg-type]
        policy,  # type: ignore[arg-type]
        config,
        prefill_env_steps=prefill_env_steps,
        seed=11,
        inference_cost=Cost(flop=100.0, bytes_min=10.0),
        timer=timer,
        **options,
    )
    sampler.load(PolicySnapshot(version=5, parameters={}))
    return sampler, env, policy


def skipped(steps: int, rows: int, eps: float) -> np.ndarray:
    """Steps in which every row explores, by the row's own stream."""
    streams = RowStreams(11, rows)
    return np.array([(streams.next()[:, 0] < eps).all() for _ in range(steps)])


def test_seconds_of_a_gpu_are_those_of_the_block() -> None:
    sampler, _, policy = new([50], eps=0.0)
    assert sampler.collect(3).costs["inference"].gpu_s is None
    policy.gpu_s = 2.0  # the first that were timed
    assert sampler.collect(3).costs["inference"].gpu_s == 0.0
    inner = policy.q_values

    def timed(obs: np.ndarray, draw: int = 0) -> np.ndarray:
        policy.gpu_s += 0.5
        return inner(obs, draw)

    policy.q_values = timed
    assert sampler.collect(3).costs["inference"].gpu_s == 1.5
    assert sampler.collect(2).costs["inference"].gpu_s == 1.0


# -- counting --------------------------------------------------------------------------------------------------------


def test_the_first_block_begins_with_the_reset_and_blocks_join() -> None:
    sampler, env, _ = new([100])
    first, second = sampler.collect(4), sampler.collect(4)
    assert first.data.valid[:, 0].tolist() == [False, True, True, True, True]
    assert second.data.valid[:, 0].tolist() == [True] * 4
    times = np.concatenate([first.data.obs, second.data.obs])[:, 0, 2]
    assert times.tolist() == list(range(9))
    assert first.env_steps == second.env_steps == 4
    assert sampler.env_steps == 8
    np.testing.assert_array_equal(np.concatenate([first.data.action[1:], second.data.action]), env.taken)


def test_only_valid_transitions_count() -> None:
    sampler, env, _ = new([3])
    got = sampler.collect(8)
    # 3 steps, reset, 3 steps, reset, 2 steps
    assert got.data.valid[:, 0].tolist() == [False, *[True] * 3, False, *[True] * 3, False, True, True]
    assert got.data.last[:, 0].tolist() == [False, False, False, True, *[False] * 3, True, *[False] * 3]
    assert (got.env_steps, len(env.taken)) == (8, 10)
    assert [(e.row, e.seed, e.length) for e in got.episodes] == [(0, 0, 3), (0, 1, 3)]
    assert got.costs["environment"] == Cost(calls=10, env_steps=8, frames=32)


def test_rows_that_end_apart_may_give_a_little_more_than_asked_for() -> None:
    sampler, _, _ = new([3, 5, 100])
    total = 0
    for _ in range(20):
        got = sampler.collect(6)
        assert 6 <= got.env_steps < 6 + 3
        assert got.env_steps == int(got.data.valid.sum())
        total += got.env_steps
    assert sampler.env_steps == total


def test_a_block_says_which_version_acted() -> None:
    sampler, _, _ = new([100, 100])
    first = sampler.collect(4)
    sampler.load(PolicySnapshot(version=6, parameters={}))
    second = sampler.collect(4)
    assert np.unique(first.data.version).tolist() == [5]
    assert np.unique(second.data.version).tolist() == [6]
    assert second.data.version.shape == (2, 2)
    assert second.data.version.dtype == np.int64


def test_what_was_published_is_counted_once() -> None:
    sampler, _, _ = new([100])  # loads version 5
    sampler.load(PolicySnapshot(version=5, parameters={}))  # as a resumed process does
    assert sampler.collect(4).costs["transport"] == Cost(calls=1, flop=0.0, bytes_min=64.0)
    assert sampler.collect(4).costs["transport"] == Cost(calls=0, flop=0.0, bytes_min=0.0)
    for version in (6, 7):
        sampler.load(PolicySnapshot(version=version, parameters={}))
    assert sampler.collect(4).costs["transport"] == Cost(calls=2, flop=0.0, bytes_min=128.0)


def test_a_block_has_the_shapes_and_dtypes_of_rows() -> None:
    sampler, _, _ = new([4, 7])
    rows = sampler.collect(10).data
    steps = len(rows.obs)
    assert rows.obs.shape == (steps, 2, 3)
    for name, dtype in (
        ("action", np.int64),
        ("reward", np.float32),
        ("discount", np.float32),
        ("last", np.bool_),
        ("valid", np.bool_),
        ("log_mu", np.float32),
        ("explored", np.bool_),
    ):
        array = getattr(rows, name)
        assert (array.shape, array.dtype) == ((steps, 2), dtype), name


# -- exploring -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 2])
def test_epsilon_greedy_skips_the_forward_when_every_row_explores(rows: int) -> None:
    sampler, _, policy = new([1_000] * rows, eps=0.6)
    got = sampler.collect(200 * rows)
    expected = skipped(200, rows, 0.6)
    assert 0 < expected.sum() < 200
    assert sampler.forwards == len(policy.seen) == 200 - expected.sum()
    assert got.costs["inference"] == Cost(
        calls=sampler.forwards, flop=100.0 * sampler.forwards, bytes_min=10.0 * sampler.forwards
    )
    # exactly there mu is not known, because eps < 1 and whether the action is greedy was never computed
    nan = np.isnan(got.data.log_mu[1:])
    np.testing.assert_array_equal(nan, np.repeat(expected[:, None], rows, 1))
    assert got.data.explored[1:][nan].all()
    known = np.exp(got.data.log_mu[1:][~nan])
    greedy = got.data.action[1:][~nan] == 2
    np.testing.assert_allclose(known, np.where(greedy, 0.4 + 0.6 / ACTIONS, 0.6 / ACTIONS), rtol=1e-6)


def test_skipping_does_not_change_what_is_done() -> None:
    skipping, env, _ = new([50], eps=0.6)
    computing, other, _ = new([50], eps=0.6, needs_log_mu=True)
    one, two = skipping.collect(300), computing.collect(300)
    np.testing.assert_array_equal(env.taken, other.taken)
    np.testing.assert_array_equal(one.data.explored, two.data.explored)
    assert skipping.forwards < computing.forwards


def test_who_needs_mu_never_skips() -> None:
    sampler, env, _ = new([1_000], eps=0.6, needs_log_mu=True)
    got = sampler.collect(100)
    assert sampler.forwards == len(env.taken) == 100
    assert not np.isnan(got.data.log_mu[1:]).any()


@pytest.mark.parametrize("explorer", ["counteractive", "counteractive-mixed"])
def test_counteractive_never_skips(explorer: str) -> None:
    sampler, _, _ = new([1_000], explorer, eps=1.0)
    got = sampler.collect(100)
    assert sampler.forwards == 100
    assert not np.isnan(got.data.log_mu[1:]).any()
    assert got.data.explored[1:].all()
    if explorer == "counteractive":
        assert np.unique(got.data.action[1:]).tolist() == [1]
        np.testing.assert_array_equal(got.data.log_mu[1:], 0.0)
    else:
        assert (got.data.action[1:] == 1).mean() == pytest.approx(0.5 + 0.5 / ACTIONS, abs=0.15)


def test_no_forward_for_rows_that_are_all_about_to_be_reset() -> None:
    sampler, env, policy = new([2], "counteractive", eps=0.5)
    got = sampler.collect(6)
    # 2 steps, reset, 2 steps, reset, 2 steps
    assert len(env.taken) == 8
    assert len(policy.seen) == sampler.forwards == 6
    np.testing.assert_array_equal(np.isnan(got.data.log_mu), ~got.data.valid)
    assert not got.data.explored[~got.data.valid].any()


def test_epsilon_follows_the_agent_steps() -> None:
    schedule = Schedule(kind="linear", start=1.0, end=0.0, start_step=0, steps=100)
    sampler, _, _ = new([1_000])
    sampler._config = ExploreConfig(epsilon=schedule)
    assert sampler.epsilon() == 1.0
    explored = sampler.collect(200).data.explored[1:, 0]
    assert explored[:20].mean() > 0.6
    assert 0.3 < explored[:100].mean() < 0.7
    assert not explored[100:].any()
    assert sampler.epsilon() == 0.0


# -- prefill ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("explorer", ["epsilon-greedy", "counteractive"])
def test_the_prefill_is_uniform_whatever_the_explorer(explorer: str) -> None:
    sampler, env, _ = new([1_000], explorer, eps=0.0, prefill_env_steps=400)
    assert sampler.epsilon() == 1.0
    got = sampler.collect(400)
    assert sampler.forwards == 0
    assert got.data.explored[1:].all()
    np.testing.assert_allclose(np.exp(got.data.log_mu[1:]), 1 / ACTIONS, rtol=1e-6)
    counts = np.bincount(got.data.action[1:, 0], minlength=ACTIONS)
    assert (np.abs(counts - 100) < 40).all()
    assert sampler.epsilon() == 0.0
    assert np.unique(sampler.collect(10).data.action).tolist() == [2]
    assert sampler.forwards == 10
    assert len(env.taken) == 410


def test_the_counteractive_prefill_is_asked_for() -> None:
    sampler, _, _ = new([1_000], eps=0.0, prefill_env_steps=50, prefill="counteractive")
    got = sampler.collect(50)
    assert np.unique(got.data.action[1:]).tolist() == [1]
    assert sampler.forwards == 50
    assert got.data.explored[1:].all()
    assert np.unique(sampler.collect(10).data.action).tolist() == [2]


# -- saving ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [0, 7, 300])
def test_a_restored_sampler_goes_on(before: int) -> None:
    one, env, _ = new([5, 9], eps=0.5, prefill_env_steps=20)
    if before:
        one.collect(before)
    state = one.state_dict()
    other, fake, _ = new([5, 9], eps=0.5, prefill_env_steps=20)
    assert other.load_state_dict(state) == ((1,) if before else ())
    assert (other.env_steps, other.forwards) == (one.env_steps, one.forwards)
    mark = len(env.taken)
    expected, got = one.collect(40), other.collect(40)
    np.testing.assert_array_equal(env.taken[mark:], fake.taken)
    for name in ("obs", "action", "log_mu", "valid", "explored", "version"):
        np.testing.assert_array_equal(getattr(expected.data, name), getattr(got.data, name))


def test_closing_closes_the_environment() -> None:
    sampler, env, _ = new([5])
    sampler.close()
    assert env.closed == 1


def test_shares_outside_of_zero_to_one_are_refused() -> None:
    with pytest.raises(ValueError, match=r"explore.uniform_share=1.5"):
        ExploreConfig(uniform_share=1.5)
