"""The runs of one method on one environment, and where they reached a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from frugalrl import stats
from frugalrl.report.records import Point, RunRecord
from frugalrl.report.references import Reference, reference_of
from frugalrl.report.results import QUANTITIES, Quantity
from frugalrl.report.shared import Processes, paces_in
from frugalrl.report.use import COUNTS, Rates, used_at

Floats = NDArray[np.float64]

_ROUNDING = 1e-9
"""A mean of returns that misses its target by less is rounded, not worse."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """How figures are made: the same for all methods."""

    seed: int
    draws: int
    level: float
    rates: Rates
    same_machine: bool
    """False: seconds, joules and money cannot be compared, so they are not shown."""

    @property
    def rng(self) -> np.random.Generator:
        """Resamples for one figure, from the beginning for each: which others are made, and how many of them a measured
        time allows, must not change it."""
        return np.random.default_rng(self.seed)

    def shown(self, quantity: Quantity) -> bool:
        """Whether figures of this quantity mean the same for all runs."""
        return self.same_machine or quantity in COUNTS


@dataclass(frozen=True, slots=True)
class Group:
    """Runs of one method on one environment, by seed."""

    method: str
    env: str
    runs: tuple[RunRecord, ...]

    @property
    def reference(self) -> Reference | None:
        """The scale of the scores, where there is one."""
        env = self.runs[0].config.env
        return reference_of(env.id, env.kwargs)

    @property
    def finished(self) -> tuple[RunRecord, ...]:
        """Runs that completed and have a score."""
        return tuple(run for run in self.runs if run.outcome == "completed" and run.points)

    @property
    def scored(self) -> tuple[RunRecord, ...]:
        """Runs with at least one evaluation, however they ended."""
        return tuple(run for run in self.runs if run.points)

    @property
    def charged(self) -> tuple[RunRecord, ...]:
        """Runs of which it is known what they used, evaluated or not; one that completed was scored at its end."""
        return tuple(run for run in self.runs if run.spent is not None)

    @property
    def failed(self) -> tuple[tuple[int, str], ...]:
        """(seed, reason) of the others."""
        finished = self.finished
        return tuple((run.seed, _why(run)) for run in self.runs if run not in finished)


def _why(run: RunRecord) -> str:
    return "it holds no evaluation" if run.outcome == "completed" else f"{run.outcome}: {run.reason}"


def groups_of(records: Sequence[RunRecord], methods: Sequence[str] = ()) -> dict[str, dict[str, Group]]:
    """Groups by environment and method, in the order of ``methods``, then of the records; runs by seed."""
    found: dict[str, dict[str, list[RunRecord]]] = {}
    for record in records:
        by_method = found.setdefault(record.env, {m: [] for m in methods})
        by_method.setdefault(record.method, []).append(record)
    return {
        env: {
            method: Group(method, env, tuple(sorted(runs, key=lambda run: run.seed)))
            for method, runs in by_method.items()
            if runs
        }
        for env, by_method in found.items()
    }


@dataclass(frozen=True, slots=True)
class Reached:
    """What the runs of a group used until they reached a target, or until they ended."""

    target: float
    seeds: tuple[int, ...]
    points: tuple[Point, ...]
    """The first evaluation at or above the target; the end of a run that never got there (`RunRecord.spent`)."""
    reached: NDArray[np.bool_]
    use: Mapping[Quantity, Floats | None]
    """[runs]; None where it is not known of every run."""
    watched: Floats
    """[runs] agent steps at the target, or until which a run is known to have missed it: see `_watched`."""
    due: Floats
    """[runs] agent steps at which the evaluation was due: the block before it ended some steps later, more or fewer."""
    processes: Processes | None = None
    """That runs of the method shared; None where each had its own."""
    at: tuple[int, ...] = ()
    """[runs] their places among those of ``processes``."""

    def clocks(self, quantity: Quantity, setting: Setting) -> stats.Paces | None:
        """Of the processes that the runs shared, in this quantity; None where they shared none, or where it is counted
        for each run."""
        return paces_in(quantity, self.processes, setting.rates, self.points, self.at)

    def among(self, seeds: Sequence[int]) -> Reached:
        """Only the runs of these seeds, in their order."""
        at = np.array([self.seeds.index(seed) for seed in seeds], np.intp)
        return Reached(
            self.target,
            tuple(seeds),
            tuple(self.points[i] for i in at),
            self.reached[at],
            {name: None if values is None else values[at] for name, values in self.use.items()},
            self.watched[at],
            self.due[at],
            self.processes,
            tuple(self.at[i] for i in at) if self.at else (),
        )


def reach(group: Group, target: float, setting: Setting, processes: Processes | None = None) -> Reached:
    """Where each run reached the target, or how it ended: the resolution is the time between two evaluations.

    ``processes``: that its charged runs shared, see `processes_of`.
    """
    runs = group.charged
    enough = target - _ROUNDING * max(1.0, abs(target))
    first = [next((p for p in run.points if p.mean_return >= enough), None) for run in runs]
    points = tuple(p for hit, run in zip(first, runs, strict=True) if (p := hit or run.spent) is not None)
    reached = np.array([hit is not None for hit in first], np.bool_)
    return Reached(
        target,
        tuple(run.seed for run in runs),
        points,
        reached,
        use_of(points, setting),
        _watched(runs, points, reached),
        np.array([_due(run, point) for run, point in zip(runs, points, strict=True)], np.float64),
        processes,
        tuple(range(len(runs))),
    )


def _due(run: RunRecord, point: Point) -> float:
    """By the number of the evaluation, as every evaluation but that at the end of a budget is due by it."""
    if point is run.ended:
        return float(point.env_steps)
    return float(run.config.evaluation.every_env_steps * (1 + run.points.index(point)))


def unless_tied(made: stats.Estimate, due: stats.Estimate) -> stats.Estimate:
    """``made`` of what runs used, without bounds where a few of them were all read at the same evaluation.

    Their samples then differ by no more than the ends of blocks, their FLOPs by the evaluations and their seconds by
    the clocks too, which is no spread of what was looked for; ``due`` is the estimate of the steps at which the
    evaluations were due.
    """
    no_bounds = due.interval == (0.0, np.inf) and made.interval is not None
    return replace(made, interval=due.interval, how=due.how) if no_bounds else made


def _watched(runs: Sequence[RunRecord], points: Sequence[Point], reached: NDArray[np.bool_]) -> Floats:
    """[runs] ``points`` in agent steps, but all that missed the target within one budget until its latest end.

    A block ends some steps after the budget, more or fewer in each run. Who missed the target with fewer must not leave
    the risk set before who reached it with more: of ten runs, three at their last evaluation would be 72 % to Kaplan
    and Meier, who know them to be 30 %.
    """
    steps = np.array([float(point.env_steps) for point in points], np.float64)
    budgets = [run.config.budget.env_steps if run.outcome == "completed" else None for run in runs]
    latest: dict[int | None, float] = {}
    for budget, step in zip(budgets, steps, strict=True):
        latest[budget] = max(latest.get(budget, 0.0), float(step))
    for i, budget in enumerate(budgets):
        if budget is not None and not reached[i]:
            steps[i] = latest[budget]
    return steps


def use_of(points: Sequence[Point], setting: Setting) -> dict[Quantity, Floats | None]:
    """[points] of each quantity; None where one of them is not known, or where machines differ."""
    used = [used_at(point, setting.rates) for point in points]
    found: dict[Quantity, Floats | None] = {}
    for quantity in QUANTITIES:
        values = [u[quantity] for u in used]
        known = setting.shown(quantity) and None not in values
        found[quantity] = np.array(values, np.float64) if known and values else None
    return found


def common_seeds(a: Sequence[int], b: Sequence[int]) -> tuple[int, ...]:
    """Seeds that both have, rising."""
    return tuple(sorted(set(a) & set(b)))
