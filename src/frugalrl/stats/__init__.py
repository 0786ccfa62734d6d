"""Honest numbers over runs: aggregates, bootstrap, cost to a target with censoring, tolerance. numpy and scipy only.

Every function that draws takes its ``numpy.random.Generator``. docs/statistics.md says which number answers which
question.
"""

from frugalrl.stats.aggregates import iqm, mean, median, optimality_gap, performance_profile
from frugalrl.stats.bootstrap import paired, stratified
from frugalrl.stats.curves import Curve, efficiency_curve
from frugalrl.stats.estimate import Estimate
from frugalrl.stats.expected_cost import expected_cost, expected_cost_ratio
from frugalrl.stats.factorial import cost_effect, effects, score_effect
from frugalrl.stats.improvement import probability_of_improvement
from frugalrl.stats.shared import SHARED_CLOCK, Clocks, Paces, by_unit, count_of, linked, paces_of
from frugalrl.stats.time_to_target import (
    Reach,
    Survival,
    first_reach,
    kaplan_meier,
    log_rank,
    median_time,
    share_reached,
)
from frugalrl.stats.tolerance import Tolerance, seeds_needed, tolerance_interval

__all__ = [
    "SHARED_CLOCK",
    "Clocks",
    "Curve",
    "Estimate",
    "Paces",
    "Reach",
    "Survival",
    "Tolerance",
    "by_unit",
    "cost_effect",
    "count_of",
    "effects",
    "efficiency_curve",
    "expected_cost",
    "expected_cost_ratio",
    "first_reach",
    "iqm",
    "kaplan_meier",
    "linked",
    "log_rank",
    "mean",
    "median",
    "median_time",
    "optimality_gap",
    "paces_of",
    "paired",
    "performance_profile",
    "probability_of_improvement",
    "score_effect",
    "seeds_needed",
    "share_reached",
    "stratified",
    "tolerance_interval",
]
