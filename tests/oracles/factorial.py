"""Effects of a factorial by their words: one factor after the other, pairs of cells, no weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

Levels = tuple[int, ...]


def ratio(cells: Mapping[Levels, float], factors: Sequence[int]) -> float:
    """The effect of ``factors`` on a cost: other factors are averaged away geometrically."""
    return math.exp(difference({c: math.log(x) for c, x in cells.items()}, factors))


def difference(cells: Mapping[Levels, float], factors: Sequence[int]) -> float:
    """The effect of ``factors`` on a score: high minus low of the first, of high minus low of the second, and so on."""
    count = len(next(iter(cells)))
    free = [f for f in range(count) if f not in factors]
    found = []
    for number in range(2 ** len(free)):
        fixed = {f: number >> place & 1 for place, f in enumerate(free)}
        found.append(_of(cells, list(factors), fixed, count))
    return math.fsum(found) / len(found)


def _of(cells: Mapping[Levels, float], left: list[int], fixed: dict[int, int], count: int) -> float:
    if not left:
        return cells[tuple(fixed[f] for f in range(count))]
    first, rest = left[0], left[1:]
    return _of(cells, rest, {**fixed, first: 1}, count) - _of(cells, rest, {**fixed, first: 0}, count)


def expected_cost(costs: Sequence[float], reached: Sequence[bool]) -> float:
    return math.fsum(costs) / sum(reached)
