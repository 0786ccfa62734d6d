"""What an inference engine tells about itself."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from frugalrl.sampling.waiting import RULES, Rule

_RECENT = 4096


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Of the last 4,096 values, seconds."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineStatistics:
    """Counts since the engine was made."""

    batches: int
    rows: int
    """Rows in all batches."""
    by_rule: dict[str, int]
    """Batches by the rule that ran them: ``full``, ``share`` of the live rows waited, ``deadline``."""
    fill: float | None
    """Rows of a batch over the rows it could have had: the largest batch, or the live rows if fewer. Mean."""
    queue_s: Quantiles | None
    """How long a request waited for its batch."""
    forward_s: Quantiles | None
    """How long a forward pass took."""
    restarts: int
    """Groups that were started again."""
    dropped_steps: int
    """Transitions of open unrolls that were lost with them."""
    repeated: int
    """Messages that came once more and were answered again, or belonged to an incarnation that is gone."""
    live_rows: int
    blocked_s: float = 0.0
    """Wall seconds in which the engine stood still because complete unrolls were not fetched: the learner is slower."""
    starved_s: float = 0.0
    """Wall seconds in which the engine waited for environments: they are slower."""
    learner_waited_s: float = 0.0
    """Wall seconds in which the learner waited for complete unrolls."""


class Recent:
    """Quantiles of the last values; memory is bounded."""

    def __init__(self) -> None:
        self._values = np.zeros(_RECENT)
        self._count = 0

    def add(self, value: float) -> None:
        self._values[self._count % _RECENT] = value
        self._count += 1

    def quantiles(self) -> Quantiles | None:
        """None without a value."""
        if not self._count:
            return None
        p50, p95, p99 = np.quantile(self._values[: min(self._count, _RECENT)], (0.5, 0.95, 0.99))
        return Quantiles(float(p50), float(p95), float(p99))


@dataclass
class EngineMeters:
    """Counters of an engine."""

    batches: int = 0
    rows: int = 0
    by_rule: dict[Rule, int] = field(default_factory=lambda: dict.fromkeys(RULES, 0))
    fill: float = 0.0
    """Sum over batches."""
    queue_s: Recent = field(default_factory=Recent)
    forward_s: Recent = field(default_factory=Recent)
    dropped_steps: int = 0
    repeated: int = 0
    starved_s: float = 0.0

    def batch(self, rule: Rule, rows: int, could_have: int) -> None:
        """One batch was run."""
        self.batches += 1
        self.rows += rows
        self.by_rule[rule] += 1
        self.fill += min(rows / max(could_have, 1), 1.0)

    def read(self, *, restarts: int, live_rows: int) -> EngineStatistics:
        """All of them now."""
        return EngineStatistics(
            batches=self.batches,
            rows=self.rows,
            by_rule={str(rule): count for rule, count in self.by_rule.items()},
            fill=self.fill / self.batches if self.batches else None,
            queue_s=self.queue_s.quantiles(),
            forward_s=self.forward_s.quantiles(),
            restarts=restarts,
            dropped_steps=self.dropped_steps,
            repeated=self.repeated,
            live_rows=live_rows,
            starved_s=self.starved_s,
        )
