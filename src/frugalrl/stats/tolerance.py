"""Between which scores will most future runs lie? That needs more runs than a mean does.

Distribution-free: with m of the n sorted runs left outside, the share of all future runs between the ends is
Beta(n + 1 - m, m) distributed, whatever the distribution of scores (Wilks 1941; for RL Patterson et al. 2024, JMLR).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from frugalrl.stats.estimate import task_list

Side = Literal["two", "lower", "upper"]
SIDES = ("two", "lower", "upper")


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Ends between which a share of all future runs lies, with some confidence."""

    low: float
    """-inf with side ``upper``."""
    high: float
    """inf with side ``lower``."""
    coverage: float | None
    """Share of future runs that the ends hold with the confidence; None: too few runs for the one asked for."""
    bounded: float
    """The share that these ends do hold with the confidence, also where the runs are too few."""
    n: int
    needed: int
    """Runs that the coverage asked for takes."""
    confidence: float


def _check(coverage: float, confidence: float, side: str) -> None:
    for name, value in (("coverage", coverage), ("confidence", confidence)):
        if not 0.0 < value < 1.0:
            raise ValueError(f"{name} lies between 0 and 1, not {value}")
    if side not in SIDES:
        raise ValueError(f"there is no side {side!r}; use 'two', 'lower' or 'upper'")


def _share(n: int, outside: int, confidence: float) -> float:
    """The share of future runs held with the confidence when ``outside`` sorted runs are left out."""
    return float(special.betaincinv(n + 1 - outside, outside, 1.0 - confidence)) if n >= outside else 0.0


def seeds_needed(coverage: float = 0.9, confidence: float = 0.95, side: Side = "two") -> int:
    """The fewest runs whose range (two-sided) or worst run (one-sided) holds ``coverage`` of all future runs.

    29 one-sided and 46 two-sided for 90 % with 95 % confidence.
    """
    _check(coverage, confidence, side)
    outside = 2 if side == "two" else 1
    high = outside
    while _share(high, outside, confidence) < coverage:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _share(middle, outside, confidence) >= coverage else (middle, high)
    return high


def tolerance_interval(
    values: ArrayLike, *, coverage: float = 0.9, confidence: float = 0.95, side: Side = "two"
) -> Tolerance:
    """The tightest order statistics between which ``coverage`` of all future runs lies with the confidence.

    Args:
        values: [runs], one number per run.
        side: ``two``; ``lower``: a floor only; ``upper``: a ceiling only.

    Where the runs are too few the ends are the range of the runs, and ``bounded`` says what share that holds.

    Raises:
        ValueError: a value that is not finite, or a coverage, confidence or side that is none.
    """
    _check(coverage, confidence, side)
    (x,) = task_list([values], "values")
    x = np.sort(x)
    n, ends = len(x), 2 if side == "two" else 1
    outside = ends
    while outside + ends <= n and _share(n, outside + ends, confidence) >= coverage:
        outside += ends
    held = _share(n, outside, confidence)
    inner = outside // ends
    return Tolerance(
        low=float(x[inner - 1]) if side != "upper" else float("-inf"),
        high=float(x[n - inner]) if side != "lower" else float("inf"),
        coverage=held if held >= coverage else None,
        bounded=held,
        n=n,
        needed=seeds_needed(coverage, confidence, side),
        confidence=confidence,
    )
