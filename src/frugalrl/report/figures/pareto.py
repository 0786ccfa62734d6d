"""Money against time to a target: who is cheaper, who is faster, and whom nobody beats in both."""

from __future__ import annotations

import math
from collections.abc import Sequence

from frugalrl.report.figures.axes import Frame, bounds, frame
from frugalrl.report.figures.curves import Slots, keys_of
from frugalrl.report.figures.svg import Drawing, line, mark, path
from frugalrl.report.numbers import between, digits, plain, slug_number
from frugalrl.report.results import QUANTITIES, EnvResult, Figure, Quantity, ToTarget
from frugalrl.report.titles import cost_scale, upper

PAIRS: tuple[tuple[Quantity, Quantity], ...] = (("wall_s", "eur"), ("env_steps", "eur"), ("env_steps", "cpu_s"))
"""The first pair that is known for any method is drawn."""


def pareto(env: EnvResult, target: float, slots: Slots, stem: str, *, hints: bool) -> Drawing | None:
    """Expected cost to one target in two quantities; None where no method has both."""
    to_target = {m.method: t for m in env.methods for t in m.targets if t.target == target}
    for x, y in PAIRS:
        known = {name: (t.expected[x], t.expected[y]) for name, t in to_target.items() if _has(t, x) and _has(t, y)}
        if known:
            return _draw(env, target, to_target, known, (x, y), slots, stem, hints)
    return None


def _has(to_target: ToTarget, quantity: Quantity) -> bool:
    figure = to_target.expected.get(quantity)
    return figure is not None and figure.value is not None and math.isfinite(figure.value) and figure.value > 0


def frontier(places: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The places that no other one beats in one coordinate and equals or beats in the other, from left to right."""
    best: list[tuple[float, float]] = []
    for x, y in sorted(set(places)):
        if not best or y < best[-1][1]:
            best.append((x, y))
    return best


def _draw(
    env: EnvResult, target: float, to_target: dict[str, ToTarget], known: dict[str, tuple[Figure, Figure]],
    pair: tuple[Quantity, Quantity], slots: Slots, stem: str, hints: bool,
) -> Drawing:  # fmt: skip
    sides = [[figures[side] for figures in known.values()] for side in (0, 1)]
    scales = [cost_scale(env, target, q) for q in pair]
    plot = _frame(pair, sides, [s.factor for s in scales], [s.unit for s in scales])
    places = [tuple((f.value or 0.0) / s.factor for f, s in zip(f, scales, strict=True)) for f in known.values()]
    corners: list[tuple[float, float]] = []
    best = [(plot.x.at(x), plot.y.at(y)) for x, y in frontier([(p[0], p[1]) for p in places])]
    for at, (x, y) in enumerate(best):
        corners += [(x, best[at - 1][1]), (x, y)] if at else [(x, plot.y.end), (x, y)]
    corners.append((plot.x.end, best[-1][1]))
    drawn = [plot.markup, path(corners, "ref")]
    for (name, (fx, fy)), (x, y) in zip(known.items(), places, strict=True):
        slot = slots[name]
        px, py = plot.x.at(x), plot.y.at(y)
        if fx.interval is not None:
            low, high = (plot.x.at(v / scales[0].factor) for v in fx.interval)
            drawn.append(line(low, py, high, py, f"e{slot}"))
        if fy.interval is not None:
            low, high = (plot.y.at(v / scales[1].factor) for v in fy.interval)
            drawn.append(line(px, low, px, high, f"e{slot}"))
        hint = f"{name}: {digits(x)} {scales[0].unit}, {digits(y)} {scales[1].unit}"
        drawn.append(mark(slot, px, py, large=True, title=hint if hints else ""))
    missing = [name for name in to_target if name not in known]
    x_title, y_title = (QUANTITIES[q][0] for q in pair)
    return Drawing(
        name=f"{stem}-pareto-{slug_number(target)}",
        title=f"{upper(y_title)} against {x_title} to reach {plain(target)}",
        desc=f"{env.env}: expected {y_title} against expected {x_title} to a mean return of {plain(target)}. "
        + " ".join(f"{name}: {_words(fx, fy, [s.unit for s in scales], [s.factor for s in scales])}."
                   for name, (fx, fy) in known.items()),
        note=f"Not reached or not measured: {', '.join(missing)}." if missing else "",
        height=plot.height,
        body="".join(drawn),
        keys=keys_of(list(to_target), slots),
        header=("env", "method", "target", *(f"{q}{end}" for q in pair for end in ("", "_low", "_high"))),
        rows=tuple((env.env, name, target, *_row(t.expected.get(pair[0])), *_row(t.expected.get(pair[1])))
                   for name, t in to_target.items()),
    )  # fmt: skip


def _row(figure: Figure | None) -> tuple[float | None, float | None, float | None]:
    if figure is None:
        return (None, None, None)
    return (figure.value, *(figure.interval or (None, None)))


def _ends(figures: Sequence[Figure]) -> list[float | None]:
    return [v for f in figures for v in (f.value, *(f.interval or ()))]


def _frame(
    pair: tuple[Quantity, Quantity], sides: Sequence[Sequence[Figure]], factors: Sequence[float], units: Sequence[str]
) -> Frame:
    spans, logs = [], []
    for side, factor in zip(sides, factors, strict=True):
        ends = [v for v in _ends(side) if v is not None and math.isfinite(v) and v > 0]
        log = max(ends) > 8 * min(ends)
        low, high = bounds([v / factor for v in ends], zero=not log, log=log) or (0.0, 1.0)
        spans.append((low, high))
        logs.append(log)
    titles = [f"{QUANTITIES[q][0]}, {unit}" for q, unit in zip(pair, units, strict=True)]
    return frame(spans[0], spans[1], titles[0], titles[1], log_x=logs[0], log_y=logs[1])


def _words(fx: Figure, fy: Figure, units: Sequence[str], factors: Sequence[float]) -> str:
    said = []
    for figure, unit, factor in zip((fx, fy), units, factors, strict=True):
        value = digits((figure.value or 0.0) / factor)
        said.append(f"{value}{' ' + between(figure.interval, factor) if figure.interval else ''} {unit}")
    return ", ".join(said)
