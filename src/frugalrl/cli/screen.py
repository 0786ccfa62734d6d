"""The live screen: score, speed, where the time goes, what was learned, the bill so far.

Whole on 80x24. A low terminal shows fewer panels, the lowest left out first, and always the progress; a narrow one
shows them below each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.box import ROUNDED
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from frugalrl.cli.plain import Outlet
from frugalrl.cli.stage_panel import STAGES_TITLE, central, stage_lines
from frugalrl.cli.widgets import DIM, bar, columns, facts
from frugalrl.cli.words import count, duration, episodes, euros, first_line, interval, second_line, short
from frugalrl.cost.show import figure
from frugalrl.types import ROLES

if TYPE_CHECKING:
    from frugalrl.run.evaluate import Score
    from frugalrl.run.status import Header, Status

MAX_WIDTH = 120
TWO_COLUMNS = 76
"""Cells from which panels stand beside each other: with fewer, their figures would not fit."""
BARS = 7
PROGRESS = 2
"""Lines of the progress."""
ALWAYS = ("environment", "inference", "learner", "replay", "waiting")
"""Roles with a bar of their own, however short: what a user can change is in them."""
_COLOURS = {
    "environment": "green",
    "inference": "cyan",
    "learner": "blue",
    "target": "bright_blue",
    "replay": "magenta",
    "evaluation": "yellow",
    "waiting": "bright_black",
    "checkpoint": "red",
}
_SPARKS = "▁▂▃▄▅▆▇█"


class Screen:
    """A panel that is redrawn every second or two; notes scroll by above it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, vertical_overflow="crop")
        self._scores: list[float] = []
        self._last: Status | None = None
        self._seconds: dict[str, float] = {}
        self._speed: float | None = None
        self._budget = ""
        self._outlet = Outlet("run")
        self._on = False
        self._early: list[str] | None = []
        """Notes made before the start: the first line comes first."""

    @property
    def interval_s(self) -> float:
        """One second at first, then two: drawing takes about 7 ms of CPU and goes on the bill."""
        return 1.0 if self._last is None or self._last.wall_s < 60 else 2.0

    def start(self, header: Header) -> None:
        self._budget, self._outlet.folder = header.budget, header.folder
        self._print(first_line(header), "bold")
        self._print(second_line(header), DIM)
        self._say_early()
        self._outlet.show(self._live.start)
        self._on = True

    def status(self, status: Status) -> None:
        self._follow(status)
        self._last = status
        self._draw()

    def score(self, env_steps: int, score: Score) -> None:
        self._scores.append(score.mean_return)
        self._draw()

    def note(self, text: str) -> None:
        if self._early is not None:
            self._early.append(text)
            return
        self._print(f"note: {text}", "yellow")

    def close(self) -> None:
        self._say_early()  # the run did not even start
        if self._on:
            self._on = False
            self._outlet.show(self._live.stop)

    def _say_early(self) -> None:
        early, self._early = self._early, None
        for text in early or ():
            self.note(text)

    def _draw(self) -> None:
        if self._last is not None and self._on:
            panel = self.render(self._last)
            self._outlet.show(lambda: self._live.update(panel, refresh=True))

    def _print(self, line: str, style: str) -> None:
        self._outlet.show(lambda: self._console.print(line, style=style, highlight=False, markup=False))

    def _follow(self, status: Status) -> None:
        """Add up seconds by role, so that bars show the session and do not jump; smooth the speed."""
        before = self._last.wall_s if self._last is not None else status.wall_s - self.interval_s
        passed = max(0.0, status.wall_s - before)
        for role, share in status.shares.items():
            self._seconds[role] = self._seconds.get(role, 0.0) + share * passed
        if status.steps_per_s is not None and status.phase != "evaluating":
            old = self._speed
            self._speed = status.steps_per_s if old is None else 0.8 * old + 0.2 * status.steps_per_s

    # -- drawing ------------------------------------------------------------------------------------------------------

    def render(self, status: Status) -> RenderableType:
        """The panels that the height leaves room for, the lowest left out first, and always the progress below them."""
        width = min(self._console.width, MAX_WIDTH)
        blocks = self._beside(status, width) if width >= TWO_COLUMNS else self._stacked(status, width)
        left = self._console.height - PROGRESS
        shown: list[RenderableType] = []
        for height, block in blocks:
            left -= height
            if left < 0:
                break
            shown.append(block)
        return Group(*shown, self._progress(status, width))

    def _beside(self, status: Status, width: int) -> list[tuple[int, RenderableType]]:
        """(height, block): two rows of two panels, 18 lines with the progress."""
        half = width // 2
        upper, lower = Table.grid(padding=0), Table.grid(padding=0)
        for grid in (upper, lower):
            grid.add_column(width=half)
            grid.add_column(width=width - half)
        upper.add_row(
            _panel("score", self._score_lines(status, half - 4, room=7), 9), self._where(status, width - half - 4)
        )
        lower.add_row(self._learned(status), _panel("the bill so far", _bill(status), 7))
        return [(9, upper), (7, lower)]

    def _stacked(self, status: Status, width: int) -> list[tuple[int, RenderableType]]:
        """(height, block): all panels below each other; the first three and the progress fit 24 lines."""
        return [
            (7, _panel("score", self._score_lines(status, width - 4, room=5), 7)),
            (7, _panel("the bill so far", _bill(status), 7)),
            (7, self._learned(status)),
            (9, self._where(status, width - 4)),
        ]

    def _learned(self, status: Status) -> Panel:
        learning = _learning(status, self._speed) if status.stages is None else central(status, self._speed)
        return _panel("learning", learning, 7)

    def _where(self, status: Status, width: int) -> Panel:
        if status.stages is None:
            return _panel("where the time goes", _bars(self._seconds, width), 9)
        return _panel(STAGES_TITLE, stage_lines(status.stages, width), 9)

    def _score_lines(self, status: Status, width: int, room: int) -> RenderableType:
        """At most ``room`` lines: the score, from what it is (which may take two), its course, and what it is not."""
        lines: list[Text] = []
        score = status.score
        if score is None:
            lines += [Text("not evaluated yet", style=DIM), Text(), Text()]
        else:
            value = Text(short(score.mean_return), style="bold green")
            value.append(f"  {interval(score)}" if score.interval is not None else "", style="green")
            at = "" if status.score_step is None else f"step {status.score_step:,}, "
            about = f"{at}{episodes(score)}, {score.protocol}".split(", ")
            wraps = sum(map(len, about)) + 2 * len(about) - 2 > width and room > 5
            told = [", ".join(about[:-1]) + ",", about[-1]] if wraps else [", ".join(about)]
            lines += [value, *(Text(part, overflow="ellipsis", no_wrap=True) for part in told)]
            lines.append(_spark(self._scores, width))
        behaviour = "none yet" if status.behaviour_return is None else short(status.behaviour_return)
        if len(lines) + 2 < room:
            lines.append(Text())
        lines.append(Text.assemble("behaviour return ", (behaviour, "bold")))
        lines.append(Text("it explores: not the score", style=DIM))
        return Group(*lines)

    def _progress(self, status: Status, width: int) -> RenderableType:
        left = Text(f" {status.phase} ", style="bold")
        words = [f"budget {self._budget}"]
        if status.eta_s is not None:
            words.append(f"ETA {duration(status.eta_s)}")
        below = Text(f" {'  |  '.join(words)}", style=DIM, overflow="ellipsis", no_wrap=True)
        if status.done is None:
            return Group(left, below)
        right = Text(f" {100 * status.done:3.0f} % ", style="bold")
        line = bar(status.done, width - left.cell_len - right.cell_len, "green")
        return Group(Text.assemble(left, line, right, no_wrap=True), below)


def _panel(title: str, body: RenderableType, height: int) -> Panel:
    return Panel(body, title=title, title_align="left", box=ROUNDED, border_style=DIM, height=height, padding=(0, 1))


def _spark(values: list[float], width: int) -> Text:
    """The scores so far, lowest to highest; the scale is their own."""
    shown = values[-width:]
    if len(shown) < 2:
        return Text()
    low, high = min(shown), max(shown)
    span = (high - low) or 1.0
    return Text("".join(_SPARKS[min(7, int(8 * (v - low) / span))] for v in shown), style="green")


def _bars(seconds: Mapping[str, float], width: int) -> RenderableType:
    """The usual roles and the costliest others, in the fixed order of roles so that lines do not change places."""
    whole = sum(seconds.values())
    if whole <= 0:
        return Text("nothing measured yet", style=DIM)
    rest = sorted(seconds.keys() - set(ALWAYS), key=lambda r: seconds[r], reverse=True)
    room = BARS - len(ALWAYS)
    own = rest if len(rest) <= room else rest[: room - 1]
    order: dict[str, int] = {role: i for i, role in enumerate(ROLES)}
    shown = sorted((*ALWAYS, *own), key=lambda r: order.get(r, 99))
    table: list[tuple[str, float]] = [(r, seconds.get(r, 0.0)) for r in shown]
    if len(own) < len(rest):
        table.append(("others", sum(seconds[r] for r in rest[len(own) :])))
    lines = []
    for role, spent in table:
        share = spent / whole
        line = bar(share, max(4, width - 12 - 6), _COLOURS.get(role, "white"))
        lines.append(Text.assemble(f"{role:<12}", line, f"{100 * share:4.0f} %", no_wrap=True))
    return Group(*lines)


def _learning(status: Status, speed: float | None) -> RenderableType:
    def metric(name: str) -> str:
        return short(status.metrics[name]) if name in status.metrics else "none yet"

    last = ("value mean", "entropy") if "entropy" in status.metrics else ("q mean", "|td|")
    names = {"value mean": "value_mean", "entropy": "entropy", "q mean": "q_mean", "|td|": "td_abs"}
    return columns(
        [
            ("steps", count(status.env_steps)),
            ("frames", count(status.frames)),
            ("updates", count(status.updates)),
            ("episodes", count(status.episodes)),
            ("steps/s", "none yet" if speed is None else short(speed)),
        ],
        [
            ("epsilon", "none" if status.epsilon is None else short(status.epsilon)),
            ("loss", metric("loss")),
            *((name, metric(names[name])) for name in last),
            ("per CPU-s", short(status.env_steps / status.cpu_s) if status.cpu_s > 0 else "none yet"),
        ],
    )


def _bill(status: Status) -> RenderableType:
    return facts(
        [
            ("money, on demand", "no price" if status.eur is None else euros(status.eur)),
            ("CPU-seconds", f"{status.cpu_s:,.1f}"),
            ("wall time", duration(status.wall_s)),
            ("FLOPs", "not counted" if status.flop is None else figure(status.flop, "FLOP")),
            ("memory", "not measured" if status.memory_bytes is None else figure(status.memory_bytes, "B")),
        ]
    )
