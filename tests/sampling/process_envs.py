"""Environments that fail in worker processes at a fixed step, once or always."""

from __future__ import annotations

import os
import signal
import subprocess
import time

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class Faulty(gym.Env):
    """Observation (drawn at reset, step); ends after 5 steps.

    ``faults``: what happens in the first life, in the second, ..., as "step:raise" or "reset:nan"; lives are counted by
    files in ``lives``, and nothing happens in those that come after.
    """

    def __init__(self, faults: list[str] = (), lives: str = "", at: int = 3) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = spaces.Discrete(2)
        self.at, self.steps, self.when, self.fault = at, 0, "", ""
        if faults:
            life = len(os.listdir(lives)) if lives else 0
            if lives:
                open(f"{lives}/{life}", "x").close()
            if life < len(faults):
                self.when, _, self.fault = faults[life].partition(":")
        if self.when == "birth":
            self.fail()

    def fail(self) -> None:
        if self.fault == "raise":
            raise ZeroDivisionError("the wheel came off")
        if self.fault == "exit":
            os._exit(7)
        if self.fault == "sys-exit":
            raise SystemExit("enough")
        if self.fault == "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        if self.fault == "hang":
            time.sleep(3600)
        if self.fault == "child-and-hang":
            subprocess.Popen(["sleep", "300"])
            time.sleep(3600)
        if self.fault == "hang-in-c":  # and holds the interpreter lock: no Python thread of the process can run
            sum(range(10**11))
        if self.fault == "nan":
            self.obs[0] = np.nan
        if self.fault == "shape":
            self.obs = np.zeros(3, np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        self.obs = np.array([self.np_random.integers(10**6), 0], np.float32)
        if self.when == "reset":
            self.fail()
        return self.obs, {}

    def step(self, action):
        self.t += 1
        self.steps += 1
        self.obs = np.array([self.obs[0], self.t], np.float32)
        if self.when == "step" and self.steps == self.at:
            self.fail()
        return self.obs, float(action), False, self.t >= 5, {}


class TalksAndListens(Faulty):
    """Prints, and reads its standard input to the end."""

    def reset(self, *, seed=None, options=None):
        print("hello from an environment")
        assert input_is_empty()
        return super().reset(seed=seed)


def input_is_empty() -> bool:
    return os.read(0, 1) == b""
