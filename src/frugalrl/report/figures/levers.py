"""The main effect of each lever on every cost of the main target, with its interval, on a logarithmic axis."""

from __future__ import annotations

import math
from collections.abc import Sequence

from frugalrl.report.figures.axes import Axis, bounds
from frugalrl.report.figures.svg import LETTER, WIDTH, Drawing, label, line, mark
from frugalrl.report.lever_words import change, main_effects, shown_effect
from frugalrl.report.levers import TITLES
from frugalrl.report.numbers import between, plain, slug, two
from frugalrl.report.results import EnvResult, Figure
from frugalrl.report.titles import headline_target

ROW, TOP, FOOT = 34.0, 4.0, 44.0
_WIDEST = 100.0
"""Times and parts of 1 that the axis shows at most; intervals that go on are cut there."""


def lever_figures(env: EnvResult, stem: str) -> list[Drawing]:
    """One figure per lever; none where the methods are no factorial or nothing is known."""
    levers, main = env.levers, headline_target(env)
    if levers is None or main is None:
        return []
    (found,) = (t for t in levers.targets if t.target == main[0])
    by_lever = [
        [(TITLES[e.quantity], shown_effect(e)[0]) for e in main_effects(found.effects, lever.name)]
        for lever in levers.levers
    ]
    known = [[(t, f) for t, f in values if f.value is not None] for values in by_lever]
    ends = [v for values in known for _, f in values for v in (f.value, *(f.interval or ()))]
    span = bounds([1.0, *(v for v in ends if v is not None)], log=True)
    if span is None or not any(known):
        return []
    axis = Axis(max(span[0], 1 / _WIDEST), min(span[1], _WIDEST), 6, WIDTH - 6, log=True)
    return [
        _figure(
            f"{stem}-lever-{slug(lever.name)}", change(lever), f"{env.env}, to {plain(main[0])}", values, axis, place
        )
        for place, (lever, values) in enumerate(zip(levers.levers, known, strict=True))
    ]


def _figure(name: str, title: str, about: str, values: Sequence[tuple[str, Figure]], axis: Axis, place: int) -> Drawing:
    floor = TOP + ROW * len(values) + 4
    drawn = []
    for value, words in axis.ticks(4):
        x, half = axis.at(value), len(words) * LETTER / 2
        anchor, at = ("end", WIDTH) if x + half > WIDTH else ("", 0.0) if x < half else ("middle", x)
        drawn += [line(x, TOP, x, floor, "gr"), label(at, floor + 16, words, anchor=anchor, css="v")]
    drawn += [line(6, floor, WIDTH - 6, floor, "ax"), line(axis.at(1.0), TOP, axis.at(1.0), floor, "ref")]
    drawn.append(label(WIDTH / 2, floor + 34, "times the cost without it", anchor="middle"))
    said = []
    for row, (what, figure) in enumerate(values):
        assert figure.value is not None
        y = TOP + ROW * row
        words = f"{two(figure.value)}× {between(figure.interval) if figure.interval else ''}".strip()
        drawn += [label(0, y + 12, what, css="n"), label(WIDTH, y + 12, words, anchor="end", css="v")]
        said.append(f"{what}: {words}.")
        if figure.interval is not None:
            low, high = (axis.at(max(end, axis.low)) for end in figure.interval)
            drawn.append(line(low, y + 24, high, y + 24, f"e{place}"))
        if math.isfinite(figure.value):
            drawn.append(mark(place, axis.at(figure.value), y + 24, large=True))
    return Drawing(
        name=name,
        title=title,
        desc=f"{about}. {' '.join(said)}",
        height=floor + FOOT - 4,
        body="".join(drawn),
        keys=(),
        header=("quantity", "value", "low", "high", "unit", "how", "runs", "source"),
        rows=tuple((t, f.value, *(f.interval or (None, None)), f.unit, f.how, f.n, f.source) for t, f in values),
    )
