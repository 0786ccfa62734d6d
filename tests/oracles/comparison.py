"""Cost to a target by hand: slow, over lists, and two ways to get it wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from frugalrl.report.records import Point, RunRecord

Amount = Callable[[Point], float]


def until(run: RunRecord, target: float, amount: Amount) -> tuple[float, bool]:
    """What a run had used at its first evaluation at or above the target; all of it where there is none."""
    for point in run.points:
        if point.mean_return >= target:
            return amount(point), True
    return amount(run.points[-1]), False


def expected_cost(runs: Sequence[RunRecord], target: float, amount: Amount) -> float:
    """All that the runs used, over the number that reached the target; infinite where none did."""
    found = [until(run, target, amount) for run in runs if run.points]
    successes = sum(reached for _, reached in found)
    return sum(cost for cost, _ in found) / successes if successes else float("inf")


def dropping_censored(runs: Sequence[RunRecord], target: float, amount: Amount) -> float:
    """Wrong: only runs that reached the target count, which rewards a method for failing."""
    return expected_cost([run for run in runs if run.points and until(run, target, amount)[1]], target, amount)


def evaluations_twice(point: Point) -> float:
    """Wrong: the seconds of evaluations are in the seconds of the run already."""
    assert point.costs is not None
    return point.cpu_s + (point.costs["evaluation"].cpu_s or 0.0)
