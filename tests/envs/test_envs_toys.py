"""Toys: the optimal policy earns exactly the known return, Gymnasium's checker agrees, single equals vector."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check

from frugalrl.envs import PROTOCOLS, make_env
from frugalrl.envs.toys import TOYS, DeepSea, Recall, best_without_memory, optimal_value, register_toys
from frugalrl.types import UserError

VARIANTS = [
    ("frugalrl/Catch-v0", {}),
    ("frugalrl/Catch-v0", {"rows": 6, "columns": 9}),
    ("frugalrl/Catch-v0", {"observation": "image"}),
    ("frugalrl/Catch-v0", {"observation": "index"}),
    ("frugalrl/DeepSea-v0", {}),
    ("frugalrl/DeepSea-v0", {"size": 4, "mapping_seed": 3}),
    ("frugalrl/Recall-v0", {}),
    ("frugalrl/Recall-v0", {"cues": 4, "delay": 0}),
    ("frugalrl/TimeLimitChain-v0", {}),
    ("frugalrl/TimeLimitChain-v0", {"length": 1, "limit": 20}),
]


def vector(env_id, n, **kwargs):
    return gym.make_vec(env_id, num_envs=n, vectorization_mode="vector_entry_point", **kwargs)


def returns_of(env, choose, *, episodes, seed=0):
    """Raw returns of whole episodes, through the single environment."""
    out = []
    for k in range(episodes):
        env.reset(seed=seed + k)
        total, over = 0.0, False
        while not over:
            _, reward, terminated, truncated, _ = env.step(choose(env.state))
            total, over = total + reward, terminated or truncated
        out.append(total)
    return out


@pytest.mark.parametrize(("env_id", "kwargs"), VARIANTS)
def test_the_optimal_policy_earns_the_optimal_return(env_id, kwargs):
    env = gym.make(env_id, **kwargs).unwrapped
    best = returns_of(env, lambda state: env.rules.best_action(state)[0], episodes=20)
    assert np.mean(best) == pytest.approx(env.optimal_return, abs=1e-9)


@pytest.mark.parametrize("env_id", ["frugalrl/Catch-v0", "frugalrl/DeepSea-v0", "frugalrl/Recall-v0"])
def test_another_policy_earns_less(env_id):
    env = gym.make(env_id).unwrapped
    rng = np.random.default_rng(0)
    some = returns_of(env, lambda state: rng.integers(env.action_space.n), episodes=50)
    assert np.mean(some) < env.optimal_return - 0.5


@pytest.mark.parametrize(("env_id", "kwargs"), VARIANTS)
def test_gymnasium_checker(env_id, kwargs):
    gymnasium_check(gym.make(env_id, **kwargs).unwrapped)


@pytest.mark.parametrize(("env_id", "kwargs"), VARIANTS)
def test_single_and_vector_agree(env_id, kwargs):
    n = 4
    many = vector(env_id, n, **kwargs)
    obs, _ = many.reset(seed=np.arange(10, 10 + n))
    assert obs in many.observation_space
    singles = [gym.make(env_id, **kwargs).unwrapped for _ in range(n)]
    for k, env in enumerate(singles):
        np.testing.assert_array_equal(env.reset(seed=10 + k)[0], obs[k])
    rng = np.random.default_rng(1)
    over = np.zeros(n, bool)
    for _ in range(60):
        actions = rng.integers(many.single_action_space.n, size=n)
        obs, reward, terminated, truncated, _ = many.step(actions)
        assert obs in many.observation_space
        for k, env in enumerate(singles):
            if over[k]:
                np.testing.assert_array_equal(env.reset()[0], obs[k])
                assert (reward[k], terminated[k], truncated[k]) == (0, False, False)
                over[k] = False
                continue
            one = env.step(int(actions[k]))
            np.testing.assert_array_equal(one[0], obs[k])
            assert one[1:4] == (reward[k], terminated[k], truncated[k])
            over[k] = one[2] or one[3]


@pytest.mark.parametrize("env_id", TOYS)
def test_a_masked_reset_leaves_the_other_rows_alone(env_id):
    one, two = vector(env_id, 3), vector(env_id, 3)
    one.reset(seed=5), two.reset(seed=np.array([5, 6, 7]))
    actions = np.random.default_rng(0).integers(2, size=(40, 3))
    for t, action in enumerate(actions):
        if t == 4:
            two.reset(seed=np.array([99]), options={"reset_mask": np.array([False, True, False])})
        a, b = one.step(action), two.step(action)
        for x, y in zip(a[:4], b[:4], strict=True):
            np.testing.assert_array_equal(x[[0, 2]], y[[0, 2]])
    with pytest.raises(ValueError, match="2 seeds for 1 rows"):
        one.reset(seed=np.array([1, 2]), options={"reset_mask": np.array([True, False, False])})


def test_optimal_return_through_the_adapter():
    env = make_env("frugalrl/Catch-v0", protocol=PROTOCOLS["plain"], num_rows=8, seed=0, training=False)
    step = env.reset()
    returns = []
    while len(returns) < 80:
        board = step.obs.reshape(8, 10, 5)
        ball, paddle = board[:, :9].sum(1).argmax(1), board[:, 9].argmax(1)
        step = env.step(np.sign(ball - paddle) + 1)
        returns += [e.raw_return for e in step.episodes]
    assert set(returns) == {1.0}


def test_the_chain_has_the_value_it_says_only_if_the_limit_bootstraps():
    gamma = 0.9
    env = make_env("frugalrl/TimeLimitChain-v0", protocol=PROTOCOLS["plain"], num_rows=1, seed=0, training=True)
    env.reset()
    steps = [env.step(np.array([k % 2])) for k in range(500)]

    def td0(discounts):
        value = 0.0
        for _ in range(40):
            for step, discount in zip(steps, discounts, strict=True):
                if step.valid[0]:
                    value += 0.05 * (step.reward[0] + gamma * discount * value - value)
        return value

    assert td0([s.discount[0] for s in steps]) == pytest.approx(optimal_value(gamma), rel=0.01)
    assert td0([0.0 if s.last[0] else 1.0 for s in steps]) < 0.7 * optimal_value(gamma)


def test_deep_sea_needs_every_right_move():
    env = DeepSea(size=5)
    env.reset(seed=0)
    rewards = [env.step(a)[1] for a in (1, 1, 0, 1, 1)]
    assert rewards == pytest.approx([-0.002, -0.002, 0, -0.002, -0.002])


@pytest.mark.parametrize(("cues", "delay"), [(2, 0), (3, 2)])
def test_recall_looks_alike_when_it_asks(cues, delay):
    env, asked, firsts = Recall(cues, delay), set(), set()
    for seed in range(40):
        obs, _ = env.reset(seed=seed)
        firsts.add(tuple(obs))
        for _ in range(delay + 1):
            obs, reward, over, *_ = env.step(seed % cues)
            assert (reward, over) == (0.0, False)
        asked.add(tuple(obs))
        assert env.step(0)[2]
    assert len(firsts) == cues
    assert asked == {(0.0,) * cues + (1.0,)}


@pytest.mark.parametrize("cues", [2, 4])
def test_whatever_recall_is_answered_without_memory_earns_the_same(cues):
    env, rng = Recall(cues, 1), np.random.default_rng(0)
    for choose in (lambda _: 0, lambda _: rng.integers(cues)):
        mean = np.mean(returns_of(env, choose, episodes=500))
        assert mean == pytest.approx(best_without_memory(cues), abs=0.13)


@pytest.mark.parametrize(
    ("env_id", "kwargs"),
    [
        ("frugalrl/Catch-v0", {"rows": 2, "columns": 9}),
        ("frugalrl/DeepSea-v0", {"size": 1}),
        ("frugalrl/Recall-v0", {"cues": 1}),
        ("frugalrl/TimeLimitChain-v0", {"limit": 1}),
    ],
)
def test_toys_that_make_no_sense(env_id, kwargs):
    with pytest.raises(UserError, match="use"):
        make_env(env_id, protocol=PROTOCOLS["plain"], num_rows=1, seed=0, training=True, env_kwargs=kwargs)


def test_registering_twice_is_harmless():
    register_toys()
    assert all(env_id in gym.registry for env_id in TOYS)
