"""Environments that answer wrongly, in single and in vector form: ``fault`` says how, from ``fault_step`` on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from counting_envs import Counting, CountingSameStep, CountingVector
from gymnasium import spaces


class Mine(BaseException):
    """What no ``except Exception`` catches."""


def raises(error: BaseException) -> Callable[[], Any]:
    def throw() -> Any:
        raise error

    return throw


STOPS: dict[str, Callable[[], Any]] = {
    "exit": lambda: sys.exit(0),
    "generator-exit": raises(GeneratorExit("over")),
    "mine": raises(Mine("not an Exception")),
    "interrupt": raises(KeyboardInterrupt()),
}
"""In step and reset."""

ONE: dict[str, tuple[str, Any]] = {
    "str-reward": ("reward", "1.5"),
    "none-reward": ("reward", None),
    "complex-reward": ("reward", 1 + 2j),
    "long-reward": ("reward", 10**400),
    "column-reward": ("reward", np.ones(1)),
    "str-end": ("terminated", "False"),
    "none-end": ("terminated", None),
    "nan-end": ("truncated", np.nan),
    "two-end": ("truncated", 2),
}
"""What one row says in the place of one of its answers."""

WHERE = {"reward": 1, "terminated": 2, "truncated": 3}


class Faulty(Counting):
    def __init__(self, fault: str = "", fault_step: int = 2) -> None:
        super().__init__()
        self.wrong, self.after = fault, fault_step

    def reset(self, *, seed=None, options=None):
        if self.wrong.startswith("reset-"):
            STOPS[self.wrong.removeprefix("reset-")]()
        return super().reset(seed=seed, options=options)

    def step(self, action):
        answer = list(super().step(action))
        if self.t >= self.after:
            if self.wrong in STOPS:
                STOPS[self.wrong]()
            if self.wrong == "large-obs":
                answer[0] = np.array([0, 1e300, 0])
            if self.wrong in ONE:
                name, value = ONE[self.wrong]
                answer[WHERE[name]] = value
        if self.wrong == "whole-ends":
            answer[1:4] = [int(x) for x in answer[1:4]]
        if self.wrong == "numpy-answers":
            answer[1:4] = np.float16(answer[1]), np.bool_(answer[2]), np.array(answer[3])
        return tuple(answer)


class FaultyImage(Faulty):
    """Images are read row by row."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.observation_space = spaces.Box(-1e9, 1e9, (3, 1), np.float32)

    def reset(self, **kwargs):
        obs, info = super().reset(**kwargs)
        return obs[:, None], info

    def step(self, action):
        obs, *others = super().step(action)
        return obs[:, None], *others


def _first_is(value: Any) -> Callable[[np.ndarray], list[Any]]:
    return lambda array: [value, *array.tolist()[1:]]


ALL: dict[str, tuple[str, Callable[[np.ndarray], Any]]] = {
    "column-reward": ("reward", lambda r: r[:, None]),
    "one-reward": ("reward", lambda r: r[0]),
    "list-reward": ("reward", lambda r: r.tolist()),
    "int-reward": ("reward", lambda r: r.astype(np.int64)),
    "float32-reward": ("reward", lambda r: r.astype(np.float32)),
    "none-reward": ("reward", _first_is(None)),
    "str-reward": ("reward", lambda r: r.astype(str)),
    "int-end": ("terminated", lambda e: e.astype(np.int64)),
    "uint8-end": ("terminated", lambda e: e.astype(np.uint8)),
    "list-end": ("terminated", lambda e: e.tolist()),
    "float-end": ("terminated", lambda e: e.astype(np.float32)),
    "half-end": ("terminated", lambda e: e + 0.5),
    "none-end": ("truncated", _first_is(None)),
    "str-end": ("truncated", lambda e: e.astype(str)),
    "two-end": ("truncated", _first_is(2)),
    "one-end": ("truncated", lambda e: e[0]),
}
"""What a vector environment says in the place of one of its answers."""


class FaultyVector(CountingVector):
    def __init__(self, num_envs: int = 1, fault: str = "", fault_step: int = 0) -> None:
        super().__init__(num_envs)
        self.fault, self.after, self.steps = fault, fault_step, 0

    def reset(self, *, seed=None, options=None):
        if self.fault == "reset-exit":
            sys.exit(0)
        return super().reset(seed=seed, options=options)

    def step(self, actions):
        self.steps += 1
        answer = list(super().step(actions))
        if self.steps > self.after:
            if self.fault in STOPS:
                STOPS[self.fault]()
            if self.fault in ALL:
                name, change = ALL[self.fault]
                answer[WHERE[name]] = change(answer[WHERE[name]])
        return tuple(answer)

    def close(self):
        if self.fault == "close-exit":
            sys.exit(0)


class FaultySameStep(FaultyVector):
    metadata = CountingSameStep.metadata
