"""SVG by hand: a drawing and its parts, paths in few characters, markers."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from frugalrl.report.figures.palette import MARKERS

Point = tuple[float, float]
WIDTH = 400
"""Units of a drawing; text has 12 of them, so that it can be read when the drawing is as wide as a telephone."""
LETTER = 6.3
"""About the width of a letter of that text."""


@dataclass(frozen=True, slots=True)
class Fineness:
    """How finely lines are drawn."""

    points: int
    """Most points of a line."""
    decimals: int = 1
    """Of coordinates; a drawing is 400 wide."""
    marks: int = 5
    """Markers on a line."""


@dataclass(frozen=True, slots=True)
class Key:
    """An entry of a legend."""

    label: str
    kind: Literal["line", "area"]
    index: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawing:
    """A figure: what is drawn, what it says in words, and its data."""

    name: str
    """Of its files."""
    title: str
    desc: str
    """For those who do not see it."""
    note: str = ""
    """What a reader must know, under the figure."""
    height: float
    body: str
    keys: tuple[Key, ...]
    header: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


def text_of(value: Any) -> str:
    """A value as text that is safe in HTML and XML: escaped, without signs that neither may hold."""
    text = str(value)
    if not text.isprintable():
        text = "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)
    return html.escape(text, quote=True)


def num(value: float) -> str:
    """A coordinate with at most one decimal."""
    text = f"{value:.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


def path(points: Sequence[Point], css: str, *, close: bool = False, decimals: int = 1) -> str:
    """A polyline with relative steps, which are shorter than places; rounding does not add up."""
    unit = 10**decimals
    out, x, y = "", 0, 0
    for at, (px, py) in enumerate(points):
        nx, ny = round(px * unit), round(py * unit)
        dx, dy = _short(nx - x, decimals), _short(ny - y, decimals)
        lead = "M" if at == 0 else "l" if at == 1 else "" if dx[0] == "-" else " "
        out += f"{lead}{dx}{'' if dy[0] == '-' else ' '}{dy}"
        x, y = nx, ny
    return f'<path class="{css}" d="{out}{"z" if close else ""}"/>'


@lru_cache(maxsize=8192)
def _short(value: int, decimals: int) -> str:
    if not decimals:
        return str(value)
    text = f"{value / 10**decimals:.{decimals}f}".rstrip("0").removesuffix(".")
    if text in ("-0", ""):
        return "0"
    return text.replace("0.", ".", 1) if text.lstrip("-").startswith("0.") else text


def line(x1: float, y1: float, x2: float, y2: float, css: str) -> str:
    """A straight line."""
    if y1 == y2:
        return f'<path class="{css}" d="M{num(x1)} {num(y1)}H{num(x2)}"/>'
    if x1 == x2:
        return f'<path class="{css}" d="M{num(x1)} {num(y1)}V{num(y2)}"/>'
    return f'<path class="{css}" d="M{num(x1)} {num(y1)}L{num(x2)} {num(y2)}"/>'


def label(x: float, y: float, words: str, *, anchor: str = "", css: str = "") -> str:
    """Text, escaped; ``anchor``: middle, end, or nothing for start."""
    more = (f' text-anchor="{anchor}"' if anchor else "") + (f' class="{css}"' if css else "")
    return f'<text x="{num(x)}" y="{num(y)}"{more}>{text_of(words)}</text>'


def rect(x: float, y: float, width: float, height: float, css: str, title: str = "") -> str:
    """A rectangle; ``title`` shows under the pointer."""
    drawn = f'<path class="{css}" d="M{num(x)} {num(y)}h{num(width)}v{num(height)}H{num(x)}z"/>'
    return f"<g><title>{text_of(title)}</title>{drawn}</g>" if title else drawn


def mark(index: int, x: float, y: float, *, large: bool = False, title: str = "") -> str:
    """The marker of a method, of which the document has a pattern; ``title`` shows under the pointer."""
    drawn = f'<use href="#{"K" if large else "k"}{index}" x="{num(x)}" y="{num(y)}"/>'
    return f"<g><title>{text_of(title)}</title>{drawn}</g>" if title else drawn


def shape(index: int, s: float, css: str, x: float = 0, y: float = 0) -> str:
    """The outline of a method's marker, about ``2 s`` wide."""
    kind = MARKERS[index % len(MARKERS)]
    if kind == "circle":
        return f'<circle class="{css}" cx="{num(x)}" cy="{num(y)}" r="{num(s)}"/>'
    shapes = {
        "square": [(-s, -s), (s, -s), (s, s), (-s, s)],
        "triangle": [(0, -1.2 * s), (1.2 * s, s), (-1.2 * s, s)],
        "flipped": [(0, 1.2 * s), (1.2 * s, -s), (-1.2 * s, -s)],
        "diamond": [(0, -1.4 * s), (1.4 * s, 0), (0, 1.4 * s), (-1.4 * s, 0)],
        "cross": [(-s, -s / 3), (-s / 3, -s / 3), (-s / 3, -s), (s / 3, -s), (s / 3, -s / 3), (s, -s / 3), (s, s / 3),
                  (s / 3, s / 3), (s / 3, s), (-s / 3, s), (-s / 3, s / 3), (-s, s / 3)],
    }  # fmt: skip
    return path([(x + dx, y + dy) for dx, dy in shapes[kind]], css, close=True)


def shortened(words: str, width: float) -> str:
    """Words cut to about that many units, with an ellipsis."""
    fits = max(int(width / LETTER), 2)
    return words if len(words) <= fits else f"{words[: fits - 1]}…"


def pieces(xs: Sequence[float], lows: Sequence[float | None], highs: Sequence[float | None]) -> list[list[int]]:
    """Stretches of indices at which both ends of a band are finite."""
    found: list[list[int]] = [[]]
    for i in range(len(xs)):
        low, high = lows[i], highs[i]
        if low is not None and high is not None and math.isfinite(low) and math.isfinite(high):
            found[-1].append(i)
        elif found[-1]:
            found.append([])
    return [piece for piece in found if len(piece) > 1]


def thinned(length: int, limit: int) -> list[int]:
    """At most ``limit`` indices, evenly spread, both ends among them."""
    if length <= limit:
        return list(range(length))
    return sorted({round(i * (length - 1) / (limit - 1)) for i in range(limit)})
