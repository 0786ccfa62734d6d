"""The comparison as a record: what the table, the report and the JSON are made of.

Every figure carries its interval over seeds, how it was obtained and from what. A figure that is not known is None;
an expected cost that no run reached is infinite, and its interval may end in infinity.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from frugalrl.types import How

SCHEMA = "frugalrl.comparison/1"

Quantity = Literal[
    "env_steps", "updates", "flop", "sampler_s", "learner_s", "cpu_s", "gpu_s", "wall_s", "joules", "eur"
]
"""What a score can cost. ``sampler_s`` and ``learner_s``: CPU-seconds of the roles environment and inference, and of
learner, target, replay and correction."""

QUANTITIES: Mapping[Quantity, tuple[str, str]] = {
    "env_steps": ("samples", "steps"),
    "updates": ("updates", "updates"),
    "flop": ("FLOPs", "FLOP"),
    "sampler_s": ("sampler load", "CPU-s"),
    "learner_s": ("learner load", "CPU-s"),
    "cpu_s": ("CPU time", "CPU-s"),
    "gpu_s": ("GPU time", "GPU-s"),
    "wall_s": ("wall time", "s"),
    "joules": ("energy", "J"),
    "eur": ("money", "EUR"),
}
"""Title and unit."""

SAMPLER_ROLES = ("environment", "inference")
LEARNER_ROLES = ("learner", "target", "replay", "correction")

Axis = Literal["env_steps", "flop", "cpu_s", "eur"]
AXES: tuple[Axis, ...] = ("env_steps", "flop", "cpu_s", "eur")


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One number."""

    value: float | None
    unit: str
    interval: tuple[float, float] | None = None
    """95 % over seeds; None where there is none (one seed, nothing to estimate)."""
    how: How
    source: str
    """From what, and how the interval was made."""
    n: int = 0
    """Seeds it rests on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ToTarget:
    """What one target costs with one method."""

    target: float
    reached: int
    runs: int
    share_reached: Figure
    """k / n."""
    median_steps: Figure
    """Kaplan-Meier median of the samples to target; infinite when fewer than half of the runs got there."""
    expected: Mapping[Quantity, Figure]
    """Cost per success: sum of what all runs used until they reached it or ended, over the number that reached it."""
    ratio: Mapping[Quantity, Figure]
    """Expected cost over that of the baseline, paired by seed; empty for the baseline itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """Score against one axis: mean over runs between their evaluations, with a pointwise interval."""

    axis: Axis
    grid: tuple[float, ...]
    value: tuple[float, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    n: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Survival:
    """Share of runs that reached the target by a number of samples (Kaplan-Meier)."""

    target: float
    env_steps: tuple[float, ...]
    share: tuple[float, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodResult:
    """One method on one environment."""

    method: str
    seeds: tuple[int, ...]
    """Of runs that completed."""
    failed: tuple[tuple[int, str], ...]
    """(seed, reason) of runs that failed or did not end: reported, not counted as finished."""
    stacked: int | None
    final_mean: Figure
    final_iqm: Figure
    final_normalized: Figure | None
    """Mean final score between a random policy (0) and the reference (1); None without references."""
    tolerance: Figure
    """value: the worst run; interval: bounds in which a stated share of future runs lies (None: too few seeds)."""
    used: Mapping[Quantity, Figure]
    """At the end of the budget, mean over runs."""
    peak_memory: Figure
    flop_by_role: Mapping[str, float]
    """Mean over runs at the end of the budget."""
    cpu_s_by_role: Mapping[str, float]
    targets: tuple[ToTarget, ...]
    curves: Mapping[Axis, Curve]
    survival: tuple[Survival, ...]


Verdict = Literal["better", "worse", "no difference shown", "one seed", "baseline"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewRow:
    """One method in a fair view."""

    method: str
    score: Figure
    difference: Figure | None
    """To the baseline, paired by seed; None for the baseline and without common seeds."""
    verdict: Verdict


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """All methods at the same amount of one resource."""

    axis: Literal["env_steps", "flop", "eur"]
    amount: float
    """The most that all methods have used."""
    rows: tuple[ViewRow, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class CrossLine:
    """Cost to target of one method as a function of what one environment step costs."""

    method: str
    value: tuple[float, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Crossing:
    """Where two methods cost the same."""

    left: str
    """Cheaper below."""
    right: str
    """Cheaper above."""
    step_ms: float
    interval: tuple[float, float] | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Crossover:
    """Serial time or money to a target, modelled: samples x cost of a step + everything else."""

    target: float
    quantity: Literal["wall_s", "eur"]
    step_ms: tuple[float, ...]
    measured_step_ms: Mapping[str, float]
    """CPU-milliseconds of one environment step as measured, by method."""
    lines: tuple[CrossLine, ...]
    crossings: tuple[Crossing, ...]


LeverQuantity = Literal[
    "env_steps", "frames", "updates", "flop", "sampler_s", "learner_s", "cpu_s", "gpu_s", "wall_s", "joules", "eur",
    "score",
]  # fmt: skip
"""What a lever can change: all that a score costs, and the score at the end of the budget."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lever:
    """One factor of a factorial and its two levels."""

    name: str
    low: str
    """The level of the baseline."""
    high: str


@dataclass(frozen=True, kw_only=True, slots=True)
class LeverEffect:
    """What a lever, or several together, do to one quantity."""

    levers: tuple[str, ...]
    """One name: its main effect, averaged over the other levers. Several: their interaction."""
    quantity: LeverQuantity
    effect: Figure
    """High over low: a ratio of geometric means of expected costs, 1 is none; of scores a difference of means, 0 is
    none. None, with the reason, where a cell has no success."""
    restricted: Figure | None
    """The same of the cost until the target or the end of the budget, which is known also without a success in every
    cell; None for scores."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LeverLine:
    """The main effect of a lever on serial time, and so on money, as a function of what one environment step costs."""

    lever: str
    step_ms: tuple[float, ...]
    value: tuple[float | None, ...]
    """High over low, 1 is none; None where a cell has no success."""
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class LeverTarget:
    """All effects on the cost of one target."""

    target: float
    reached: int
    runs: int
    effects: tuple[LeverEffect, ...]
    by_step: tuple[LeverLine, ...] = ()
    """Modelled as in `Crossover`; empty where that cannot be done."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Levers:
    """The factorial that the methods of an environment form: every combination of the levels of all levers."""

    learner: str
    """That all of them have."""
    levers: tuple[Lever, ...]
    cells: Mapping[str, tuple[bool, ...]]
    """By method: which levers are at their high level."""
    targets: tuple[LeverTarget, ...]
    score: tuple[LeverEffect, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvResult:
    """All methods on one environment."""

    env: str
    protocol: str
    """Name of the environment's, and "actions sampled" where scores are of sampled actions."""
    targets: tuple[float, ...]
    methods: tuple[MethodResult, ...]
    views: tuple[View, ...]
    crossovers: tuple[Crossover, ...]
    anchors: tuple[Anchor, ...] = ()
    levers: Levers | None = None
    """None unless the methods are a full factorial."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Anchor:
    """A score from elsewhere: not measured here, under its own protocol."""

    name: str
    env: str
    score: float
    interval: tuple[float, float] | None
    env_steps: int | None
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Overall:
    """One method over all environments, normalised scores."""

    method: str
    mean: Figure
    median: Figure
    iqm: Figure
    optimality_gap: Figure
    improvement: Figure | None
    """Probability that a run of it beats a run of the baseline; None for the baseline."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunLine:
    """One run, for the list at the end."""

    name: str
    method: str
    env: str
    seed: int
    outcome: str
    reason: str
    final: float | None
    env_steps: int | None
    cpu_s: float | None
    wall_s: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """Everything that is shown."""

    made: str
    """UTC, ISO 8601."""
    command: tuple[str, ...]
    baseline: str
    methods: tuple[str, ...]
    """In the order of the tables."""
    envs: tuple[EnvResult, ...]
    overall: tuple[Overall, ...]
    """Empty with one environment or without references."""
    sentences: tuple[str, ...]
    """What the figures say, break-even included; where intervals overlap they say that nothing can be said."""
    notes: tuple[str, ...]
    """What a reader must know: failures, censoring, mixed code versions, modelled rows."""
    runs: tuple[RunLine, ...]
    machine: Mapping[str, Any]
    code: Mapping[str, Any]
    modelled: str | None = None
    """How the figures were modelled (another machine, another simulator); None when they are as measured."""
    level: float = 0.95
    draws: int = 2_000
    method_docs: Mapping[str, str] = field(default_factory=dict)
    """What each method is, in one line."""
