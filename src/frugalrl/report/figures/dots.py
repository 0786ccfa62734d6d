"""Estimates as dots with their intervals, one line per method: the fair views, and the aggregates."""

from __future__ import annotations

import math
from collections.abc import Sequence

from frugalrl.cost.show import NOT_MEASURED
from frugalrl.report.figures.axes import Axis, bounds
from frugalrl.report.figures.curves import Slots, keys_of
from frugalrl.report.figures.svg import LETTER, WIDTH, Drawing, label, line, mark, shortened
from frugalrl.report.numbers import between, digits
from frugalrl.report.results import Comparison, EnvResult, Figure, View
from frugalrl.report.titles import amount_words, upper, view_title

ROW, TOP, FOOT = 36.0, 4.0, 44.0


def view_figures(env: EnvResult, slots: Slots, stem: str) -> list[Drawing]:
    """The score of each method at the same amount of one resource."""
    return [_view(env, view, slots, stem) for view in env.views]


def _view(env: EnvResult, view: View, slots: Slots, stem: str) -> Drawing:
    return dots(
        f"{stem}-equal-{view.axis.replace('_', '-')}",
        f"{upper(view_title(view))}: {amount_words(view)}",
        f"{env.env}, mean return at {amount_words(view)}",
        "mean return",
        [(row.method, row.score) for row in view.rows],
        slots,
    )


def overall_figures(comparison: Comparison, slots: Slots) -> list[Drawing]:
    """Normalised scores over all environments."""
    parts = (
        ("iqm", "Interquartile mean", "normalised score"),
        ("mean", "Mean", "normalised score"),
        ("median", "Median", "normalised score"),
        ("optimality_gap", "Optimality gap, less is better", "normalised score"),
    )
    found = []
    for name, title, unit in parts:
        values: list[tuple[str, Figure]] = [(row.method, getattr(row, name)) for row in comparison.overall]
        if any(figure.value is not None for _, figure in values):
            found.append(
                dots(f"overall-{name.replace('_', '-')}", title, f"All environments, {title}", unit, values, slots)
            )
    return found


def dots(name: str, title: str, about: str, unit: str, values: Sequence[tuple[str, Figure]], slots: Slots) -> Drawing:
    """One line per method: its name, its estimate as a marker, its interval as a line."""
    span = bounds([v for _, f in values for v in (f.value, *(f.interval or ()))]) or (0.0, 1.0)
    axis = Axis(span[0], span[1], 6, WIDTH - 6)
    floor = TOP + ROW * len(values) + 4
    drawn = []
    for value, words in axis.ticks(4):
        x, half = axis.at(value), len(words) * LETTER / 2
        anchor, place = ("end", WIDTH) if x + half > WIDTH else ("", 0.0) if x < half else ("middle", x)
        drawn += [line(x, TOP, x, floor, "gr"), label(place, floor + 16, words, anchor=anchor, css="v")]
    drawn += [line(6, floor, WIDTH - 6, floor, "ax"), label(WIDTH / 2, floor + 34, unit, anchor="middle")]
    said = []
    for row, (method, figure) in enumerate(values):
        y, slot = TOP + ROW * row, slots[method]
        words = _words(figure)
        drawn.append(label(0, y + 12, shortened(method, WIDTH - (len(words) + 2) * LETTER), css="n"))
        drawn.append(label(WIDTH, y + 12, words, anchor="end", css="v"))
        said.append(f"{method}: {words}.")
        if figure.value is None or not math.isfinite(figure.value):
            continue
        if figure.interval is not None:
            drawn.append(line(axis.at(figure.interval[0]), y + 24, axis.at(figure.interval[1]), y + 24, f"e{slot}"))
        drawn.append(mark(slot, axis.at(figure.value), y + 24, large=True))
    return Drawing(
        name=name,
        title=title,
        desc=f"{about}. {' '.join(said)}",
        height=floor + FOOT - 4,
        body="".join(drawn),
        keys=keys_of([method for method, _ in values], slots),
        header=("method", "value", "low", "high", "unit", "how", "runs", "source"),
        rows=tuple((m, f.value, *(f.interval or (None, None)), f.unit, f.how, f.n, f.source) for m, f in values),
    )


def _words(figure: Figure) -> str:
    if figure.value is None:
        return NOT_MEASURED
    return digits(figure.value) + (f" {between(figure.interval)}" if figure.interval else "")
