"""When a cheaper sampler pays: what it saves per sample against what its ratios throw away.

A sample of a run without mismatch costs 1, of which the share s is the sampler's forward passes. A sampler that is g
times as fast, corrected at the cost c, makes it 1 - s (1 - 1/g) + c. When n samples with ratios of effective sample
size e n are worth e n samples of the learner's own, the same information costs (1 - s (1 - 1/g) + c) / e, and

    e* = 1 - s (1 - 1/g) + c

is the ESS at which all that was saved is eaten. A rule of thumb: the ESS is that of a weighted mean, not of learning.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from mismatch_cells import AGES, BITS, NONE, TIS
from mismatch_results import TRAINING, Grid, cpu, joules_per_cpu_s, late

SPEEDS = (2.0, 4.0, math.inf)


def least_ess(share: float, speed: float, correction: float) -> float:
    """e* of the module's text. ``share`` and ``correction``: of what a run without mismatch costs, which is 1."""
    return 1.0 - share * (1.0 - 1.0 / speed) + correction


def break_even(grid: Grid) -> Iterator[str]:
    """A paragraph and a table; nothing while the runs that it needs are missing."""
    reference = list(grid.runs(*grid.reference()).values())
    weighed = [run for s in (*BITS, *AGES[1:]) for run in grid.runs(s, TIS).values()]
    if not reference or not weighed:
        return
    whole = median([cpu(*TRAINING)(run) for run in reference])
    share = median([cpu("inference")(run) for run in reference]) / whole
    booked = median([cpu("correction")(run) for run in weighed]) / whole
    weight = weight_cost(grid, whole)
    watts = median([joules_per_cpu_s(run) for run in reference])
    high, low = (", ".join(f"{least_ess(share, g, c):.2f}" for g in SPEEDS) for c in (max(weight, booked), weight))
    yield (
        f"**Break-even.** A run takes {whole:.0f} CPU-s without evaluations, {share:.0%} of it the sampler's forward "
        f"passes (medians; fp32, no correction). Beside no correction, `{TIS}` adds {weight:+.1%} of that to learner "
        f"and correction (median of pairs); all that is booked as correction, the learner's own pass for log pi_old "
        f"included, is {booked:.1%}. A sampler 2, 4, infinitely many times as fast has its saving eaten where the ESS "
        f"is below {low}, and if the whole pass is the correction's, below {high}. Measured here (joules are CPU-s x "
        f"{watts:.3g} W, modelled; a sync of the weights is in it):\n"
    )
    yield "| sampler | its CPU-s per run | saved: CPU-s | saved: J | ESS, tokens | ESS, sequences |"
    yield "|---|---|---|---|---|---|"
    # of the same corrections as each row's, run at the same times: else fp32 would save something against itself
    of_fp32 = median([cpu("inference", "transport")(run) for c in (NONE, TIS) for run in grid.runs("none", c).values()])
    for sampler in (*BITS, *AGES[1:]):
        runs = [run for c in (NONE, TIS) for run in grid.runs(sampler, c).values()]
        if not runs:
            continue
        mine = median([cpu("inference", "transport")(run) for run in runs])
        ess = [median([late(name)(run) for run in runs]) for name in ("mismatch_ess", "mismatch_ess_sequence")]
        name = "fp32" if sampler == "none" else sampler
        yield (
            f"| {name} | {mine:.1f} | {of_fp32 - mine:+.1f} | {(of_fp32 - mine) * watts:+.0f} | {ess[0]:.3f} | "
            f"{ess[1]:.3f} |"
        )
    yield ""


def weight_cost(grid: Grid, whole: float) -> float:
    """Median over samplers and seeds of what learner and correction take more with a weight than without one."""
    of = cpu("learner", "correction")
    more = []
    for sampler in (*BITS, *AGES[1:]):
        with_it, without = grid.runs(sampler, TIS), grid.runs(sampler, NONE)
        for seed in with_it.keys() & without.keys():
            a, b = of(with_it[seed]), of(without[seed])
            if a is not None and b is not None:
                more.append((a - b) / whole)
    return median(more)


def median(values: list[float | None]) -> float:
    """Of those that are known; NaN without any."""
    known = [v for v in values if v is not None]
    return float(np.median(known)) if known else math.nan
