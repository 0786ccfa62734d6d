"""``check_env`` passes what is sound and names what is not."""

import sys
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from counting_envs import Counting, CountingVector, Forgetful, Spaced
from gymnasium import spaces

from frugalrl.envs import check_env, make_env, named_protocol
from frugalrl.envs.check import Report, _ends
from frugalrl.envs.python_rows import PythonRows


def verdicts(report: Report):
    return {item.name: item.passed for item in report.items}


@pytest.mark.parametrize(
    "env_id",
    [
        "CartPole-v1",
        "FrozenLake-v1",
        "frugalrl/Catch-v0",
        "frugalrl/DeepSea-v0",
        "frugalrl/Recall-v0",
        "frugalrl/TimeLimitChain-v0",
        "MinAtar/Breakout-v1",
        "counting_envs:CountingSameStep",
    ],
)
def test_sound_environments_pass_everything(env_id):
    report = check_env(env_id)
    assert report.ok, str(report)
    assert len(report.items) == 9
    assert set(verdicts(report).values()) == {True}


@pytest.mark.parametrize("protocol", ["atari100k", "ale-sticky"])
def test_breakout_passes_everything(protocol):
    short = replace(named_protocol(protocol), max_episode_steps=30)
    report = check_env("ALE/Breakout-v5", protocol=short, steps=70)
    assert set(verdicts(report).values()) == {True}, str(report)


def test_an_environment_and_a_callable_can_be_given():
    report = check_env(gym.make("CartPole-v1"))
    assert report.ok
    assert report.env_id == "CartPole-v1"
    assert verdicts(report)["rows seeded alone"] is None
    assert check_env(Counting, env_kwargs={"end": "truncated"}).ok
    assert verdicts(check_env(Spaced))["ends"] is None


@pytest.mark.parametrize(
    ("env", "kwargs", "name"),
    [
        (Forgetful, {}, "same seed"),
        (Forgetful, {}, "replay"),
        (Forgetful, {}, "rows seeded alone"),
        (Counting, {"fault": "raise"}, "reset and step"),
        (Counting, {"fault": "nan-obs"}, "reset and step"),
        (Counting, {"fault": "nan-reward"}, "reset and step"),
        (Counting, {"fault": "shape"}, "reset and step"),
        (Counting, {"no_such_argument": 1}, "spaces"),
        (sys.exit, {}, "spaces"),
        (dict, {}, "spaces"),
        (Spaced, {"act_space": spaces.Box(0, 1, (2,))}, "spaces"),
        (Spaced, {"obs_space": spaces.Dict({"a": spaces.Discrete(2)})}, "spaces"),
    ],
)
def test_what_is_broken_is_named(env, kwargs, name):
    """Also what fails before it is an environment."""
    report = check_env(env, env_kwargs=kwargs)
    assert not report.ok
    assert verdicts(report)[name] is False
    assert f"FAIL  {name}: " in str(report)


class Closing(Counting):
    closed = 0

    def close(self):
        type(self).closed += 1


def test_an_environment_of_the_caller_stays_open(monkeypatch):
    """A simulator that is closed cannot be used again, and who gave it goes on with it."""
    monkeypatch.setattr(Closing, "closed", 0)
    check_env(Closing(), steps=20)
    assert Closing.closed == 0
    check_env(Closing, steps=20)
    assert Closing.closed == 5, "two rows, one alone, and two that come back"


class Tensors(Spaced):
    """Gives tensors of torch."""

    def __init__(self, dtype=torch.float32):
        super().__init__(obs_space=spaces.Box(0, 1, (2,), np.float32))
        self.dtype = dtype

    def reset(self, **kwargs):
        super().reset(**kwargs)
        return torch.zeros(2, dtype=self.dtype), {}

    def step(self, action):
        return torch.zeros(2, dtype=self.dtype), *super().step(action)[1:]


def test_tensors_are_compared_with_the_space_too():
    """Training takes them; the check failed with "did not understand one of the types"."""
    assert check_env(Tensors, steps=20).ok, str(check_env(Tensors, steps=20))
    wide = check_env(Tensors, env_kwargs={"dtype": torch.float64}, steps=20)
    assert "is float64 but the space says float32" in str(wide)


class Beside(Spaced):
    """Gives what its space does not say."""

    def __init__(self, say, give):
        super().__init__(obs_space=say)
        self.give = give

    def reset(self, **kwargs):
        super().reset(**kwargs)
        return self.give, {}


class BesideVector(CountingVector):
    def __init__(self, num_envs=1):
        super().__init__(num_envs)
        self.single_observation_space = spaces.Box(-1e9, 2, (3,), np.float32)


@pytest.mark.parametrize(
    ("say", "give", "said"),
    [
        (spaces.Box(0, 1, (2,), np.float32), np.zeros(2), "is float64 but the space says float32"),
        (spaces.Box(0, 1, (2,), np.float32), np.float32([0, 3]), "holds 3.0 at (1,), outside the space's [0.0, 1.0]"),
        (spaces.Box(0, 1, (8, 8), np.uint8), np.full((8, 8), 2, np.uint8), "holds 2 at (0, 0), outside the space's"),
        (spaces.Box(0, 255, (8, 8), np.uint8), np.full((8, 8), 2, np.int64), "is int64 but the space says uint8"),
        (spaces.Discrete(3), np.float64(1), "is float64 but the space says int64"),
    ],
)
def test_raw_observations_are_compared_with_the_space(say, give, said):
    report = check_env(Beside, env_kwargs={"say": say, "give": give}, steps=20)
    (item,) = [item for item in report.items if item.name == "dtype and shape"]
    assert item.passed is False
    assert said in item.sentence
    assert verdicts(check_env(Beside, env_kwargs={"say": say, "give": say.sample()}, steps=20))["dtype and shape"]


def test_raw_observations_of_vector_environments_too(monkeypatch):
    monkeypatch.setitem(sys.modules, "test_envs_check", sys.modules[__name__])
    assert verdicts(check_env("test_envs_check:BesideVector"))["dtype and shape"] is False


class OnlyOnce(Counting):
    """The first ``most`` instances can be made; the next one does what ``then`` says."""

    most, then = 2, None

    def __init__(self):
        OnlyOnce.most -= 1
        if OnlyOnce.most < 0:
            OnlyOnce.then()
        super().__init__()


def broken():
    raise RuntimeError("the licence is for two")


@pytest.mark.parametrize(("then", "said"), [(broken, "RuntimeError: the licence is for two"), (sys.exit, "SystemExit")])
@pytest.mark.parametrize("env", [OnlyOnce, "test_envs_check:OnlyOnce"])
def test_a_check_that_cannot_be_finished_is_an_item_and_keeps_what_was_found(monkeypatch, then, said, env):
    monkeypatch.setattr(OnlyOnce, "most", 2)
    monkeypatch.setattr(OnlyOnce, "then", staticmethod(then))
    monkeypatch.setitem(sys.modules, "test_envs_check", sys.modules[__name__])
    report = check_env(env, steps=20)
    assert not report.ok
    assert len(report.items) == 8
    assert all(item.passed is not False for item in report.items[:7])
    assert report.items[-1].name == "rows seeded alone"
    assert said in report.items[-1].sentence


def test_an_adapter_that_mistranslates_ends_is_caught():

    env = make_env("frugalrl/Catch-v0", protocol=named_protocol("plain"), num_rows=2, seed=0, training=True)
    path = [env.reset()]
    for _ in range(30):
        path.append(env.step(np.ones(2, np.int64)))
    assert _ends(path).passed
    wrong = [replace(s, valid=s.valid | True) if t else s for t, s in enumerate(path)]
    assert _ends(wrong).passed is False
    wrong = [replace(s, discount=s.discount * 0 + 1) for s in path]
    assert _ends(wrong).passed is False
    wrong = [replace(s, episodes=()) for s in path]
    assert _ends(wrong).passed is False


def test_reused_observations_are_caught(monkeypatch):
    plain = PythonRows._advance

    def reusing(self, action, dead):
        raw = plain(self, action, dead)
        buffer = self.__dict__.setdefault("buffer", raw.obs)
        buffer[...] = raw.obs
        return raw._replace(obs=buffer)

    monkeypatch.setattr(PythonRows, "_advance", reusing)
    assert verdicts(check_env("CartPole-v1"))["observations kept"] is False
