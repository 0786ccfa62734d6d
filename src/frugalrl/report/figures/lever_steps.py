"""What each lever saves of the time to a target, as a function of what one environment step costs."""

from __future__ import annotations

import math

from frugalrl.report.figures.axes import bounds, frame
from frugalrl.report.figures.curves import band, marked_line
from frugalrl.report.figures.svg import Drawing, Fineness, Key, label, line, thinned
from frugalrl.report.lever_words import step_words
from frugalrl.report.numbers import digits, plain, slug_number
from frugalrl.report.results import EnvResult, LeverTarget

_WIDEST = 20.0
"""Times and parts of 1 that the axis shows at most; intervals that go on are cut there."""


def lever_steps(env: EnvResult, found: LeverTarget, stem: str, fine: Fineness) -> Drawing | None:
    """Both axes are logarithmic; None where nothing is known."""
    lines = [each for each in found.by_step if any(v is not None for v in each.value)]
    ends = [v for each in lines for part in (each.value, each.low, each.high) for v in part if v is not None]
    span = bounds([1.0, *ends], log=True)
    if span is None or not lines:
        return None
    steps = lines[0].step_ms
    kept = thinned(len(steps), fine.points)
    xs = [steps[i] for i in kept]
    y_span = max(span[0], 1 / _WIDEST), min(span[1], _WIDEST)
    plot = frame((xs[0], xs[-1]), y_span, "cost of one environment step, CPU-ms", "times the cost without the lever",
                 height=280, log_x=True, log_y=True)  # fmt: skip
    parts = [[[part[i] for i in kept] for part in (each.value, each.low, each.high)] for each in lines]
    bands = [band(plot, xs, part, place, fine) for place, part in enumerate(parts)]
    drawn = [marked_line(plot, xs, part[0], place, fine) for place, part in enumerate(parts)]
    one = plot.y.at(1.0)
    guides = [line(plot.x.start, one, plot.x.end, one, "ref")]
    measured = _measured_ms(env, found.target)
    if measured is not None and xs[0] <= measured <= xs[-1]:
        x, right = plot.x.at(measured), plot.x.at(measured) > (plot.x.start + plot.x.end) / 2
        guides.append(line(x, plot.y.start, x, plot.y.end, "ref"))
        drawn.append(label(x - 4 if right else x + 4, plot.y.end + 10, f"here {digits(measured)} ms",
                           anchor="end" if right else "", css="h"))  # fmt: skip
    said = "; ".join(step_words(each) for each in lines) + "."
    return Drawing(
        name=f"{stem}-levers-by-step-{slug_number(found.target)}",
        title=f"Each lever, to reach {plain(found.target)}, by the cost of a step",
        desc=f"{env.env}: modelled time and money to a mean return of {plain(found.target)} with each lever over that "
        f"without it, against the cost of one environment step, both axes logarithmic. {said}",
        note="Below 1 the lever saves time and money. Bands: 95 % intervals.",
        height=plot.height,
        body="".join([plot.markup, *guides, *bands, *drawn]),
        keys=tuple(Key(each.lever, "line", place) for place, each in enumerate(lines)),
        header=("env", "lever", "target", "step_ms", "ratio", "low", "high"),
        rows=tuple(
            (env.env, each.lever, found.target, *row)
            for each in lines
            for row in zip(each.step_ms, each.value, each.low, each.high, strict=True)
        ),
    )


def _measured_ms(env: EnvResult, target: float) -> float | None:
    """What a step cost in these runs: the geometric mean over methods."""
    known = [ms for c in env.crossovers if c.target == target for ms in c.measured_step_ms.values() if ms > 0]
    return math.exp(math.fsum(map(math.log, known)) / len(known)) if known else None
