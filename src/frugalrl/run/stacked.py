"""Many seeds of one method in one process: each ends like its own run, for a fraction of the cost.

Statistics over seeds cost as many runs as there are seeds. For small networks most of such a run is not arithmetic but
the calls around it, and those are shared here. Seeds never mix: see docs/stacked.md for what is shared and what is not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from frugalrl.cost.power import EnergyCounters
from frugalrl.cost.share import SharedClocks
from frugalrl.cost.tables import Tables
from frugalrl.run import tell
from frugalrl.run.config import RunConfig
from frugalrl.run.config_io import checked
from frugalrl.run.record import RunFolder, code_version, refuse_used
from frugalrl.run.stackable import check_same, why_not_stacked
from frugalrl.run.stacked_loop import StackedLoop
from frugalrl.run.stacked_seed import SeedRun, Voice
from frugalrl.run.status import Reporter, Silent
from frugalrl.run.stop import Interrupt, interruptible
from frugalrl.run.torch_state import own_torch_state
from frugalrl.run.train import Outcome
from frugalrl.types import RunFailed, UserError

__all__ = ["resume_stacked", "train_stacked", "why_not_stacked"]


@own_torch_state()
def train_stacked(
    configs: Sequence[RunConfig],
    folders: Sequence[Path | str],
    *,
    reporter: Reporter | None = None,
    command: Sequence[str] = (),
    tables: Tables | None = None,
    whole_process: bool = False,
) -> list[Outcome | RunFailed]:
    """Train seeds that differ in nothing but ``seed``, each into a run folder of its own.

    Args:
        configs: one per seed.
        folders: where each run goes, in the same order; new or empty.
        reporter: hears the statuses of the first seed, and the scores and notes of all.
        command: for machine.json.
        tables: prices and machines; those of the package when None.
        whole_process: the process does nothing else, so its start-up is on the bills, divided.

    Returns:
        One answer per seed: how it ended, or the RunFailed that its own run would have raised. A failed seed does not
        stop the others.

    Raises:
        UserError: the configurations differ, cannot be stacked, a folder is used, or another thread is in a run.
    """
    configs = [checked(RunConfig, config) for config in configs]
    check_same(configs)
    if len(folders) != len(configs):
        raise UserError(f"{len(configs)} seeds need as many run folders, but got {len(folders)}")
    paths = [Path(folder) for folder in folders]
    for path in paths:
        refuse_used(path)
    places = [path.absolute() for path in paths]
    stack = _Stack(configs, reporter or Silent(), tables=tables, whole_process=whole_process)
    try:
        for run, place, path, config in zip(stack.runs, places, paths, configs, strict=True):
            run.open(RunFolder.create(place, config, run.machine_document(command), shown=path))
        return stack.play([None] * len(configs))
    finally:
        stack.close()


@own_torch_state()
def resume_stacked(
    folders: Sequence[Path | str],
    *,
    reporter: Reporter | None = None,
    command: Sequence[str] = (),
    tables: Tables | None = None,
    whole_process: bool = False,
) -> list[Outcome | RunFailed]:
    """Go on with seeds of one method from their newest whole checkpoints, wherever each of them stands.

    They need not have been stacked before. Arguments, answers and errors as in ``train_stacked``.
    """
    records = [RunFolder.open(Path(folder)) for folder in folders]
    configs = [record.config() for record in records]
    check_same(configs)
    stack = _Stack(configs, reporter or Silent(), tables=tables, whole_process=whole_process)
    try:
        steps: list[int | None] = []
        for run, record in zip(stack.runs, records, strict=True):
            run.open(record)
            steps.append(stack.restore(run))
            if steps[-1] is None:  # its checkpoints cannot be used; the others go on
                continue
            if record.begun_with() not in (None, code_version()["source_sha256"]):
                run.note("the code has changed since this run began, so it may not end like an uninterrupted run")
            at = {"env_steps": steps[-1], "evaluated": run.evaluated_at or 0}
            record.log("resume", **at, stack=stack.name, command=list(command), **run.moved())
        return stack.play(steps)
    finally:
        stack.close()


class _Stack:
    """The runs, the loop that they share, and how each of them ended."""

    def __init__(
        self, configs: Sequence[RunConfig], reporter: Reporter, *, tables: Tables | None, whole_process: bool
    ) -> None:
        self._reporter = reporter
        self.runs: list[SeedRun] = []
        clocks = SharedClocks(len(configs), whole_process=whole_process, energy=EnergyCounters())
        self._timer, self.name = clocks.timer, clocks.name
        self._ends: dict[int, Outcome | RunFailed] = {}
        try:
            for config in configs:
                voice = Voice(reporter, config.seed, leads=not self.runs)
                self.runs.append(SeedRun(config, voice, clocks, tables=tables))
                why = why_not_stacked(config, self.runs[-1].spec)
                if why is not None:
                    raise UserError(f"these seeds cannot be stacked: {why}; train them one by one")
        except BaseException:
            self.close()
            raise
        self._live = list(self.runs)
        self._every_s = configs[0].checkpoint.every_s

    def close(self) -> None:
        """Free what is left."""
        for run in self.runs:
            run.close()
        self._reporter.close()

    def restore(self, run: SeedRun) -> int | None:
        """Agent step of its newest whole checkpoint; None where there is none, so that this seed has failed."""
        try:
            return run.restore()
        except RunFailed as error:
            self._ends[run.config.seed] = error
            run.leave()
            return None

    def play(self, resumed_at: Sequence[int | None]) -> list[Outcome | RunFailed]:
        """Run every seed to the end of its budget, to its failure or to a signal."""
        with interruptible() as interrupt:
            for run, step in zip(self.runs, resumed_at, strict=True):
                self._try(run, SeedRun.begin, step)
            self._live = self._still_live()
            for caution in tell.memory_cautions(sum(run.parts.replay.nbytes for run in self._live)):
                self._reporter.note(caution)
            if self._live:
                self._loop = StackedLoop(self._live, self._timer)
            for run in self._live:  # a process before may have been interrupted while it evaluated
                self._try(run, SeedRun.evaluate_if_due, interrupt)
            saved_at = time.monotonic()
            while self._let_go(interrupt):
                for run, event in zip(self._live, self._loop.round(), strict=True):
                    self._try(run, SeedRun.read, event)
                for run in self._still_live():
                    self._try(run, SeedRun.evaluate_if_due, interrupt)
                    self._try(run, SeedRun.report_if_due)
                if time.monotonic() - saved_at >= self._every_s:
                    for run in self._still_live():
                        self._try(run, SeedRun.save)
                    saved_at = time.monotonic()
        return [self._ends[run.config.seed] for run in self.runs]

    def _let_go(self, interrupt: Interrupt) -> bool:
        """Finish the seeds whose budget is used and part from those that have ended; whether any goes on."""
        for run in self._still_live():
            self._try(run, self._stop_if_due, interrupt)
        still = self._still_live()
        ended = [run for run in self._live if run not in still]
        if ended:
            self._loop.drop(ended)
            self._live = still
        return bool(still)

    def _stop_if_due(self, run: SeedRun, interrupt: Interrupt) -> None:
        reason = run.reason(interrupt)
        if reason is not None:
            self._ends[run.config.seed] = run.finish(reason, completed=not interrupt)
            run.leave()

    def _still_live(self) -> list[SeedRun]:
        return [run for run in self._live if run.config.seed not in self._ends]

    def _try(self, run: SeedRun, work: Callable[..., None], *args: Any) -> None:
        """Do something for one seed; if that fails, the seed has failed and the others go on."""
        if run.config.seed in self._ends:
            return
        try:
            work(run, *args)
        except (RunFailed, FloatingPointError) as error:
            try:
                self._ends[run.config.seed] = run.fail(error)
            except RunFailed as worse:  # nothing can be kept either
                self._ends[run.config.seed] = worse
            run.leave()
