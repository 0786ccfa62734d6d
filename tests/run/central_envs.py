"""Environments of central runs: they carry counters, and fail at a fixed step where the sampler's own thread steps."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

EPISODE_STEPS = 7


def is_sampled() -> bool:
    """In a worker process or in the thread of a group; evaluations and first births are neither."""
    in_worker = "frugalrl.sampling.worker_main" in sys.modules and "torch" not in sys.modules
    return in_worker or threading.current_thread().name.startswith("environments")


class Counted(gym.Env[Any, Any]):
    """Observation (process, birth in that process, episode of that birth, step); ends after 7 steps."""

    births = 0
    observation_space = spaces.Box(-np.inf, np.inf, (4,), np.float64)
    action_space = spaces.Discrete(2)

    def __init__(self, step_s: float = 0.0) -> None:
        Counted.births += 1
        self.step_s, self.birth, self.episode, self.time = step_s, Counted.births, -1, 0

    def seen(self) -> np.ndarray[Any, Any]:
        return np.array([os.getpid(), self.birth, self.episode, self.time], np.float64)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.episode, self.time = self.episode + 1, 0
        return self.seen(), {}

    def step(self, action: int) -> Any:
        time.sleep(self.step_s)
        self.time += 1
        return self.seen(), float(action), self.time == EPISODE_STEPS, False, {}


class Faulty(gym.Env[Any, Any]):
    """Fails in its first life, its second, ... as ``faults`` says ("step:raise", "reset:nan"), then no more.

    Lives are counted by files in the folder ``lives``; a life begins where the sampler makes or first resets it.
    ``always``: what happens in every life.
    """

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, faults: list[str] = (), lives: str = "", always: str = "", at: int = 9) -> None:  # type: ignore[assignment]
        self.faults, self.lives, self.always, self.at = faults, lives, always, at
        self.steps = self.time = 0
        self.plan: str | None = None
        self.meet("birth")

    def meet(self, where: str) -> str:
        """The fault that is due here, "" for none."""
        if not is_sampled():
            return ""
        if self.plan is None:
            self.plan = self.always or self.next_life()
        at, _, fault = self.plan.partition(":")
        if at != where or (where == "step" and self.steps != self.at):
            return ""
        if fault == "raise":
            raise ZeroDivisionError("the wheel came off")
        if fault == "exit":
            os._exit(7)
        if fault == "hang":
            time.sleep(20)
        return fault

    def next_life(self) -> str:
        life = len(os.listdir(self.lives))
        with open(f"{self.lives}/{life}", "x"):
            return self.faults[life] if life < len(self.faults) else "none"

    def seen(self, fault: str) -> np.ndarray[Any, Any]:
        if fault == "shape":
            return np.zeros(3, np.float32)
        return np.array([np.nan if fault == "nan" else self.time, 1.0], np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.time = 0
        return self.seen(self.meet("reset")), {}

    def step(self, action: int) -> Any:
        self.time += 1
        self.steps += 1
        return self.seen(self.meet("step")), 1.0, self.time >= EPISODE_STEPS, False, {}
