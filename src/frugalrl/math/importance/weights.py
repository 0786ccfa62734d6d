"""Importance weights for a sampler that differs from the learner: truncated, masked, clamped or as they are.

mu acted and recorded ``log_mu``; pi is the learner's policy with the weights that it had when the batch came in. All
is a function of ``d = log pi - log mu``, in float32, and has no gradient by construction::

    token      ratio_t = exp(d_t)
    sequence   ratio   = exp(sum_t d_t)       the same for all tokens of a sequence
    geometric  ratio   = exp(mean_t d_t)      the same for all tokens of a sequence

Ionides 2008, "Truncated Importance Sampling"; Yao, Liu et al. 2025, "Your Efficient RL Framework Secretly Brings You
Off-Policy RL Training"; masks as in IcePop (Ring team 2025). One action of a control policy is a token.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from frugalrl.math.importance.arrays import Array, booleans, floats, library_of, without_gradient
from frugalrl.math.importance.correction import Correction, Level, Mode

LARGEST_LOG_RATIO = 20.0
"""Log-ratios are clamped to this size before exp, so that no weight overflows."""
_ROUNDING = 1e-4
"""How far above 0 rounding may lift a log-probability."""


@dataclass(frozen=True, slots=True)
class Corrected:
    """Weights of one batch and what they were made of; arrays of the library that was given, shaped like ``log_mu``."""

    weight: Array
    """float32, no gradient; 0 where ``mask`` is False and where ``keep`` is False."""
    keep: Array
    """bool: in the mask, and not rejected by the correction."""
    mask: Array
    """bool: what takes part at all."""
    log_ratio: Array
    """float32 ``log pi - log mu`` per token, 0 outside of the mask and where it is not finite; not clamped."""
    ratio: Array
    """float32 raw ratio at the correction's level, never truncated; 1 outside of the mask."""
    correction: Correction
    axis: int
    """Along which a sequence runs."""


def correct(
    log_pi_old: Array,
    log_mu: Array,
    mask: Array | None = None,
    *,
    level: Level | None = "token",
    mode: Mode = "truncate",
    low: float | None = None,
    high: float | None = None,
    normalize: bool = False,
    axis: int = -1,
) -> Corrected:
    """Weights that make a loss over mu's samples one over pi's, up to what the bounds cut off.

    Args:
        log_pi_old: [..., T] log-probability of what was sampled, under the learner's policy when the batch came in.
        log_mu: [..., T] the same as recorded by the sampler; temperature, top-k and whatever else it did included.
        mask: [..., T] what takes part; None: all. What stands elsewhere is not read, NaN included.
        level: of the ratio; None: weights of 1.
        mode: what is done to the ratio.
        low: smallest ratio pi/mu.
        high: largest ratio pi/mu.
        normalize: divide by the mean over the batch.
        axis: along which a sequence runs; used by ``sequence`` and ``geometric``.

    Raises:
        ValueError: shapes that do not fit, log-probabilities above 0, a log_mu of -inf, an empty mask, wrong bounds.
    """
    correction = Correction(level=level, mode=mode, low=low, high=high, normalize=normalize)
    return apply(correction, log_pi_old, log_mu, mask, axis=axis)


def apply(
    correction: Correction, log_pi_old: Array, log_mu: Array, mask: Array | None = None, *, axis: int = -1,
    check: bool = True,
) -> Corrected:  # fmt: skip
    """As `correct`. ``check=False`` skips the checks of values, which on a GPU wait for the device."""
    xp = library_of(log_pi_old, log_mu, mask)
    with without_gradient(xp):
        log_pi_old, log_mu = floats(xp, log_pi_old), floats(xp, log_mu)
        mask = xp.ones_like(log_mu, dtype=xp.bool_ if xp.__name__ == "numpy" else xp.bool) if mask is None else mask
        mask = booleans(xp, mask, log_mu)
        check_shapes(log_pi_old=log_pi_old, log_mu=log_mu, mask=mask)
        if check:
            check_values(xp, log_pi_old, log_mu, mask)
        d = xp.where(mask, log_pi_old - log_mu, 0.0)
        d = xp.where(xp.isfinite(d), d, 0.0)
        ratio = xp.exp(xp.clip(_at_level(xp, d, mask, correction.level, axis), -LARGEST_LOG_RATIO, LARGEST_LOG_RATIO))
        weight, inside = _weighed(xp, ratio, correction)
        keep = mask & inside
        weight = xp.where(keep, weight, 0.0)
        if correction.normalize:
            mean = weight.sum() / mask.sum()
            weight = weight / xp.where(mean > 0, mean, 1.0)
        return Corrected(weight, keep, mask, d, xp.where(mask, ratio, 1.0), correction, axis)


def _at_level(xp: Any, d: Array, mask: Array, level: Level | None, axis: int) -> Array:
    """The log-ratio at the correction's level, shaped like ``d``."""
    if level == "token" or level is None:
        return d
    total = d.sum(axis, keepdims=True)
    if level == "geometric":
        total = total / xp.clip(mask.sum(axis, keepdims=True), 1, None)
    return total + xp.zeros_like(d)


def _weighed(xp: Any, ratio: Array, correction: Correction) -> tuple[Array, Array]:
    """The weight, and whether it is kept."""
    everything = xp.isfinite(ratio)
    if correction.level is None:
        return xp.ones_like(ratio), everything
    if correction.mode == "vanilla":
        return ratio, everything
    if correction.mode == "mask":
        low = -math.inf if correction.low is None else correction.low
        high = math.inf if correction.high is None else correction.high
        return ratio, (ratio >= low) & (ratio <= high)
    return xp.clip(ratio, correction.low, correction.high), everything


def check_shapes(**arrays: Array) -> None:
    """Raises ValueError that names every array with its shape, unless all have the same one."""
    if len({tuple(x.shape) for x in arrays.values()}) > 1:
        shapes = ", ".join(f"{name} {list(x.shape)}" for name, x in arrays.items())
        raise ValueError(f"the arrays must have one shape, but got {shapes}")


def check_values(xp: Any, log_pi_old: Array, log_mu: Array, mask: Array) -> None:
    """Raises ValueError for what no sampler and no learner can have meant."""
    if not bool(mask.any()):
        raise ValueError(
            f"the mask of shape {list(mask.shape)} leaves nothing: no weight and no loss can be made of this batch; "
            f"leave it out"
        )
    for name, x in (("log_pi_old", log_pi_old), ("log_mu", log_mu)):
        above = mask & (x > _ROUNDING)
        if bool(above.any()):
            raise ValueError(
                f"{name} has {int(above.sum())} values above 0, the largest {float(xp.where(above, x, 0.0).max()):g}: "
                f"log-probabilities are at most 0; are these probabilities, or logits?"
            )
    never = mask & (log_mu == -math.inf)
    if bool(never.any()):
        raise ValueError(
            f"log_mu is -inf for {int(never.sum())} sampled actions: a sampler that gives what it does probability 0, "
            f"or is purely greedy or argmin, cannot be corrected by a ratio; use a mixture, such as eps-greedy"
        )
