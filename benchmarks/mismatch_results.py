"""The results of the mismatch grid as numbers over seeds: what the page and the figures are made of."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from mismatch_cells import CARTPOLE, NONE
from scipy import special

from frugalrl.stats import Estimate
from frugalrl.stats.estimate import one_run, unless_alike

Run = dict[str, Any]
TRAINING = ("environment", "inference", "learner", "correction", "replay", "transport", "unassigned")
"""Roles that a round takes: no evaluation, start-up, checkpoint or report."""
LEVEL = 0.95


class Grid:
    """The runs of one environment, by sampler, correction and seed."""

    def __init__(self, runs: list[Run]) -> None:
        self.env: str = runs[0]["env"]
        self._runs: dict[tuple[str, str], dict[int, Run]] = {}
        for run in runs:
            self._runs.setdefault((run["sampler"], run["correction"]), {})[run["seed"]] = run

    def runs(self, sampler: str, correction: str) -> dict[int, Run]:
        """By seed; runs without any score (failed before the first evaluation) are left out."""
        found = self._runs.get((sampler, correction), {})
        return {seed: run for seed, run in sorted(found.items()) if run["final"] is not None}

    def all(self) -> list[Run]:
        return [run for group in self._runs.values() for run in group.values()]

    def estimate(self, sampler: str, correction: str, of: Callable[[Run], float | None]) -> Estimate | None:
        """Mean over seeds of a number that is never below 0, with Student's interval; None where no run has it."""
        values = [v for run in self.runs(sampler, correction).values() if (v := of(run)) is not None]
        if not values:
            return None
        found = student(np.array(values))
        ends = found.interval and (max(found.interval[0], 0.0), found.interval[1])
        return replace(found, interval=ends)

    def against(
        self, one: tuple[str, str], other: tuple[str, str], of: Callable[[Run], float | None]
    ) -> Estimate | None:
        """The first cell less the second, paired by seed; None without two common seeds."""
        a, b = self.runs(*one), self.runs(*other)
        pairs = [(of(a[s]), of(b[s])) for s in sorted(a.keys() & b.keys())]
        known = np.array([p for p in pairs if None not in p], float)
        if len(known) < 2:
            return None
        found = student(known[:, 0] - known[:, 1])
        assert found.interval is not None
        ends, _ = unless_alike(found.interval, 0.0, found.n, found.level, scale=float(np.abs(known).max()))
        return replace(found, interval=ends)

    def seeds(self) -> int:
        """Most seeds of a cell."""
        return max(len(group) for group in self._runs.values())

    def reference(self) -> tuple[str, str]:
        """The cell without mismatch."""
        return "none", NONE


def student(values: np.ndarray) -> Estimate:
    """Mean of [n] and Student's 95 % interval; None in its place for one value.

    By its formula, not by resampling: the noise of a bootstrap would decide on which side of 0 a narrow bound lies.
    """
    n, value = len(values), float(values.mean())
    if n < 2:
        return Estimate(value, None, n, LEVEL, one_run(LEVEL))
    half = float(special.stdtrit(n - 1, (1.0 + LEVEL) / 2.0)) * float(values.std(ddof=1)) / math.sqrt(n)
    return Estimate(value, (value - half, value + half), n, LEVEL, f"Student's interval of {n} seeds")


def read(folder: Path) -> dict[str, Grid]:
    """By environment, of the .jsonl files in a folder that ``mismatch_grid.py --collect`` wrote."""
    grids = {}
    for path in sorted(folder.glob("*.jsonl")):
        grid = Grid([json.loads(line) for line in path.read_text().splitlines()])
        grids[grid.env] = grid
    return grids


def final(run: Run) -> float | None:
    """The last score of the fp32 learner."""
    value: float | None = run["final"]
    return value


def over_curve(run: Run) -> float | None:
    """Mean of all scores of a run: how fast it learned, where the last one is at the ceiling."""
    value: float | None = run["mean_of_curve"]
    return value


def judged(env: str) -> tuple[str, Callable[[Run], float | None]]:
    """The score that sentences are about, in words and as a function; chosen before the grid was run."""
    return ("mean score over the run", over_curve) if env == CARTPOLE else ("final score", final)


def drawdown(run: Run) -> float | None:
    value: float | None = run["worst_drawdown"]
    return value


def late(name: str) -> Callable[[Run], float | None]:
    """A metric in the last part of a run."""
    return lambda run: (run["metrics"].get(name) or [None])[-1]


def largest(name: str) -> Callable[[Run], float | None]:
    """A metric that is a maximum, over the whole run."""
    return lambda run: max((v for v in run["metrics"].get(name) or [] if v is not None), default=None)


def cpu(*roles: str) -> Callable[[Run], float | None]:
    """CPU-seconds of these roles together."""

    def of(run: Run) -> float | None:
        if run["bill"] is None:
            return None
        return float(sum(run["bill"]["roles"].get(role, {}).get("cpu_s", 0.0) for role in roles))

    return of


def joules_per_cpu_s(run: Run) -> float | None:
    """Joules that the bill has for a CPU-second of this run; idle joules of the machine are not in it."""
    if run["bill"] is None:
        return None
    cpu_j = (run["bill"]["energy"].get("cpu_j") or {}).get("value")
    whole = sum(role.get("cpu_s", 0.0) for role in run["bill"]["roles"].values())
    return None if cpu_j is None or not whole else cpu_j / whole


def shown(estimate: Estimate | None) -> int:
    """1: above 0; -1: below 0; 0: the interval contains 0, or there is none."""
    if estimate is None or estimate.interval is None:
        return 0
    low, high = estimate.interval
    return 1 if low > 0 else -1 if high < 0 else 0
