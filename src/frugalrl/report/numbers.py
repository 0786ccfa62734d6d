"""Numbers in words: three significant digits, thousands separators, one unit for all that stands together."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

_LARGER: dict[str, tuple[tuple[float, float, str], ...]] = {
    "FLOP": ((1e18, 1e18, "EFLOP"), (1e15, 1e15, "PFLOP"), (1e12, 1e12, "TFLOP"), (1e9, 1e9, "GFLOP"),
             (1e6, 1e6, "MFLOP")),
    "CPU-s": ((10_800, 3_600, "CPU-h"),),
    "GPU-s": ((10_800, 3_600, "GPU-h"),),
    "s": ((10_800, 3_600, "h"),),
    "J": ((1e6, 1e6, "MJ"), (1e4, 1e3, "kJ")),
    "B": ((1e9, 1e9, "GB"), (1e6, 1e6, "MB")),
}  # fmt: skip
"""Unit: (from which size, divided by, name), largest first."""


@dataclass(frozen=True, slots=True)
class Scale:
    """What values are divided by to be shown, and the unit they have then."""

    factor: float
    unit: str


def scale_for(unit: str, values: Iterable[float | None]) -> Scale:
    """One scale for values that are read beside each other; chosen by the largest finite one."""
    largest = max((abs(v) for v in values if v is not None and math.isfinite(v)), default=0.0)
    for size, factor, name in _LARGER.get(unit, ()):
        if largest >= size:
            return Scale(factor, name)
    return Scale(1.0, unit)


def digits(value: float) -> str:
    """Three significant digits; whole numbers from 100 on, with thousands separators; ``∞``."""
    if math.isnan(value):
        return "undefined"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    size = abs(value)
    if size >= 1e12 or 0 < size < 1e-4:
        mantissa, _, exponent = f"{value:.1e}".partition("e")
        return f"{mantissa}e{int(exponent)}"
    if size == 0:
        return "0"
    if size >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.{2 - math.floor(math.log10(size * 1.0005))}f}"


def two(value: float) -> str:
    """A ratio: two decimals between 0.1 and 10, three digits elsewhere, so that a small one is not 0."""
    return f"{value:.2f}" if 0.0995 <= abs(value) < 9.995 else digits(value)


def plain(value: float) -> str:
    """A number that was given, such as a target: all the digits it has, up to the ten that targets are made with.

    With fewer it would be another one, which a score can reach without reaching the target.
    """
    if not math.isfinite(value):
        return digits(value)
    return f"{value:,.0f}" if value == int(value) and abs(value) < 1e15 else f"{value:,.10g}"


def between(interval: tuple[float, float], factor: float = 1.0) -> str:
    """``[low, high]``; ``[low, ∞)`` and ``(-∞, high]`` where it has no end."""
    low, high = interval[0] / factor, interval[1] / factor
    return f"{'(' if math.isinf(low) else '['}{digits(low)}, {digits(high)}{')' if math.isinf(high) else ']'}"


def slug(name: str) -> str:
    """A name as part of a file's name: lower case letters, digits, dashes."""
    kept = "".join(c if c.isascii() and c.isalnum() else "-" for c in name.lower())
    return "-".join(part for part in kept.split("-") if part)[:60] or "x"


def count(number: int, what: str) -> str:
    """``1 run``, ``1,200 runs``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def slug_number(value: float) -> str:
    """A number as part of a file's name: ``-2.5`` is ``minus-2.5``."""
    return f"{value:.10g}".replace("-", "minus-").replace("+", "")
