"""The steps of one block of an inline sampler, stacked time-major at the end."""

from __future__ import annotations

from typing import Any

import numpy as np

from frugalrl.math.explore import Choice, Memory
from frugalrl.types import Episode, Rows, Step

Version = int | np.ndarray[Any, Any]
"""Of the weights that acted: one for all rows, or [B]."""


class Block:
    """Grows step by step."""

    def __init__(self, env_steps_before: int, forwards_before: int) -> None:
        self.env_steps_before, self.forwards_before, self.calls = env_steps_before, forwards_before, 0
        self._steps: list[Step] = []
        self._choices: list[Choice] = []
        self._versions: list[Version] = []
        self._states: list[Memory] = []
        self._q: list[np.ndarray[Any, Any] | None] = []
        self.episodes: list[Episode] = []

    def add(
        self, step: Step, choice: Choice, version: Version, state: Memory, q: np.ndarray[Any, Any] | None = None
    ) -> None:
        self._states.append(state)
        self._steps.append(step)
        self._choices.append(choice)
        self._versions.append(version)
        self._q.append(q)
        if step.episodes:
            self.episodes.extend(step.episodes)

    def q(self) -> np.ndarray[Any, Any] | None:
        """[T, B, A], NaN where no forward pass was made; None without any."""
        made = next((q for q in self._q if q is not None), None)
        if made is None:
            return None
        none = np.full_like(made, np.nan)
        return np.array([none if q is None else q for q in self._q])

    def rows(self) -> Rows:
        steps, choices = self._steps, self._choices
        rows = len(steps[0].last)
        return Rows(
            obs=np.array([s.obs for s in steps]),
            action=np.array([c.action for c in choices]),
            reward=np.array([s.reward for s in steps]),
            discount=np.array([s.discount for s in steps]),
            last=np.array([s.last for s in steps]),
            valid=np.array([s.valid for s in steps]),
            log_mu=np.array([c.log_mu for c in choices]),
            version=_by_row(self._versions, rows),
            explored=np.array([c.explored for c in choices]),
            state={name: np.array([state[name] for state in self._states]) for name in self._states[0]},
        )


def no_choice(rows: int) -> Choice:
    """The action of rows that are about to be reset, which nobody uses."""
    return Choice(np.zeros(rows, np.int64), np.full(rows, np.nan, np.float32), np.zeros(rows, np.bool_))


def _by_row(versions: list[Version], rows: int) -> np.ndarray[Any, Any]:
    made = np.array(versions, np.int64)
    return made if made.ndim == 2 else np.repeat(made[:, None], rows, 1)
