"""A run from its first step to its bill: the loop and its readers."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from frugalrl.cost import Bill, make_bill, score_row, to_json
from frugalrl.cost.flops import bytes_min_replay_row, bytes_min_replay_sample
from frugalrl.cost.ledger import Ledger
from frugalrl.cost.machine import detect_machine
from frugalrl.cost.meters import LapTimer, NativeThreads
from frugalrl.cost.money import cost_so_far_eur
from frugalrl.cost.power import EnergyCounters
from frugalrl.cost.tables import Tables, load_tables
from frugalrl.run.assemble import assemble, network_builder
from frugalrl.run.checkpoint import Checkpoints, Loaded
from frugalrl.run.config import BudgetConfig, RunConfig
from frugalrl.run.config_io import to_dict
from frugalrl.run.evaluate import Score
from frugalrl.run.evaluator import Evaluator, score_to_json
from frugalrl.run.loop import Counters, Event, serial
from frugalrl.run.record import Done, RunFolder, code_version, write_json
from frugalrl.run.rescue import save_batch
from frugalrl.run.status import Header, Reporter, Status
from frugalrl.run.stop import Interrupt, Used, in_words, interruptible, reason_to_stop, share_done
from frugalrl.run.window import Window
from frugalrl.types import Cost, NonFiniteLoss, RunFailed, StateDict

_EVALUATION_SHARE = 0.2


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


def train(
    config: RunConfig,
    folder: Path,
    reporter: Reporter,
    *,
    command: Sequence[str] = (),
    tables: Tables | None = None,
    whole_process: bool = False,
) -> Outcome:
    """Start a run in a new folder. ``whole_process``: the process does nothing else, so its start-up is on the bill.

    Raises UserError for what cannot be started and RunFailed for what cannot go on.
    """
    run = Run(config, reporter, tables=tables, whole_process=whole_process)
    run.open(RunFolder.create(folder, config, run.machine_document(command)))
    return run.play(resumed_at=None)


def resume(
    folder: Path,
    reporter: Reporter,
    *,
    command: Sequence[str] = (),
    budget: BudgetConfig | None = None,
    tables: Tables | None = None,
    whole_process: bool = False,
) -> Outcome:
    """Go on from the newest checkpoint that is whole; ``budget`` replaces the run's own."""
    record = RunFolder.open(folder)
    config = record.config()
    if budget is not None:
        config = replace(config, budget=budget)
    run = Run(config, reporter, tables=tables, whole_process=whole_process)
    run.open(record)
    step = run.restore()
    if budget is not None:
        write_json(folder / "config.json", to_dict(config))
    record.log("resume", env_steps=step, command=list(command))
    return run.play(resumed_at=step)


class Run:
    """The parts of a run and the readers of its loop."""

    def __init__(self, config: RunConfig, reporter: Reporter, *, tables: Tables | None, whole_process: bool) -> None:
        self._tables = load_tables() if tables is None else tables
        self._machine = detect_machine(self._tables, config.machine)
        self._ledger = Ledger(whole_process=whole_process, energy=EnergyCounters())
        self._config = config
        self._reporter = reporter
        self._timer = LapTimer()
        self._timer.start()
        self._ledger.follow(self._timer)
        self._parts = parts = assemble(config, self._timer)
        self._ledger.follow(NativeThreads("environment", parts.env.thread_ids))
        self._spec = parts.env.spec
        self._counters = Counters()
        self._evaluator = Evaluator(config, self._spec, network_builder(config, self._spec), parts.device)
        self._window = Window()
        now = self._ledger.sessions[-1]
        # clocks of this process as the ledger counts them, cheap enough to be read after every block
        self._cpu_before, self._wall_before = now.cpu_s - time.process_time(), now.wall_s - time.monotonic()
        self._session = 0
        if config.budget.eur is not None:
            cost_so_far_eur(self._ledger, self._machine, self._tables)  # a machine without a price is refused now

    def machine_document(self, command: Sequence[str]) -> StateDict:
        """What machine.json holds."""
        bill = make_bill(self._ledger, self._machine, self._tables)
        return {"command": list(command), "code": code_version(), "machine": dict(bill.machine)}

    def open(self, record: RunFolder) -> None:
        """Take over a run folder."""
        self._record = record
        self._checkpoints = Checkpoints(record.checkpoints, self._config.checkpoint.keep)
        self._progress = record.progress()

    # -- playing ----------------------------------------------------------------------------------------------------

    def play(self, *, resumed_at: int | None) -> Outcome:
        """Run to the end of the budget, a target or a signal."""
        self._reporter.start(self._header(resumed_at))
        try:
            with interruptible() as interrupt:
                self._save()
                self._timer.lap("startup")
                reason = self._loop(interrupt)
                self._save()
            return self._finish(reason, completed=not interrupt)
        except NonFiniteLoss as error:
            path = save_batch(self._record.path, error.replayed)
            self._save()
            self._finish(str(error), completed=False)
            raise RunFailed(
                f"{error}; the batch is in {path}, the weights before it are in the checkpoint; "
                f"lower agent.learning_rate or set agent.max_grad_norm"
            ) from error
        finally:
            self._reporter.close()
            self._progress.close()
            self._parts.sampler.close()

    def _loop(self, interrupt: Interrupt) -> str:
        parts, config = self._parts, self._config
        events = serial(
            parts.sampler,
            parts.learner,
            parts.replay,
            config.schedule,
            self._counters,
            num_rows=config.env.rows,
            batch_size=config.agent.batch_size,
            row_bytes=bytes_min_replay_row(self._spec),
            batch_bytes=bytes_min_replay_sample(self._spec, config.agent.batch_size, n_step=config.replay.n_step),
            timer=self._timer,
        )
        saved_at = time.monotonic()
        while True:
            reason = self._reason(interrupt)
            if reason is not None:
                return reason
            self._read(next(events))
            if self._evaluator.due(self._counters.env_steps):
                self._evaluate(interrupt)
            if self._window.age_s >= self._reporter.interval_s:
                self._report("training" if self._counters.updates else "filling the replay")
            if time.monotonic() - saved_at >= config.checkpoint.every_s:
                self._save()
                saved_at = time.monotonic()

    def _reason(self, interrupt: Interrupt) -> str | None:
        """Why to stop now; before the end of a budget the last policy gets its score."""
        if interrupt:
            return f"interrupted by {interrupt.name}"
        reason = reason_to_stop(self._config.budget, self._used())
        if reason is not None and self._evaluator.last_step != self._counters.env_steps:
            self._evaluate(interrupt)
            if interrupt:
                return f"interrupted by {interrupt.name}"
        return reason

    def _read(self, event: Event) -> None:
        """Book one block."""
        ledger, collected = self._ledger, event.collected
        for costs in event.costs:
            ledger.charge_all(costs)
        ledger.count(
            agent_steps=collected.env_steps,
            frames=collected.env_steps * self._spec.frames_per_step,
            updates=len(event.updated),
            episodes=len(collected.episodes),
            invalid_rows=collected.data.last.size - collected.env_steps,
        )
        self._window.add(event)
        self._write_progress()
        self._timer.lap("reporting")

    def _write_progress(self) -> None:
        cpu_s, wall_s = time.process_time() + self._cpu_before, time.monotonic() + self._wall_before
        counters = self._counters
        self._progress.write(Done(self._session, counters.env_steps, counters.updates, cpu_s, wall_s))

    def _evaluate(self, interrupt: Interrupt) -> None:
        steps = self._counters.env_steps
        self._report("evaluating")
        score, cost = self._evaluator.run(self._parts.learner.snapshot(), steps, stop=lambda: bool(interrupt))
        self._ledger.charge("evaluation", cost)
        self._timer.lap("evaluation")
        if score is None:
            return
        used = self._ledger.usage()
        self._record.log("evaluation", env_steps=steps, cpu_s=used.cpu_s, wall_s=used.wall_s, score=score_to_json(score))
        self._reporter.score(steps, score)
        self._warn_of_costly_evaluation(used.cpu_s)
        self._timer.lap("reporting")

    def _warn_of_costly_evaluation(self, cpu_s: float) -> None:
        self._ledger.settle()
        spent = self._ledger.charged()["evaluation"].cpu_s or 0.0
        if spent > _EVALUATION_SHARE * cpu_s:
            self._reporter.note(
                f"evaluation takes {spent / cpu_s:.0%} of the CPU; "
                f"raise evaluation.every_env_steps={self._config.evaluation.every_env_steps} or "
                f"lower evaluation.episodes={self._evaluator.episodes}"
            )

    def _used(self) -> Used:
        budget = self._config.budget
        return Used(
            env_steps=self._counters.env_steps,
            wall_s=self._ledger.wall_s(),
            eur=None if budget.eur is None else cost_so_far_eur(self._ledger, self._machine, self._tables),
            score=None if self._evaluator.last is None else self._evaluator.last.mean_return,
        )

    # -- telling ----------------------------------------------------------------------------------------------------

    def _header(self, resumed_at: int | None) -> Header:
        config = self._config
        return Header(
            env=config.env.id,
            protocol=config.env.protocol,
            recipe=config.recipe,
            explorer=config.explore.name,
            sampler="inline",
            seed=config.seed,
            threads=config.threads,
            device=self._parts.device.type,
            folder=str(self._record.path),
            budget=in_words(config.budget),
            resumed_at=resumed_at,
        )

    def _report(self, phase: str) -> None:
        self._ledger.settle()
        speed, metrics, shares = self._window.close(self._ledger)
        used, counts, evaluator = self._ledger.usage(), self._ledger.counts, self._evaluator
        price = self._machine.price
        done = share_done(self._config.budget, self._used())
        flop = sum(c.flop for c in self._ledger.charged().values() if c.flop is not None)
        status = Status(
            phase=phase,
            env_steps=counts.agent_steps,
            frames=counts.frames,
            updates=counts.updates,
            episodes=counts.episodes,
            wall_s=used.wall_s,
            steps_per_s=speed or None,
            done=done,
            eta_s=used.wall_s * (1 - done) / done if done else None,
            score=evaluator.last,
            score_step=evaluator.last_step,
            behaviour_return=self._window.behaviour_return(),
            epsilon=self._parts.sampler.epsilon(),
            metrics=metrics,
            shares=shares,
            memory_bytes=self._window.memory_bytes(),
            cpu_s=used.cpu_s,
            flop=flop,
            eur=None if price is None else cost_so_far_eur(self._ledger, self._machine, self._tables),
        )
        self._reporter.status(status)
        self._record.log(
            "progress",
            env_steps=status.env_steps,
            updates=status.updates,
            wall_s=status.wall_s,
            cpu_s=status.cpu_s,
            flop=status.flop,
            behaviour_return=status.behaviour_return,
            epsilon=status.epsilon,
            steps_per_s=status.steps_per_s,
            **metrics,
        )
        self._timer.lap("reporting")

    def _finish(self, reason: str, *, completed: bool) -> Outcome:
        score, steps = self._evaluator.last, self._counters.env_steps
        rows = []
        if score is not None:
            source = f"evaluation at step {self._evaluator.last_step}, protocol {score.protocol}"
            rows = [score_row("mean_return", score.mean_return, unit="return", source=source, interval=score.interval)]
        header = self._header(None)
        about = {k: str(getattr(header, k)) for k in ("env", "protocol", "recipe", "explorer", "sampler", "seed")}
        bill = make_bill(self._ledger, self._machine, self._tables, rows, about=about)
        write_json(self._record.path / "bill.json", to_json(bill))
        self._record.log("end", env_steps=steps, reason=reason, completed=completed)
        return Outcome(reason, completed, score, steps, self._record.path, bill)

    # -- saving and coming back -------------------------------------------------------------------------------------

    def _save(self) -> None:
        self._write_progress()
        state: StateDict = {
            "learner": self._parts.learner.state_dict(),
            "sampler": self._parts.sampler.state_dict(),
            "replay": self._parts.replay.state_dict(),
            "counters": {"env_steps": self._counters.env_steps, "updates": self._counters.updates},
            "evaluator": self._evaluator.state_dict(),
            "ledger": self._ledger.state_dict(),
        }
        self._checkpoints.save(self._counters.env_steps, state, self._parts.replay)
        self._timer.lap("checkpoint")

    def restore(self) -> int:
        """Bring everything back to the newest whole checkpoint; returns its agent step."""
        loaded = self._checkpoints.load(self._parts.replay)
        state = loaded.state
        for sentence in loaded.damaged:
            self._reporter.note(sentence)
        self._checkpoints.set_aside_after(loaded)
        self._parts.replay.load_state_dict(state["replay"])
        self._parts.learner.load_state_dict(state["learner"])
        self._evaluator.load_state_dict(state["evaluator"])
        self._counters.env_steps = state["counters"]["env_steps"]
        self._counters.updates = state["counters"]["updates"]
        not_restored = self._parts.sampler.load_state_dict(state["sampler"])
        if not_restored:
            rows = ", ".join(map(str, not_restored))
            self._reporter.note(
                f"environment rows {rows} could not be brought back (replaying their actions gave another "
                f"observation) and start a new episode: this run is no longer exact"
            )
            self._record.log("not_restored", env_steps=loaded.step, rows=list(not_restored))
        self._ledger.load_state_dict(state["ledger"])
        self._book_lost(loaded)
        self._session = len(self._ledger.sessions) - 1
        return loaded.step

    def _book_lost(self, loaded: Loaded) -> None:
        """Work that the dead process did after the checkpoint is done again; it stands on its own line."""
        done = self._progress.read()
        later = copy.deepcopy(loaded.state["ledger"])
        sessions = later["sessions"]
        before = sessions.get(str(done.session), {"cpu_s": 0.0, "wall_s": 0.0})
        lost_steps = max(0, done.env_steps - loaded.step)
        lost = Cost(cpu_s=max(0.0, done.cpu_s - before["cpu_s"]), busy_s=max(0.0, done.wall_s - before["wall_s"]))
        if lost_steps == 0 and not lost.cpu_s:
            return
        sessions[str(done.session)] = {**before, "cpu_s": before["cpu_s"] + (lost.cpu_s or 0.0),
                                       "wall_s": before["wall_s"] + (lost.busy_s or 0.0)}  # fmt: skip
        learner = later["roles"].setdefault("learner", {})
        learner["cpu_s"] = (learner.get("cpu_s") or 0.0) + (lost.cpu_s or 0.0)
        learner["busy_s"] = (learner.get("busy_s") or 0.0) + (lost.busy_s or 0.0)
        later["counts"]["agent_steps"] += lost_steps
        later["counts"]["frames"] += lost_steps * self._spec.frames_per_step
        later["counts"]["updates"] += max(0, done.updates - self._counters.updates)
        self._ledger.book_lost(later)
        if lost_steps:
            self._reporter.note(
                f"the run died at step {done.env_steps:,}; it goes on from the checkpoint at step {loaded.step:,}, "
                f"and {lost_steps:,} steps are done again (line 'redone' of the bill)"
            )
