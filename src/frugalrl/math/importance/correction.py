"""Which correction: level, mode and bounds, and the short names by which users ask for one."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal, get_args

from frugalrl.math.importance.rejection import Over, Rejection, Statistic, bounds_in_words, check_bounds

Level = Literal["token", "sequence", "geometric"]
Mode = Literal["truncate", "mask", "clamp", "vanilla"]
Denominator = Literal["old", "mu"]

_SHORT: dict[str, tuple[Level, Mode]] = {
    "token-tis": ("token", "truncate"),
    "sequence-tis": ("sequence", "truncate"),
    "geometric-tis": ("geometric", "truncate"),
    "token-mask": ("token", "mask"),
    "sequence-mask": ("sequence", "mask"),
    "geometric-mask": ("geometric", "mask"),
    "token-clamp": ("token", "clamp"),
    "sequence-clamp": ("sequence", "clamp"),
    "geometric-clamp": ("geometric", "clamp"),
    "vanilla": ("token", "vanilla"),
    "sequence-vanilla": ("sequence", "vanilla"),
}
NAMES = ("none", "ppo-denominator", *_SHORT)
"""What may stand before the colon of a correction's short name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Correction:
    """How data of a sampler mu is corrected for a learner whose policy was pi when the batch came in.

    The weight is a function of the ratio pi/mu; bounds are bounds of pi/mu, whatever the level. Loss = weight * what an
    uncorrected learner minimises, with the denominators of the uncorrected loss.
    """

    level: Level | None = "token"
    """``token``: the ratio of each action. ``sequence``: the product over a sequence. ``geometric``: the mean of the
    log-ratios over a sequence, then exp. None: no weight at all."""
    mode: Mode = "truncate"
    """``truncate``: min(ratio, high). ``mask``: the ratio inside of [low, high], 0 outside. ``clamp``: the ratio
    clamped to [low, high]. ``vanilla``: the ratio as it is (a control)."""
    low: float | None = None
    """Smallest ratio; None: no bound."""
    high: float | None = None
    """Largest ratio; None: no bound."""
    normalize: bool = False
    """Divide weights by their mean over the batch: the step size stays, at a bias of one over the batch's size."""
    reject: Rejection | None = None
    """Tokens or sequences that take no part, whatever their weight; see `Rejection`."""
    denominator: Denominator = "old"
    """Whose log-probability stands below the line in PPO's own ratio: that of the learner when the batch came in, or
    that of the sampler (``ppo-denominator``, a control, which has no weight)."""

    def __post_init__(self) -> None:
        low, high = self.low, self.high
        fields = (
            ("level", self.level, Level),
            ("mode", self.mode, Mode),
            ("denominator", self.denominator, Denominator),
        )
        for field, value, kind in fields:
            if value not in get_args(kind) and not (field == "level" and value is None):
                raise ValueError(f"{field}={value!r}: must be one of {', '.join(get_args(kind))}")
        if self.reject is not None and not isinstance(self.reject, Rejection):
            raise ValueError(f"reject={self.reject!r}: must be a Rejection, or None")
        check_bounds(low, high, ": a bound of the ratio pi/mu")
        if low is not None and high is not None and low > high:
            raise ValueError(f"low={low:g} > high={high:g}: bounds of the ratio pi/mu, the smaller one first")
        if self.denominator == "mu" and (self.level is not None or self.reject is not None or self.normalize):
            raise ValueError("denominator='mu' is a control without weight and rejection: it needs level=None alone")
        if self.level is None:
            return
        if self.mode == "truncate" and (high is None or low is not None):
            raise ValueError(f"mode='truncate' needs high and no low, but got low={low}, high={high}; see mode='clamp'")
        if self.mode in ("mask", "clamp") and low is None and high is None:
            raise ValueError(f"mode={self.mode!r} needs low, high or both")
        if self.mode == "vanilla" and (low is not None or high is not None):
            raise ValueError(f"mode='vanilla' has no bounds, but got low={low}, high={high}; see mode='truncate'")
        if high == 0:
            raise ValueError("high=0: every weight would be 0")

    @property
    def weighs(self) -> bool:
        """Whether it gives weights other than 1."""
        return self.level is not None or self.reject is not None

    @classmethod
    def parse(cls, text: str) -> Correction:
        """From a short name: ``none``, ``token-tis:2``, ``sequence-mask:0.5,2``, ``vanilla``, ``ppo-denominator``.

        One bound is the upper one. What may follow: ``+k1-sum:0.5,2``, ``+k3-mean:0.01`` and the like reject
        (`Rejection`), ``+normalize`` divides weights by their mean. Raises ValueError, one sentence that says what to
        write instead.
        """
        body, *extras = (part.strip() for part in text.split("+"))
        name, colon, bounds = body.partition(":")
        reject, normalize = _extras(text, extras)
        if name in ("none", "ppo-denominator"):
            if colon or (normalize and not reject) or (reject and name != "none"):
                rest = "nor '+normalize'" if name == "none" else "nor anything after '+'"
                raise ValueError(f"correction {text!r}: {name} takes neither bounds {rest}")
            denominator: Denominator = "mu" if name == "ppo-denominator" else "old"
            return cls(level=None, denominator=denominator, reject=reject, normalize=normalize)
        if name not in _SHORT:
            near = get_close_matches(name, NAMES, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(NAMES)}"
            raise ValueError(f"unknown correction {text!r}; {hint}")
        level, mode = _SHORT[name]
        low, high = _bounds(text, bounds) if colon else (None, None)
        try:
            return cls(level=level, mode=mode, low=low, high=high, normalize=normalize, reject=reject)
        except ValueError as error:
            raise ValueError(f"correction {text!r}: {error}") from None

    def name(self) -> str:
        """The short name; ``parse`` gives the same correction back."""
        rest = (f"+{self.reject}" if self.reject else "") + ("+normalize" if self.normalize else "")
        if self.level is None:
            return ("ppo-denominator" if self.denominator == "mu" else "none") + rest
        name = next(n for n, meaning in _SHORT.items() if meaning == (self.level, self.mode))
        return name + bounds_in_words(self.low, self.high) + rest


def _extras(text: str, extras: list[str]) -> tuple[Rejection | None, bool]:
    """What stands behind each '+'."""
    rejects = [part for part in extras if part != "normalize"]
    if len(rejects) > 1 or extras.count("normalize") > 1:
        raise ValueError(f"correction {text!r}: one rejection and one '+normalize' may follow, not more")
    return (parse_rejection(rejects[0]) if rejects else None), "normalize" in extras


def parse_rejection(text: str) -> Rejection:
    """``k1-sum:0.5,2``, ``k3-mean:0.01``. Raises ValueError, one sentence."""
    head, colon, bounds = text.partition(":")
    statistic, _, over = head.partition("-")
    if statistic not in get_args(Statistic) or over not in get_args(Over):
        raise ValueError(
            f"after '+' stands 'normalize', or k1, k2 or k3 with -token, -sum, -mean or -max and bounds, such as "
            f"'+k3-mean:0.01'; got {text!r}"
        )
    low, high = _bounds(text, bounds) if colon else (None, None)
    try:
        return Rejection(statistic=statistic, over=over, low=low, high=high)  # type: ignore[arg-type]
    except ValueError as error:
        raise ValueError(f"rejection {text!r}: {error}") from None


def _bounds(text: str, bounds: str) -> tuple[float | None, float | None]:
    parts = [part.strip() for part in bounds.split(",")]
    try:
        numbers = [float(part) if part else None for part in parts]
    except ValueError:
        numbers = []
    if not 1 <= len(numbers) <= 2 or not any(part for part in parts):
        raise ValueError(f"{text!r}: after ':' stands the largest ratio, or the smallest and the largest")
    return (None, numbers[0]) if len(numbers) == 1 else (numbers[0], numbers[1])
