"""The tasks that ship: one function each, and its entry in ``TASKS``."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from frugalrl.envs.lm.task import Task, as_digits, as_number, digits_task
from frugalrl.types import UserError

PREFIX = "lm:"
"""What the id of every task begins with."""
_LONGEST = 256


def sort_digits(*, length: int = 10, end: bool = False) -> Task:
    """Sort digits: ``4071=`` is answered by ``0147``."""
    solve = lambda d: np.sort(d, axis=-1)  # noqa: E731 - one expression, named where it is used
    return digits_task("lm:sort-digits", digits=length, answer_digits=length, solve=solve, end=end)


def reverse(*, length: int = 10, end: bool = False) -> Task:
    """Reverse digits: ``4071=`` is answered by ``1704``."""
    return digits_task("lm:reverse", digits=length, answer_digits=length, solve=lambda d: d[:, ::-1], end=end)


def copy(*, length: int = 10, end: bool = False) -> Task:
    """Repeat digits: ``4071=`` is answered by ``4071``."""
    return digits_task("lm:copy", digits=length, answer_digits=length, solve=lambda d: d, end=end)


def addition(*, length: int = 3, end: bool = False) -> Task:
    """Add two numbers of ``length`` digits: ``407+061=`` is answered by ``0468``, with zeros in front."""
    if length > 17:
        raise UserError(f"lm:addition has length={length}: sums are counted in 64 bits, so give at most 17")
    return digits_task(
        "lm:addition",
        digits=2 * length,
        answer_digits=length + 1,
        solve=lambda d: as_digits(as_number(d[:, :length]) + as_number(d[:, length:]), length + 1),
        end=end,
        join=length,
    )


TASKS: dict[str, Callable[..., Task]] = {
    "lm:sort-digits": sort_digits,
    "lm:reverse": reverse,
    "lm:addition": addition,
    "lm:copy": copy,
}
"""By id; keyword arguments are what ``--env-kwargs`` may set."""


def is_task(env_id: str) -> bool:
    """Whether this id is that of a task for language models, known or not."""
    return env_id.startswith(PREFIX)


def find_task(env_id: str, kwargs: Mapping[str, Any] | None = None) -> Task:
    """The task of this id.

    Raises UserError: no such task (with the nearest one), an argument that it does not have, a length out of range.
    """
    if env_id not in TASKS:
        names = [known.removeprefix(PREFIX) for known in TASKS]
        near = difflib.get_close_matches(env_id.removeprefix(PREFIX), names, n=1, cutoff=0.5)
        hint = f"did you mean {PREFIX + near[0]!r}?" if near else f"known: {', '.join(TASKS)}"
        raise UserError(f"unknown task {env_id!r}; {hint}")
    make, given = TASKS[env_id], dict(kwargs or {})
    known = list(inspect.signature(make).parameters)
    for name, value in given.items():
        if name not in known:
            raise UserError(f"{env_id} has no argument {name!r}; it has {' and '.join(known)}")
        wanted = bool if name == "end" else int
        if type(value) is not wanted:
            what = "true or false" if wanted is bool else "a whole number"
            raise UserError(f"{env_id} has {name}={value!r}: expected {what}")
    if not 1 <= given.get("length", 1) <= _LONGEST:
        raise UserError(f"{env_id} has length={given['length']}: give 1 to {_LONGEST} digits")
    return make(**given)
