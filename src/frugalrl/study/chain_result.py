"""What the chain study shows: differences paired by seed, with intervals over seeds.

The score of a learner is its mean return over all iterations: one number for how fast it learns and where it ends.
A difference is paired by seed, because all learners of a seed see the same initial values and draws. Intervals are
95 % t intervals; where one holds 0, no difference is shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from frugalrl.study.chain_grid import COACT, EPS_GREEDY, METHODS, Results, Setting

Floats = NDArray[np.float64]
EARLY = 10
"""Iterations of the early phase that theorem 3.4 of the paper is about."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over seeds with its 95 % interval."""

    mean: float
    low: float
    high: float

    @property
    def sign(self) -> int:
        """1 or -1 where the interval lies on one side of 0; 0 where it holds 0: no difference shown."""
        return (self.low > 0) - (self.high < 0)


@dataclass(frozen=True, slots=True)
class Against:
    """A method in a setting, beside epsilon-greedy in the same setting."""

    setting: Setting
    method: str
    score: Estimate
    """Mean return over all iterations."""
    final: Estimate
    """Return at the last iteration."""
    early_td: Estimate
    """Mean signed TD error over iterations 1 to 10."""
    score_gain: Estimate
    """Paired difference to epsilon-greedy, and so on."""
    final_gain: Estimate
    early_td_gain: Estimate


@dataclass(frozen=True, slots=True)
class Tuned:
    """CoAct against epsilon-greedy at one gamma and alpha, each with the eps that gives it the highest mean score."""

    gamma: float
    alpha: float
    eps_coact: float
    eps_epsilon_greedy: float
    score_gain: Estimate


@dataclass(frozen=True, slots=True)
class Correlation:
    """Spearman's rank correlation over settings, with a 95 % bootstrap interval over seeds."""

    rho: float | None
    """None: fewer than 3 settings, or no spread."""
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Study:
    """All that is said about the results."""

    against: list[Against]
    """Every method in every setting."""
    tuned: list[Tuned]
    td_and_speed: Correlation


def examine(results: Results) -> Study:
    """Compare everything."""
    return Study(compare(results), tune(results), td_and_speed(results))


def t_quantile(df: int) -> float:
    """The 0.975 quantile of Student's t (Abramowitz and Stegun 26.7.5, four terms); good to 1e-3 from df = 9 on."""
    x = NormalDist().inv_cdf(0.975)
    terms = (
        x,
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
        (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160,
    )
    return sum(float(term / df**power) for power, term in enumerate(terms))


def estimate(values: Floats) -> Estimate:
    """Mean and t interval of [N] values, one for each seed; N at least 2."""
    mean, half = float(values.mean()), half_width(values)
    return Estimate(mean, mean - float(half), mean + float(half))


def half_width(values: Floats) -> Floats:
    """Half of the 95 % t interval of the mean over the last axis."""
    n = values.shape[-1]
    return np.asarray(t_quantile(n - 1) * values.std(axis=-1, ddof=1) / np.sqrt(n))


def per_seed(results: Results) -> tuple[Floats, Floats, Floats]:
    """Score, last return and early TD error of every learner and seed, each [L, N]."""
    return (
        results.returns.mean(axis=0, dtype=np.float64),
        results.returns[-1].astype(np.float64),
        results.td[:EARLY].mean(axis=0, dtype=np.float64),
    )


def compare(results: Results) -> list[Against]:
    """Every method in every setting against epsilon-greedy."""
    parts = per_seed(results)
    found = []
    for setting in results.settings:
        base = results.at(setting, EPS_GREEDY)
        for method in METHODS:
            mine = results.at(setting, method)
            alone = [estimate(part[mine]) for part in parts]
            gains = [estimate(part[mine] - part[base]) for part in parts]
            found.append(Against(setting, method, *alone, *gains))
    return found


def tune(results: Results) -> list[Tuned]:
    """The comparison with eps tuned for each method; chosen and compared on the same seeds. Empty with one eps."""
    score, _, _ = per_seed(results)
    found: list[Tuned] = []
    if len({s.eps for s in results.settings}) == 1:
        return found
    for gamma, alpha in dict.fromkeys((s.gamma, s.alpha) for s in results.settings):
        here = [s for s in results.settings if (s.gamma, s.alpha) == (gamma, alpha)]
        best = {
            method: max((float(score[results.at(s, method)].mean()), s) for s in here)[1]
            for method in (COACT, EPS_GREEDY)
        }
        mine, base = (score[results.at(s, method)] for method, s in best.items())
        found.append(Tuned(gamma, alpha, best[COACT].eps, best[EPS_GREEDY].eps, estimate(mine - base)))
    return found


def td_and_speed(results: Results, *, resamples: int = 2_000) -> Correlation:
    """Whether a larger early TD gain of CoAct goes with a larger gain in score, over the settings."""
    score, _, early = per_seed(results)
    mine = [results.at(s, COACT) for s in results.settings]
    base = [results.at(s, EPS_GREEDY) for s in results.settings]
    score_gain, td_gain = score[mine] - score[base], early[mine] - early[base]
    rho = spearman(td_gain.mean(axis=1), score_gain.mean(axis=1))
    if rho is None:
        return Correlation(None, None, None)
    n = results.seeds
    times = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=resamples) / n  # seeds redrawn, whole
    drawn = [spearman(td, gain) for td, gain in zip(times @ td_gain.T, times @ score_gain.T, strict=True)]
    low, high = np.quantile([r for r in drawn if r is not None], [0.025, 0.975])
    return Correlation(rho, float(low), float(high))


def spearman(x: Floats, y: Floats) -> float | None:
    """Rank correlation of two [K] arrays, tied values at their mean rank; None for K < 3 or no spread."""
    if len(x) < 3:
        return None
    ranks = [(v[:, None] > v).sum(axis=1) + ((v[:, None] == v).sum(axis=1) + 1) / 2 for v in (x, y)]
    if any(np.ptp(r) == 0 for r in ranks):
        return None
    return float(np.corrcoef(ranks)[0, 1])
