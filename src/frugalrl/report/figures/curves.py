"""Score against samples, FLOPs, CPU-seconds and money; and the share of runs that reached a target."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from frugalrl.report.figures.axes import Frame, bounds, frame
from frugalrl.report.figures.svg import (
    Drawing,
    Fineness,
    Key,
    Point,
    label,
    line,
    mark,
    path,
    pieces,
    shape,
    shortened,
    text_of,
    thinned,
)
from frugalrl.report.numbers import digits, plain, scale_for
from frugalrl.report.results import AXES, QUANTITIES, Axis, Curve, EnvResult

Slots = Mapping[str, int]
"""Place of a method among all: its colour, dash and marker."""


def keys_of(methods: Sequence[str], slots: Slots) -> tuple[Key, ...]:
    """The legend of methods."""
    return tuple(Key(name, "line", slots[name]) for name in methods)


def learning_curves(env: EnvResult, slots: Slots, stem: str, fine: Fineness) -> list[Drawing]:
    """One figure per axis that any method has."""
    drawings = []
    for axis in AXES:
        curves = {m.method: m.curves[axis] for m in env.methods if axis in m.curves and m.curves[axis].grid}
        if curves:
            drawings.append(_by_axis(env, axis, curves, slots, stem, fine))
    return drawings


def _by_axis(env: EnvResult, axis: Axis, curves: dict[str, Curve], slots: Slots, stem: str, fine: Fineness) -> Drawing:
    title, unit = QUANTITIES[axis]
    scale = scale_for(unit, [v for c in curves.values() for v in c.grid])
    ys = [v for c in curves.values() for v in c.value]
    span = bounds([v for c in curves.values() for v in c.grid], zero=True) or (0.0, 1.0)
    y_span = bounds([*_bands_near(curves), *_targets_near(env, ys)]) or (0.0, 1.0)
    plot = frame((span[0] / scale.factor, span[1] / scale.factor), y_span, f"{title}, {scale.unit}", "mean return")
    body, labels = [plot.markup], []
    free = plot.y.start
    for target in sorted(t for t in env.targets if plot.y.low <= t <= plot.y.high):
        y = plot.y.at(target)
        body.append(line(plot.x.start, y, plot.x.end, y, "ref"))
        if free - y >= 14:
            labels.append(label(plot.x.start + 4, y - 4, f"target {plain(target)}"))
            free = y
    for kind in ("band", "line"):
        for name, curve in curves.items():
            kept = thinned(len(curve.grid), fine.points)
            xs = [curve.grid[i] / scale.factor for i in kept]
            part = [[values[i] for i in kept] for values in (curve.value, curve.low, curve.high)]
            for stretch, whole in _stretches([curve.n[i] for i in kept]):
                at, of = xs[stretch], [values[stretch] for values in part]
                drawn = (
                    band(plot, at, of, slots[name], fine)
                    if kind == "band"
                    else marked_line(plot, at, of[0], slots[name], fine if whole else replace(fine, marks=0))
                )
                body.append(drawn if whole or not drawn else f'<g class="few">{drawn}</g>')
    body.append(_anchors(env, plot, scale.factor) if axis == "env_steps" else "")
    return Drawing(
        name=f"{stem}-score-by-{axis.replace('_', '-')}",
        title=f"Score against {title}",
        desc=f"{env.env}: mean return against {title} in {scale.unit}. "
        + " ".join(f"{name} ends at {_end(curve)}." for name, curve in curves.items()),
        height=plot.height,
        body="".join([*body, *labels]),
        keys=keys_of(list(curves), slots),
        header=("env", "method", axis, "mean_return", "low", "high", "runs"),
        rows=tuple((env.env, name, *row) for name, c in curves.items() for row in zip(
            c.grid, c.value, c.low, c.high, c.n, strict=True)),
    )  # fmt: skip


def _stretches(runs: Sequence[int]) -> list[tuple[slice, bool]]:
    """Where a mean is of all runs and where of some. The way from one to the other is of some: one of its ends is."""
    most = max(runs, default=0)
    whole = [n == most for n in runs]
    found: list[tuple[slice, bool]] = []
    begin = 0
    for i in range(1, len(runs) + 1):
        if i == len(runs) or whole[i] != whole[begin]:
            joined = slice(begin, i) if whole[begin] else slice(max(begin - 1, 0), min(i + 1, len(runs)))
            found.append((joined, whole[begin]))
            begin = i
    return found


def _bands_near(curves: Mapping[str, Curve]) -> list[float]:
    """Lines and bands; a band counts only near the lines, so that it does not squeeze them."""
    lines = [v for c in curves.values() for v in c.value if math.isfinite(v)]
    bands = [v for c in curves.values() for part in (c.low, c.high) for v in part if v is not None and v == v]
    if not lines:
        return []
    low, high = min(lines), max(lines)
    reach = 0.6 * (high - low) or abs(high) or 1.0
    return [low, high, *(min(max(v, low - reach), high + reach) for v in bands)]


def _targets_near(env: EnvResult, ys: Sequence[float | None]) -> list[float]:
    """Targets that do not squeeze the curves: at most half their height away."""
    known = [y for y in ys if y is not None and math.isfinite(y)]
    if not known:
        return []
    reach = (max(known) - min(known)) / 2
    return [t for t in env.targets if min(known) - reach <= t <= max(known) + reach]


def _end(curve: Curve) -> str:
    low, high = curve.low[-1], curve.high[-1]
    return digits(curve.value[-1]) + (
        f" [{digits(low)}, {digits(high)}]" if low is not None and high is not None else ""
    )


def band(plot: Frame, xs: Sequence[float], part: Sequence[Sequence[Any]], slot: int, fine: Fineness) -> str:
    """The band of a line, ``part`` being (value, low, high), wherever both of its ends are known."""
    _, low, high = part
    drawn = []
    for piece in pieces(xs, low, high):
        up = [(plot.x.at(xs[i]), plot.y.at(high[i])) for i in piece]
        down = [(plot.x.at(xs[i]), plot.y.at(low[i])) for i in reversed(piece)]
        drawn.append(path(up + down, f"b{slot}", close=True, decimals=fine.decimals))
    return "".join(drawn)


def marked_line(plot: Frame, xs: Sequence[float], ys: Sequence[float | None], slot: int, fine: Fineness) -> str:
    """A line with some of its markers, wherever its values are finite."""
    stretches: list[list[Point]] = [[]]
    for x, y in zip(xs, ys, strict=True):
        if y is not None and math.isfinite(y):
            stretches[-1].append((plot.x.at(x), plot.y.at(y)))
        elif stretches[-1]:
            stretches.append([])
    drawn = [path(stretch, f"l{slot}", decimals=fine.decimals) for stretch in stretches if len(stretch) > 1]
    places = [place for stretch in stretches for place in stretch]
    if fine.marks or len(places) == 1:
        every = max(len(places) // max(fine.marks, 1), 1)
        begin = (every // 2 + slot * every // 7) % every
        drawn += [mark(slot, x, y) for x, y in places[begin::every]]
    return "".join(drawn)


def _anchors(env: EnvResult, plot: Frame, factor: float) -> str:
    """Scores from elsewhere that lie within the plot."""
    drawn = []
    for anchor in env.anchors:
        if not plot.y.low <= anchor.score <= plot.y.high:
            continue
        steps = None if anchor.env_steps is None else anchor.env_steps / factor
        inside = steps is not None and steps <= plot.x.high
        x = plot.x.at(steps) if inside and steps is not None else plot.x.end
        if anchor.interval is not None:
            drawn.append(line(x, plot.y.at(anchor.interval[0]), x, plot.y.at(anchor.interval[1]), "ax"))
        title = f"{anchor.name}: {digits(anchor.score)}, from {anchor.source}"
        drawn.append(f"<g><title>{text_of(title)}</title>{shape(3, 4, 'an', x, plot.y.at(anchor.score))}</g>")
        drawn.append(label(x - 8, plot.y.at(anchor.score) + 4, shortened(anchor.name, 130), anchor="end"))
    return "".join(drawn)
