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
from functools import cached_property
from typing import TYPE_CHECKING, Any

from frugalrl.math.importance.arrays import (
    Array,
    booleans,
    device_of,
    floats,
    library_of,
    over_sequence,
    without_gradient,
)  # fmt: skip
from frugalrl.math.importance.correction import Correction, Level, Mode, parse_rejection
from frugalrl.math.importance.rejection import LARGEST_LOG_RATIO, Rejection, kept

if TYPE_CHECKING:
    from frugalrl.math.importance.diagnostics import Mismatch
    from frugalrl.math.importance.findings import Finding

IMPOSSIBLE = 1e18
"""Nats for log pi = -inf in sums and means over a sequence: no number of likely tokens makes up for one that pi cannot
do, and its square is still finite in float32."""
_ROUNDING = 1e-4
"""How far above 0 rounding may lift a log-probability."""


@dataclass(frozen=True, eq=False)
class Corrected:
    """Weights of one batch and what they were made of; arrays of the library that was given, shaped like ``log_mu``."""

    weight: Array
    """float32 (float64 if the input is), no gradient; 0 where ``mask`` is False and where ``keep`` is False."""
    keep: Array
    """bool: in the mask, and not rejected by the correction."""
    mask: Array
    """bool: what takes part at all."""
    log_ratio: Array
    """``log pi - log mu`` per token, not clamped; 0 outside of the mask and where one of them is missing (NaN), -20
    where pi cannot do what mu did."""
    ratio: Array
    """Raw ratio at the correction's level, never truncated; 1 outside of the mask."""
    correction: Correction
    axis: int
    """Along which a sequence runs."""
    log_pi_old: Array
    """As given, widened to float32."""
    log_mu: Array
    """As given, widened to float32."""

    @cached_property
    def mismatch(self) -> Mismatch:
        """Sums over the batch from which metrics are made; those of batches and ranks add up with ``+``."""
        from frugalrl.math.importance.diagnostics import measure

        return measure(self)

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Diagnostics of the raw ratios, by name (`Mismatch.metrics`); computed when asked for."""
        return self.mismatch.metrics()

    @cached_property
    def warnings(self) -> list[Finding]:
        """What is probably wrong, the most likely cause first; empty when nothing is."""
        from frugalrl.math.importance.findings import find

        return find(self.metrics, self.correction)


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
    reject: Rejection | str | None = None,
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
        reject: what takes no part, as a `Rejection` or in short, such as ``"k3-mean:0.01"``.
        axis: along which a sequence runs; used by ``sequence``, ``geometric`` and rejections of sequences.

    A token whose log-probability is missing (NaN) has a ratio of 1; ``warnings`` counts those.

    Raises:
        ValueError: shapes that do not fit, log-probabilities above 0, a log_mu of -inf, an empty mask, wrong bounds.
    """
    if isinstance(reject, str):
        reject = parse_rejection(reject)
    correction = Correction(level=level, mode=mode, low=low, high=high, normalize=normalize, reject=reject)
    return apply(correction, log_pi_old, log_mu, mask, axis=axis)


def apply(
    correction: Correction, log_pi_old: Array, log_mu: Array, mask: Array | None = None, *, axis: int = -1,
    check: bool = True,
) -> Corrected:  # fmt: skip
    """As `correct`. ``check=False`` skips the checks of values, which on a GPU wait for the device."""
    if not isinstance(correction, Correction):
        raise ValueError(f"correction={correction!r} must be a Correction: Correction.parse reads a short name")
    xp = library_of(log_pi_old, log_mu, mask)
    device = device_of(log_pi_old, log_mu, mask)
    with without_gradient(xp):
        log_pi_old, log_mu = floats(xp, log_pi_old, device), floats(xp, log_mu, device)
        mask = xp.ones_like(log_mu, dtype=xp.bool) if mask is None else booleans(xp, mask, device)
        check_shapes(log_pi_old=log_pi_old, log_mu=log_mu, mask=mask)
        if not isinstance(axis, int) or not -log_mu.ndim <= axis < log_mu.ndim:
            raise ValueError(f"axis={axis}: sequences run along an axis of the arrays {list(log_mu.shape)}")
        if check:
            check_values(xp, log_pi_old, log_mu, mask)
        apart = xp.where(mask, log_pi_old - log_mu, 0.0)
        d = log_ratio(xp, apart)
        alone = correction.reject is None and correction.level in ("token", None)
        decisive = d if alone else log_ratio(xp, apart, impossible=IMPOSSIBLE)
        raw = _at_level(xp, decisive, mask, correction.level, axis)
        ratio = xp.exp(xp.clip(raw, -LARGEST_LOG_RATIO, LARGEST_LOG_RATIO))
        weight, keep = _weighed(ratio, correction)
        keep = mask if keep is None else mask & keep
        if correction.reject is not None:
            keep = keep & kept(xp, decisive, mask, correction.reject, axis)
        weight = xp.where(keep, weight if correction.level else xp.ones_like(ratio), 0.0)
        if correction.normalize:
            # in the type of the weights: int64 counts would turn numpy's float32 into float64
            mean = weight.sum() / xp.where(mask, xp.ones_like(weight), 0.0).sum()
            weight = weight / xp.where(mean > 0, mean, xp.ones_like(mean))
        ratio = xp.where(mask, ratio, 1.0)
        return Corrected(weight, keep, mask, d, ratio, correction, axis, log_pi_old, log_mu)


def log_ratio(xp: Any, apart: Array, impossible: float = LARGEST_LOG_RATIO) -> Array:
    """``apart = log pi - log mu``, but 0 where one of them is missing and ``-impossible`` where log pi is -inf."""
    return xp.nan_to_num(apart, nan=0.0, posinf=0.0, neginf=-impossible)


def _at_level(xp: Any, d: Array, mask: Array, level: Level | None, axis: int) -> Array:
    """The log-ratio at the correction's level, shaped like ``d``."""
    if level == "token" or level is None:
        return d
    return over_sequence(xp, d, mask, axis, mean=level == "geometric")


def _weighed(ratio: Array, correction: Correction) -> tuple[Array, Array | None]:
    """The weight, and whether it is kept; None: all are."""
    low, high = correction.low, correction.high
    if correction.level is None or correction.mode == "vanilla":
        return ratio, None
    if correction.mode == "mask":
        return ratio, (ratio >= (-math.inf if low is None else low)) & (ratio <= (math.inf if high is None else high))
    return ratio.clip(low, high), None


def check_shapes(**arrays: Array) -> None:
    """Raises ValueError that names every array with its shape, unless all have the same one, [T] or more."""
    if len({tuple(x.shape) for x in arrays.values()}) > 1:
        shapes = ", ".join(f"{name} {list(x.shape)}" for name, x in arrays.items())
        raise ValueError(f"the arrays must have one shape, but got {shapes}")
    if any(not x.shape for x in arrays.values()):
        raise ValueError("the arrays are single numbers, without an axis of tokens; give arrays such as [number]")


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
