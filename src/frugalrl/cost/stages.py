"""The stages of a central run as a record, and their rows on the bill.

Environments, engine and learner work at the same time; transport is what each of them does to hand things over. A
stage stands still when the one before it gave nothing or the one behind it takes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from frugalrl.cost.record import BillRow
from frugalrl.types import How


@dataclass(frozen=True, kw_only=True, slots=True)
class Lane:
    """What the threads or processes of one stage have used, CPU-seconds."""

    work_cpu_s: float
    transport_cpu_s: float = 0.0
    """Messages, copies and weights: its half of the way to the next stage."""
    network_cpu_s: float = 0.0
    """Part of ``work_cpu_s`` that passes through the network takes; the rest would stay beside a GPU."""
    width: int = 1
    """Threads or processes that may do this work side by side."""

    @property
    def cpu_s(self) -> float:
        """Work and transport."""
        return self.work_cpu_s + self.transport_cpu_s


@dataclass(frozen=True, kw_only=True, slots=True)
class Stages:
    """What a central run knows of its stages since this process began to train. ``None``: not measured."""

    covers: str | None
    """In words: which part of the run; None when it is all of the training so far."""
    wall_s: float
    other_s: float
    """Wall seconds in which the learner's thread evaluated, saved or reported, and so took no unrolls."""
    cpu_s: float
    """Of the process and its children, all work."""
    cores: int
    gpu: bool
    env_steps: int
    environments: Lane
    engine: Lane
    learner: Lane
    blocked_s: float
    """Wall seconds in which the engine stood at the full queue."""
    starved_s: float
    """Wall seconds in which the engine waited for environments."""
    learner_waited_s: float
    """Wall seconds in which the learner waited for unrolls."""
    batches: int
    batch_rows: float | None
    batch_fill: float | None
    """0 to 1: rows of a batch over those it could have had, mean."""
    by_rule: dict[str, int]
    queue_ms: tuple[float, float, float] | None
    """p50, p95, p99 of the time that a request waited for its batch."""
    forward_ms: tuple[float, float, float] | None
    """p50, p95, p99 of a forward pass."""
    rows: int
    live_rows: int
    restarts: int
    dropped_steps: int
    repeated: int
    lag_min: float | None
    """Updates between the weights that acted and those that learned; None for learners that replay."""
    lag_mean: float | None
    lag_max: float | None

    @property
    def transport_cpu_s(self) -> float:
        """Of all stages."""
        return sum(lane.transport_cpu_s for lane in (self.environments, self.engine, self.learner))

    def source(self, text: str) -> str:
        """The source of a row: first what it covers, unless that is the whole training."""
        return text if self.covers is None else f"{self.covers}: {text}"

    @property
    def rest_cpu_s(self) -> float:
        """CPU-seconds outside of the stages: evaluation, checkpoints, reports."""
        return max(0.0, self.cpu_s - sum(lane.cpu_s for lane in (self.environments, self.engine, self.learner)))


def stage_rows(stages: Stages) -> tuple[BillRow, ...]:
    """Rows of the section ``stages``; the sources say which part of a resumed run they cover."""
    wall = stages.wall_s

    def row(name: str, value: float | None, unit: str, source: str, how: How = "measured") -> BillRow:
        return BillRow(section="stages", name=name, value=value, unit=unit, how=how, source=stages.source(source))

    def waited(name: str, seconds: float, who: str) -> BillRow:
        share = f", {100 * seconds / wall:.0f} % of {wall:.4g} s" if wall > 0 else ""
        return row(name, seconds, "s", who + share)

    queue = stages.queue_ms or (None, None, None)
    forward = stages.forward_ms or (None, None, None)
    rules = ", ".join(f"{count:,} {rule}" for rule, count in stages.by_rule.items())
    quantiles = (("p50", 0), ("p95", 1), ("p99", 2))
    return (
        row("environments_cpu_s", stages.environments.work_cpu_s, "s", "threads or workers that step"),
        row("transport_cpu_s", stages.transport_cpu_s, "s", "messages and weights, all sides"),
        row("engine_cpu_s", stages.engine.work_cpu_s, "s", "forward passes, choice, storing unrolls"),
        row("learner_cpu_s", stages.learner.work_cpu_s, "s", "updates, targets, correction, replay"),
        waited("engine_blocked_s", stages.blocked_s, "wall time at the full queue: nobody fetched unrolls"),
        waited("engine_starved_s", stages.starved_s, "wall time without a request: environments were not ready"),
        waited("learner_waited_s", stages.learner_waited_s, "wall time without a complete batch of unrolls"),
        row("batch_rows", stages.batch_rows, "rows", f"mean of {stages.batches:,} batches ({rules})", "counted"),
        row("batch_fill", _percent(stages.batch_fill), "%", "rows of a batch / rows it could have had", "counted"),
        *(row(f"queue_{q}", queue[i], "ms", "wait for a batch, last 4,096 requests") for q, i in quantiles),
        *(row(f"forward_{q}", forward[i], "ms", "forward pass, last 4,096") for q, i in quantiles),
        row("restarts", stages.restarts, "restarts", "groups that were started again", "counted"),
        row("dropped_steps", stages.dropped_steps, "steps", "of open unrolls, lost with a group", "counted"),
        row("lag_min", stages.lag_min, "updates", "age of the weights that acted, lowest of a batch"),
        row("lag_mean", stages.lag_mean, "updates", "age of the weights that acted, mean over batches"),
        row("lag_max", stages.lag_max, "updates", "age of the weights that acted, highest of a batch"),
    )


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
