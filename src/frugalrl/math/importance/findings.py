"""Named warnings from the metrics of a mismatch: what is probably wrong, the evidence, and what to do.

Each threshold is a constant with its reason. A warning about a cause (missing numbers, shifted tokens, truncated
support, temperature) needs evidence that noise of any size does not give: rounding, quantisation and stale weights are
what the correction is for, and must not be called a mistake.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from frugalrl.math.importance.correction import Correction
from frugalrl.math.importance.diagnostics import PREFIX
from frugalrl.math.importance.rejection import LARGEST_LOG_RATIO

Name = Literal[
    "missing log-probs", "shifted tokens", "truncated support", "temperature mismatch", "negative KL estimate",
    "length trap", "too much masked", "low ESS",
]  # fmt: skip

FEW = 64
"""Fewer tokens tell nothing about slopes, correlations and means of ratios."""
SURE = 4.0
"""Standard errors: one false alarm in 30,000 batches."""
ZEROS = 0.01
"""A sampler that is certain gives an exact 0 now and then, and pi is then no less than half as certain."""
ALONG, GAP = 0.5, 0.15
"""Of the squared differences of log-odds, by a line with a constant; and their mean in nats. A temperature from 0.9 on
one side gives 0.87 and more (0.45 to 0.75 at 0.9 or 1.1 under noise), noise and weights of 2 to 8 bits hardly ever 0.35
(docs/importance.md has the table): noise moves log-odds up as often as down."""
SLOPE = 0.07
"""Without enough sure tokens: temperatures of 0.9 and 1.1 on one side move the slope by less than this; 0.6 and 0.7 by
more, 0.8 unless the policy is sure in some contexts and open in others."""
EXPLAINED, EXPLAINED_IF_LARGE, LARGE = 0.35, 0.12, 0.15
"""Of the variance of log-ratios, by a line through log pi + log mu; the second where the total variation is beyond the
third. A temperature moves every log-ratio along the line, less straight the larger vocabulary and mismatch are; noise
leaves it alone."""
CORRELATED = 0.6
"""Below it a line through the log-probabilities says nothing. Three-bit weights still give 0.9."""
SHIFTED = 0.3
"""By how much the correlation with a neighbour must exceed that with the token itself."""
UNRELATED, DRAWN = 0.2, 0.25
"""Policies so far apart that they correlate less exist (2 bits), but what one of them drew has k1 about as large as k2;
of tokens that belong to others k1 is about 0."""
SPREAD = 0.1
"""Log-probabilities that vary less than this (in nats) cannot be told apart from noise."""
LOST = 0.02
"""Of the learner's probability, missing in the sampler's support; top-p 0.98 is lost among the noise of int8."""
ONE_SIDED = 0.25
"""With full support what lies above a ratio of 1 balances what lies below; truncation leaves nothing above."""
NEGATIVE = -1e-3
"""k1 of two healthy engines has about this size."""
MASKED = 0.1
"""Share of tokens that a correction drops; libraries that reject call 5 to 10 % healthy."""
LOW_ESS = 0.3
"""Share of the batch that carries the estimate; below it the gradient is that of a third as many samples."""
NEAR = 0.8
"""Of a bound in nats: half of the sequences are then beyond it soon."""
AT_CLAMP = 0.01
"""Share of sequences whose ratio overflows the clamp."""
PROPORTIONAL = 0.999
"""Of the variance of log-ratios, by the same line: a temperature before the softmax can explain 0.99 of it."""
_RECORD = "Record the log-probability of each sampled token."


@dataclass(frozen=True, slots=True)
class Finding:
    """One warning."""

    name: Name
    evidence: str
    """One sentence with the numbers that say so."""
    advice: str
    """What to do."""

    def __str__(self) -> str:
        return f"{self.name}: {self.evidence} {self.advice}"


def find(metrics: Mapping[str, float], correction: Correction | None = None) -> list[Finding]:
    """The warnings that metrics call for, the cause first. Metrics that are not there, or NaN, warn of nothing.

    Args:
        metrics: of `Mismatch.metrics`, or means of them, as a run logs.
        correction: what is done with the ratios; None: nothing is known.
    """
    m = _Metrics(metrics)
    # a default at a place or two makes no neighbour fit better, but a shift leaves a place to fill with one
    cause = (
        _shifted(m) or _default(m) or _unrelated(m) or _proportional(m) or _truncated(m) or _temperature(m)
        or _negative(m)
    )  # fmt: skip
    consequences = (_length(m, correction), _masked(m), _low_ess(m, correction))
    # tokens without a number are in no other metric, so they hide no other cause; defaults are in all of them
    return [found for found in (_missing(m), cause, *consequences) if found is not None]


class _Metrics:
    """Metrics by short name; NaN for what is not there, which no comparison holds for."""

    def __init__(self, metrics: Mapping[str, float]) -> None:
        self._metrics = metrics

    def __getitem__(self, name: str) -> float:
        value = self._metrics.get(PREFIX + name)
        return math.nan if value is None else value

    @property
    def few(self) -> bool:
        return not self["tokens"] >= FEW

    @property
    def varied(self) -> bool:
        """Whether there is enough to correlate."""
        return not self.few and self["spread_mu"] > SPREAD and self["spread_pi"] > SPREAD


def _missing(m: _Metrics) -> Finding | None:
    share = m["missing_share"]
    if not share > 0:
        return None
    text = f"{_percent(share)} of the tokens have a log-probability that is NaN or infinite, and so a ratio of 1."
    return Finding("missing log-probs", text, _RECORD)


def _default(m: _Metrics) -> Finding | None:
    """A value that nobody computed stands for a log-probability."""
    if m["filled_mu_share"] > ZEROS:
        text = f"log_mu is exactly -1 for {_percent(m['filled_mu_share'])} of the tokens, and log_pi is far from it."
        return Finding("missing log-probs", text, f"-1 is what verl pads with: give the mask of the tokens. {_RECORD}")
    for side, who in (("mu", "log_mu"), ("pi", "log_pi")):
        if m[f"zero_{side}_share"] > ZEROS:
            zeros = _percent(m[f"zero_{side}_share"])
            text = f"{who} is exactly 0 for {zeros} of the tokens, where the other side is below a half."
            return Finding("missing log-probs", text, f"Probability 1 is a default there, or greedy. {_RECORD}")
        value, other = m[f"constant_{side}"], m["spread_pi" if side == "mu" else "spread_mu"]
        if not m.few and other > SPREAD and not _uniform(value):
            text = f"{who} is {value:.4g} for every token, while the other side varies by {other:.2g} nats."
            return Finding("missing log-probs", text, _RECORD)
    return None


def _uniform(value: float) -> bool:
    """Whether this is the log-probability of one of N equal choices; True for NaN, which is no constant."""
    if math.isnan(value):
        return True
    choices = math.exp(-min(value, 0.0)) if value > -LARGEST_LOG_RATIO else 0.0
    return choices > 1.5 and abs(choices - round(choices)) < 1e-4 * choices


def _shifted(m: _Metrics) -> Finding | None:
    here = m["correlation"]
    if not m.varied:
        return None
    steps = {"the token after it": m["correlation_next"], "the token before it": m["correlation_last"]}
    where, best = max(steps.items(), key=lambda item: -math.inf if math.isnan(item[1]) else item[1])
    if here < CORRELATED and best > here + SHIFTED:
        return Finding(
            "shifted tokens",
            f"log_pi correlates by {here:.2f} with log_mu of the same token and by {best:.2f} with that of {where}.",
            "Shift one of the arrays by one: logits at position t are those of token t + 1.",
        )
    return None


def _unrelated(m: _Metrics) -> Finding | None:
    here = m["correlation"]
    if m.varied and abs(here) < UNRELATED and abs(m["k1"]) < DRAWN * m["k2"]:
        return Finding(
            "shifted tokens",
            f"log_pi and log_mu correlate by {here:.2f} only, though both vary by {m['spread_pi']:.2g} nats and more.",
            "They belong to different tokens: compare tokens, order, padding side and prompt length.",
        )
    return None


def _proportional(m: _Metrics) -> Finding | None:
    """log pi is a multiple of log mu: a temperature after the softmax, or logarithms of another base."""
    slope, straight = m["slope"], m["correlation"] > 0.999 and m["slope_share"] > PROPORTIONAL
    if m.few or not (straight and m["spread_mu"] > SPREAD and abs(slope - 1.0) > SLOPE):
        return None
    return Finding(
        "temperature mismatch",
        f"log_pi is {slope:.3g} times log_mu for every token.",
        "Divide logits by the temperature, not log-probabilities; 2.3 or 0.69, or one over it, are other logarithms.",
    )


def _truncated(m: _Metrics) -> Finding | None:
    mean, above = m["ratio_mean"], m["ratio_above"]
    lost = 1.0 - mean
    if m.few or not (lost > LOST and above < ONE_SIDED * m["tv"] and not lost < SURE * m["ratio_mean_se"]):
        return None
    return Finding(
        "truncated support",
        f"The mean ratio pi/mu is {mean:.3f} and hardly any lies above 1: {_percent(lost)} of what the learner "
        f"would choose the sampler never does.",
        "Turn top-k, top-p and min-p off in the sampler, or renormalise the learner's on the same tokens.",
    )


def _temperature(m: _Metrics) -> Finding | None:
    if m.few:
        return None
    # sharp and open contexts together bend the line, so it is asked only where too few tokens are likelier than not
    flatter, evidence = _by_odds(m) if m["sure_tokens"] >= FEW else _by_slope(m)
    if flatter is None:
        return None
    who, than = ("flatter", "larger") if flatter else ("sharper", "smaller")
    return Finding(
        "temperature mismatch",
        f"{evidence}: the recorded probabilities are {who} than the learner's.",
        f"Divide logits by the same temperature on both sides, and record log-probabilities after it (the sampler's "
        f"looks {than}); if they agree, mu explores or is very stale, and the ratio is right.",
    )


def _by_odds(m: _Metrics) -> tuple[bool | None, str]:
    """Whether the sampler looks flatter than the learner, None for neither, by the tokens that both are sure of."""
    gap, share = m["odds_gap"], m["odds_share"]
    if not (share > ALONG and abs(gap) > GAP):
        return None, ""
    than = "above" if gap > 0 else "below"
    return gap > 0, (
        f"Where both are sure of a token, its log-odds in log_pi lie {abs(gap):.2f} nats {than} those in log_mu, and a "
        f"line explains {_percent(share)} of the differences"
    )


def _by_slope(m: _Metrics) -> tuple[bool | None, str]:
    """The same, by a line through all log-probabilities."""
    low, high = sorted((m["slope"], m["slope_inverse"]))
    needed = EXPLAINED_IF_LARGE if m["tv"] > LARGE else EXPLAINED
    straight = m["correlation"] > CORRELATED and m["spread_mu"] > SPREAD and m["slope_share"] > needed
    evidence = f"The slope of log_pi on log_mu lies between {low:.2f} and {high:.2f} and should be 1"
    if straight and low > 1.0 + SLOPE:
        return True, evidence
    return (False, evidence) if straight and high < 1.0 - SLOPE else (None, "")


def _negative(m: _Metrics) -> Finding | None:
    k1, error = m["k1"], m["k1_se"]
    if m.few or not (k1 < NEGATIVE and k1 < -SURE * error):
        return None
    return Finding(
        "negative KL estimate",
        f"The mean of log_mu - log_pi is {k1:.2g} (standard error {error:.1g}), but no KL divergence is negative.",
        "The tokens were not drawn from the recorded probabilities: record them after temperature, penalties, top-k.",
    )


def _length(m: _Metrics, correction: Correction | None) -> Finding | None:
    if correction is None or correction.level != "sequence":
        return None
    typical, length = m["k1_sequence"], m["length"]
    size, bounds = abs(typical), [b for b in (correction.low, correction.high) if b]
    bound = min([abs(math.log(b)) for b in bounds if b != 1.0] or [LARGEST_LOG_RATIO])
    if m["at_clamp_share"] > AT_CLAMP:
        share = _percent(m["at_clamp_share"])
        evidence = f"{share} of the sequences have a log-ratio beyond {LARGEST_LOG_RATIO:g}, where exp is clamped."
    elif size >= NEAR * bound:
        each = -typical / length
        evidence = f"{length:.0f} tokens of mean log-ratio {each:.2g} make {-typical:.2g}; the bound is {bound:.2g}."
    else:
        return None
    return Finding(
        "length trap", evidence, "The product over a sequence grows with its length: use level='token', or 'geometric'."
    )


def _masked(m: _Metrics) -> Finding | None:
    if not m["masked_share"] > MASKED:
        return None
    whole = m["masked_sequence_share"]
    return Finding(
        "too much masked",
        f"{_percent(m['masked_share'])} of the tokens and {_percent(whole)} of the sequences have weight 0.",
        "Widen the bounds, truncate in place of masking, or bring the sampler nearer to the learner.",
    )


def _low_ess(m: _Metrics, correction: Correction | None) -> Finding | None:
    level = "sequence" if correction is not None and correction.level == "sequence" else "token"
    ess = m["ess_sequence" if level == "sequence" else "ess"]
    if not ess < LOW_ESS:
        return None
    return Finding(
        "low ESS",
        f"The effective sample size is {_percent(ess)} of the batch, by the raw ratios per {level}.",
        "Bring new weights to the sampler more often, or use more bits; truncation bounds the variance and adds bias.",
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.0995 else f"{100 * share:.2g} %"
