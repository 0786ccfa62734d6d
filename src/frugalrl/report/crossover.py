"""Cost to a target as a function of what one environment step costs, and where two methods cost the same.

In serial, pipelined and lockstep runs the samples and updates to a target do not depend on what a step costs, so the
expected serial time is a line: ``T(c) = samples x c + everything else``, both at the target and both per success. For
asynchronous runs that is assumed: there a slower step also changes how stale the data are. A note of the comparison
says so where a method is asynchronous. Their line is the time on one core: that they work on several is not in it.

The environment's own seconds are taken out of everything else. Evaluations stay as measured: their steps are not
separated from their forward passes, so with an expensive step they would cost more than the line says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from frugalrl import stats
from frugalrl.report.check import pairs
from frugalrl.report.groups import Floats, Group, Reached, Setting, unless_tied
from frugalrl.report.records import Point
from frugalrl.report.results import Crossing, CrossLine, Crossover

GRID_MS: Floats = np.logspace(-3, 3, 31)
"""Milliseconds of one environment step: 0.001 to 1,000."""
_BISECTIONS = 40


@dataclass(frozen=True, slots=True)
class Line:
    """Samples and other seconds of each run of a method until the target or its end."""

    method: str
    steps: Floats
    rest_s: Floats
    mine: Reached
    rest: Sequence[stats.Clocks] = ()
    """Other seconds on the way, of this method and of the others, where runs shared processes."""

    def cost_s(self, step_ms: float) -> Floats:
        """[runs] serial seconds when a step costs that much."""
        return self.steps * step_ms / 1e3 + self.rest_s

    def among(self, seeds: tuple[int, ...]) -> Line:
        """Only the runs of these seeds."""
        at = np.array([self.mine.seeds.index(seed) for seed in seeds], np.intp)
        return Line(self.method, self.steps[at], self.rest_s[at], self.mine.among(seeds), self.rest)

    def paces(self, step_ms: float) -> stats.Paces | None:
        """Of the processes that the runs shared, when a step costs that much."""
        if not self.rest:
            return None
        clocks = [
            replace(c, use=[n * step_ms / 1e3 + rest for n, rest in zip(c.steps, c.use, strict=True)])
            for c in self.rest
        ]
        return stats.paces_of(clocks[0], clocks[1:], self.steps, self.mine.at)

    def expected(self) -> tuple[float, float]:
        """(steps, other seconds) per success."""
        successes = self.mine.reached.sum()
        return float(self.steps.sum() / successes), float(self.rest_s.sum() / successes)


def crossovers_of(
    groups: Mapping[str, Group], reached: Mapping[str, Reached], setting: Setting
) -> tuple[Crossover, ...]:
    """Time and, where there is a price, money to one target; empty where fewer than two methods reached it."""
    made = [line_of(m, r, setting) for m, r in reached.items() if r.reached.any()]
    lines = [line for line in made if line is not None]
    if len(lines) < 2 or not setting.same_machine:
        return ()
    crossings = tuple(c for a, b in combinations(lines, 2) if (c := _crossing(a, b, setting)) is not None)
    target = lines[0].mine.target
    step_ms = {m: ms for m, g in groups.items() if (ms := measured_step_ms(g)) is not None}
    time = Crossover(
        target=target,
        quantity="wall_s",
        step_ms=tuple(float(c) for c in GRID_MS),
        measured_step_ms=step_ms,
        lines=tuple(_drawn(line, setting) for line in lines),
        crossings=crossings,
    )
    per_second = setting.rates.eur(1.0, 1.0, 1.0)
    if per_second is None or (setting.rates.has_gpu and setting.rates.owned):
        return (time,)
    priced = tuple(_priced(line, per_second) for line in time.lines)
    return time, replace(time, quantity="eur", lines=priced)


def measured_step_ms(group: Group) -> float | None:
    """CPU-milliseconds of one environment step of training, over all runs of a method."""
    last = [run.points[-1] for run in group.scored]
    known = [s for p in last if (s := _role_s(p, "environment", "cpu_s")) is not None]
    steps = sum(p.env_steps for p in last)
    return 1e3 * sum(known) / steps if known and len(known) == len(last) and steps else None


def _role_s(point: Point, role: str, clock: str) -> float | None:
    cost = (point.costs or {}).get(role)
    value = None if cost is None else getattr(cost, clock)
    return None if value is None else float(value)


def line_of(method: str, mine: Reached, setting: Setting) -> Line | None:
    """Of the runs of a method; None where the environment's seconds are not known of every run."""
    rest = [serial_rest_s(point, has_gpu=setting.rates.has_gpu) for point in mine.points]
    steps = mine.use["env_steps"]
    if steps is None or None in rest:
        return None
    shared = mine.processes
    clocks = [] if shared is None else shared.clocks(lambda p: serial_rest_s(p, has_gpu=setting.rates.has_gpu))
    return Line(method, steps, np.array(rest, np.float64), mine, clocks)


def serial_rest_s(point: Point, *, has_gpu: bool) -> float | None:
    """Seconds of all roles but the environment, one after another: CPU-seconds, or the loop's own where a GPU works."""
    if point.costs is None:
        return None
    if not has_gpu:
        environment = _role_s(point, "environment", "cpu_s")
        return None if environment is None else point.cpu_s - environment
    busy = [_role_s(point, role, "busy_s") for role in point.costs if role not in ("environment", "waiting")]
    known = [value for value in busy if value is not None]
    return sum(known) if known else None


def _drawn(line: Line, setting: Setting) -> CrossLine:
    ways: dict[str, Any] = {"rng": setting.rng, "draws": setting.draws, "level": setting.level}
    due = stats.expected_cost(line.mine.due, line.mine.reached, **ways)
    found = [stats.expected_cost(line.cost_s(c), line.mine.reached, paces=line.paces(c), **ways) for c in GRID_MS]
    made = [unless_tied(each, due) for each in found]
    return CrossLine(
        method=line.method,
        value=tuple(e.value for e in made),
        low=tuple(None if e.interval is None else e.interval[0] for e in made),
        high=tuple(None if e.interval is None else e.interval[1] for e in made),
    )


def _priced(line: CrossLine, eur_per_s: float) -> CrossLine:
    def priced(values: tuple[float | None, ...]) -> tuple[float | None, ...]:
        return tuple(None if v is None else v * eur_per_s for v in values)

    return replace(line, value=tuple(v * eur_per_s for v in line.value), low=priced(line.low), high=priced(line.high))


def _crossing(a: Line, b: Line, setting: Setting) -> Crossing | None:
    """Where two expected costs are equal, within the grid; on common seeds where there are any."""
    seeds = pairs(a.mine.seeds, b.mine.seeds)
    if seeds is not None:
        a, b = a.among(seeds), b.among(seeds)
    if not (a.mine.reached.any() and b.mine.reached.any()):
        return None
    (steps_a, rest_a), (steps_b, rest_b) = a.expected(), b.expected()
    if steps_a == steps_b:
        return None
    at = 1e3 * (rest_b - rest_a) / (steps_a - steps_b)
    if not GRID_MS[0] <= at <= GRID_MS[-1]:
        return None
    left, right = (a, b) if steps_a > steps_b else (b, a)
    return Crossing(
        left=left.method,
        right=right.method,
        step_ms=float(at),
        interval=_interval(left, right, at, setting, paired=seeds is not None),
    )


def _interval(left: Line, right: Line, at: float, setting: Setting, *, paired: bool) -> tuple[float, float] | None:
    """Step costs around the crossing where the interval of the cost ratio holds 1; ends 0 and inf beyond the grid."""

    def of(a: Floats, b: Floats, **paces: Any) -> stats.Estimate:
        ways: dict[str, Any] = {"rng": setting.rng, "draws": setting.draws, "level": setting.level, "paired": paired}
        return stats.expected_cost_ratio(a, left.mine.reached, b, right.mine.reached, **paces, **ways)

    due = of(left.mine.due, right.mine.due)

    def ratio(step_ms: float) -> stats.Estimate:
        paces = {"paces_a": left.paces(step_ms), "paces_b": right.paces(step_ms)}
        return unless_tied(of(left.cost_s(step_ms), right.cost_s(step_ms), **paces), due)

    def undecided(step_ms: float) -> bool:
        ends = ratio(step_ms).interval
        return ends is None or ends[0] <= 1.0 <= ends[1]

    if ratio(at).interval is None:  # one seed, or one process whose clock all seeds shared
        return None
    below = [float(c) for c in GRID_MS if c < at and not undecided(c)]
    above = [float(c) for c in GRID_MS if c > at and not undecided(c)]
    low = _edge(below[-1], at, undecided) if below else 0.0
    high = _edge(above[0], at, undecided) if above else float("inf")
    return low, high


def _edge(decided: float, inside: float, undecided: Callable[[float], bool]) -> float:
    """Between a step cost that decides and one that does not, by bisection in the logarithm."""
    for _ in range(_BISECTIONS):
        middle = float(np.sqrt(decided * inside))
        decided, inside = (decided, middle) if undecided(middle) else (middle, inside)
    return inside
