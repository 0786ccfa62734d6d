"""How a toy becomes a Gymnasium environment and a Gymnasium vector environment: its rules are written once, in numpy.

Rules are pure functions of an integer state [B, K], so the single environment is the vector one with B = 1 and both
agree by construction. Rows of the vector environment can be seeded alone (``metadata["row_seeding"]``): ``reset`` takes
one seed per row that is reset, in row order, and ``options={"reset_mask": [B] bool}``.

Rules may also have ``action_meanings`` (a name per action) and ``board`` (rows and columns of the picture that their
observation is); both are only shown.
"""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


class Rules(Protocol):
    """What makes a toy."""

    num_actions: int
    optimal_return: float
    """Expected undiscounted return of one episode under an optimal policy."""

    @property
    def observation_space(self) -> spaces.Space[Any]:
        """Of one row."""
        ...

    @property
    def time_limit(self) -> int | None:
        """Agent steps after which an episode is truncated."""
        ...

    def start(self, rng: np.random.Generator) -> Ints:
        """First state of an episode [K]."""
        ...

    def advance(self, state: Ints, action: Ints) -> tuple[Ints, NDArray[np.float64], Bools]:
        """[B, K], [B] -> next state [B, K], reward [B], terminated [B]; writes to no argument."""
        ...

    def observe(self, state: Ints) -> NDArray[Any]:
        """[B, K] -> observations [B, ...], fresh."""
        ...

    def best_action(self, state: Ints) -> Ints:
        """[B, K] -> an optimal action [B]."""
        ...


class ToyEnv(gym.Env[Any, Any]):
    """One row of a toy. ``optimal_return`` is known exactly."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}  # type: ignore[misc]

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.optimal_return = rules.optimal_return
        self.observation_space = rules.observation_space
        self.action_space = spaces.Discrete(rules.num_actions)
        self.state: Ints = np.zeros((1, 0), np.int64)
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Starts an episode."""
        super().reset(seed=seed)
        self.state = self.rules.start(self.np_random)[None]
        self._steps = 0
        return self._observed(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Applies one action."""
        self.state, reward, terminated = self.rules.advance(self.state, np.array([action], np.int64))
        self._steps += 1
        truncated = self.rules.time_limit is not None and self._steps >= self.rules.time_limit
        return self._observed(), float(reward[0]), bool(terminated[0]), truncated, {}

    def get_action_meanings(self) -> list[str]:
        """A name per action."""
        return _meanings(self.rules)

    def _observed(self) -> Any:
        return self.rules.observe(self.state)[0]


class ToyVectorEnv(VectorEnv[Any, Any, Any]):
    """B rows of a toy, all stepped by the same numpy calls; autoreset is NEXT_STEP."""

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "render_modes": [],
        "autoreset_mode": AutoresetMode.NEXT_STEP,
        "row_seeding": True,
        "fresh_obs": True,
    }

    def __init__(self, rules: Rules, num_envs: int) -> None:
        self.rules = rules
        self.optimal_return = rules.optimal_return
        self.num_envs = num_envs
        self.single_observation_space = rules.observation_space
        self.single_action_space = spaces.Discrete(rules.num_actions)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._rngs = [np.random.default_rng() for _ in range(num_envs)]
        self.state: Ints = np.stack([rules.start(rng) for rng in self._rngs])
        self._steps = np.zeros(num_envs, np.int64)
        self._ended = np.zeros(num_envs, np.bool_)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Resets all rows, or those of ``options["reset_mask"]``.

        ``seed``: None (each row goes on with its own stream), an int s (rows get s, s+1, ...), or one per row that is
        reset, in row order.
        """
        mask = np.ones(self.num_envs, np.bool_) if options is None else options.get("reset_mask")
        rows = np.arange(self.num_envs) if mask is None else np.flatnonzero(mask)
        if seed is not None:
            seeds = np.arange(seed, seed + len(rows)) if isinstance(seed, int) else np.asarray(seed)
            if seeds.shape != rows.shape:
                raise ValueError(f"{seeds.shape[0]} seeds for {rows.shape[0]} rows that are reset")
            for row, own in zip(rows, seeds, strict=True):
                self._rngs[row] = np.random.default_rng(int(own))
        self._restart(rows)
        return self.rules.observe(self.state), {}

    def step(self, actions: Any) -> tuple[Any, NDArray[np.float64], Bools, Bools, dict[str, Any]]:
        """Steps all rows; rows that ended with the last step are reset instead (reward 0, action ignored)."""
        fresh = self._ended
        self.state, reward, terminated = self.rules.advance(self.state, np.asarray(actions, np.int64))
        self._steps += 1
        truncated = np.zeros(self.num_envs, np.bool_)
        if self.rules.time_limit is not None:
            truncated = self._steps >= self.rules.time_limit
        if fresh.any():
            self._restart(np.flatnonzero(fresh))
            reward = np.where(fresh, 0.0, reward)
            terminated, truncated = terminated & ~fresh, truncated & ~fresh
        self._ended = terminated | truncated
        return self.rules.observe(self.state), reward, terminated, truncated, {}

    def get_action_meanings(self) -> list[str]:
        """A name per action."""
        return _meanings(self.rules)

    def _restart(self, rows: Ints) -> None:
        state, ended = self.state.copy(), self._ended.copy()
        for row in rows:
            state[row] = self.rules.start(self._rngs[row])
        ended[rows] = False
        self.state, self._ended = state, ended
        self._steps[rows] = 0


def _meanings(rules: Rules) -> list[str]:
    return list(getattr(rules, "action_meanings", map(str, range(rules.num_actions))))
