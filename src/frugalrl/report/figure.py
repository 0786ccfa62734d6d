"""From an estimate to a figure that says how it was obtained."""

from __future__ import annotations

from math import isnan

from frugalrl.report.results import Figure
from frugalrl.stats import Estimate
from frugalrl.types import How


def figure(estimate: Estimate, unit: str, how: How, source: str) -> Figure:
    """A figure; a value that is not a number becomes None."""
    known = not isnan(estimate.value)
    made = f"{source}; {estimate.how}" if estimate.how else source
    interval = estimate.interval if known else None
    return Figure(
        value=estimate.value if known else None, unit=unit, interval=interval, how=how, source=made, n=estimate.n
    )


def unknown(unit: str, how: How, why: str) -> Figure:
    """A figure that is not known, and why."""
    return Figure(value=None, unit=unit, how=how, source=why)


def finite_or_none(value: float) -> float | None:
    """None for nan; infinities stay."""
    return None if isnan(value) else float(value)
