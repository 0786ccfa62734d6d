"""TimeLimitChain: each step pays 1 and only a time limit ends the episode, so every value is 1 / (1 - gamma).

A learner that treats the time limit as the end of the return finds (1 - gamma**k) / (1 - gamma) with k steps left
instead (Pardo et al. 2018, Time Limits in Reinforcement Learning). The observation is the place in a ring, Discrete,
and does not tell the time. Actions: 0 stay, 1 go on; both pay the same.
Optimal return: exactly ``limit``, for every policy; what is to be learned is the value.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from frugalrl.envs.toys.core import Bools, Ints, ToyEnv, ToyVectorEnv
from frugalrl.types import UserError


class TimeLimitChainRules:
    """State: place in the ring."""

    num_actions = 2
    action_meanings = ("STAY", "GO ON")

    def __init__(self, length: int = 4, limit: int = 8) -> None:
        if length < 1 or limit < 2:
            raise UserError(f"TimeLimitChain with length={length}, limit={limit}: use length >= 1 and limit >= 2.")
        self.length, self.time_limit = length, limit
        self.board = 1, length
        self.optimal_return = float(limit)
        self.observation_space = spaces.Discrete(length)

    def start(self, rng: np.random.Generator) -> Ints:
        """A random place, so that place and time say nothing about each other."""
        return rng.integers(self.length, size=1)

    def advance(self, state: Ints, action: Ints) -> tuple[Ints, NDArray[np.float64], Bools]:
        """Pays 1."""
        after = (state + action[:, None]) % self.length
        return after, np.ones(len(state)), np.zeros(len(state), np.bool_)

    def observe(self, state: Ints) -> NDArray[Any]:
        """The place."""
        return state[:, 0].copy()

    def best_action(self, state: Ints) -> Ints:
        """Any."""
        return np.ones(len(state), np.int64)


def optimal_value(gamma: float) -> float:
    """Value of every state when the time limit bootstraps, as it must: 1 / (1 - gamma)."""
    return 1.0 / (1.0 - gamma)


class TimeLimitChain(ToyEnv):
    """``frugalrl/TimeLimitChain-v0``."""

    def __init__(self, length: int = 4, limit: int = 8, render_mode: str | None = None) -> None:
        super().__init__(TimeLimitChainRules(length, limit))
        self.render_mode = render_mode


class TimeLimitChainVector(ToyVectorEnv):
    """``frugalrl/TimeLimitChain-v0``, vectorised."""

    def __init__(self, num_envs: int = 1, length: int = 4, limit: int = 8) -> None:
        super().__init__(TimeLimitChainRules(length, limit), num_envs)
