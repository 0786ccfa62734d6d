"""The pipelined schedule in one thread, with either half first, and in two threads that dawdle."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from frugalrl.run.worker import Worker


class SamplerFirst:
    """Collects at once, before the updates are made."""

    def __init__(self, name: str = "") -> None:
        self._answer: Any = None
        self._error: BaseException | None = None

    def begin(self, work: Callable[[], Any]) -> None:
        self._answer = self._error = None
        try:
            self._answer = work()
        except Exception as error:
            self._error = error

    def finish(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._answer

    def close(self) -> bool:
        return True


class LearnerFirst:
    """Collects when it is asked for the block, after the updates are made."""

    def __init__(self, name: str = "") -> None:
        self._work: Callable[[], Any] | None = None

    def begin(self, work: Callable[[], Any]) -> None:
        self._work = work

    def finish(self) -> Any:
        assert self._work is not None
        work, self._work = self._work, None
        return work()

    def close(self) -> bool:
        return True


class Dawdling(Worker):
    """Two threads; each waits up to ``longest_s`` before it works, so that the halves meet in every order."""

    longest_s = 2e-3
    seed = 0

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._here, self._there = (np.random.default_rng([self.seed, i]) for i in range(2))

    def begin(self, work: Callable[[], Any]) -> None:
        def later() -> Any:
            self._dawdle(self._there)
            return work()

        super().begin(later)
        self._dawdle(self._here)

    def _dawdle(self, rng: np.random.Generator) -> None:
        if rng.random() < 0.5:
            time.sleep(self.longest_s * rng.random())
