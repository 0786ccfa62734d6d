"""Student's interval of a logarithm whose variance is a sum of independent parts: the seeds', and that of clocks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import special

from frugalrl.stats.estimate import Floats, unless_alike
from frugalrl.stats.shared import Paces

Part = tuple[float, float]
"""A variance, and its degrees of freedom."""


def part_of(influence: Floats, weight: float = 1.0) -> Part:
    """Of the mean of [runs] first-order changes, times a weight."""
    return weight**2 * float(influence.var(ddof=1)) / len(influence), len(influence) - 1.0


def clock_part(spreads: Sequence[tuple[float, Paces]]) -> list[Part]:
    """What the paces of processes add: (variance, where it is from) of each method; nothing where none were shared.

    All come from one pool of processes, so their sum has its degrees of freedom.
    """
    return [(sum(v for v, _ in spreads), float(min(p.freedom for _, p in spreads)))] if spreads else []


def together(parts: Sequence[Part]) -> tuple[float, float]:
    """Standard error and degrees of freedom of a sum of independent parts (Satterthwaite 1946)."""
    variance = sum(v for v, _ in parts)
    weight = sum(v**2 / f for v, f in parts if v)
    return float(np.sqrt(variance)), variance**2 / weight if weight else sum(f for _, f in parts)


def ends_of(
    value: float, seeds: Sequence[Part], clocks: Sequence[Part], none: float, n: int, level: float
) -> tuple[tuple[float, float], str]:
    """The interval around the value, and why it has no bound where the seeds alone say nothing about their spread.

    With clocks it is at least as wide as without: a second part raises the joint degrees of freedom where it is small.
    ``none``, ``n``: as `unless_alike`.
    """
    error, nu = together(seeds)
    ends, why = unless_alike(_around(value, error, nu, level), none, n, level, (0.0, np.inf))
    if why or not clocks:
        return ends, why
    error, joint = together([*seeds, *clocks])
    return _around(value, error, min(nu, joint), level), ""


def known(*sides: Paces | None) -> bool:
    """Whether the spread of every process's pace is known where runs shared one."""
    return all(paces is None or paces.freedom > 0 for paces in sides)


def also(clocks: Sequence[Part]) -> str:
    """What the interval holds besides the seeds."""
    if not clocks:
        return ""
    return f", and the spread of the processes that runs shared ({clocks[0][1]:g} degrees of freedom)"


def _around(value: float, error: float, nu: float, level: float) -> tuple[float, float]:
    factor = float(np.exp(float(special.stdtrit(nu, (1.0 + level) / 2.0)) * error))
    return value / factor, value * factor
