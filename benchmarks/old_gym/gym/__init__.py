"""The part of the old ``gym`` that TorchBeast's wrappers use, over gymnasium and ale-py. Written for that only.

Put the folder above this one on the PYTHONPATH of a program that imports ``gym``, as peer_torchbeast.py does. Old
means: ``reset()`` returns the observation alone, ``step`` four values with one ``done``, ``seed`` is a method, and
``np_random`` has ``randint``. No wrapper of gymnasium is left around the emulator: nothing is added to what is timed.
"""

from typing import Any

import ale_py
import gymnasium
import numpy as np
from gymnasium import spaces

__all__ = ["ObservationWrapper", "RewardWrapper", "Wrapper", "make", "spaces"]

gymnasium.register_envs(ale_py)


class _Emulator:
    """An Atari environment of ale-py under the old interface."""

    def __init__(self, env_id: str) -> None:
        self._env: Any = gymnasium.make(env_id, disable_env_checker=True).unwrapped
        self.spec = self._env.spec
        self.observation_space = self._env.observation_space
        self.action_space = self._env.action_space
        self.ale = self._env.ale
        self.np_random = np.random.RandomState()
        self._next_seed: int | None = None

    @property
    def unwrapped(self) -> "_Emulator":
        return self

    def get_action_meanings(self) -> list[str]:
        return list(self._env.get_action_meanings())

    def seed(self, seed: int) -> None:
        self.np_random.seed(seed)
        self._next_seed = seed

    def reset(self) -> Any:
        obs, _ = self._env.reset(seed=self._next_seed)
        self._next_seed = None
        return obs

    def step(self, action: int) -> tuple[Any, float, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, info = self._env.step(action)
        return obs, float(reward), bool(terminated or truncated), info

    def close(self) -> None:
        self._env.close()


class Wrapper:
    """Everything that a subclass does not define is asked of ``env``."""

    def __init__(self, env: Any) -> None:
        self.env = env
        self.observation_space = env.observation_space
        self.action_space = env.action_space

    def __getattr__(self, name: str) -> Any:
        if name == "env":  # not set yet: without this the lookup would ask itself for ever
            raise AttributeError(name)
        return getattr(self.env, name)

    def reset(self, **kwargs: Any) -> Any:
        return self.env.reset(**kwargs)

    def step(self, action: Any) -> tuple[Any, float, bool, dict[str, Any]]:
        return self.env.step(action)


class ObservationWrapper(Wrapper):
    def observation(self, obs: Any) -> Any:
        raise NotImplementedError

    def reset(self, **kwargs: Any) -> Any:
        return self.observation(self.env.reset(**kwargs))

    def step(self, action: Any) -> tuple[Any, float, bool, dict[str, Any]]:
        obs, reward, done, info = self.env.step(action)
        return self.observation(obs), reward, done, info


class RewardWrapper(Wrapper):
    def reward(self, reward: float) -> float:
        raise NotImplementedError

    def step(self, action: Any) -> tuple[Any, float, bool, dict[str, Any]]:
        obs, reward, done, info = self.env.step(action)
        return obs, self.reward(reward), done, info


def make(env_id: str) -> Any:
    """An environment of ale-py by its old id, for example ``PongNoFrameskip-v4``: no frame skip, no sticky actions."""
    return _Emulator(env_id)
