"""What ``frugal compare`` shows while it runs: a matrix on a terminal, plain lines in a pipe."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from frugalrl.cli.plain import Outlet
from frugalrl.cli.words import duration, short
from frugalrl.report.numbers import count

if TYPE_CHECKING:
    from frugalrl.study.folder import StudyFolder
    from frugalrl.study.runner import Progressing, View

_DIM = "bright_black"
_BAR = 20


def headline(folder: StudyFolder, view: View) -> str:
    """What is compared, in one line."""
    study = folder.study
    axes = (("method", study.methods), ("environment", study.envs), ("seed", study.seeds))
    size = " x ".join(count(len(values), what) for what, values in axes)
    steps = {cell.config.budget.env_steps for cell in folder.cells}
    (same,) = steps if len(steps) == 1 else (None,)
    budget = "budgets of the methods" if same is None else f"{same:,} steps each"
    before = f" | {view.before} of {len(folder.cells)} runs were done before" if view.before else ""
    at_a_time = f"{view.processes} process{'' if view.processes == 1 else 'es'}"
    return f"{size} = {len(folder.cells)} runs | {budget} | {at_a_time} | folder {folder.path}{before}"


def ended_line(p: Progressing, reason: str) -> str:
    """One line for a cell that ended."""
    score = "not evaluated" if p.score is None else f"score {short(p.score)}"
    took = "" if p.wall_s is None else f" | {duration(p.wall_s)}"
    what = f"{p.ended}: {p.cell.key} | {score}{took}"
    return what if p.ended == "completed" else f"{what} | {reason}"


def summary_line(folder: StudyFolder, view: View) -> str:
    """How far the whole study is."""
    done = view.before + sum(p.ended == "completed" for p in view.cells.values())
    failed = sum(p.ended == "failed" for p in view.cells.values())
    running = sum(p.began is not None and p.ended is None for p in view.cells.values())
    eta = view.eta_s()
    parts = [f"{done} of {len(folder.cells)} runs done", f"{running} running"]
    parts += [f"{failed} failed"] if failed else []
    parts.append(f"{duration(time.monotonic() - view.began)} so far")
    parts += [] if eta is None or not running else [f"ETA {duration(eta)}"]
    return " | ".join(parts)


class Lines:
    """A line for each run that ends, and one about the whole every half minute."""

    def __init__(self, stream: TextIO, folder: StudyFolder, *, quiet: bool = False) -> None:
        self._stream, self._folder, self._quiet = stream, folder, quiet
        self.interval_s = 30.0
        self._begun = False
        self._outlet = Outlet("study", str(folder.path), stream=stream)

    def show(self, view: View) -> None:
        if self._quiet:
            return
        if not self._begun:
            self._begun = True
            self._write(headline(self._folder, view))
            return
        self._write(summary_line(self._folder, view))

    def ended(self, progressing: Progressing, reason: str) -> None:
        if not self._quiet or progressing.ended == "failed":
            self._write(ended_line(progressing, reason))

    def note(self, text: str) -> None:
        self._write(f"note: {text}")

    def close(self) -> None: ...

    def _write(self, line: str) -> None:
        # an error here would cost all runs what they did since their last checkpoint
        self._outlet.show(lambda: print(line, file=self._stream, flush=True))


class MatrixScreen:
    """A row per environment and method, redrawn every second; failures scroll by above it.

    The score is the mean over seeds of their newest evaluations, which are at different steps until all have ended.
    """

    interval_s = 1.0

    def __init__(self, console: Console, folder: StudyFolder) -> None:
        self._console, self._folder = console, folder
        self._live = Live(console=console, auto_refresh=False, vertical_overflow="crop")
        self._outlet = Outlet("study", str(folder.path))
        self._on = False
        self._before: dict[str, float] = {}
        """Final scores of cells that an earlier session has finished."""

    def show(self, view: View) -> None:
        if not self._on:
            self._on = True
            self.look_back(view)
            self._print(headline(self._folder, view), "bold")
            self._outlet.show(self._live.start)
        shown = self.render(view)
        self._outlet.show(lambda: self._live.update(shown, refresh=True))

    def ended(self, progressing: Progressing, reason: str) -> None:
        if progressing.ended == "failed":
            self._print(ended_line(progressing, reason), "red")

    def note(self, text: str) -> None:
        self._print(f"note: {text}", "yellow")

    def close(self) -> None:
        if self._on:
            self._on = False
            self._outlet.show(self._live.stop)

    def _print(self, line: str, style: str) -> None:
        self._outlet.show(lambda: self._console.print(line, style=style, highlight=False, markup=False))

    def look_back(self, view: View) -> None:
        """Read what was there before; once, as it does not change."""
        for c in self._folder.cells:
            if c.key not in view.cells and self._folder.finished(c):
                score = self._folder.final_score(c)
                self._before |= {} if score is None else {c.key: score}

    def render(self, view: View) -> RenderableType:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for name in ("environment", "method", "seeds", "", "score", ""):
            table.add_column(name, justify="right" if name in ("seeds", "score") else "left", header_style=_DIM)
        for env in self._folder.study.envs:
            for method in self._folder.study.methods:
                cells = [c for c in self._folder.cells if c.env == env and c.method == method.name]
                mine = [view.cells[c.key] for c in cells if c.key in view.cells]
                before = len(cells) - len(mine)
                done = before + sum(p.ended == "completed" for p in mine)
                share = (before + sum(p.done for p in mine)) / len(cells)
                scores = [p.score for p in mine if p.score is not None]
                scores += [self._before[c.key] for c in cells if c.key in self._before]
                failed = sum(p.ended == "failed" for p in mine)
                mean = "none yet" if not scores else short(sum(scores) / len(scores))
                trouble = Text(f"{failed} failed" if failed else "", style="red")
                table.add_row(Text(env), Text(method.name), f"{done}/{len(cells)}", _bar(share), mean, trouble)
        return Group(table, Text(summary_line(self._folder, view), style=_DIM))


def _bar(share: float) -> Text:
    full = round(min(1.0, share) * _BAR)
    return Text.assemble(("━" * full, "green"), ("─" * (_BAR - full), _DIM), f" {100 * share:3.0f} %")
