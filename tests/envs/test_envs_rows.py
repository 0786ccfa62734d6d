"""Ends, seeds, returns and restoring, the same for Python rows and for both autoreset modes of vector rows."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from counting_envs import Counting, slow_rows

from frugalrl.envs import PROTOCOLS, episode_seed, make_env
from frugalrl.types import RunFailed, UserError

PLAIN = PROTOCOLS["plain"]
ADAPTERS = ("Counting", "CountingVector", "CountingSameStep")
ROWS, SEED = 3, 7


def rows(name, *, protocol=PLAIN, num_rows=ROWS, seed=SEED, training=True, **kwargs):
    return make_env(
        f"counting_envs:{name}", protocol=protocol, num_rows=num_rows, seed=seed, training=training, env_kwargs=kwargs
    )


def play(env, actions):
    return [env.reset(), *(env.step(a) for a in actions)]


def some_actions(steps=60, num_rows=ROWS, seed=0):
    return np.random.default_rng(seed).integers(3, size=(steps, num_rows))


def seeds_of(row, count=60, seed=SEED):
    return [episode_seed(seed, row, k) for k in range(count)]


def assert_is(path, expected_rows):
    for row, expected in enumerate(expected_rows):
        assert len(path) == len(expected)
        for time, (step, (obs, reward, discount, last, valid)) in enumerate(zip(path, expected, strict=True)):
            assert step.obs[row].tolist() == obs.tolist(), (row, time)
            got = (step.reward[row], step.discount[row], step.last[row], step.valid[row])
            assert got == (reward, discount, last, valid), (row, time)


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.parametrize("end", ["terminated", "truncated", "both"])
def test_adapter_does_what_the_definition_says(name, end):
    actions = some_actions()
    path = play(rows(name, end=end), actions)
    assert_is(path, [slow_rows(seeds_of(b), actions[:, b], make=lambda: Counting(end=end)) for b in range(ROWS)])
    ended = {bool(s.discount[b]) for s in path for b in range(ROWS) if s.last[b]}
    assert ended == {end == "truncated"}


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_time_limit_of_the_protocol_is_a_truncation(name):
    protocol = replace(PLAIN, name="short", max_episode_steps=4)
    actions = some_actions()
    path = play(rows(name, protocol=protocol), actions)
    assert_is(path, [slow_rows(seeds_of(b), actions[:, b], limit=4) for b in range(ROWS)])
    episodes = [e for s in path for e in s.episodes]
    assert {e.truncated for e in episodes} == {True, False}
    assert max(e.length for e in episodes) == 4


def test_the_twin_is_not_blind_to_a_limit_that_ends_the_return():
    actions = some_actions()
    path = play(rows("Counting", end="truncated"), actions)
    wrong = [slow_rows(seeds_of(b), actions[:, b], make=lambda: Counting(end="terminated")) for b in range(ROWS)]
    with pytest.raises(AssertionError):
        assert_is(path, wrong)


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_lost_life_ends_the_return_but_not_the_game_and_only_while_training(name):
    protocol = replace(PLAIN, name="lives", life_loss_ends_return=True)
    actions = some_actions()
    path = play(rows(name, protocol=protocol, lives=True), actions)
    if name != "CountingSameStep":  # there the info of a final step is already that of the next episode
        twin = [
            slow_rows(seeds_of(b), actions[:, b], make=lambda: Counting(lives=True), life_loss=True) for b in range(3)
        ]
        assert_is(path, twin)
    assert any((s.discount == 0).any() and not s.last[s.discount == 0].any() for s in path)
    quiet = play(rows(name, protocol=protocol, lives=True, training=False), actions)
    assert all(s.last[b] for s in quiet for b in range(ROWS) if s.discount[b] == 0)


@pytest.mark.parametrize("name", ["Rising", "RisingVector"])
def test_starting_with_fewer_lives_than_before_is_no_lost_life(name):
    protocol = replace(PLAIN, name="lives", life_loss_ends_return=True)
    assert all(s.discount.all() for s in play(rows(name, protocol=protocol, end="truncated"), some_actions()))


@pytest.mark.parametrize("name", ADAPTERS)
def test_returns_are_raw_and_rewards_clipped_only_while_training(name):
    protocol = replace(PLAIN, name="clip", clip_reward=True)
    actions = some_actions()
    clipped = play(rows(name, protocol=protocol), actions)
    raw = play(rows(name, protocol=protocol, training=False), actions)
    assert {float(r) for s in clipped for r in s.reward} == {0.0, 1.0}
    assert max(float(r) for s in raw for r in s.reward) > 1.0
    episodes = [[e for s in path for e in s.episodes] for path in (clipped, raw)]
    assert episodes[0] == episodes[1]
    for episode in episodes[0]:
        assert episode.raw_return == sum(range(1, episode.length + 1))


@pytest.mark.parametrize("name", ADAPTERS)
def test_episodes_stand_on_the_step_on_which_they_ended(name):
    for step in play(rows(name), some_actions()):
        assert [e.row for e in step.episodes] == np.flatnonzero(step.last).tolist()


@pytest.mark.parametrize("name", ADAPTERS)
def test_seeds_do_not_depend_on_what_the_agent_does(name):
    seen = []
    for seed in (0, 1):
        path = play(rows(name), some_actions(80, seed=seed))
        seen.append([[e.seed for s in path for e in s.episodes if e.row == b] for b in range(ROWS)])
    for b in range(ROWS):
        short = min(len(seen[0][b]), len(seen[1][b]))
        assert seen[0][b][:short] == seen[1][b][:short] == seeds_of(b)[:short]
    assert len({s for b in range(ROWS) for s in seeds_of(b)}) == 3 * 60


def test_seeds_are_31_bits_and_differ_by_row_episode_and_seed():
    seeds = {episode_seed(s, b, k) for s in range(5) for b in range(10) for k in range(20)}
    assert len(seeds) == 1000
    assert all(0 <= s < 2**31 for s in seeds)


@pytest.mark.parametrize("name", ADAPTERS)
def test_reset_starts_again_from_episode_0(name):
    env, actions = rows(name), some_actions(11)
    first, second = play(env, actions), play(env, actions)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.obs, b.obs)
        assert a.episodes == b.episodes


@pytest.mark.parametrize("name", ADAPTERS)
def test_no_array_of_a_step_is_written_to_later(name):
    env = rows(name)
    kept = [env.reset()]
    copies = [[np.array(getattr(kept[0], f)) for f in ("obs", "reward", "discount", "last", "valid")]]
    for action in some_actions(40):
        kept.append(env.step(action))
        copies.append([np.array(getattr(kept[-1], f)) for f in ("obs", "reward", "discount", "last", "valid")])
    state = env.state_dict()
    env.load_state_dict(state)
    env.step(some_actions(1)[0])
    for step, copy in zip(kept, copies, strict=True):
        for field, value in zip(("obs", "reward", "discount", "last", "valid"), copy, strict=True):
            np.testing.assert_array_equal(getattr(step, field), value)


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.parametrize("cut", range(12))
def test_restored_rows_go_on_exactly(name, cut):
    actions = some_actions(cut + 30)
    protocol = replace(PLAIN, name="all", life_loss_ends_return=True, clip_reward=True, max_episode_steps=5)
    env = rows(name, protocol=protocol, lives=True)
    path = play(env, actions[:cut])
    state = env.state_dict()
    going_on = [env.step(a) for a in actions[cut:]]
    other = rows(name, protocol=protocol, lives=True, seed=99)
    restored = other.load_state_dict(state)
    assert restored.not_restored == ()
    back = [restored.step, *(other.step(a) for a in actions[cut:])]
    for a, b in zip([replace(path[-1], episodes=()), *going_on], back, strict=True):
        for field in ("obs", "reward", "discount", "last", "valid"):
            np.testing.assert_array_equal(getattr(a, field), getattr(b, field))
        assert a.episodes == b.episodes


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.parametrize("steps_after", [0, 1, 5, 20])
@pytest.mark.parametrize("cut", range(0, 12, 3))
def test_rolled_back_rows_are_saved_as_they_stood_at_the_mark(name, cut, steps_after):
    actions = some_actions(cut + steps_after)
    env = rows(name, lives=True)
    play(env, actions[:cut])
    expected = env.state_dict()
    env.mark()
    for action in actions[cut:]:
        env.step(action)
    env.roll_back()
    assert_same_state(env.state_dict(), expected)


def test_without_the_overwritten_actions_a_mark_would_save_another_episode(monkeypatch):
    monkeypatch.setattr("frugalrl.envs.action_record.ActionRecord.begin", lambda *_: None)
    env = rows("Counting")
    actions = some_actions(40)
    play(env, actions[:8])
    expected = env.state_dict()
    env.mark()
    for action in actions[8:]:
        env.step(action)
    env.roll_back()
    with pytest.raises(AssertionError):
        assert_same_state(env.state_dict(), expected)


def assert_same_state(got, expected):
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(got[name], value, err_msg=name)


def test_a_row_that_does_not_come_back_is_named_and_starts_a_new_episode():
    env = rows("Forgetful", num_rows=2)
    play(env, some_actions(2, 2))
    state = env.state_dict()
    other = rows("Forgetful", num_rows=2)
    restored = other.load_state_dict(state)
    assert restored.not_restored == (0, 1)
    assert not restored.step.valid.any()
    step = other.step(np.zeros(2, np.int64))
    assert not step.valid.any()
    assert step.obs[:, 1].tolist() == [0, 0]
    following = other.step(np.zeros(2, np.int64))
    assert following.valid.all()
    assert other.state_dict()["episode"].tolist() == [1, 1]


@pytest.mark.parametrize("name", ADAPTERS)
def test_one_damaged_hash_costs_one_row(name):
    actions = some_actions(30)
    env = rows(name)
    play(env, actions[:2])
    state = env.state_dict()
    state["obs_hash"][1] = "0" * 32
    other = rows(name)
    assert other.load_state_dict(state).not_restored == (1,)
    for action in actions[2:]:
        a, b = env.step(action), other.step(action)
        np.testing.assert_array_equal(a.obs[[0, 2]], b.obs[[0, 2]])
        np.testing.assert_array_equal(a.valid[[0, 2]], b.valid[[0, 2]])


def test_a_state_of_other_rows_is_refused():
    env = rows("Counting")
    env.reset()
    state = env.state_dict()
    with pytest.raises(RunFailed, match="3 rows, but this one is"):
        rows("Counting", num_rows=2).load_state_dict(state)
    state["actions"] = np.zeros(5, np.int32)
    with pytest.raises(RunFailed, match="damaged"):
        env.load_state_dict(state)


def test_long_episodes_outgrow_the_action_buffer():
    protocol = replace(PLAIN, name="long", max_episode_steps=5000)
    spaced = {"protocol": protocol, "num_rows": 2, "seed": 0, "training": True}
    env = make_env("counting_envs:Spaced", **spaced)
    actions = np.random.default_rng(1).integers(2, size=(1100, 2))
    play(env, actions)
    state = env.state_dict()
    assert state["length"].tolist() == [1100, 1100]
    np.testing.assert_array_equal(state["actions"].reshape(2, -1).T, actions)
    other = make_env("counting_envs:Spaced", **spaced)
    assert other.load_state_dict(state).not_restored == ()
    for action in actions:
        np.testing.assert_array_equal(env.step(action).obs, other.step(action).obs)


def test_an_episode_without_end_neither_fills_memory_nor_checkpoints(monkeypatch):
    """Beyond `REPLAYED` steps its row starts a new episode after a resume, and is named; shorter ones come back."""
    monkeypatch.setattr("frugalrl.envs.action_record.REPLAYED", 511)
    spaced = {"protocol": replace(PLAIN, name="long", max_episode_steps=5000), "num_rows": 2, "seed": 0}
    env = make_env("counting_envs:Spaced", **spaced, training=True)
    actions = np.random.default_rng(1).integers(2, size=(600, 2))
    play(env, actions[:511])
    assert env.state_dict()["length"].tolist() == [511, 511]
    env.mark()
    for action in actions[511:]:
        env.step(action)
    state = env.state_dict()
    assert env._record._actions.shape == (2, 512)
    assert state["length"].tolist() == [0, 0]
    assert not state["actions"].size
    other = make_env("counting_envs:Spaced", **spaced, training=True)
    restored = other.load_state_dict(state)
    assert restored.not_restored == (0, 1)
    first = other.step(np.zeros(2, np.int64))
    assert not first.valid.any(), "the reset of new episodes"
    env.roll_back()
    np.testing.assert_array_equal(env.state_dict()["actions"].reshape(2, -1).T, actions[:511])


FAULTS = {
    "raise": "ZeroDivisionError: the wheel came off",
    "nan-obs": "observation holds NaN",
    "inf-obs": "observation holds infinity",
    "nan-reward": "reward nan",
    "inf-reward": "reward inf",
    "huge-reward": r"reward -1e\+39, which is no finite number in float32",
    "shape": r"shape \(1,\)",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_environment_is_one_sentence(fault):
    env = rows("Counting", fault=fault, fault_step=2)
    with pytest.raises(RunFailed, match=FAULTS[fault]) as caught:
        play(env, some_actions())
    said = str(caught.value)
    assert "counting_envs:Counting" in said
    assert "row 0" in said
    assert "step 2" in said
    assert "\n" not in said
    assert isinstance(caught.value.__cause__, {"raise": ZeroDivisionError, "shape": ValueError}.get(fault, type(None)))


@pytest.mark.parametrize("fault", ["raise", "nan-obs", "nan-reward"])
def test_a_broken_vector_environment_is_one_sentence(fault):
    with pytest.raises(RunFailed, match=FAULTS[fault]):
        play(rows("CountingVector", fault=fault, fault_step=2), some_actions())


def test_misuse_by_a_caller():
    env = rows("Counting")
    with pytest.raises(RuntimeError):
        env.step(np.zeros(3, np.int64))
    with pytest.raises(RuntimeError):
        env.state_dict()
    env.reset()
    with pytest.raises(ValueError, match="shape"):
        env.step(np.zeros(2, np.int64))
    env.close()
    env.close()


@pytest.mark.parametrize("name", ["Shifted", "ShiftedVector"])
def test_actions_are_shifted_to_where_the_space_starts(name):
    env = rows(name)
    env.reset()
    assert env.step(np.array([0, 1, 2])).obs[:, 2].tolist() == [-1, 0, 1]
    state = env.state_dict()
    assert rows(name).load_state_dict(state).not_restored == ()


def test_rows_of_a_group_play_what_they_would_play_among_all_rows() -> None:
    def episodes_of(num_rows: int, **where: int) -> tuple[np.ndarray, list[tuple[int, int]]]:
        env = make_env("counting_envs:Counting", protocol=PLAIN, num_rows=num_rows, seed=3, training=True, **where)
        steps = [env.reset(), *(env.step(np.zeros(num_rows, np.int64)) for _ in range(12))]
        env.close()
        return np.array([s.obs for s in steps]), [(e.row, e.seed) for s in steps for e in s.episodes]

    whole, episodes = episodes_of(4)
    part, its_episodes = episodes_of(2, first_row=2)
    np.testing.assert_array_equal(part, whole[:, 2:])
    assert its_episodes == [(row, seed) for row, seed in episodes if row >= 2]
    again, later = episodes_of(2, first_row=2, first_episode=1 << 20)
    assert {seed for _, seed in later}.isdisjoint(seed for _, seed in episodes)
    assert not np.array_equal(again, part)
    with pytest.raises(UserError, match="first_row=-1 must be at least 0"):
        episodes_of(1, first_row=-1)


def test_a_protocol_may_be_given_by_its_name() -> None:
    ways: dict[str, Any] = {"num_rows": 1, "seed": 0, "training": True}
    assert make_env("CartPole-v1", protocol="plain", **ways).protocol is PROTOCOLS["plain"]
    with pytest.raises(UserError, match="did you mean 'plain'"):
        make_env("CartPole-v1", protocol="plian", **ways)
