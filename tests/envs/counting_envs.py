"""Environments whose every number is predictable, in single and in vector form, and a slow twin of the adapter."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space


class Counting(gym.Env):
    """Observation (drawn number, step, last action); reward = step; ends after a drawn number of 3 to 6 steps."""

    def __init__(self, end: str = "terminated", lives: bool = False, fault: str = "", fault_step: int = 2) -> None:
        self.observation_space = spaces.Box(-1e9, 1e9, (3,), np.float32)
        self.action_space = spaces.Discrete(3)
        self.end, self.has_lives, self.fault, self.fault_step = end, lives, fault, fault_step
        self.buffer = np.zeros(3, np.float32)

    def info(self) -> dict[str, Any]:
        return {"lives": 3 - self.t // 2} if self.has_lives else {}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        self.length = int(self.np_random.integers(3, 7))
        self.buffer[:] = self.np_random.integers(1000), 0, -1
        return self.buffer, self.info()

    def step(self, action):
        self.t += 1
        self.buffer[1:] = self.t, action
        over = self.t >= self.length
        terminated = over and self.end in ("terminated", "both")
        truncated = over and self.end in ("truncated", "both")
        reward, obs = float(self.t), self.buffer
        if self.fault and self.t == self.fault_step:
            if self.fault == "raise":
                raise ZeroDivisionError("the wheel came off")
            if self.fault == "nan-obs":
                obs = np.array([np.nan, 0, 0], np.float32)
            if self.fault == "inf-obs":
                obs = np.array([0, -np.inf, 0], np.float32)
            if self.fault == "shape":
                obs = np.zeros(1, np.float32)
            reward = {"nan-reward": np.nan, "inf-reward": np.inf, "huge-reward": -1e39}.get(self.fault, reward)
        return obs, reward, terminated, truncated, self.info()


class Forgetful(Counting):
    """Does not follow from its seed."""

    def reset(self, *, seed=None, options=None):
        answer = super().reset(seed=None, options=options)
        self.buffer[0] = np.random.default_rng().integers(10**6)
        return answer


class CountingVector(VectorEnv):
    """Rows of ``Counting``; reuses its observation buffer on purpose."""

    metadata: ClassVar[dict[str, Any]] = {"autoreset_mode": AutoresetMode.NEXT_STEP, "row_seeding": True}
    single = Counting

    def __init__(self, num_envs: int = 1, **kwargs: Any) -> None:
        self.envs = [self.single(**kwargs) for _ in range(num_envs)]
        self.num_envs = num_envs
        self.single_observation_space = self.envs[0].observation_space
        self.single_action_space = self.envs[0].action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.obs = np.zeros((num_envs, 3), np.float32)
        self.ended = np.zeros(num_envs, bool)

    def lives(self) -> dict[str, Any]:
        return {"lives": np.array([e.info()["lives"] for e in self.envs])} if self.envs[0].has_lives else {}

    def reset(self, *, seed=None, options=None):
        mask = np.ones(self.num_envs, bool) if not options else options["reset_mask"]
        rows = np.flatnonzero(mask)
        seeds = [None] * len(rows) if seed is None else [int(s) for s in seed]
        assert len(seeds) == len(rows)
        for row, own in zip(rows, seeds, strict=True):
            self.obs[row] = self.envs[row].reset(seed=own)[0]
            self.ended[row] = False
        return self.obs, self.lives()

    def step(self, actions):
        reward = np.zeros(self.num_envs)
        terminated, truncated = np.zeros((2, self.num_envs), bool)
        final = np.full(self.num_envs, None, object)
        same = self.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
        for row, env in enumerate(self.envs):
            if self.ended[row]:
                self.obs[row] = env.reset()[0]
                self.ended[row] = False
                continue
            self.obs[row], reward[row], terminated[row], truncated[row], _ = env.step(actions[row])
            if terminated[row] or truncated[row]:
                if same:
                    final[row] = self.obs[row].copy()
                    self.obs[row] = env.reset()[0]
                else:
                    self.ended[row] = True
        info = self.lives()
        if same and (terminated | truncated).any():
            info |= {"final_obs": final, "_final_obs": terminated | truncated}
        return self.obs, reward, terminated, truncated, info


class Shifted(Counting):
    """The same with actions -1, 0 and 1."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.action_space = spaces.Discrete(3, start=-1)


class ShiftedVector(CountingVector):
    single = Shifted


class Rising(Counting):
    """Lives are won, so that the next episode starts with fewer than the last one ended with."""

    def info(self) -> dict[str, Any]:
        return {"lives": self.t}


class RisingVector(CountingVector):
    single = Rising

    def lives(self) -> dict[str, Any]:
        return {"lives": np.array([e.t for e in self.envs])}


class CountingSameStep(CountingVector):
    metadata: ClassVar[dict[str, Any]] = {"autoreset_mode": AutoresetMode.SAME_STEP, "row_seeding": True}


class CountingDisabled(CountingVector):
    metadata: ClassVar[dict[str, Any]] = {"autoreset_mode": AutoresetMode.DISABLED, "row_seeding": True}


class CountingNotSeeded(CountingVector):
    metadata: ClassVar[dict[str, Any]] = {"autoreset_mode": AutoresetMode.NEXT_STEP}


class CountingNoOptions(CountingVector):
    def reset(self, *, seed=None):
        return super().reset(seed=seed)


class Spaced(gym.Env):
    """Any spaces; observations are sampled from them."""

    def __init__(self, obs_space=None, act_space=None) -> None:
        self.observation_space = obs_space or spaces.Box(0, 1, (2,), np.float32)
        self.action_space = act_space or spaces.Discrete(2)
        self.taken = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        self.taken.append(action)
        return self.observation_space.sample(), 0.0, False, False, {}


def slow_rows(seeds, actions, *, make=Counting, life_loss=False, limit=None):
    """What one row must answer: [(obs, reward, discount, last, valid)], by the definition.

    ``seeds`` of the row's episodes in order, ``actions`` [T] including those that are ignored.
    """
    env, seeds = make(), iter(seeds)
    obs, info = env.reset(seed=next(seeds))
    out = [(obs.copy(), 0.0, 1.0, False, False)]
    lives, over = info.get("lives", 0), False
    for action in actions:
        if over:
            obs, info = env.reset(seed=next(seeds))
            lives, over = info.get("lives", 0), False
            out.append((obs.copy(), 0.0, 1.0, False, False))
            continue
        obs, reward, terminated, truncated, info = env.step(int(action))
        truncated = truncated or (limit is not None and env.t >= limit)
        over = terminated or truncated
        lost = life_loss and info["lives"] < lives
        lives = info.get("lives", 0)
        out.append((obs.copy(), reward, 0.0 if terminated or lost else 1.0, over, True))
    return out
