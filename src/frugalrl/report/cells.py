"""How one figure of a comparison is written: in the terminal's table, in CSV files and in the report."""

from __future__ import annotations

from math import inf, isfinite, isinf, isnan

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
        # the unit of a cell stands behind its number, and here is none
        unit = " EUR" if found.unit == "EUR" else ""
        return NOT_REACHED if found.interval is None else f"{NOT_REACHED} {bounds(found)}{unit}"
    text = number(found.value, found.unit)
    return text if found.value is None else f"{text} {bounds(found)}".rstrip()


def bounds(found: Figure) -> str:
    """``[low, high]``; nothing without an interval."""
    if found.interval is None:
        return ""
    low, high = (number(end, found.unit).removesuffix(" EUR") for end in found.interval)
    return f"[{low}, {high}]"


def one_sided(ratio: Figure, cost: Figure | None) -> tuple[str, str] | None:
    """Where only one of the two reached the target: who did not, and the bound of the ratio, if any.

    The ratio is 0 or infinite then, which is no amount. None for a ratio of two costs, also where one of them is 0.
    """
    if ratio.value is None or ratio.value not in (0.0, inf):
        return None
    low, high = ratio.interval or (0.0, inf)
    mine = None if cost is None else cost.value
    if ratio.value == 0.0:
        return None if mine == 0.0 else ("baseline not reached", "" if isinf(high) else f"< {two(high)}")
    if mine is not None and isfinite(mine) and ratio.interval is None:
        return None
    return NOT_REACHED, f"> {two(low)}" if low > 0 else ""


def times(ratio: Figure, cost: Figure | None = None) -> str:
    """A ratio to the baseline: ``x 0.62 [0.50, 0.78]``; ``cost``: that of the method itself."""
    if ratio.value is None or isnan(ratio.value):
        return ""
    if (sided := one_sided(ratio, cost)) is not None:
        return ", x ".join(part for part in sided if part)
    if ratio.interval is None:
        return f"x {two(ratio.value)}"
    return f"x {two(ratio.value)} [{two(ratio.interval[0])}, {two(ratio.interval[1])}]"
