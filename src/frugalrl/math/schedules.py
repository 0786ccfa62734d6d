"""Schedules: a number as a function of the environment step (and, for a ladder, of the row).

- constant: ``start`` for ever.
- linear: ``start`` until ``start_step``, then a straight line that reaches ``end`` ``steps`` later and stays there.
- exponential: ``start`` until ``start_step``, then the distance to ``end`` halves every ``half_life_steps``::

      value = end + (start - end) * 0.5 ** ((step - start_step) / half_life_steps)
- ladder: row i of N acts with ``start ** (1 + ladder_alpha * i / (N - 1))`` at every step, from Horgan et al.,
  "Distributed Prioritized Experience Replay" (Ape-X), 2018, section 4.1 (there: start 0.4, ladder_alpha 7).
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from math import isfinite
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from frugalrl.types import UserError

Kind = Literal["constant", "linear", "exponential", "ladder"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Schedule:
    """A number that depends on the environment step; checked at birth."""

    kind: Kind = "constant"
    start: float = 1.0
    """The value of a constant, the first value of a line or an exponential, the largest value (row 0) of a ladder."""
    end: float = 0.0
    """The last value of a line, the limit of an exponential; not used by the others."""
    start_step: int = 0
    """Environment step (not frame) at which a line or an exponential leaves ``start``."""
    steps: int = 1
    """Environment steps (not frames) that a line takes from ``start`` to ``end``."""
    half_life_steps: int | None = None
    """Environment steps (not frames) in which an exponential comes half-way from where it is to ``end``."""
    ladder_alpha: float = 7.0
    """How steep a ladder is: its last row acts with ``start ** (1 + ladder_alpha)``."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            close = get_close_matches(str(self.kind), get_args(Kind), n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise UserError(
                f"kind of a schedule must be one of {', '.join(get_args(Kind))}, but is {self.kind!r}{hint}"
            )
        for name in ("start", "end", "ladder_alpha"):
            if not isfinite(getattr(self, name)):
                raise UserError(f"{name} of a schedule must be finite, but is {getattr(self, name)}")
        if self.start_step < 0 or self.steps < 1:
            raise UserError(
                f"a schedule needs start_step >= 0 and steps >= 1, but has start_step={self.start_step}, "
                f"steps={self.steps}; for a value that never changes use kind='constant'"
            )
        if self.kind == "exponential" and self.half_life_steps is None:
            raise UserError(
                "half_life_steps of an exponential schedule is None; set the steps in which it comes half-way to end"
            )
        if self.half_life_steps is not None and self.half_life_steps < 1:
            raise UserError(f"half_life_steps of a schedule must be at least 1, but is {self.half_life_steps}")
        if self.kind == "ladder" and not (0.0 <= self.start <= 1.0 and self.ladder_alpha >= 0.0):
            raise UserError(
                f"a ladder raises start to powers of at least 1 and needs 0 <= start <= 1 and ladder_alpha >= 0, "
                f"but has start={self.start}, ladder_alpha={self.ladder_alpha}"
            )


def value_at(schedule: Schedule, step: int, row: int = 0, num_rows: int = 1) -> float:
    """The value at one environment step; only a ladder looks at ``row`` of ``num_rows``."""
    if schedule.kind == "constant":
        return schedule.start
    if schedule.kind == "ladder":
        # with one row the ladder has one rung, its highest
        return float(schedule.start ** (1.0 + schedule.ladder_alpha * row / max(num_rows - 1, 1)))
    if schedule.kind == "exponential":
        assert schedule.half_life_steps is not None
        past = max(step - schedule.start_step, 0)
        return float(schedule.end + (schedule.start - schedule.end) * 0.5 ** (past / schedule.half_life_steps))
    done = (step - schedule.start_step) / schedule.steps
    if done <= 0.0:
        return schedule.start
    if done >= 1.0:
        return schedule.end
    return schedule.start + done * (schedule.end - schedule.start)


def smallest_and_largest(schedule: Schedule) -> tuple[float, float]:
    """Bounds of all values at all steps and rows."""
    if schedule.kind == "constant":
        return schedule.start, schedule.start
    if schedule.kind == "ladder":
        return schedule.start ** (1.0 + schedule.ladder_alpha), schedule.start
    return min(schedule.start, schedule.end), max(schedule.start, schedule.end)


def of_rows(schedule: Schedule, step: int, num_rows: int) -> NDArray[np.float64]:
    """The value of every row at one environment step: [num_rows] float64."""
    if schedule.kind == "ladder":
        return np.asarray([value_at(schedule, step, row, num_rows) for row in range(num_rows)], np.float64)
    return np.full(num_rows, value_at(schedule, step), np.float64)
