#!/usr/bin/env python3
"""How often do the intervals of frugalrl.stats hold the truth? Simulated runs from known distributions.

    python benchmarks/interval_coverage.py --reps 1000 --out evidence/statistics/coverage.json
    python benchmarks/interval_coverage.py --table evidence/statistics/coverage.json

Scores: normal; lognormal (a long upper tail); bimodal (a run learns or it does not). Costs to a target: the same three
shapes, cut at a budget of 1, two methods that share half of their randomness by seed; methods that get there early, or
never, at given rates; and CPU times of seeds that two processes per method trained, some faster than others. Each cell
says how often the interval held the truth, how wide it was in the median, and how often it was refused, which the
coverage leaves out, or had no bound.
"""

from __future__ import annotations

import argparse
import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special
from side_by_side import machine

from frugalrl import stats

SIZES = (3, 5, 10, 20)
DRAWS = 500
LARGE = 400_000
RATES = ((1.0, 0.7), (0.9, 0.6), (0.9, 0.8), (0.9, 0.9))
"""Rates at which runs of a and of b reach the target."""
PACES = (0.03, 0.1, 0.3)
"""Standard deviation of the log pace of processes."""
PIECES, MEMORY = 100, (0.1, 1.0)
"""Pieces of a run, and for how much of it a pace lasts that changes on the way."""
NAIVE = ("percentile", "as if apart")
"""In brackets in the table: the percentile bootstrap, and seeds of one process taken for runs of their own."""
KINDS = ("normal", "lognormal", "bimodal", "early or never", "shared clocks")
Floats = np.ndarray[Any, np.dtype[np.float64]]


def scores(kind: str, z: Floats, u: Floats) -> Floats:
    """Scores from standard normal z and uniform u of the same shape."""
    if kind == "normal":
        return 1.0 + 0.4 * z
    if kind == "lognormal":
        return np.exp(z)
    return np.where(u < 0.7, 1.0 + 0.15 * z, 0.1 + 0.05 * z)


def times(kind: str, z: Floats, slower: float) -> Floats:
    """Time to the target from standard normal z."""
    if kind == "normal":
        return np.maximum(0.05, 0.6 + 0.2 * z) * slower
    if kind == "lognormal":
        return np.exp(-0.6 + 0.8 * z) * slower
    return np.where(special.ndtr(z) < 0.75, np.maximum(0.05, 0.4 + 0.1 * z), 9.0) * slower


def some_scores(kind: str, n: int, tasks: int, rng: np.random.Generator, lift: float = 0.0) -> Floats:
    spread = np.linspace(0.5, 1.5, tasks) if tasks > 1 else np.ones(1)
    return scores(kind, rng.normal(size=(n, tasks)), rng.random((n, tasks))) * spread + lift


def some_costs(kind: str, n: int, rng: np.random.Generator) -> list[Any]:
    """Costs and reached of a, then of b: b is 1.25 times slower, and a seed is half of what happens to both."""
    seed = rng.normal(size=n)
    found = []
    for slower in (1.0, 1.25):
        t = times(kind, (seed + rng.normal(size=n)) / np.sqrt(2.0), slower)
        found += [np.minimum(t, 1.0), t <= 1.0]
    return found


def at_rates(rates: tuple[float, float], n: int, rng: np.random.Generator) -> list[Any]:
    """Costs and reached of a and b: runs of both get there after 5, 10 or 15 % of the budget, or never."""
    found = []
    for rate in rates:
        reached = rng.random(n) < rate
        found += [np.where(reached, rng.choice([0.05, 0.1, 0.15], n), 1.0), reached]
    return found


def cell(
    truth: float, n: int, reps: int, rng: np.random.Generator, estimate: Callable[[int], stats.Estimate]
) -> dict[str, Any]:
    ends = [estimate(n).interval for _ in range(reps)]
    kept = [e for e in ends if e is not None]
    return {
        "runs": n,
        "coverage": round(float(np.mean([low <= truth <= high for low, high in kept])), 4) if kept else None,
        "median_width": float(f"{np.median([high - low for low, high in kept]):.4g}") if kept else None,
        "refused": round(1 - len(kept) / reps, 4),
        "without_bound": round(float(np.mean([low == 0.0 and high == np.inf for low, high in kept])), 4)
        if kept
        else 0.0,
    }


def of_scores(kind: str, rng: np.random.Generator) -> dict[str, tuple[float, Callable[[int], stats.Estimate]]]:
    """name -> (truth, estimate from n simulated runs), for every statistic of scores."""
    found: dict[str, tuple[float, Callable[[int], stats.Estimate]]] = {}
    for tasks in (1, 5):
        for name, statistic in (("mean", stats.mean), ("iqm", stats.iqm)):
            truth = float(statistic(some_scores(kind, LARGE, tasks, rng)))
            for method in ("t", "percentile"):

                def interval(n: int, t: int = tasks, f: Any = statistic, m: Any = method) -> stats.Estimate:
                    return stats.stratified(some_scores(kind, n, t, rng), f, rng=rng, draws=DRAWS, method=m)

                found[f"{name}, {tasks} task{'s' * (tasks > 1)}, {method}"] = (truth, interval)
        for lift in (0.0, 0.5):
            a, b = some_scores(kind, LARGE, tasks, rng, lift), some_scores(kind, LARGE, tasks, rng)
            truth = float(((a > b) + 0.5 * (a == b)).mean())
            for method in ("score", "percentile"):

                def beats(n: int, t: int = tasks, up: float = lift, m: Any = method) -> stats.Estimate:
                    ours, theirs = some_scores(kind, n, t, rng, up), some_scores(kind, n, t, rng)
                    return stats.probability_of_improvement(ours, theirs, rng=rng, draws=DRAWS, method=m)

                name = f"probability of improvement ({truth:.2f}), {tasks} task{'s' * (tasks > 1)}, {method}"
                found[name] = (truth, beats)
    return found


def of_costs(kind: str, rng: np.random.Generator) -> dict[str, tuple[float, Callable[[int], stats.Estimate]]]:
    """The same for costs to a target."""
    a, ra, b, rb = some_costs(kind, 5 * LARGE, rng)
    expected, ratio = a.sum() / ra.sum(), (a.sum() / ra.sum()) / (b.sum() / rb.sum())
    half = float(np.median(np.where(rb, b, np.inf)))
    found: dict[str, tuple[float, Callable[[int], stats.Estimate]]] = {}
    for method in ("t", "percentile"):

        def cost(n: int, m: Any = method) -> stats.Estimate:
            return stats.expected_cost(*some_costs(kind, n, rng)[:2], rng=rng, draws=DRAWS, method=m)

        def against(n: int, m: Any = method) -> stats.Estimate:
            return stats.expected_cost_ratio(*some_costs(kind, n, rng), rng=rng, draws=DRAWS, method=m)

        found[f"expected cost ({ra.mean():.0%} reach it), {method}"] = (expected, cost)
        found[f"expected cost ratio ({ra.mean():.0%}, {rb.mean():.0%}), paired, {method}"] = (ratio, against)
    for method in ("order", "percentile"):

        def median(n: int, m: Any = method) -> stats.Estimate:
            return stats.median_time(*some_costs(kind, n, rng)[2:], rng=rng, draws=DRAWS, method=m)

        found[f"median time ({rb.mean():.0%} reach it), {method}"] = (half, median)
    return found


def of_rates(rng: np.random.Generator) -> dict[str, tuple[float, Callable[[int], stats.Estimate]]]:
    """The expected cost ratio where the two methods do not reach the target equally often."""
    found: dict[str, tuple[float, Callable[[int], stats.Estimate]]] = {}
    for rates in RATES:
        a, ra, b, rb = at_rates(rates, 5 * LARGE, rng)
        truth = (a.sum() / ra.sum()) / (b.sum() / rb.sum())
        for method in ("t", "percentile"):

            def against(n: int, p: tuple[float, float] = rates, m: Any = method) -> stats.Estimate:
                return stats.expected_cost_ratio(*at_rates(p, n, rng), rng=rng, draws=DRAWS, method=m)

            name = f"expected cost ratio ({rates[0]:.0%}, {rates[1]:.0%}), paired, {method}"
            found[name] = (float(truth), against)
    return found


def shared_costs(kind: str, n: int, spread: float, rng: np.random.Generator) -> tuple[list[Any], list[stats.Paces]]:
    """`some_costs` times the paces of two processes per method, whose seeds all go on until the budget ends."""
    found, units, grid = some_costs(kind, n, rng), np.arange(n) * 2 // n, np.linspace(0.05, 1.0, 20)
    clocks, read = [], []
    for at in (0, 2):
        pace = np.exp(rng.normal(0, spread, 2))[units]
        read.append(found[at])
        found[at] = found[at] * pace
        clocks.append(stats.Clocks(units, [grid] * n, [grid * p for p in pace]))
    return found, [stats.paces_of(clocks[i], [clocks[1 - i]], read[i]) for i in (0, 1)]


def drifting_costs(n: int, memory: float, rng: np.random.Generator) -> tuple[list[Any], list[stats.Paces]]:
    """CPU times of two methods until a target at a seventh of the budget, two processes each, whose paces (10 % apart
    at any moment) change on the way: what a process took in all is not what it took until there."""
    units, seed, clocks, read, found = np.arange(n) * 2 // n, rng.normal(size=n), [], [], []
    keep, grid = np.exp(-1 / (PIECES * memory)), np.linspace(0.0, 1.0, PIECES + 1)
    seen = slice(5, None, 5)  # 20 evaluations
    for _ in range(2):
        log = np.empty((2, PIECES))
        log[:, 0] = rng.normal(0, 0.1, 2)
        for piece in range(1, PIECES):
            log[:, piece] = keep * log[:, piece - 1] + rng.normal(0, 0.1 * np.sqrt(1 - keep**2), 2)
        used = np.cumsum(np.exp(np.pad(log, ((0, 0), (1, 0)), constant_values=-np.inf)), 1) / PIECES
        work = 0.15 * np.exp(0.1 * (seed + rng.normal(size=n)) / np.sqrt(2.0))
        read.append(work)
        found += [np.array([np.interp(w, grid, used[u]) for w, u in zip(work, units, strict=True)]), np.ones(n, bool)]
        clocks.append(stats.Clocks(units, [grid[seen]] * n, [used[u, seen] for u in units]))
    return found, [stats.paces_of(clocks[i], [clocks[1 - i]], read[i]) for i in (0, 1)]


def of_processes(rng: np.random.Generator) -> dict[str, tuple[float, Callable[[int], stats.Estimate]]]:
    """Expected CPU time and its ratio where seeds of each method shared two processes."""
    found: dict[str, tuple[float, Callable[[int], stats.Estimate]]] = {}
    for kind in ("normal", "bimodal"):
        a, ra, b, rb = some_costs(kind, 5 * LARGE, rng)
        alone, ratio = a.sum() / ra.sum(), (a.sum() / ra.sum()) / (b.sum() / rb.sum())
        for sd in PACES:
            for method in ("t", "as if apart"):

                def cost(n: int, k: str = kind, s: float = sd, known: bool = method == "t") -> stats.Estimate:
                    made, paces = shared_costs(k, n, s, rng)
                    return stats.expected_cost(*made[:2], paces=paces[0] if known else None)

                def against(n: int, k: str = kind, s: float = sd, known: bool = method == "t") -> stats.Estimate:
                    made, (of_a, of_b) = shared_costs(k, n, s, rng)
                    ways: dict[str, Any] = {"paces_a": of_a, "paces_b": of_b} if known else {}
                    return stats.expected_cost_ratio(*made, **ways)

                found[f"expected cost, {kind}, paces {sd:.0%} apart, {method}"] = (alone * np.exp(sd**2 / 2), cost)
                found[f"expected cost ratio, {kind}, paces {sd:.0%} apart, paired, {method}"] = (ratio, against)
    for memory in MEMORY:
        for method in ("t", "as if apart"):

            def drifting(n: int, lasts: float = memory, known: bool = method == "t") -> stats.Estimate:
                made, (of_a, of_b) = drifting_costs(n, lasts, rng)
                ways: dict[str, Any] = {"paces_a": of_a, "paces_b": of_b} if known else {}
                return stats.expected_cost_ratio(*made, **ways)

            found[f"expected cost ratio, paces that last {memory:g} of a run, paired, {method}"] = (1.0, drifting)
    return found


def made_of(kind: str, rng: np.random.Generator) -> dict[str, tuple[float, Callable[[int], stats.Estimate]]]:
    """name -> (truth, estimate from n simulated runs), of one kind."""
    if kind == "early or never":
        return of_rates(rng)
    return of_processes(rng) if kind == "shared clocks" else of_scores(kind, rng) | of_costs(kind, rng)


def table(record: dict[str, Any]) -> str:
    """Coverage in per cent by shape, statistic and runs: default interval (one of `NAIVE`), as Markdown."""
    lines = ["| shape | statistic | interval | " + " | ".join(map(str, SIZES)) + " |", "|---" * (3 + len(SIZES)) + "|"]
    for kind, statistics in record["results"].items():
        for full, found in statistics.items():
            name, method = full.rsplit(", ", 1)
            if method in NAIVE:
                continue
            cells = []
            other = next(statistics[f"{name}, {naive}"] for naive in NAIVE if f"{name}, {naive}" in statistics)
            for ours, naive in zip(found["cells"], other["cells"], strict=True):
                said = "refused" if ours["coverage"] is None else f"{100 * ours['coverage']:.1f}"
                open_ = naive.get("without_bound", 0.0) > 0.5
                cells.append(f"{said} ({'no bound' if open_ else format(100 * naive['coverage'], '.1f')})")
            lines.append(f"| {kind} | {name} | {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--reps", type=int, default=1000, help="simulated studies per cell (1,000)")
    parser.add_argument("--seed", type=int, default=20261125)
    parser.add_argument("--only", choices=KINDS, help="simulate one kind again and keep the others of the record")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--out", type=Path, help="where the record goes")
    what.add_argument("--table", type=Path, help="print the table of a record")
    args = parser.parse_args()
    if args.table:
        print(table(json.loads(args.table.read_text())))
        return
    results: dict[str, dict[str, Any]] = json.loads(args.out.read_text())["results"] if args.only else {}
    for k, kind in enumerate(KINDS):
        if args.only not in (None, kind):
            continue
        rng = np.random.default_rng([args.seed, k])  # of its own, so that a kind alone gives what all together give
        results[kind] = {}
        for name, (truth, estimate) in made_of(kind, rng).items():
            rows = [cell(truth, n, args.reps, rng, estimate) for n in SIZES]
            results[kind][name] = {"truth": float(f"{truth:.5g}"), "cells": rows}
            print(kind, name, [row["coverage"] for row in rows], flush=True)
    record = {
        "command": f"python benchmarks/interval_coverage.py --reps {args.reps} --seed {args.seed}",
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "versions": {"numpy": np.__version__},
        "level": 0.95,
        "draws": DRAWS,
        "reps": args.reps,
        "standard_error_at_0.95": round(float(np.sqrt(0.95 * 0.05 / args.reps)), 4),
        "results": results,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    partial = args.out.with_suffix(".part")
    partial.write_text(json.dumps(record, indent=1) + "\n")
    partial.replace(args.out)


if __name__ == "__main__":
    main()
