"""The crossover: what a target costs with each method, as a function of what one environment step costs."""

from __future__ import annotations

import math

from frugalrl.report.figures.axes import bounds, frame
from frugalrl.report.figures.curves import Slots, keys_of
from frugalrl.report.figures.svg import Drawing, Fineness, label, mark, num, path, pieces, thinned
from frugalrl.report.numbers import between, digits, plain, slug_number
from frugalrl.report.results import QUANTITIES, Crossing, Crossover, EnvResult
from frugalrl.report.titles import cost_scale, upper

LABELLED = 3
"""Crossings that are named in the figure; more of them could not be told apart."""


def crossover(env: EnvResult, found: Crossover, slots: Slots, stem: str, fine: Fineness) -> Drawing | None:
    """Both axes are logarithmic; None where no method has a finite cost."""
    title, _ = QUANTITIES[found.quantity]
    ends = [v for x in found.lines for part in (x.value, x.low, x.high) for v in part]
    scale = cost_scale(env, found.target, found.quantity)
    y_span = bounds([None if v is None else v / scale.factor for v in ends], log=True)
    if y_span is None or not found.step_ms:
        return None
    x_span = (found.step_ms[0], found.step_ms[-1])
    kept = thinned(len(found.step_ms), fine.points)
    steps = [found.step_ms[i] for i in kept]
    plot = frame(x_span, y_span, "cost of one environment step, CPU-ms", f"{title}, {scale.unit}", log_x=True,
                 log_y=True, height=280)  # fmt: skip
    bands, lines = [], []
    for each in found.lines:
        slot = slots[each.method]
        low, high, value = ([part[i] for i in kept] for part in (each.low, each.high, each.value))
        for piece in pieces(steps, low, high):
            up = [(plot.x.at(steps[i]), plot.y.at((high[i] or 0) / scale.factor)) for i in piece]
            down = [(plot.x.at(steps[i]), plot.y.at((low[i] or 0) / scale.factor)) for i in piece[::-1]]
            bands.append(path(up + down, f"b{slot}", close=True, decimals=fine.decimals))
        known = pieces(steps, value, value)
        for piece in known:
            places = [(plot.x.at(steps[i]), plot.y.at((value[i] or 0) / scale.factor)) for i in piece]
            lines.append(path(places, f"l{slot}", decimals=fine.decimals))
        measured = found.measured_step_ms.get(each.method)
        if measured is not None and known and x_span[0] <= measured <= x_span[1]:
            cost = _between_points(found.step_ms, each.value, measured)
            hint = f"{each.method}: measured {digits(measured)} CPU-ms per step"
            lines.append(
                mark(
                    slot,
                    plot.x.at(measured),
                    plot.y.at(cost / scale.factor),
                    large=True,
                    title=hint if fine.marks else "",
                )
            )
    at = [plot.x.at(c.step_ms) for c in found.crossings]
    drawn = "".join(f"M{num(x)} {num(plot.y.start)}V{num(plot.y.end)}" for x in at)
    crossings = [f'<path class="ref" d="{drawn}"/>'] if at else []
    for place, x in enumerate(at[:LABELLED] if len(at) <= LABELLED else []):
        right = x > (plot.x.start + plot.x.end) / 2
        words = f"{digits(found.crossings[place].step_ms)} ms"
        beside = x - 4 if right else x + 4
        crossings.append(label(beside, plot.y.end + 10 + 14 * place, words, anchor="end" if right else "", css="h"))
    said = " ".join(crossing_words(c) for c in found.crossings) or "The lines do not cross here."
    return Drawing(
        name=f"{stem}-crossover-{found.quantity.replace('_', '-')}-{slug_number(found.target)}",
        title=f"{upper(title)} to reach {plain(found.target)}, by the cost of a step",
        desc=f"{env.env}: modelled {title} to a mean return of {plain(found.target)} against the cost of one "
        f"environment step, both axes logarithmic. {said}",
        note=said if len(at) <= LABELLED else f"The lines cross {len(at)} times; where, say the sentences above.",
        height=plot.height,
        body="".join([plot.markup, *crossings, *bands, *lines]),
        keys=keys_of([x.method for x in found.lines], slots),
        header=("env", "method", "target", "step_ms", found.quantity, "low", "high"),
        rows=tuple((env.env, x.method, found.target, *row) for x in found.lines for row in zip(
            found.step_ms, x.value, x.low, x.high, strict=True)),
    )  # fmt: skip


def crossing_words(crossing: Crossing) -> str:
    """Where two lines cross, as a sentence."""
    interval = "" if crossing.interval is None else f" {between(crossing.interval)}"
    shown = crossing.interval is not None and math.isfinite(crossing.interval[1])
    return (
        f"Below {digits(crossing.step_ms)}{interval} ms per step {crossing.left} costs less, "
        f"above it {crossing.right} does{'.' if shown else '; without a bounded interval this is not shown.'}"
    )


def _between_points(xs: tuple[float, ...], ys: tuple[float, ...], x: float) -> float:
    at = max(i for i in range(len(xs)) if xs[i] <= x)
    if at + 1 == len(xs):
        return ys[at]
    share = (x - xs[at]) / (xs[at + 1] - xs[at])
    return ys[at] + share * (ys[at + 1] - ys[at])
