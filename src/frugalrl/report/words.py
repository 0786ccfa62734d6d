"""Numbers in words, for sentences."""

from __future__ import annotations

from math import inf, isfinite, isnan


def short(value: float | None) -> str:
    """Three significant digits, whole numbers between 1,000 and 10 million; ``no end`` for infinity."""
    if value is None or isnan(value):
        return "not known"
    if not isfinite(value):
        return "no end"
    return f"{value:,.0f}" if 999.5 <= abs(value) < 1e7 else f"{value:.3g}"


def between(interval: tuple[float, float] | None) -> str:
    """`` [0.5, 0.8]`` with a space before it; nothing without one, `` [no bound]`` where it holds every number."""
    if interval is not None and interval[0] == -inf and interval[1] == inf:
        return " [no bound]"
    return "" if interval is None else f" [{short(interval[0])}, {short(interval[1])}]"


def listed(words: list[str] | tuple[str, ...]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join((", ".join(words[:-1]), words[-1])) if len(words) > 1 else "".join(words)


def plural(count: int, word: str) -> str:
    """``1 run``, ``3 runs``."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"
