"""A run from its first step to its bill: the loop and its readers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import shorten

from frugalrl.cost import Bill, make_bill, to_json
from frugalrl.cost.ledger import Ledger
from frugalrl.cost.machine import detect_machine
from frugalrl.cost.meters import CheapClock, LapTimer
from frugalrl.cost.money import budget_per_hour, cost_so_far_eur, shown_eur
from frugalrl.cost.power import EnergyCounters
from frugalrl.cost.tables import Tables, load_tables
from frugalrl.run import tell
from frugalrl.run.assemble import Parts
from frugalrl.run.checkpoint import Checkpoints
from frugalrl.run.config import BudgetConfig, RunConfig
from frugalrl.run.config_io import checked, to_dict
from frugalrl.run.evaluate import Score
from frugalrl.run.events import events
from frugalrl.run.kinds import assemble_run, builder, make_evaluator
from frugalrl.run.loop import Counters, Event
from frugalrl.run.moved import moved
from frugalrl.run.probe import make_probe
from frugalrl.run.record import Done, Progress, RunFolder, code_version, write_json
from frugalrl.run.redone import begun_in_vain, has_worked, lost_work
from frugalrl.run.rescue import CALMER, how_to_go_on, keep_tracebacks, save_batch, save_weights
from frugalrl.run.samplers import is_asynchronous
from frugalrl.run.stages import follow_clocks, log_stages
from frugalrl.run.state import RunState
from frugalrl.run.status import Header, Reporter, Silent
from frugalrl.run.stop import Interrupt, Used, interruptible, reason_to_stop
from frugalrl.run.theory import theory_meters
from frugalrl.run.torch_state import own_torch_state
from frugalrl.run.window import Window
from frugalrl.types import BadBatch, EngineFailed, EnvFailed, NonFiniteLoss, RunFailed, SamplerNotFinite, StateDict

_EVALUATION_SHARE = 0.2
_LOG_EVERY_S = 10.0  # between two progress lines, however often a screen is drawn


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended."""

    reason: str
    completed: bool
    """False when it was interrupted and can go on."""
    score: Score | None
    env_steps: int
    folder: Path
    bill: Bill


@own_torch_state()
def train(
    config: RunConfig,
    folder: Path | str,
    reporter: Reporter | None = None,
    *,
    command: Sequence[str] = (),
    tables: Tables | None = None,
    whole_process: bool = False,
) -> Outcome:
    """Start a run in a new folder. ``whole_process``: the process does nothing else, so its start-up is on the bill.

    Raises UserError for what cannot be started and RunFailed for what cannot go on.
    """
    folder, reporter = Path(folder), reporter or Silent()
    place = folder.absolute()  # an environment may change the working directory
    config = checked(RunConfig, config)
    run = Run(config, reporter, tables=tables, whole_process=whole_process)
    try:
        run.open(RunFolder.create(place, config, run.machine_document(command), shown=folder))
        return run.play(resumed_at=None)
    finally:
        run.close()


@own_torch_state()
def resume(
    folder: Path | str,
    reporter: Reporter | None = None,
    *,
    command: Sequence[str] = (),
    budget: BudgetConfig | None = None,
    tables: Tables | None = None,
    whole_process: bool = False,
) -> Outcome:
    """Go on from the newest checkpoint that is whole; ``budget`` replaces the run's own."""
    record, reporter = RunFolder.open(Path(folder)), reporter or Silent()
    config = record.config() if budget is None else checked(RunConfig, replace(record.config(), budget=budget))
    run = Run(config, reporter, tables=tables, whole_process=whole_process)
    try:
        run.open(record)
        step = run.restore()
        if record.begun_with() not in (None, code_version()["source_sha256"]):
            reporter.note("the code has changed since this run began, so it may not end like an uninterrupted run")
        if budget is not None:
            write_json(record.path / "config.json", to_dict(config))
        where = moved(record, run._machine, reporter.note)
        record.log("resume", env_steps=step, evaluated=run.evaluated_at or 0, command=list(command), **where)
        return run.play(resumed_at=step)
    finally:
        run.close()


class Run:
    """The parts of a run and the readers of its loop."""

    def __init__(self, config: RunConfig, reporter: Reporter, *, tables: Tables | None, whole_process: bool) -> None:
        self._tables = load_tables() if tables is None else tables
        self._machine = detect_machine(self._tables, config.machine)
        self._ledger, self._timer = self._clocks(config, whole_process)
        if config.budget.eur is not None:
            budget_per_hour(self._machine, self._tables)  # a machine without a price is refused now
        self._config = config
        self._reporter = reporter
        self._parts = parts = self._assemble(config)
        self._watch = follow_clocks(config, parts, self._ledger, self._timer)
        self._spec = parts.spec
        self._counters = Counters()
        build = builder(config, self._spec)
        self._evaluator = make_evaluator(config, self._spec, build, parts.device)
        self._theory = theory_meters(config, self._spec)
        self._probe = make_probe(config, self._spec, build, parts.device)
        self._state = RunState(parts, self._counters, self._evaluator, self._ledger, self._theory)
        self._window = Window()
        now = self._ledger.sessions[-1]
        self._clock = CheapClock(now.cpu_s, now.wall_s)
        self._session = 0
        self._logged_at = -_LOG_EVERY_S
        self._told: set[str] = set()
        self._progress: Progress | None = None

    def _clocks(self, config: RunConfig, whole_process: bool) -> tuple[Ledger, LapTimer]:
        """The ledger, and the started timer of this thread that it follows."""
        lanes = 2 if config.schedule.lag_blocks or is_asynchronous(config) else 1
        name = self._machine.profile.name
        ledger = Ledger(whole_process=whole_process, lanes=lanes, energy=EnergyCounters(), profile=name)
        timer = LapTimer()
        timer.start()
        ledger.follow(timer)
        return ledger, timer

    def _assemble(self, config: RunConfig) -> Parts:
        return assemble_run(config, self._timer)

    def machine_document(self, command: Sequence[str]) -> StateDict:
        """What machine.json holds."""
        bill = make_bill(self._ledger, self._machine, self._tables)
        return {"command": list(command), "code": code_version(), "machine": dict(bill.machine), **self._tables.origin}

    def open(self, record: RunFolder) -> None:
        """Take over a run folder."""
        self._record = record
        self._progress = record.progress()
        self._checkpoints = Checkpoints(record.checkpoints, self._config.checkpoint.keep)
        self._parts.keep_output(record.path)

    def close(self) -> None:
        """Free the environments and the run folder; harmless when called twice."""
        if self._progress is not None:
            self._progress.close()
        if self._parts.hand.close():  # a thread that hangs in an environment must not be freed under its feet
            self._parts.sampler.close()

    @property
    def evaluated_at(self) -> int | None:
        """Agent step of the last evaluation."""
        return self._evaluator.last_step

    # -- playing ----------------------------------------------------------------------------------------------------

    def play(self, *, resumed_at: int | None) -> Outcome:
        """Run to the end of the budget, a target or a signal."""
        self._reporter.start(self._header(resumed_at))
        sizes = tell.memory_cautions(self._parts.replay.nbytes)
        for caution in (*tell.cautions(self._config, self._parts.device), *sizes):
            self._reporter.note(caution)
        try:
            with interruptible() as interrupt:
                self._write_progress(begin=True)
                self._timer.lap("startup")
                self._save()
                self._watch.begin(resumed_at=resumed_at)
                reason = self._loop(interrupt)
                completed = not interrupt  # a signal from here on changes nothing any more
                self._save()
                return self._finish(reason, completed=completed)
        except (RunFailed, FloatingPointError) as error:
            raise self._failure(error) from error
        except Exception as error:
            with suppress(Exception):  # the bill is kept; this is not the error to tell of
                self._finish(f"unexpected {type(error).__name__}", completed=False)
            error.add_note(how_to_go_on("", self._record.shown, self._checkpoints.newest_step))
            raise
        finally:
            self._reporter.close()

    def _failure(self, error: RunFailed | FloatingPointError) -> RunFailed:
        """Keep what a run that cannot go on leaves behind; returns what to tell the user."""
        if isinstance(error, BadBatch):
            kept = f"; {save_batch(self._record.path, error.replayed)}, {save_weights(self._save)}"
            self._failed(str(error))  # for its bill
            advice = f"; {CALMER}" if isinstance(error, NonFiniteLoss) else ""
            return RunFailed(f"{error}{kept}{advice}")
        if isinstance(error, EnvFailed | SamplerNotFinite | EngineFailed):
            keep_tracebacks(self._record.path, error.__cause__)
            with suppress(RunFailed):  # a disk that fails as well must not hide what the environment did
                self._save()  # what was broken never entered the state: what was learned before it is kept
        elif isinstance(error, FloatingPointError):
            return self._failed(f"{error} at step {self._counters.env_steps:,}; {CALMER}")
        return self._failed(str(error))

    def _failed(self, sentence: str) -> RunFailed:
        """Keep the bill of a run that cannot go on; its state is that of the last checkpoint."""
        with suppress(RunFailed, OSError):
            self._finish(sentence, completed=False)
        return RunFailed(how_to_go_on(sentence, self._record.shown, self._checkpoints.newest_step))

    def _loop(self, interrupt: Interrupt) -> str:
        rounds = events(self._config, self._parts, self._counters, self._timer)
        saved_at = time.monotonic()
        if self._evaluator.due(self._counters.env_steps):  # the process before was interrupted while it evaluated
            self._evaluate(interrupt)
        while True:
            reason = self._reason(interrupt)
            if reason is not None:
                return reason
            self._read(next(rounds))
            if self._evaluator.due(self._counters.env_steps):
                self._evaluate(interrupt)
            if self._window.age_s >= self._reporter.interval_s:
                self._report(tell.phase_of(self._config, self._counters.updates))
            if time.monotonic() - saved_at >= self._config.checkpoint.every_s:
                self._save()
                saved_at = time.monotonic()

    def _reason(self, interrupt: Interrupt) -> str | None:
        """Why to stop now; before the end of a budget the last policy gets its score."""
        reason = None if interrupt else reason_to_stop(self._config.budget, self._used())
        if reason is not None and self._evaluator.last_step != self._counters.env_steps:
            self._evaluate(interrupt)
            reason = reason_to_stop(self._config.budget, self._used())  # that may have been the target
        return f"interrupted by {interrupt.name}" if interrupt else reason

    def _read(self, event: Event) -> None:
        """Book one round."""
        ledger, collected = self._ledger, event.collected
        for costs in event.costs:
            ledger.charge_all(costs)
        ledger.count(updates=sum(updated.gradient_steps for updated in event.updated))
        if collected is not None:
            ledger.count(
                agent_steps=collected.env_steps,
                frames=collected.env_steps * self._spec.frames_per_step,
                episodes=len(collected.episodes),
                invalid_rows=collected.invalid_rows,
            )
        self._window.add(event)
        self._watch.read(event)
        for kind, sentences in (("fault", event.faults), ("note", event.notes)):
            for sentence in sentences:
                self._reporter.note(sentence)
                self._record.log(kind, env_steps=self._counters.env_steps, sentence=sentence)
        keep_tracebacks(self._record.path, *event.causes)
        self._theory.read(event)
        self._write_progress()
        self._timer.lap("reporting")
        if event.failure is not None:
            raise event.failure

    def _write_progress(self, *, begin: bool = False) -> None:
        assert self._progress is not None
        done = Done(self._session, self._counters.env_steps, self._counters.updates, *self._spent())
        (self._progress.begin if begin else self._progress.write)(done)

    def _spent(self) -> tuple[float, float]:
        """CPU and wall seconds of this process and its children; cheap."""
        return self._clock.read()

    def _evaluate(self, interrupt: Interrupt) -> None:
        steps, newest = self._counters.env_steps, self._parts.learner.snapshot()
        self._report("evaluating")
        score, cost = self._evaluator.run(newest, steps, stop=lambda: bool(interrupt), timer=self._timer)
        self._ledger.charge("evaluation", cost)
        if score is None:
            return
        line = tell.evaluation_line(steps, self._ledger, score)
        self._record.log("evaluation", **line)
        self._reporter.score(steps, score)
        self._warn_of_costly_evaluation(line["cpu_s"])
        self._timer.lap("reporting")
        if self._probe is not None:
            meters, cost = self._probe.run(self._parts.learner.snapshot())
            self._ledger.charge("probe", cost)
            self._timer.lap("probe")
            self._record.log("probe", env_steps=steps, **meters)

    def _warn_of_costly_evaluation(self, cpu_s: float) -> None:
        spent = self._ledger.charged()["evaluation"].cpu_s or 0.0
        if spent > _EVALUATION_SHARE * cpu_s:
            self._tell_once("evaluation", tell.costly_evaluation(spent / cpu_s, self._config, self._evaluator))

    def _used(self) -> Used:
        budget = self._config.budget
        return Used(
            env_steps=self._counters.env_steps,
            wall_s=None if budget.hours is None else self._ledger.wall_s(),
            eur=None if budget.eur is None else cost_so_far_eur(self._ledger, self._machine, self._tables),
            score=None if self._evaluator.last is None else self._evaluator.last.mean_return,
        )

    # -- telling ----------------------------------------------------------------------------------------------------

    def _header(self, resumed_at: int | None) -> Header:
        device = self._parts.device.type
        return tell.header_of(self._config, device=device, folder=self._record.shown, resumed_at=resumed_at)

    def _report(self, phase: str) -> None:
        self._ledger.settle()
        status = tell.status_of(
            phase, self._config, self._ledger, self._window, self._evaluator, self._used(),
            epsilon=self._parts.sampler.epsilon(), stages=self._watch.stages(),
            eur=shown_eur(self._ledger, self._machine, self._tables),
        )  # fmt: skip
        self._reporter.status(status)
        for name, sentence in tell.alarms(status.metrics, self._config.agent):
            self._tell_once(name, sentence)
        if phase == "evaluating" or time.monotonic() - self._logged_at >= _LOG_EVERY_S:
            self._logged_at = time.monotonic()
            self._record.log("progress", **tell.progress_line(status))
            log_stages(self._record, status.stages)
            if meters := self._theory.close():
                self._record.log("theory", env_steps=status.env_steps, **meters)
        self._timer.lap("reporting")

    def _tell_once(self, name: str, sentence: str) -> None:
        if name not in self._told:
            self._told.add(name)
            self._reporter.note(sentence)

    def _finish(self, reason: str, *, completed: bool) -> Outcome:
        score, steps = self._evaluator.last, self._counters.env_steps
        bill = self._bill()
        write_json(self._record.path / "bill.json", to_json(bill))
        log_stages(self._record, self._watch.stages())
        self._record.log("end", env_steps=steps, reason=reason, completed=completed)
        return Outcome(reason, completed, score, steps, self._record.shown, bill)

    def _bill(self) -> Bill:
        scores, about = tell.score_rows(self._evaluator), tell.about(self._header(None))
        return make_bill(self._ledger, self._machine, self._tables, scores, about=about, stages=self._watch.stages())

    # -- saving and coming back -------------------------------------------------------------------------------------

    def _save(self) -> None:
        self._write_progress()
        self._checkpoints.save(self._counters.env_steps, self._state.state_dict(), self._parts.replay)
        self._timer.lap("checkpoint")

    def restore(self) -> int:
        """Bring everything back to the newest whole checkpoint; returns its agent step."""
        assert self._progress is not None
        records = self._progress.read()
        if self._checkpoints.never_saved and not has_worked(records, self._record.lines()):
            self._reporter.note("the run died before its first checkpoint; it starts from its beginning")
            self._session = self._ledger.book_vain(begun_in_vain(records))
            return 0
        try:
            loaded = self._checkpoints.load(self._parts.replay)
            not_restored = self._state.load_state_dict(loaded.state)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise RunFailed(
                f"the checkpoint does not fit {self._record.path / 'config.json'} "
                f"({shorten(str(error), 200, placeholder=' ...')}); put that file back as the run wrote it"
            ) from error
        for sentence in loaded.damaged:
            self._reporter.note(sentence)
        self._checkpoints.set_aside_after(loaded)
        if not_restored:
            self._reporter.note(tell.not_restored(not_restored, asynchronous=is_asynchronous(self._config)))
            self._record.log("not_restored", env_steps=loaded.step, rows=list(not_restored))
        lost = lost_work(
            loaded.state["ledger"], records, env_steps=loaded.step, updates=self._counters.updates,
            frames_per_step=self._spec.frames_per_step,
        )  # fmt: skip
        if lost is not None:  # what dead processes did after the checkpoint is done again; it stands on its own line
            self._ledger.book_lost(lost.ledger)
            if lost.env_steps:
                self._reporter.note(tell.done_again(lost.died_at, loaded.step, lost.env_steps))
        self._session = len(self._ledger.sessions) - 1
        return loaded.step
