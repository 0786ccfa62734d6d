"""How far a sampler is from the learner: sums over a batch that merge, and the metrics made of them.

``measure(a) + measure(b)`` is what one pass over both batches would have found. Ranks are joined likewise: add ``sums``
and ``histogram``, take the maximum of ``largest``. Averages of metrics are no such thing: the effective sample size of
two batches is not the mean of theirs. All is of raw ratios, whatever the correction does.

With d = log pi - log mu per token, rho = exp(d), S = sum of d over a sequence, and means over tokens that mu sampled:
k1, k2, k3 (Schulman 2020); JS divergence and reverse KL as expectations under mu; chi-square and effective sample size
(Kong 1992); probability differences as in Yao, Liu et al. 2025; multiplicative errors as in NeMo-RL.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from frugalrl.math.importance.histogram import quantile
from frugalrl.math.importance.sums import LARGEST, SUMS, measure_parts

if TYPE_CHECKING:
    from frugalrl.math.importance.weights import Corrected

PREFIX = "mismatch_"
"""Before the name of each metric, in a learner's metrics and in ``metrics.jsonl``."""
_PAIRS = (
    "slope", "slope_inverse", "slope_share", "correlation", "correlation_next", "correlation_last", "spread_pi",
    "spread_mu", "constant_pi", "constant_mu",
)  # fmt: skip
Vector = NDArray[np.float64]


@dataclass(frozen=True, eq=False, slots=True)
class Mismatch:
    """Sums over tokens and sequences. Add those of other batches or ranks; then ask for metrics."""

    sums: Vector
    """[len(SUMS)], float64, in the order of `SUMS`."""
    largest: Vector
    """[len(LARGEST)]; a smallest value stands there as its negative."""
    histogram: NDArray[np.int64]
    """Counts of log-ratios, see `frugalrl.math.importance.histogram`."""

    def __add__(self, other: Mismatch) -> Mismatch:
        return Mismatch(
            self.sums + other.sums, np.maximum(self.largest, other.largest), self.histogram + other.histogram
        )

    def metrics(self) -> dict[str, float]:
        """By name, each with `PREFIX`; NaN where the batch does not tell."""
        found = _of_tokens(self) | _of_pairs(self) | _of_sure(self) | _of_sequences(self) | _of_correction(self)
        return {PREFIX + name: float(value) for name, value in found.items()}


def measure(corrected: Corrected) -> Mismatch:
    """The sums of one batch; one pass on the device of the arrays, and one transfer."""
    return Mismatch(*measure_parts(corrected))


def _named(mismatch: Mismatch) -> tuple[dict[str, float], dict[str, float]]:
    sums = dict(zip(SUMS, mismatch.sums.tolist(), strict=True))
    return sums, dict(zip(LARGEST, mismatch.largest.tolist(), strict=True))


def _ratio(a: float, b: float) -> float:
    return a / b if b else math.nan


def _of_tokens(mismatch: Mismatch) -> dict[str, float]:
    """Of the tokens that have both log-probabilities."""
    s, top = _named(mismatch)
    n = s["tokens"]
    mean = {name: _ratio(value, n) for name, value in s.items()}
    at = {name: quantile(mismatch.histogram, share) for name, share in (("p01", 0.01), ("p50", 0.5), ("p99", 0.99))}
    found = {
        "k1": -mean["d"],
        "k1_se": _standard_error(s, "S", "d"),
        "k2": 0.5 * mean["d2"],
        "k3": mean["rho"] - 1.0 - mean["d"],
        "reverse_kl": mean["reverse"],
        "js": mean["js"],
        "chi2": mean["rho2"] - 1.0,
        "tv": mean["above"] - (mean["rho"] - 1.0),
        "abs_log_diff": mean["abs_d"],
        "mult_error": mean["exp_abs_d"],
        "prob_diff": mean["abs_dp"],
        "prob_diff_std": math.sqrt(max(mean["dp2"] - mean["abs_dp"] ** 2, 0.0)) if n else math.nan,
        "prob_diff_max": top["abs_dp"] if n else math.nan,
        "ratio_mean": mean["rho"],
        "ratio_mean_se": _standard_error(s, "R", "rho"),
        "ratio_std": math.sqrt(max(mean["rho2"] - mean["rho"] ** 2, 0.0)) if n else math.nan,
        "ratio_above": mean["above"],
        "ratio_min": math.exp(-top["minus_d"]) if n else math.nan,
        "ratio_max": math.exp(min(top["d"], 20.0)) if n else math.nan,
        "ess": _ratio(s["rho"] ** 2, n * s["rho2"]),
        "impossible_share": mean["impossible"],
    }
    return found | {f"ratio_{name}": math.exp(value) for name, value in at.items()}


def _standard_error(s: dict[str, float], total: str, per_token: str) -> float:
    """Of the mean over tokens of what sums up to ``total`` over a sequence: tokens of a sequence go together."""
    n, sequences = s["tokens"], s["sequences"]
    if sequences < 2 or not n:
        return math.nan
    mean = s[per_token] / n
    spread = s[f"{total}2"] - 2.0 * mean * s[f"{total}_T"] + mean * mean * s["T2"]
    return math.sqrt(max(spread, 0.0) * sequences / (sequences - 1.0)) / n


def _of_pairs(mismatch: Mismatch) -> dict[str, float]:
    """What log pi and log mu say about each other: a line through them, and neighbours."""
    s, top = _named(mismatch)
    n = s["tokens"]
    if not n:
        return dict.fromkeys(_PAIRS, math.nan)
    x, y = s["log_mu"] / n, s["log_pi"] / n
    vx, vy = s["log_mu2"] / n - x * x, s["log_pi2"] / n - y * y
    cov = s["product"] / n - x * y
    # what rounding of the sums leaves of a spread of 0
    vx, vy = (v if v > 1e-9 * (1.0 + m * m) else 0.0 for v, m in ((vx, x), (vy, y)))
    both = math.sqrt(vx * vy)

    def beside(name: str) -> float:
        pairs = s["pairs"]
        return _ratio(s[name] / pairs - x * y, both) if pairs else math.nan

    values = (
        _ratio(cov, vx),
        _ratio(vy, cov) if vx and vy else math.nan,
        _ratio((vy - vx) ** 2, (s["d2"] / n - (s["d"] / n) ** 2) * (vx + vy + 2.0 * cov)),
        _ratio(cov, both),
        beside("mu_next"),
        beside("mu_last"),
        math.sqrt(vy),
        math.sqrt(vx),
        y if top["log_pi"] == -top["minus_log_pi"] else math.nan,
        x if top["log_mu"] == -top["minus_log_mu"] else math.nan,
    )
    return dict(zip(_PAIRS, values, strict=True))


def _of_sure(mismatch: Mismatch) -> dict[str, float]:
    """Of tokens that both sides are sure of: how the log-odds of pi differ from those of mu, and how evenly."""
    s, _ = _named(mismatch)
    n = s["sure"]
    if not n:
        return {"sure_tokens": n, "odds_gap": math.nan, "odds_share": math.nan}
    gap, odds = _ratio(s["gap"], n), _ratio(s["odds"], n)
    spread = _ratio(s["odds2"], n) - odds * odds
    along = _ratio(s["gap_odds"], n) - gap * odds
    explained = gap * gap + (along * along / spread if spread > 1e-9 else 0.0)
    return {"sure_tokens": n, "odds_gap": gap, "odds_share": _ratio(explained, _ratio(s["gap2"], n))}


def _of_sequences(mismatch: Mismatch) -> dict[str, float]:
    s, top = _named(mismatch)
    sequences = s["sequences"]
    mean = {name: _ratio(value, sequences) for name, value in s.items()}
    return {
        "length": _ratio(s["T"], sequences),
        "k1_sequence": -mean["S"],
        "log_ratio_sequence_std": math.sqrt(max(mean["S2"] - mean["S"] ** 2, 0.0)) if sequences else math.nan,
        "log_ratio_sequence_max": top["abs_S"] if sequences else math.nan,
        "chi2_sequence_log1p": math.log(s["W2"] / sequences) if s["W2"] > 0 else math.nan,
        "ess_sequence": _ratio(s["W"] ** 2, sequences * s["W2"]),
        "at_clamp_share": mean["at_clamp"],
        "mult_error_sequence": mean["E"],
        "mult_error_sequence_max": top["E"] if sequences else math.nan,
        "perplexity_ratio": _ratio(s["perplexity_pi"], s["perplexity_mu"]),
    }


def _of_correction(mismatch: Mismatch) -> dict[str, float]:
    """What the correction did, and what it had no numbers for; over all tokens of the mask."""
    s, _ = _named(mismatch)
    given = s["given"]
    return {
        "tokens": given,
        "missing_share": _ratio(s["missing"], given),
        "zero_mu_share": _ratio(s["zero_mu"], given),
        "zero_pi_share": _ratio(s["zero_pi"], given),
        "filled_mu_share": _ratio(s["filled_mu"], given),
        "clipped_high_share": _ratio(s["over"], given),
        "clipped_low_share": _ratio(s["under"], given),
        "masked_share": _ratio(s["dropped"], given),
        "masked_sequence_share": _ratio(s["dropped_sequences"], s["sequences_given"]),
        "weight_mean": _ratio(s["weight"], given),
        "ess_weight": _ratio(s["weight"] ** 2, given * s["weight2"]),
    }
