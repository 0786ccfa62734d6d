"""Rejection by a K-statistic: tokens or sequences whose log-ratio is too far off take no part.

With ``d = log pi - log mu``: k1 = -d, k2 = d^2 / 2, k3 = exp(d) - 1 - d (Schulman 2020, "Approximating KL divergence";
as rejection in verl's ``rollout_rs``). Each is an estimate of KL(mu, pi) per token.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, get_args

from frugalrl.math.importance.arrays import Array, over_sequence

Statistic = Literal["k1", "k2", "k3"]
Over = Literal["token", "sum", "mean", "max"]
LARGEST_LOG_RATIO = 20.0
"""Log-ratios are clamped to this size before exp, so that nothing overflows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rejection:
    """Keep what lies inside of the bounds."""

    statistic: Statistic
    """``k1`` has bounds of the ratio pi/mu: it keeps low <= exp(d) <= high. ``k2`` and ``k3`` have an upper bound in
    nats."""
    over: Over = "token"
    """``token``: each by itself. ``sum``, ``mean``: over a sequence, which is kept or dropped whole. ``max``: a
    sequence is dropped when one of its tokens would be."""
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if self.statistic not in get_args(Statistic) or self.over not in get_args(Over):
            raise ValueError(
                f"unknown rejection '{self.statistic}-{self.over}'; known: k1, k2 or k3, then -token, -sum, -mean, -max"
            )
        check_bounds(self.low, self.high, f" of {self.statistic}-{self.over}: a bound")
        if self.statistic == "k1":
            if self.low is None and self.high is None:
                raise ValueError("k1 needs low, high or both: bounds of the ratio pi/mu")
            if self.low is not None and self.high is not None and self.low > self.high:
                raise ValueError(f"low={self.low:g} > high={self.high:g}: bounds of pi/mu, the smaller one first")
        elif self.low is not None or self.high is None:
            raise ValueError(f"{self.statistic} is never negative: it needs high, in nats, and no low")

    def __str__(self) -> str:
        return f"{self.statistic}-{self.over}" + bounds_in_words(self.low, self.high)


def check_bounds(low: object, high: object, what: str) -> None:
    """Raises ValueError unless each is None or a number of at least 0 that is finite."""
    for name, bound in (("low", low), ("high", high)):
        number = isinstance(bound, Real) and not isinstance(bound, bool)
        if bound is not None and not (number and 0 <= float(str(bound)) < math.inf):
            raise ValueError(f"{name}={bound!r}{what} must be a number, at least 0 and finite, or None")


def bounds_in_words(low: float | None, high: float | None) -> str:
    """``:2`` for an upper bound, ``:0.5,2`` for both, ``:0.5,`` for a lower one; nothing for none."""
    # the short form only where it is the same number
    bounds = [f"{b:g}" if float(f"{b:g}") == b else repr(float(b)) for b in (low, high) if b is not None]
    if low is not None and high is None:
        bounds.append("")
    return ":" + ",".join(bounds) if bounds else ""


def kept(xp: Any, d: Array, mask: Array, rejection: Rejection, axis: int) -> Array:
    """bool, shaped like ``d``; ``d`` is 0 outside of the mask."""
    if rejection.statistic == "k1":
        low = -math.inf if not rejection.low else math.log(rejection.low)
        high = math.inf if rejection.high is None else math.log(rejection.high) if rejection.high else -math.inf
        k = d
    else:
        low, high = -math.inf, rejection.high or 0.0
        k = 0.5 * d * d if rejection.statistic == "k2" else k3(xp, d)
    if rejection.over in ("sum", "mean"):
        k = over_sequence(xp, k, mask, axis, mean=rejection.over == "mean")
    inside = (k >= low) & (k <= high)
    if rejection.over != "max":
        return inside
    worst = (inside | ~mask).all(axis, keepdims=True)
    return worst & (inside | ~inside)


def k3(xp: Any, d: Array) -> Array:
    """exp(d) - 1 - d, without the rounding of that difference near 0."""
    return xp.expm1(xp.clip(d, -LARGEST_LOG_RATIO, LARGEST_LOG_RATIO)) - d
