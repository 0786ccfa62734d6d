"""Axes: where a value lies, round ticks, and the frame around a plot."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from frugalrl.report.figures.svg import LETTER, WIDTH, label, line, num
from frugalrl.report.numbers import digits

TOP, BOTTOM, RIGHT = 26.0, 42.0, 12.0


@dataclass(frozen=True, slots=True)
class Axis:
    """From values to places. Values come in the unit that is shown."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """The place of a value, kept within the axis."""
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        if self.log:
            value = math.log(max(value, self.low))
        share = min(max((value - low) / (high - low), 0.0), 1.0)
        return self.start + share * (self.end - self.start)

    def ticks(self, room: int = 5) -> list[tuple[float, str]]:
        """(value, label), about ``room`` of them."""
        return log_ticks(self.low, self.high, room) if self.log else even_ticks(self.low, self.high, room)


def even_ticks(low: float, high: float, room: int = 5) -> list[tuple[float, str]]:
    """Multiples of 1, 2, 2.5 or 5 times a power of ten within the bounds."""
    raw = (high - low) / max(room, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw * 0.999)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    decimals += round(step * 10**decimals, 9) % 1 > 1e-9
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [(i * step, f"{i * step + 0.0:,.{decimals}f}") for i in range(first, last + 1)]


def log_ticks(low: float, high: float, room: int = 5) -> list[tuple[float, str]]:
    """Powers of ten, with 2 and 5 between them where there is room, and fewer where there is none."""
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    for kinds in ((1, 2, 5), (1, 3), (1,)):
        every = [m * 10.0**e for e in range(first, last + 1) for m in kinds]
        found = [v for v in every if low * 0.999 <= v <= high * 1.001]
        if len(found) <= room + 1:
            break
    if len(found) < 2:
        return even_ticks(low, high, room)
    skip = math.ceil(len(found) / (room + 1))
    return [(v, digits(v) if v >= 1e9 else f"{v:,.10g}") for v in found[::skip]]


def bounds(values: Iterable[float | None], *, zero: bool = False, log: bool = False) -> tuple[float, float] | None:
    """The range of the finite values with a little air; None without any. ``zero``: the range begins or ends there."""
    known = [v for v in values if v is not None and math.isfinite(v) and (v > 0 or not log)]
    if not known:
        return None
    low, high = min(known), max(known)
    if log:
        return (low / 1.25, high * 1.25)
    if zero:
        if low == high == 0.0:  # runs of which nothing is known but that they began
            return (0.0, 1.0)
        low, high = min(low, 0.0), max(high, 0.0)
    air = (high - low) * 0.04 or abs(high) * 0.1 or 1.0
    return (low if zero and low == 0 else low - air, high if zero and high == 0 else high + air)


@dataclass(frozen=True, slots=True)
class Frame:
    """The room of a plot with both axes."""

    x: Axis
    y: Axis
    height: float
    markup: str
    """Grid, ticks and titles; comes first."""


def frame(
    x: tuple[float, float], y: tuple[float, float], x_title: str, y_title: str, *, height: float = 250,
    log_x: bool = False, log_y: bool = False,
) -> Frame:  # fmt: skip
    """Axes with ticks and titles around an empty plot; bounds in the units shown."""
    floor, ceiling = height - BOTTOM, TOP
    y_axis = Axis(*y, floor, ceiling, log_y)
    y_ticks = y_axis.ticks(5)
    left = max((len(words) for _, words in y_ticks), default=1) * LETTER + 10
    x_axis = Axis(*x, left, WIDTH - RIGHT, log_x)
    x_ticks = x_axis.ticks(4)
    longest = max((len(words) for _, words in x_ticks), default=1) * LETTER + 10
    fits = max(int((WIDTH - left) / longest), 2)
    if len(x_ticks) > fits:
        x_ticks = x_axis.ticks(fits - 1)
    grid = "".join(f"M{num(left)} {num(y_axis.at(v))}H{num(WIDTH - RIGHT)}" for v, _ in y_ticks)
    small = "".join(f"M{num(x_axis.at(v))} {num(floor)}v4" for v, _ in x_ticks)
    parts = [f'<path class="gr" d="{grid}"/><path class="ax" d="{small}"/><g class="v" text-anchor="end">']
    parts += [label(left - 6, y_axis.at(value) + 4, words) for value, words in y_ticks]
    parts.append('</g><g class="v" text-anchor="middle">')
    for value, words in x_ticks:
        edge = x_axis.at(value) + len(words) * LETTER / 2 > WIDTH
        parts.append(label(WIDTH if edge else x_axis.at(value), floor + 17, words, anchor="end" if edge else ""))
    parts.append("</g>")
    parts += [line(left, floor, WIDTH - RIGHT, floor, "ax"), label(0, 12, y_title)]
    parts.append(label((left + WIDTH - RIGHT) / 2, height - 6, x_title, anchor="middle"))
    return Frame(x_axis, y_axis, height, "".join(parts))
