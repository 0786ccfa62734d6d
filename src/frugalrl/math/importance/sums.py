"""The sums behind the diagnostics, of one batch, in one pass on the device of the arrays."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from frugalrl.math.importance.arrays import Array, is_tensor, library_of, without_gradient
from frugalrl.math.importance.histogram import counts
from frugalrl.math.importance.rejection import LARGEST_LOG_RATIO

if TYPE_CHECKING:
    from frugalrl.math.importance.weights import Corrected

_TOKENS = (
    "tokens", "d", "d2", "abs_d", "exp_abs_d", "rho", "rho2", "above", "reverse", "js", "abs_dp", "dp2", "impossible",
    "log_pi", "log_mu", "log_pi2", "log_mu2", "product",
)  # fmt: skip
_CORRECTION = ("given", "missing", "zero_mu", "zero_pi", "filled_mu", "over", "under", "dropped", "weight", "weight2")
_NEIGHBOURS = ("pairs", "mu_next", "mu_last")
_SEQUENCES = (
    "sequences", "T", "T2", "S", "S2", "S_T", "R2", "R_T", "W", "W2", "at_clamp", "E", "perplexity_pi", "perplexity_mu",
    "sequences_given", "dropped_sequences",
)  # fmt: skip
_SURE = ("sure", "odds", "odds2", "gap", "gap2", "gap_odds")
SUMS = (*_TOKENS, *_SURE, *_CORRECTION, *_NEIGHBOURS, *_SEQUENCES)
"""Names of the sums. Per token: d = log pi - log mu, rho, above = max(rho - 1, 0), p of probabilities. Per sequence: T
tokens, S = sum of d, R = sum of rho, W = exp(S), E = exp(mean of abs d). Of sure tokens: see `_sure`."""
LARGEST = ("d", "minus_d", "abs_dp", "log_pi", "minus_log_pi", "log_mu", "minus_log_mu", "abs_S", "E")
"""Names of the largest values."""
IMPOSSIBLE = 1e-4
"""A ratio below this: pi could hardly have done what mu did (the veto of verl, 2025)."""
SURE = -0.69
"""A log-probability of exactly 0 is believed where the other one is above this: a nucleus of one token has more than
half of the learner's probability."""
CERTAIN = -1e-4
"""Log-odds of a log-probability above this are made of the rounding of float32."""
FAR = 0.5
"""Log-probabilities of exactly -1 are padding where the other one is farther from it than engines of 8 bits are."""
HELD = 300.0
"""Log-probabilities and log-ratios, also of sequences, are clamped to this size: exp of twice as much is still finite
in float64."""


def measure_parts(
    corrected: Corrected,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """The sums, the largest values and the histogram of `frugalrl.math.importance.diagnostics.Mismatch`."""
    c = corrected
    names = ("log_pi_old", "log_mu", "mask", "log_ratio", "ratio", "weight", "keep")
    arrays = {name: _plain(getattr(c, name)) for name in names}
    xp = library_of(arrays["log_mu"])
    with without_gradient(xp):
        both = arrays["mask"] & xp.isfinite(arrays["log_mu"]) & ~xp.isnan(arrays["log_pi_old"])
        # -inf of pi has a log-ratio of -20; its log-probability takes the value that goes with it
        log_mu = xp.clip(xp.where(both, arrays["log_mu"], 0.0), -HELD, None)
        d = xp.clip(arrays["log_ratio"], -HELD, HELD)
        log_pi = xp.where(xp.isfinite(arrays["log_pi_old"]), arrays["log_pi_old"], log_mu + d)
        log_pi = xp.clip(xp.where(both, log_pi, 0.0), -HELD, None)
        sums, largest = _tokens(xp, d, log_pi, log_mu, both)
        sums |= _sure(xp, log_pi, log_mu, both)
        sums |= _correction(xp, c, arrays, log_pi, log_mu, both)
        axis = c.axis % d.ndim
        sums |= _neighbours(xp, log_pi, log_mu, both, axis)
        alone = d.ndim == 1 and c.correction.level not in ("sequence", "geometric")
        per_sequence = _sequences(xp, d, log_pi, log_mu, both, None if alone else axis)
        sums |= per_sequence[0] | _whole(xp, arrays["mask"], arrays["keep"], None if alone else axis)
        largest |= per_sequence[1]
        return (
            _to_host(xp, [sums[name] for name in SUMS]),
            _to_host(xp, [largest[name] for name in LARGEST]),
            np.asarray(counts(xp, d, both).tolist(), np.int64),
        )


def _plain(x: Array) -> Array:
    """A tensor of the CPU as the numpy array on the same memory, whose calls cost less on small arrays."""
    return x.numpy() if is_tensor(x) and x.device.type == "cpu" else x


def _to_host(xp: Any, values: list[Any]) -> NDArray[np.float64]:
    if xp is np:
        return np.array(values, np.float64)
    on_host = xp.stack([v.to(xp.float64) for v in values]).cpu().numpy()
    return np.asarray(on_host, np.float64)


def _total(xp: Any, x: Array) -> Any:
    return x.sum(dtype=xp.float64)


def _tokens(xp: Any, d: Array, log_pi: Array, log_mu: Array, both: Array) -> tuple[dict[str, Any], dict[str, Any]]:
    """Sums over tokens; ``d`` and the log-probabilities are 0 where they do not count, and so is each term."""
    held = xp.clip(d, -LARGEST_LOG_RATIO, LARGEST_LOG_RATIO)
    gain = xp.expm1(held)  # rho - 1, exact near 0
    rho = gain + 1.0
    p_mu = xp.where(both, xp.exp(log_mu), 0.0)
    abs_dp = xp.abs(p_mu * gain)
    abs_d = xp.abs(d)
    js = 0.5 * (rho * held - (rho + 1.0) * xp.log1p(0.5 * gain))
    n = _total(xp, both)
    terms = {
        "d": d, "d2": d * d, "abs_d": abs_d, "above": xp.clip(gain, 0.0, None), "js": js,
        "reverse": rho * held - gain, "abs_dp": abs_dp, "dp2": abs_dp * abs_dp, "impossible": rho < IMPOSSIBLE,
        "log_pi": log_pi, "log_mu": log_mu, "log_pi2": log_pi * log_pi, "log_mu2": log_mu * log_mu,
        "product": log_pi * log_mu,
    }  # fmt: skip
    sums = {name: _total(xp, x) for name, x in terms.items()}
    gains, gains2 = _total(xp, gain), _total(xp, gain * gain)
    # around 1 the gains are exact; where most ratios are far below it, their sums would cancel against n
    small = xp.where(both, xp.exp(held), 0.0)
    far = gains < -0.5 * n
    sums["tokens"] = n
    sums["rho"] = xp.where(far, _total(xp, small), n + gains)
    sums["rho2"] = xp.where(far, _total(xp, small * small), n + 2.0 * gains + gains2)
    sums["exp_abs_d"] = n + _total(xp, xp.expm1(xp.abs(held)))
    low = -xp.inf
    largest = {
        "d": xp.where(both, d, low).max(), "minus_d": xp.where(both, -d, low).max(), "abs_dp": abs_dp.max(),
        "log_pi": xp.where(both, log_pi, low).max(), "minus_log_pi": xp.where(both, -log_pi, low).max(),
        "log_mu": xp.where(both, log_mu, low).max(), "minus_log_mu": xp.where(both, -log_mu, low).max(),
    }  # fmt: skip
    return sums, largest


def _sure(xp: Any, log_pi: Array, log_mu: Array, both: Array) -> dict[str, Any]:
    """Sums over tokens that are likelier than not, by the geometric mean of pi and mu.

    There log(p / (1 - p)) is about the logit of the token above that of the others, whatever the context: noise on
    logits adds to it evenly, and a temperature multiplies it. odds: mean of pi's and mu's; gap: pi's less mu's.
    """
    sure = both & (log_pi + log_mu > -2.0 * math.log(2.0)) & (xp.maximum(log_pi, log_mu) < CERTAIN)
    of_pi, of_mu = (x - xp.log(-xp.expm1(x)) for x in (xp.where(sure, y, -1.0) for y in (log_pi, log_mu)))
    odds, gap = xp.where(sure, 0.5 * (of_pi + of_mu), 0.0), of_pi - of_mu
    terms = {"sure": sure, "odds": odds, "odds2": odds * odds, "gap": gap, "gap2": gap * gap, "gap_odds": gap * odds}
    return {name: _total(xp, x) for name, x in terms.items()}


def _correction(
    xp: Any, c: Corrected, arrays: dict[str, Array], log_pi: Array, log_mu: Array, both: Array
) -> dict[str, Any]:
    """What was given, what is missing, and what the bounds did."""
    mask, ratio, weight = arrays["mask"], arrays["ratio"], arrays["weight"]
    high, low = c.correction.high, c.correction.low
    nothing = xp.zeros_like(_total(xp, mask))
    return {
        "given": _total(xp, mask),
        "missing": _total(xp, mask & ~both),
        "zero_mu": _total(xp, both & (log_mu == 0) & (log_pi < SURE)),
        "zero_pi": _total(xp, both & (log_pi == 0) & (log_mu < SURE)),
        "filled_mu": _total(xp, both & (log_mu == -1) & (xp.abs(log_pi + 1) > FAR)),
        "over": nothing if high is None else _total(xp, mask & (ratio > high)),
        "under": nothing if low is None else _total(xp, mask & (ratio < low)),
        "dropped": _total(xp, mask & ~arrays["keep"]),
        "weight": _total(xp, weight),
        "weight2": _total(xp, weight * weight),
    }


def _neighbours(xp: Any, log_pi: Array, log_mu: Array, both: Array, axis: int) -> dict[str, Any]:
    """Products of log pi with log mu of the token after it, and before it."""
    early, late = ((slice(None),) * axis + (part,) for part in (slice(None, -1), slice(1, None)))
    pair = both[early] & both[late]
    return {
        "pairs": _total(xp, pair),
        "mu_next": _total(xp, xp.where(pair, log_pi[early] * log_mu[late], 0.0)),
        "mu_last": _total(xp, xp.where(pair, log_pi[late] * log_mu[early], 0.0)),
    }


def _sequences(
    xp: Any, d: Array, log_pi: Array, log_mu: Array, both: Array, axis: int | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Sums over sequences; with no axis each token is a sequence."""

    def along(x: Array) -> Array:
        if axis is not None:
            return x.sum(axis, dtype=xp.float64)
        return x.astype(np.float64) if xp is np else x.double()

    length = along(both)
    some = length > 0
    divisor = xp.clip(length, 1.0, None)
    held = xp.clip(d, -LARGEST_LOG_RATIO, LARGEST_LOG_RATIO)
    total = along(d)
    ratios = along(xp.where(both, xp.exp(held), 0.0))
    product = xp.where(some, xp.exp(xp.clip(total, -HELD, HELD)), 0.0)
    error = xp.where(some, xp.exp(xp.clip(along(xp.abs(d)) / divisor, None, LARGEST_LOG_RATIO)), 0.0)
    terms = {
        "sequences": some, "T": length, "T2": length * length, "S": total, "S2": total * total, "S_T": total * length,
        "R2": ratios * ratios, "R_T": ratios * length, "W": product, "W2": product * product, "E": error,
        "at_clamp": xp.abs(total) > LARGEST_LOG_RATIO,
        "perplexity_pi": xp.where(some, xp.exp(-along(log_pi) / divisor), 0.0),
        "perplexity_mu": xp.where(some, xp.exp(-along(log_mu) / divisor), 0.0),
    }  # fmt: skip
    largest = {"abs_S": xp.abs(total).max(), "E": error.max()}
    return {name: _total(xp, x) for name, x in terms.items()}, largest


def _whole(xp: Any, mask: Array, keep: Array, axis: int | None) -> dict[str, Any]:
    """Sequences of the mask, and those of which nothing is kept."""
    given, left = (mask, keep) if axis is None else (mask.any(axis), keep.any(axis))
    return {"sequences_given": _total(xp, given), "dropped_sequences": _total(xp, given & ~left)}
