"""Plain lines without control codes, for pipes, files and logs; and the quiet reporter."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

from frugalrl.cli.errors import forget_stdout
from frugalrl.cli.words import duration, euros, first_line, interval, score_in_words, second_line, short

if TYPE_CHECKING:
    from frugalrl.cost.stages import Stages
    from frugalrl.run.evaluate import Score
    from frugalrl.run.status import Header, Status


SHOWN = ("loss", "entropy", "td_mean", "td_abs", "q_mean", "support_clipped", "lag_mean", "batch_rows", "queue_ms_p95")
"""Metrics with a place on a line; ``metrics.jsonl`` has all."""


class Outlet:
    """What is shown of a run or a study, for as long as it can be: hours of training are worth more than a reader who
    left, a terminal that is gone or the full disk of a log."""

    def __init__(self, what: str, folder: str = "", *, stream: TextIO | None = None) -> None:
        """``stream``: where it is written; None: stdout."""
        self.folder = folder
        self._what, self._stream, self._open = what, stream, True

    def show(self, draw: Callable[[], object]) -> None:
        """Write or draw something; the first time that this fails is the last."""
        if not self._open:
            return
        try:
            draw()
        except OSError as error:
            self._open = False
            if self._stream in (None, sys.stdout):
                forget_stdout()
                self._say(error)

    def _say(self, error: OSError) -> None:
        gone = isinstance(error, BrokenPipeError)
        why = "nobody reads stdout any more" if gone else f"stdout: {error.strerror or error}"
        with suppress(OSError):
            print(f"frugal: {why}; the {self._what} goes on in {self.folder}", file=sys.stderr)


class Plain:
    """A line every ten seconds, one after each evaluation, one for each note."""

    interval_s = 10.0

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._outlet = Outlet("run", stream=stream)
        self._early: list[str] | None = []
        """Notes made before the start: the first line comes first."""

    def start(self, header: Header) -> None:
        self._begin(header, second_line(header))

    def status(self, status: Status) -> None:
        self._write(status_line(status))

    def score(self, env_steps: int, score: Score) -> None:
        self._write(f"score at step {env_steps:,}: {score_in_words(score)}")

    def note(self, text: str) -> None:
        if self._early is not None:
            self._early.append(text)
        else:
            self._write(f"note: {text}")

    def close(self) -> None:
        self._say_early()  # the run did not even start

    def _begin(self, header: Header, *more: str) -> None:
        self._outlet.folder = header.folder
        for line in (first_line(header), *more):
            self._write(line)
        self._say_early()

    def _say_early(self) -> None:
        early, self._early = self._early, None
        for text in early or ():
            self.note(text)

    def _write(self, line: str) -> None:
        self._outlet.show(lambda: print(line, file=self._stream, flush=True))


class Quiet(Plain):
    """The first line and what must be read."""

    interval_s = 60.0

    def start(self, header: Header) -> None:
        self._begin(header)

    def status(self, status: Status) -> None: ...

    def score(self, env_steps: int, score: Score) -> None: ...


def waiting(stages: Stages) -> str:
    """Who stood still, as shares of the wall time; restarts only if there were any."""
    wall = max(stages.wall_s, 1e-9)
    shares = (stages.blocked_s, stages.starved_s, stages.learner_waited_s)
    full, none, learner = (f"{100 * seconds / wall:.0f} %" for seconds in shares)
    again = f", restarts {stages.restarts}" if stages.restarts else ""
    return f"waits: engine {full} queue full, {none} no request, learner {learner}{again}"


def status_line(status: Status) -> str:
    """One line that says where a run is."""
    parts = [f"step {status.env_steps:,}"]
    if status.done is not None:
        parts.append(f"{100 * status.done:.0f} %")
    parts.append(status.phase)
    if status.score is not None:
        at = "" if status.score_step is None else f" at {status.score_step:,}"
        parts.append(f"score {' '.join((short(status.score.mean_return), interval(status.score))).rstrip()}{at}")
    if status.behaviour_return is not None:
        parts.append(f"behaviour return {short(status.behaviour_return)} (not the score)")
    if status.steps_per_s is not None:
        parts.append(f"{short(status.steps_per_s)} steps/s")
    if status.eta_s is not None:
        parts.append(f"ETA {duration(status.eta_s)}")
    if status.epsilon is not None:
        parts.append(f"epsilon {short(status.epsilon)}")
    parts += [f"{name.replace('_', ' ')} {short(status.metrics[name])}" for name in SHOWN if name in status.metrics]
    if status.stages is not None:
        parts.append(waiting(status.stages))
    parts.append(f"CPU {duration(status.cpu_s)}")
    if status.eur is not None:
        parts.append(euros(status.eur))
    return " | ".join(parts)
