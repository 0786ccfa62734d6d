"""Watches the stages of a central run: which thread used what, who waited, how old the weights were."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from frugalrl.cost.ledger import Laps, Ledger
from frugalrl.cost.machine import usable_cores
from frugalrl.cost.meters import LapTimer
from frugalrl.cost.stages import Lane, Stages
from frugalrl.run.assemble import Parts
from frugalrl.run.config import RunConfig
from frugalrl.run.loop import Event
from frugalrl.run.record import RunFolder
from frugalrl.run.samplers import environment_clock
from frugalrl.sampling.background import BackgroundSampler
from frugalrl.sampling.engine_meters import Quantiles
from frugalrl.types import Cost, Costs, merge_costs

_LEARNING = ("learner", "target", "correction", "replay")
_NETWORK = ("learner", "target", "correction")
_OTHER = ("evaluation", "probe", "checkpoint", "reporting")


def follow_clocks(config: RunConfig, parts: Parts, ledger: Ledger, timer: LapTimer) -> StageWatch | NoWatch:
    """Let the ledger follow the clocks of environments and sampler, and watch a run whose engine has its own thread.

    ``timer``: that of the loop's thread, which the ledger follows already.
    """
    ledger.follow(environment_clock(parts.worlds))
    if parts.sampler_timer is timer:
        return NoWatch()
    kept = KeptLaps(parts.sampler_timer)
    ledger.follow(kept)
    return StageWatch(config, parts, ledger, kept) if isinstance(parts.sampler, BackgroundSampler) else NoWatch()


class NoWatch:
    """For runs whose sampler works in rounds: there nobody runs ahead, and the bill's roles say all."""

    def begin(self, *, resumed_at: int | None) -> None: ...

    def read(self, event: Event) -> None: ...

    def stages(self) -> None: ...


class KeptLaps:
    """Hands on what a timer charged and keeps the sum, so that one thread can be told from the others."""

    def __init__(self, laps: Laps) -> None:
        self._laps = laps
        self.sums: dict[str, Cost] = {}

    def take(self) -> Mapping[str, Cost]:
        """As `LapTimer.take`."""
        taken = self._laps.take()
        self.sums = merge_costs([self.sums, taken])
        return taken


class StageWatch:
    """Call ``begin`` before the loop starts, ``read`` with every event; then ``stages`` says where the run stands."""

    def __init__(self, config: RunConfig, parts: Parts, ledger: Ledger, engine: KeptLaps) -> None:
        assert isinstance(parts.sampler, BackgroundSampler)
        self._config, self._ledger, self._engine = config, ledger, engine
        self._sampler, self._gpu = parts.sampler, parts.device.type != "cpu"
        self._remote: Costs = {}
        """What worker processes charged: their CPU-seconds come with the steps."""
        self._lag: list[float] = []
        self._lag_sum, self._lag_batches = 0.0, 0
        self.begin(resumed_at=None)

    def begin(self, *, resumed_at: int | None) -> None:
        """All that was charged until now belongs to start-up or to earlier processes of the run."""
        self._ledger.settle()
        self._before = self._ledger.charged()
        self._engine.sums = {}
        self._cpu_before = self._ledger.usage().cpu_s
        self._steps_before = self._ledger.counts.agent_steps
        self._began = time.monotonic()
        self._covers = None if resumed_at is None else f"since the resume at step {resumed_at:,}"

    def read(self, event: Event) -> None:
        """One round."""
        if event.collected is not None:
            self._remote = merge_costs([self._remote, event.collected.costs])
        for update in event.updated:
            ages = [update.metrics.get(name, math.nan) for name in ("lag_min", "lag_mean", "lag_max")]
            if all(map(math.isfinite, ages)):
                self._lag = [min(ages[0], *self._lag[:1]), max(ages[2], *self._lag[1:])] if self._lag else ages[::2]
                self._lag_sum += ages[1]
                self._lag_batches += 1

    def stages(self) -> Stages:
        """Now. The ledger is settled first."""
        self._ledger.settle()
        total, engine = self._since(), self._engine.sums
        told, workers = self._sampler.statistics(), self._config.sampler.workers
        environment, moved = _cpu(total, "environment"), _cpu(self._remote, "transport")
        loop = {role: _cpu(total, role) - _cpu(engine, role) for role in _LEARNING}
        return Stages(
            covers=self._covers,
            wall_s=time.monotonic() - self._began,
            other_s=max(0.0, sum(_busy(total, role) - _busy(engine, role) for role in _OTHER)),
            cpu_s=self._ledger.usage().cpu_s - self._cpu_before,
            cores=usable_cores(),
            gpu=self._gpu,
            env_steps=self._ledger.counts.agent_steps - self._steps_before,
            environments=Lane(
                work_cpu_s=environment, transport_cpu_s=moved, width=workers or self._config.sampler.groups
            ),
            engine=Lane(
                work_cpu_s=_cpu(engine, "inference") + _cpu(engine, "replay"),
                transport_cpu_s=_cpu(engine, "transport"),
                network_cpu_s=_cpu(engine, "inference"),
            ),
            learner=Lane(
                work_cpu_s=max(0.0, sum(loop.values())),
                transport_cpu_s=max(0.0, _cpu(total, "transport") - _cpu(engine, "transport") - moved),
                network_cpu_s=sum(loop[role] for role in _NETWORK),
                width=self._config.threads,
            ),
            blocked_s=told.blocked_s,
            starved_s=told.starved_s,
            learner_waited_s=told.learner_waited_s,
            batches=told.batches,
            batch_rows=told.rows / told.batches if told.batches else None,
            batch_fill=told.fill,
            by_rule=told.by_rule,
            queue_ms=_ms(told.queue_s),
            forward_ms=_ms(told.forward_s),
            rows=self._config.env.rows,
            live_rows=told.live_rows,
            restarts=told.restarts,
            dropped_steps=told.dropped_steps,
            repeated=told.repeated,
            lag_min=self._lag[0] if self._lag else None,
            lag_mean=self._lag_sum / self._lag_batches if self._lag_batches else None,
            lag_max=self._lag[1] if self._lag else None,
        )

    def _since(self) -> Costs:
        """CPU and busy seconds by role since ``begin``."""
        before = self._before
        return {
            role: Cost(
                cpu_s=(cost.cpu_s or 0.0) - (before.get(role, Cost()).cpu_s or 0.0),
                busy_s=(cost.busy_s or 0.0) - (before.get(role, Cost()).busy_s or 0.0),
            )
            for role, cost in self._ledger.charged().items()
        }


def log_stages(record: RunFolder, stages: Stages | None) -> None:
    """A line ``engine`` of metrics.jsonl."""
    if stages is not None:
        record.log("engine", **engine_line(stages))


def engine_line(stages: Stages) -> dict[str, Any]:
    """What metrics.jsonl keeps of the stages: every field, a quantile under a name of its own."""
    line = asdict(stages)
    for name in ("queue_ms", "forward_ms"):
        values = line.pop(name) or (None, None, None)
        line |= {f"{name}_{q}": value for q, value in zip(("p50", "p95", "p99"), values, strict=True)}
    for name in ("environments", "engine", "learner"):
        line |= {f"{name}_{field}": value for field, value in line.pop(name).items()}
    return line


def _cpu(costs: Mapping[str, Cost], role: str) -> float:
    return costs.get(role, Cost()).cpu_s or 0.0


def _busy(costs: Mapping[str, Cost], role: str) -> float:
    return costs.get(role, Cost()).busy_s or 0.0


def _ms(quantiles: Quantiles | None) -> tuple[float, float, float] | None:
    return None if quantiles is None else (quantiles.p50 * 1e3, quantiles.p95 * 1e3, quantiles.p99 * 1e3)
