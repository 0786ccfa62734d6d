"""One seed of a stack: a run like any other, whose clocks are its part of a shared process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from frugalrl.cost import Bill
from frugalrl.cost.ledger import Ledger
from frugalrl.cost.meters import LapTimer
from frugalrl.cost.share import Share, SharedClocks
from frugalrl.cost.tables import Tables
from frugalrl.run import tell
from frugalrl.run.assemble import Parts, assemble
from frugalrl.run.config import RunConfig
from frugalrl.run.evaluate import Score
from frugalrl.run.loop import Counters, Event
from frugalrl.run.moved import moved
from frugalrl.run.status import Header, Reporter, Status
from frugalrl.run.stop import Interrupt
from frugalrl.run.train import Outcome, Run
from frugalrl.sampling.stacked import SeedSampler
from frugalrl.types import EnvFailed, EnvSpec, RunFailed, StateDict


class Voice:
    """What one seed says to the reporter of all: its scores and notes; statuses only if it leads."""

    def __init__(self, reporter: Reporter, seed: int, *, leads: bool) -> None:
        self._reporter, self._seed, self._leads = reporter, seed, leads

    @property
    def interval_s(self) -> float:
        """Wall seconds between two statuses."""
        return self._reporter.interval_s

    def start(self, header: Header) -> None:
        if self._leads:
            self._reporter.start(header)

    def status(self, status: Status) -> None:
        if self._leads:
            self._reporter.status(status)

    def score(self, env_steps: int, score: Score) -> None:
        self._reporter.score(env_steps, score)

    def note(self, text: str) -> None:
        self._reporter.note(f"seed {self._seed}: {text}")

    def close(self) -> None:
        """The reporter is closed by the stack."""


class SeedRun(Run):
    """The readers of one seed's rounds; the rounds are made by the stack."""

    def __init__(self, config: RunConfig, reporter: Reporter, clocks: SharedClocks, *, tables: Tables | None) -> None:
        self._together, self._share = clocks, Share(clocks)
        super().__init__(config, reporter, tables=tables, whole_process=False)

    def _clocks(self, config: RunConfig, whole_process: bool) -> tuple[Ledger, LapTimer]:
        machine = self._machine.profile.name
        ledger = Ledger(whole_process=whole_process, clock=self._share, energy=self._share, profile=machine)
        ledger.charge("startup", self._together.startup)
        ledger.follow(self._share)
        return ledger, self._together.timer

    def _assemble(self, config: RunConfig) -> Parts:
        return assemble(config, self._timer, SeedSampler)

    def _spent(self) -> tuple[float, float]:
        return self._share.cpu_s(), self._share.wall_s()

    # -- what the stack works with ----------------------------------------------------------------------------------

    @property
    def config(self) -> RunConfig:
        """As it is in the run's folder."""
        return self._config

    @property
    def parts(self) -> Parts:
        """Environment, sampler, replay and learner."""
        return self._parts

    @property
    def spec(self) -> EnvSpec:
        """The environment."""
        return self._spec

    @property
    def counters(self) -> Counters:
        """What the loop has done."""
        return self._counters

    # -- from the beginning to the end ------------------------------------------------------------------------------

    def note(self, text: str) -> None:
        """One sentence worth reading."""
        self._reporter.note(text)

    def begin(self, resumed_at: int | None) -> None:
        """Say what runs, and write the first checkpoint. Raises RunFailed."""
        self._reporter.start(self._header(resumed_at))
        for caution in tell.cautions(self._config, self._parts.device):
            self._reporter.note(caution)
        self._write_progress(begin=True)
        self._timer.lap("startup")
        self._save()

    def read(self, event: Event | EnvFailed | FloatingPointError) -> None:
        """Book one round. Raises what kept it from being finished."""
        if not isinstance(event, Event):
            raise event
        self._read(event)

    def evaluate_if_due(self, interrupt: Interrupt) -> None:
        """Score the policy where its own run would."""
        if self._evaluator.due(self._counters.env_steps):
            self._evaluate(interrupt)

    def report_if_due(self) -> None:
        """A status, and lines of metrics.jsonl, every few seconds."""
        if self._window.age_s >= self._reporter.interval_s:
            self._report("training" if self._counters.updates else "filling the replay")

    def reason(self, interrupt: Interrupt) -> str | None:
        """Why this seed is to stop now, with its last policy scored; None to go on."""
        return self._reason(interrupt)

    def save(self) -> None:
        """Write a checkpoint. Raises RunFailed."""
        self._save()

    def finish(self, reason: str, *, completed: bool) -> Outcome:
        """The last checkpoint and the bill. Raises RunFailed."""
        self._save()
        return self._finish(reason, completed=completed)

    def fail(self, error: RunFailed | FloatingPointError) -> RunFailed:
        """Keep what this seed leaves behind; returns what to tell the user."""
        failure = self._failure(error)
        failure.__cause__ = error
        return failure

    def moved(self) -> StateDict:
        """What the line of a resume says of this machine; nothing where the run began on it."""
        return moved(self._record, self._machine, self.note)

    def leave(self) -> None:
        """The others go on without this seed: its clocks stand still, its environments are freed."""
        self._share.close()
        self.close()

    # -- what its folder says of the stack --------------------------------------------------------------------------

    def machine_document(self, command: Sequence[str]) -> StateDict:
        """What machine.json holds, with the number of seeds that shared the process, and its name."""
        return super().machine_document(command) | {
            "stacked_seeds": self._together.parts, "stack": self._together.name,
        }  # fmt: skip

    def _header(self, resumed_at: int | None) -> Header:
        seeds = self._together.parts
        return replace(super()._header(resumed_at), sampler=f"inline, {seeds} seeds stacked")

    def _bill(self) -> Bill:
        bill, seeds = super()._bill(), self._together.parts
        part = f"; 1/{seeds} of a process that trained {seeds} seeds"
        divided = ("cpu_s", "busy_s", "wall_h", "steps_per_cpu_s", "cpu_h_per_1e9_frames", "cpu_j", "gpu_j")
        undivided, whole = ("peak_memory", "peak_gpu_memory"), f"; of the process that trained {seeds} seeds"
        rows = tuple(
            replace(row, source=row.source + (part if row.name in divided else whole))
            if row.name in (*divided, *undivided)
            else row
            for row in bill.rows
        )
        return replace(bill, rows=rows)
