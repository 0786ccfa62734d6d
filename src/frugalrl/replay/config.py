"""The knobs of a replay."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from math import isfinite
from typing import Literal, get_args

from frugalrl.types import UserError

Kind = Literal["uniform", "prioritized"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplayConfig:
    """How transitions are kept and drawn; checked at birth.

    The defaults of ``prioritized`` are those of Schaul et al. (2016), proportional variant.
    """

    kind: Kind = "uniform"
    """``uniform`` or ``prioritized`` (proportional); the knobs after ``n_step`` are for ``prioritized`` only."""
    capacity_transitions: int = 100_000
    """Newest start transitions to keep, rounded up to a multiple of the environment rows."""
    n_step: int = 1
    """Environment steps in a window; it stops early where the return or the episode ends."""
    alpha: float = 0.6
    """Exponent of the priority: 0 draws uniformly, 1 in proportion to |td|."""
    beta_start: float = 0.4
    """Exponent of the importance weight at environment step 0."""
    beta_end: float = 1.0
    """Exponent of the importance weight from ``beta_steps`` on; 1 corrects the drawing completely."""
    beta_steps: int = 100_000
    """Environment steps (not frames, not updates) over which the exponent moves in a straight line."""
    priority_eps: float = 1e-6
    """Added to every |td|, so that a transition with error 0 can still be drawn."""
    uniform_share: float = 0.0
    """Share of draws that are uniform over all transitions, which bounds the importance weights."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            close = get_close_matches(str(self.kind), get_args(Kind), n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise UserError(f"replay kind must be one of {', '.join(get_args(Kind))}, but is {self.kind!r}{hint}")
        for name in ("capacity_transitions", "n_step", "beta_steps"):
            if getattr(self, name) < 1:
                raise UserError(f"replay {name} must be at least 1, but is {getattr(self, name)}")
        for name in ("alpha", "beta_start", "beta_end", "uniform_share"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UserError(f"replay {name} must lie in [0, 1], but is {getattr(self, name)}")
        if not (isfinite(self.priority_eps) and self.priority_eps >= 0.0):
            raise UserError(f"replay priority_eps must be finite and at least 0, but is {self.priority_eps}")
        if self.n_step > self.capacity_transitions:
            raise UserError(
                f"replay n_step={self.n_step} is larger than capacity_transitions={self.capacity_transitions}; "
                f"raise the capacity"
            )
