"""The real thing: ALE and MinAtar games under their protocols."""

import sys
from dataclasses import replace
from itertools import pairwise

import gymnasium as gym
import numpy as np
import pytest

from frugalrl.envs import PROTOCOLS, make_env
from frugalrl.envs.atari import make_atari
from frugalrl.envs.lookup import find_env
from frugalrl.envs.minatar import ForgetLastAction
from frugalrl.types import UserError

pytest.importorskip("ale_py")
pytest.importorskip("minatar")

A100K = PROTOCOLS["atari100k"]
STICKY = replace(A100K, name="sticky-lives", sticky_probability=0.25)


def breakout(num_rows=1, protocol=A100K, *, seed=0, training=True, **kwargs):
    return make_env("ALE/Breakout-v5", protocol=protocol, num_rows=num_rows, seed=seed, training=training, **kwargs)


def some_actions(steps, num_rows, num_actions=4, seed=0):
    return np.random.default_rng(seed).integers(num_actions, size=(steps, num_rows))


def test_spec_and_threads():
    env = breakout(2, threads=2)
    env.reset()
    spec = env.spec
    assert (spec.obs_kind, spec.obs_shape, spec.obs_dtype) == ("image", (4, 84, 84), "uint8")
    assert (spec.num_actions, spec.frame_stack, spec.frames_per_step, spec.protocol) == (4, 4, 4, "atari100k")
    assert len(env.thread_ids) == 2
    env.close()
    assert make_env("CartPole-v1", protocol=PROTOCOLS["plain"], num_rows=1, seed=0, training=True).thread_ids == ()
    full = breakout(protocol=PROTOCOLS["ale-sticky"])
    assert full.spec.num_actions == 18


def test_a_random_number_of_frames_per_step_is_refused():
    plain = {"protocol": PROTOCOLS["plain"], "num_rows": 1, "seed": 0, "training": True}
    with pytest.raises(UserError, match=r"frameskip=\(2, 5\)"):
        make_env("ALE/Breakout-v5", env_kwargs={"frameskip": (2, 5)}, **plain)
    assert make_env("ALE/Breakout-v5", env_kwargs={"frameskip": 3}, **plain).spec.frames_per_step == 3


@pytest.mark.parametrize(
    ("env_id", "kwargs", "frames"),
    [
        ("PongNoFrameskip-v4", {}, 1),
        ("Pong-v4", {"frameskip": 3}, 3),
        ("Mine/Pong-v0", {}, 4),  # the constructor's own default
        ("ale_py.env:AtariEnv", {"game": "pong", "frameskip": 2}, 2),
        ("test_envs_atari:preprocessed", {}, 4),
        ("test_envs_atari:skipping", {}, 6),
        ("CartPole-v1", {}, 1),
    ],
)
def test_frames_are_those_of_the_emulator_whatever_the_id(monkeypatch, env_id, kwargs, frames):
    monkeypatch.setitem(sys.modules, "test_envs_atari", sys.modules[__name__])
    gym.register("Mine/Pong-v0", "ale_py.env:AtariEnv", kwargs={"game": "pong"})
    plain = {"protocol": PROTOCOLS["plain"], "num_rows": 1, "seed": 0, "training": True}
    try:
        assert make_env(env_id, env_kwargs=kwargs, **plain).spec.frames_per_step == frames
    finally:
        del gym.registry["Mine/Pong-v0"]


class AtariPreprocessing(gym.Wrapper):
    """In the place of Gymnasium's, which needs OpenCV; it keeps the number under the same name."""

    def __init__(self, env):
        super().__init__(env)
        self.frame_skip = 4


def preprocessed():
    return AtariPreprocessing(gym.make("PongNoFrameskip-v4"))


def skipping():
    return gym.wrappers.MaxAndSkipObservation(gym.make("PongNoFrameskip-v4", frameskip=2), skip=3)


class MaxAndSkipEnv(gym.Wrapper):
    """In the place of that of Stable-Baselines3, CleanRL and others."""

    def __init__(self, env, skip=4):
        super().__init__(env)
        self._skip = skip

    def step(self, action):
        for _ in range(self._skip):
            answer = self.env.step(action)
        return answer


def wrapped_as_elsewhere():
    return gym.wrappers.TimeLimit(MaxAndSkipEnv(gym.make("PongNoFrameskip-v4")), 500)


def test_frames_of_a_wrapper_from_elsewhere_are_those_that_the_emulator_made():
    env = make_env(f"{__name__}:wrapped_as_elsewhere", protocol=PROTOCOLS["plain"], num_rows=1, seed=0, training=True)
    env.reset()
    before = env.inner.unwrapped.ale.getFrameNumber()
    for _ in range(10):
        env.step(np.zeros(1, np.int64))
    assert env.inner.unwrapped.ale.getFrameNumber() - before == 10 * env.spec.frames_per_step == 40


def test_legacy_ids_skip_a_random_number_of_frames_and_are_refused():
    for env_id in ("Pong-v4", "Breakout-v0"):
        with pytest.raises(UserError, match=rf"{env_id} with frameskip=\(2, 5\): .* one number for all steps"):
            make_env(env_id, protocol=PROTOCOLS["plain"], num_rows=1, seed=0, training=True)


@pytest.mark.parametrize("mode", list(gym.vector.AutoresetMode)[:2])
def test_lives_in_info_and_life_loss_info_name_the_same_steps(mode):
    found = find_env("ALE/Breakout-v5")
    ours = make_atari(found, A100K, num_rows=1, threads=1, training=True, autoreset_mode=mode)
    theirs = make_atari(found, A100K, num_rows=1, threads=1, training=True, autoreset_mode=mode, life_loss_info=True)
    lives = ours.reset(seed=np.array([3]))[1]["lives"][0]
    theirs.reset(seed=np.array([3]))
    lost, said, over = [], [], []
    for t, action in enumerate(some_actions(150, 1)):
        _, _, terminated, _, info = ours.step(action)
        also = theirs.step(action)
        if info["lives"][0] < lives and not terminated[0]:
            lost.append(t)
        lives = info["lives"][0]
        if also[2][0]:
            said.append(t)
        if terminated[0]:
            over.append(t)
            break
    assert len(lost) >= 3
    assert said == lost + over


def test_life_loss_has_discount_0_and_the_game_goes_on():
    env = breakout()
    env.reset()
    steps = [env.step(a) for a in some_actions(260, 1)]
    ends = [s for s in steps if s.last[0]]
    lost = [s for s in steps if s.discount[0] == 0 and not s.last[0]]
    assert len(ends) >= 1
    assert len(lost) >= 4
    first_end = next(i for i, s in enumerate(steps) if s.last[0])
    assert sum(s.discount[0] == 0 for s in steps[: first_end + 1]) == 5
    assert ends[0].discount[0] == 0
    assert not ends[0].episodes[0].truncated
    evaluated = breakout(training=False)
    evaluated.reset()
    quiet = [evaluated.step(a) for a in some_actions(260, 1)]
    assert [bool(s.last[0]) for s in quiet] == [bool(s.last[0]) for s in steps]
    assert [s.discount[0] == 0 for s in quiet] == [bool(s.last[0]) for s in quiet]


def test_the_time_limit_counts_agent_steps_and_bootstraps():
    env = breakout(2, replace(A100K, name="short", max_episode_steps=12))
    env.reset()
    steps = [env.step(a) for a in some_actions(26, 2)]
    ends = [t for t, s in enumerate(steps, 1) if s.last.any()]
    assert ends == [12, 25]
    for t in ends:
        assert steps[t - 1].last.all()
        assert steps[t - 1].discount.all()
        assert all(e.truncated and e.length == 12 for e in steps[t - 1].episodes)
        assert not steps[t].valid.any() if t < len(steps) else True


def test_the_stack_is_zero_before_the_first_frame_of_every_episode():
    env = breakout(2, replace(A100K, name="short", max_episode_steps=5))
    path = [env.reset()]
    for action in some_actions(30, 2):
        path.append(env.step(action))
    firsts = [s for s in path if not s.valid.any()]
    assert len(firsts) == 6
    for first in firsts:
        assert not first.obs[:, :3].any()
        assert first.obs[:, 3].any(axis=(1, 2)).all()


def test_stacks_are_made_of_single_frames():
    env = breakout(2, replace(STICKY, name="short", max_episode_steps=9))
    path = [env.reset()]
    for action in some_actions(60, 2):
        path.append(env.step(action))
    for before, now in pairwise(path):
        for row in range(2):
            if now.valid[row]:
                np.testing.assert_array_equal(now.obs[row, :3], before.obs[row, 1:])


def test_observations_are_not_overwritten():
    env = breakout(2)
    step = env.reset()
    kept, copies = [], []
    for action in some_actions(300, 2):
        kept.append(step.obs)
        copies.append(step.obs.copy())
        step = env.step(action)
    for obs, copy in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(obs, copy)
    assert len({obs.ctypes.data for obs in kept}) == len(kept)


def test_rewards_are_clipped_and_scores_are_not():
    env = make_env("ALE/MsPacman-v5", protocol=A100K, num_rows=1, seed=0, training=True)
    env.reset()
    rewards, episodes = [], []
    for action in some_actions(900, 1, env.spec.num_actions):
        step = env.step(action)
        rewards.append(float(step.reward[0]))
        episodes += step.episodes
    assert set(rewards) == {0.0, 1.0}
    assert episodes[0].raw_return >= 10 * sum(rewards[: episodes[0].length])


def test_episodes_follow_from_their_recorded_seed_alone():
    env = breakout(2, STICKY)
    step = env.reset()
    actions = iter(some_actions(2000, 2))
    while step.valid[1] or env.state_dict()["episode"][1] == 0:
        step = env.step(next(actions))
    seed = env.state_dict()["episode_seed"][1]
    alone = make_atari(find_env("ALE/Breakout-v5"), STICKY, num_rows=1, threads=1, training=True)
    obs, _ = alone.reset(seed=np.array([seed]))
    for _ in range(80):
        np.testing.assert_array_equal(obs[0], step.obs[1])
        action = next(actions)
        step = env.step(action)
        obs, *_ = alone.step(action[1:])


def test_sticky_breakout_comes_back_bit_for_bit():
    rows = 3
    env = breakout(rows, STICKY)
    step = env.reset()
    actions = iter(some_actions(2000, rows))
    # Stop where one row has just ended and the others stand at different lengths.
    while not (step.last.sum() == 1 and len(set(env.state_dict()["length"].tolist())) == rows):
        step = env.step(next(actions))
    state = env.state_dict()
    assert state["dead"].sum() == 1
    other = breakout(rows, STICKY, seed=123)
    restored = other.load_state_dict(state)
    assert restored.not_restored == ()
    back = restored.step
    for action in some_actions(200, rows, seed=9):
        for field in ("obs", "reward", "discount", "last", "valid"):
            np.testing.assert_array_equal(getattr(step, field), getattr(back, field))
        step, back = env.step(action), other.step(action)
        assert step.episodes == back.episodes


def test_a_wrong_seed_is_noticed():
    env = breakout(2, STICKY)
    env.reset()
    for action in some_actions(40, 2):
        env.step(action)
    state = env.state_dict()
    state["episode_seed"] = state["episode_seed"] + np.array([0, 1])
    assert breakout(2, STICKY).load_state_dict(state).not_restored == (1,)


# ---------------------------------------------------------------------- MinAtar


@pytest.mark.parametrize("game", ["Asterix", "Breakout", "Freeway", "Seaquest", "SpaceInvaders"])
def test_minatar_games_come_back(game):
    def make():
        return make_env(f"MinAtar/{game}-v1", protocol=PROTOCOLS["minatar"], num_rows=2, seed=1, training=True)

    env, other = make(), make()
    step = env.reset()
    assert step.obs.dtype == np.uint8
    assert env.spec.obs_kind == "image"
    assert env.spec.obs_shape[1:] == (10, 10)
    for action in some_actions(333, 2, env.spec.num_actions):
        step = env.step(action)
    restored = other.load_state_dict(env.state_dict())
    assert restored.not_restored == ()
    for action in some_actions(300, 2, env.spec.num_actions, seed=4):
        step, back = env.step(action), other.step(action)
        np.testing.assert_array_equal(step.obs, back.obs)
        assert step.episodes == back.episodes


def test_minatar_has_a_time_limit():
    env = make_env(
        "MinAtar/Freeway-v1",
        protocol=replace(PROTOCOLS["minatar"], name="short", max_episode_steps=20),
        num_rows=1,
        seed=0,
        training=True,
    )
    env.reset()
    steps = [env.step(np.array([0])) for _ in range(20)]
    assert steps[-1].last[0]
    assert steps[-1].discount[0] == 1
    assert steps[-1].episodes[0].truncated


def test_minatar_settings_reach_the_game():
    protocol = replace(PROTOCOLS["minatar"], name="mine", sticky_probability=0.5, difficulty_ramping=False)
    env = make_env("MinAtar/Asterix-v1", protocol=protocol, num_rows=1, seed=0, training=True)
    game = env._envs[0].unwrapped.game
    assert game.sticky_action_prob == 0.5
    assert game.env.ramping is False


def test_a_sticky_first_action_does_not_come_from_the_episode_before():
    find_env("MinAtar/Asterix-v1")

    def second_episode(wrap):
        env = wrap(gym.make("MinAtar/Asterix-v1", disable_env_checker=True, sticky_action_prob=1.0))
        env.reset(seed=0)
        env.unwrapped.game.last_action = 1  # "left" was the last action of the first episode
        first = env.reset(seed=5)[0].copy()
        return not np.array_equal(env.step(0)[0][:, :, 0], first[:, :, 0])  # channel 0 is the player

    assert second_episode(lambda env: env), "MinAtar forgets the last action by itself now; drop the wrapper"
    assert not second_episode(ForgetLastAction)
