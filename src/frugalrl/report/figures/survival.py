"""The share of runs that had reached a target, by samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from frugalrl.report.figures.axes import bounds, frame
from frugalrl.report.figures.curves import Slots, band, keys_of
from frugalrl.report.figures.svg import Drawing, Fineness, Point, mark, path
from frugalrl.report.numbers import digits, plain, slug_number
from frugalrl.report.results import QUANTITIES, EnvResult, MethodResult, Survival


def survivals(env: EnvResult, slots: Slots, stem: str, targets: Sequence[float], fine: Fineness) -> list[Drawing]:
    """One figure per target that any method has."""
    drawings = []
    for target in targets:
        found = {m.method: (s, _end(m, s)) for m in env.methods for s in m.survival if s.target == target}
        if found:
            drawings.append(_survival(env, target, found, slots, stem, fine))
    return drawings


def _end(method: MethodResult, survival: Survival) -> float:
    """Up to where the runs of a method were seen: their mean budget, or the last one that reached the target."""
    used = method.used.get("env_steps")
    known = [used.value] if used is not None and used.value is not None and math.isfinite(used.value) else []
    return max([0.0, *survival.env_steps[-1:], *known])


def _survival(
    env: EnvResult, target: float, found: dict[str, tuple[Survival, float]], slots: Slots, stem: str, fine: Fineness
) -> Drawing:
    title, unit = QUANTITIES["env_steps"]
    plot = frame(bounds([end for _, end in found.values()], zero=True) or (0.0, 1.0), (0.0, 1.0), f"{title}, {unit}",
                 "share of runs")  # fmt: skip
    bands, lines, said = [], [], []
    for name, (curve, end) in found.items():
        slot = slots[name]
        xs, share = stairs((0.0, *curve.env_steps), (0.0, *curve.share), end)
        ends = [stairs((0.0, *curve.env_steps), (None, *values), end)[1] for values in (curve.low, curve.high)]
        bands.append(band(plot, xs, [share, *ends], slot, fine))
        places: list[Point] = [(plot.x.at(x), plot.y.at(y)) for x, y in zip(xs, share, strict=True)]
        lines.append(path(places, f"l{slot}", decimals=fine.decimals))
        reached = zip(curve.env_steps, curve.share, strict=True)
        lines += [mark(slot, plot.x.at(x), plot.y.at(y)) for x, y in reached if y > 0 and fine.marks]
        said.append(f"{name}: {digits(100 * (curve.share[-1] if curve.share else 0.0))} % in the end.")
    return Drawing(
        name=f"{stem}-reached-{slug_number(target)}",
        title=f"Runs that reached {plain(target)}",
        desc=f"{env.env}: share of runs that had reached a mean return of {plain(target)}, by samples. "
        + " ".join(said),
        height=plot.height,
        body="".join([plot.markup, *bands, *lines]),
        keys=keys_of(list(found), slots),
        header=("env", "method", "target", "env_steps", "share", "low", "high"),
        rows=tuple((env.env, name, target, *row) for name, (s, _) in found.items() for row in zip(
            s.env_steps, s.share, s.low, s.high, strict=True)),
    )  # fmt: skip


def stairs(steps: Sequence[float], values: Sequence[Any], end: float) -> tuple[list[float], list[Any]]:
    """The corners of a step function that keeps each value until the next step, and the last one until ``end``."""
    xs: list[float] = []
    ys: list[Any] = []
    for i, (x, y) in enumerate(zip(steps, values, strict=True)):
        if i:
            xs.append(x)
            ys.append(values[i - 1])
        xs.append(x)
        ys.append(y)
    return [*xs, max(end, xs[-1])], [*ys, values[-1]]
