"""How one figure of a comparison is written: in the terminal's table, in CSV files and in the report."""

from __future__ import annotations

from math import isinf, isnan

from frugalrl.cost.show import NOT_MEASURED, figure
from frugalrl.report.numbers import two
from frugalrl.report.results import Figure

NOT_REACHED = "not reached"
_NO_UNIT = ("steps", "updates", "CPU-s", "GPU-s", "s", "return", "normalised", "")
"""Units that the name of the row says already."""


def number(value: float | None, unit: str = "") -> str:
    """One number: None is "not measured", infinity the sign for it."""
    if value is None or isnan(value):
        return NOT_MEASURED
    if isinf(value):
        return "∞" if value > 0 else "-∞"
    if unit == "share":
        return f"{100 * value:.0f} %"
    size = abs(value)
    # counts and seconds over seeds are estimates: four figures are plenty
    if unit in _NO_UNIT and size >= 1e6:
        return figure(value, "FLOP")  # 1.23 M, 4.56 G
    return figure(round(value) if unit in ("steps", "updates") else value, "" if unit in _NO_UNIT else unit)


def cell(found: Figure) -> str:
    """A figure with its interval in square brackets."""
    if found.value is not None and isinf(found.value):
        return NOT_REACHED if found.interval is None else f"{NOT_REACHED} {bounds(found)}"
    text = number(found.value, found.unit)
    return text if found.value is None else f"{text} {bounds(found)}".rstrip()


def bounds(found: Figure) -> str:
    """``[low, high]``; nothing without an interval."""
    if found.interval is None:
        return ""
    low, high = (number(end, found.unit).removesuffix(" EUR") for end in found.interval)
    return f"[{low}, {high}]"


def times(ratio: Figure) -> str:
    """A ratio to the baseline: ``x 0.62 [0.50, 0.78]``."""
    if ratio.value is None or isnan(ratio.value):
        return ""
    if ratio.interval is None:
        return f"x {two(ratio.value)}"
    return f"x {two(ratio.value)} [{two(ratio.interval[0])}, {two(ratio.interval[1])}]"
