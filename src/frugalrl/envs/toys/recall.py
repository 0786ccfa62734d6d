"""Recall: a cue is shown once, at the start, and asked for after a delay; only a policy with memory can answer.

The smallest relative of bsuite's memory_len (Osband et al. 2020). Observation: float32 [cues + 1], the cue one-hot in
the first row, zeros while it waits, and 1 in the last place when it asks. Actions: one per cue; only the answer counts.
Reward +1 for the right answer, -1 for a wrong one, at the end of delay + 2 steps.
Optimal return: exactly 1. When it asks, all episodes look alike, so without memory no policy, random or not, earns more
than ``2 / cues - 1``, and each earns exactly that.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from frugalrl.envs.toys.core import Bools, Ints, ToyEnv, ToyVectorEnv
from frugalrl.types import UserError

_CUE, _TIME = 0, 1


class RecallRules:
    """State: cue, steps done."""

    time_limit = None
    optimal_return = 1.0

    def __init__(self, cues: int = 2, delay: int = 5) -> None:
        if cues < 2 or delay < 0:
            raise UserError(f"Recall with cues={cues}, delay={delay} asks nothing; use cues >= 2 and delay >= 0.")
        self.cues, self.delay = cues, delay
        self.num_actions = cues
        self.action_meanings = tuple(f"CUE {k}" for k in range(cues))
        self.board = 1, cues + 1
        self.observation_space = spaces.Box(0.0, 1.0, (cues + 1,), np.float32)

    def start(self, rng: np.random.Generator) -> Ints:
        """A random cue."""
        return np.array([rng.integers(self.cues), 0], np.int64)

    def advance(self, state: Ints, action: Ints) -> tuple[Ints, NDArray[np.float64], Bools]:
        """Time goes on; the answer is given when it is asked for."""
        asked = state[:, _TIME] == self.delay + 1
        after = state.copy()
        # A row that is stepped once more after its end (its reset follows) stays at the end.
        after[:, _TIME] = np.minimum(state[:, _TIME] + 1, self.delay + 2)
        reward = np.where(asked, np.where(action == state[:, _CUE], 1.0, -1.0), 0.0)
        return after, reward, after[:, _TIME] == self.delay + 2

    def observe(self, state: Ints) -> NDArray[Any]:
        """The cue at first, the question at last, zeros between them and after the end."""
        seen = np.zeros((len(state), self.cues + 1), np.float32)
        rows = np.arange(len(state))
        seen[rows, state[:, _CUE]] = state[:, _TIME] == 0
        seen[:, -1] = state[:, _TIME] == self.delay + 1
        return seen

    def best_action(self, state: Ints) -> Ints:
        """The cue."""
        return state[:, _CUE].copy()


def best_without_memory(cues: int) -> float:
    """Expected return of every policy that acts on the present observation alone."""
    return 2.0 / cues - 1.0


class Recall(ToyEnv):
    """``frugalrl/Recall-v0``."""

    def __init__(self, cues: int = 2, delay: int = 5, render_mode: str | None = None) -> None:
        super().__init__(RecallRules(cues, delay))
        self.render_mode = render_mode


class RecallVector(ToyVectorEnv):
    """``frugalrl/Recall-v0``, vectorised."""

    def __init__(self, num_envs: int = 1, cues: int = 2, delay: int = 5) -> None:
        super().__init__(RecallRules(cues, delay), num_envs)
