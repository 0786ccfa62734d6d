"""What a run asks of its environments and its replay, where there are neither: prompts are drawn by number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frugalrl.envs.lm import Task
from frugalrl.run.config import RunConfig
from frugalrl.types import EnvSpec, Rows, StateDict


class PromptWorld:
    """A task in the place of environments. It has no threads and nothing to close."""

    def __init__(self, task: Task, config: RunConfig) -> None:
        self.task = task
        self.spec = EnvSpec(
            id=task.id,
            protocol=config.env.protocol,
            obs_kind="index",
            obs_shape=(),
            obs_dtype="int64",
            num_actions=len(task.vocabulary),
            num_indices=len(task.vocabulary),
        )

    def thread_ids(self) -> tuple[int, ...]:
        """None: answers are checked in the loop's thread."""
        return ()

    def close(self) -> None:
        """Nothing is open."""


class NothingKept:
    """The replay of a learner that uses each round once: always empty."""

    once, size, nbytes = True, 0, 0
    oldest_row = rows_written = 0

    def can_sample(self, batch_size: int) -> bool:
        """Never."""
        return False

    def add(self, rows: Rows) -> None:
        raise NotImplementedError("completions go to the learner at once")

    def sample(self, batch_size: int, *, env_step: int) -> Any:
        raise NotImplementedError("completions go to the learner at once")

    def set_priorities(self, keys: NDArray[np.int64], priorities: NDArray[np.floating[Any]]) -> None:
        raise NotImplementedError("completions have no priorities")

    def read_rows(self, start: int, stop: int) -> dict[str, NDArray[Any]]:
        return {}

    def write_rows(self, start: int, rows: Mapping[str, NDArray[Any]]) -> None:
        """A checkpoint holds none."""

    def state_dict(self) -> StateDict:
        return {}

    def load_state_dict(self, state: StateDict) -> None:
        """Nothing was saved."""
