"""What the tests of central samplers share: policies in numpy, environments from other tests, a meter."""

from __future__ import annotations

from typing import Any

import numpy as np

from frugalrl.cost.meters import LapTimer
from frugalrl.envs import PROTOCOLS, RowEnv, make_env
from frugalrl.math.schedules import Schedule
from frugalrl.sampling.exploration import ExploreConfig
from frugalrl.sampling.threads import EPISODES_PER_LIFE
from frugalrl.types import Cost, PolicySnapshot

SEED = 5


class Linear:
    """Q = obs @ w in float64, nearly without ties; feed-forward."""

    gpu_s: float | None = None
    """It runs on no GPU."""

    def __init__(self, width: int = 3, actions: int = 3) -> None:
        self.weight = np.random.default_rng(0).normal(size=(width, actions))
        self.version = 0
        self.sizes: list[int] = []

    def load(self, snapshot: PolicySnapshot) -> int:
        self.version = snapshot.version
        return 0

    def snapshot(self) -> PolicySnapshot:
        return PolicySnapshot(version=self.version, parameters={})

    def q_values(self, obs: np.ndarray, draw: int = 0) -> np.ndarray:
        self.sizes.append(len(obs))
        return np.sin(obs.astype(np.float64) @ self.weight)

    def initial_state(self, rows: int) -> dict[str, np.ndarray]:
        return {}

    def values(self, obs: np.ndarray, state: Any, draw: int = 0) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        return self.q_values(obs, draw), {}


class Timed(Linear):
    """Each forward pass takes a GPU half a second, by its own count."""

    def __init__(self) -> None:
        super().__init__()
        self.gpu_s = 2.0

    def q_values(self, obs: np.ndarray, draw: int = 0) -> np.ndarray:
        self.gpu_s += 0.5
        return super().q_values(obs, draw)


class Remembering(Linear):
    """A recurrent policy: h decays and takes in observation, last action and last reward."""

    def initial_state(self, rows: int) -> dict[str, np.ndarray]:
        return {
            "h": np.zeros((rows, 3)),
            "action_tm1": np.full(rows, -1, np.int64),
            "reward_tm1": np.zeros(rows, np.float32),
        }

    def values(self, obs: np.ndarray, state: Any, draw: int = 0) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        self.sizes.append(len(obs))
        inputs = np.stack([state["action_tm1"], state["reward_tm1"], np.ones(len(obs))], 1)
        h = np.tanh(0.5 * state["h"] + 0.01 * obs + 0.1 * inputs)
        return np.sin(7 * h @ self.weight), {**state, "h": h}


def make_rows(name: str = "Counting", **kwargs: Any):
    """(group, first row, rows, incarnation) -> rows of an environment of the tests of environments."""

    def make(group: int, first_row: int, num_rows: int, incarnation: int) -> RowEnv:
        return make_env(
            f"envs.counting_envs:{name}",
            protocol=PROTOCOLS["plain"],
            num_rows=num_rows,
            seed=SEED,
            training=True,
            env_kwargs=kwargs,
            first_row=first_row,
            first_episode=EPISODES_PER_LIFE * incarnation,
        )

    return make


def exploring(name: str = "epsilon-greedy", epsilon: Schedule | None = None, **changes: Any) -> ExploreConfig:
    """eps 0.3 in all rows, unless told otherwise."""
    return ExploreConfig(name=name, epsilon=epsilon or Schedule(kind="constant", start=0.3), **changes)


def cost_of(rows: int) -> Cost:
    """FLOPs and bytes of a forward pass."""
    return Cost(flop=100.0 * rows, bytes_min=10.0 * rows)


def running_timer() -> LapTimer:
    timer = LapTimer()
    timer.start()
    return timer
