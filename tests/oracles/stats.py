"""Statistics over runs by their definitions: loops, fractions and full enumeration, as slow as they are plain."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction

Scores = Sequence[Sequence[float]]
"""scores[run][task]"""


def task_means(scores: Scores) -> list[float]:
    return [math.fsum(task) / len(task) for task in zip(*scores, strict=True)]


def mean(scores: Scores) -> float:
    means = task_means(scores)
    return math.fsum(means) / len(means)


def median(scores: Scores) -> float:
    means = sorted(task_means(scores))
    return (means[(len(means) - 1) // 2] + means[len(means) // 2]) / 2


def iqm(scores: Scores) -> float:
    flat = sorted(x for run in scores for x in run)
    cut = int(0.25 * len(flat))
    middle = flat[cut : len(flat) - cut]
    return math.fsum(middle) / len(middle)


def optimality_gap(scores: Scores, threshold: float) -> float:
    flat = [max(0.0, threshold - x) for run in scores for x in run]
    return math.fsum(flat) / len(flat)


def profile(scores: Scores, thresholds: Sequence[float]) -> list[float]:
    flat = [x for run in scores for x in run]
    return [sum(x > tau for x in flat) / len(flat) for tau in thresholds]


def improvement(a: Scores, b: Scores) -> float:
    each = []
    for x, y in zip(zip(*a, strict=True), zip(*b, strict=True), strict=True):
        wins = sum((i > j) + 0.5 * (i == j) for i in x for j in y)
        each.append(wins / (len(x) * len(y)))
    return math.fsum(each) / len(each)


def auc_variance(theta: float, m: int, n: int) -> float:
    """Hanley and McNeil 1982 with exponential scores, in their own terms Q1 and Q2, both group sizes averaged."""
    q1, q2, both = theta / (2 - theta), 2 * theta**2 / (1 + theta), (m + n) / 2
    return (theta * (1 - theta) + (both - 1) * (q1 - theta**2) + (both - 1) * (q2 - theta**2)) / (m * n)


def every_resample(sizes: Sequence[int], statistic: Callable[[list[tuple[int, ...]]], float]) -> list[float]:
    """The statistic of each of the prod(n^n) equally likely stratified resamples."""
    strata = [list(itertools.product(range(n), repeat=n)) for n in sizes]
    return [statistic(list(picked)) for picked in itertools.product(*strata)]


def spread(values: Sequence[float]) -> float:
    centre = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((x - centre) ** 2 for x in values) / len(values))


def survival(costs: Sequence[float], reached: Sequence[bool]) -> list[tuple[float, Fraction]]:
    """(time, share that reached by then) at each event: the product-limit estimate in exact fractions."""
    alive, found = Fraction(1), []
    for t in sorted({c for c, r in zip(costs, reached, strict=True) if r}):
        at_risk = sum(c >= t for c in costs)
        events = sum(c == t and r for c, r in zip(costs, reached, strict=True))
        alive *= Fraction(at_risk - events, at_risk)
        found.append((t, 1 - alive))
    return found


def median_time(costs: Sequence[float], reached: Sequence[bool]) -> float:
    return next((t for t, share in survival(costs, reached) if share >= Fraction(1, 2)), math.inf)


def log_rank_chi2(a: tuple[Sequence[float], Sequence[bool]], b: tuple[Sequence[float], Sequence[bool]]) -> float:
    """(observed - expected)^2 / hypergeometric variance of the events of a."""
    observed = expected = variance = 0.0
    for t in sorted({c for costs, reached in (a, b) for c, r in zip(costs, reached, strict=True) if r}):
        risk = [sum(c >= t for c in costs) for costs, _ in (a, b)]
        events = [sum(c == t and r for c, r in zip(costs, reached, strict=True)) for costs, reached in (a, b)]
        n, d = sum(risk), sum(events)
        observed += events[0]
        expected += d * risk[0] / n
        if n > 1:
            variance += d * (n - d) * risk[0] * risk[1] / (n * n * (n - 1))
    return (observed - expected) ** 2 / variance


def expected_cost(costs: Sequence[float], reached: Sequence[bool]) -> float:
    return math.fsum(costs) / sum(reached) if any(reached) else math.inf


def binomial_at_most(k: int, n: int, p: float) -> float:
    return math.fsum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k + 1))


def curve_at(x: Sequence[float], y: Sequence[float], at: float) -> float | None:
    """Linear between the evaluations of one run; None outside of them."""
    for (x0, y0), (x1, y1) in itertools.pairwise(zip(x, y, strict=True)):
        if x0 <= at <= x1:
            return y0 + (y1 - y0) * (at - x0) / (x1 - x0)
    return y[0] if len(x) == 1 and x[0] == at else None
