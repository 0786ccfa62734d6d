"""The stages of a central run on the live screen: who works, who waits for whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from frugalrl.cli.widgets import DIM, bar, columns
from frugalrl.cli.words import count, short

if TYPE_CHECKING:
    from rich.table import Table

    from frugalrl.cost.stages import Stages
    from frugalrl.run.status import Status

STAGES_TITLE = "stages: CPU, waiting"
_COLOURS = {"environments": "green", "transport": "magenta", "engine": "cyan", "learner": "blue", "others": "white"}


def stage_lines(stages: Stages, width: int) -> RenderableType:
    """Seven lines: the share of the CPU-seconds by stage, the share of the wall time that it waited, and why."""
    spent = {
        "environments": stages.environments.work_cpu_s,
        "transport": stages.transport_cpu_s,
        "engine": stages.engine.work_cpu_s,
        "learner": stages.learner.work_cpu_s,
        "others": stages.rest_cpu_s,
    }
    whole, wall = sum(spent.values()), stages.wall_s
    if whole <= 0 or wall <= 0:
        return Text("nothing measured yet", style=DIM)
    waited = {"engine": stages.blocked_s + stages.starved_s, "learner": stages.learner_waited_s}
    lines = []
    for name, seconds in spent.items():
        line = bar(seconds / whole, max(4, width - 13 - 6 - 7), _COLOURS[name])
        wait = _percent(waited[name] / wall) if name in waited else ""
        lines.append(Text.assemble(f"{name:<13}", line, f"{_percent(seconds / whole):>6}", f"{wait:>7}", no_wrap=True))
    full, none = _percent(stages.blocked_s / wall), _percent(stages.starved_s / wall)
    lines.append(Text(f"queue full {full}, no request {none}", style=DIM, no_wrap=True))
    lines.append(Text(f"{stages.live_rows} of {stages.rows} rows live, restarts {stages.restarts}", no_wrap=True))
    return Group(*lines)


def central(status: Status, speed: float | None) -> Table:
    """What was learned, and how the engine batches."""
    stages, metrics = status.stages, status.metrics
    assert stages is not None

    def metric(name: str) -> str:
        return short(metrics[name]) if name in metrics else "none yet"

    q = "q_mean" in metrics
    return columns(
        [
            ("steps", count(status.env_steps)),
            ("updates", count(status.updates)),
            ("steps/s", "none yet" if speed is None else short(speed)),
            ("/CPU-s", short(status.env_steps / status.cpu_s) if status.cpu_s > 0 else "none yet"),
            ("fill", "none yet" if stages.batch_fill is None else _percent(stages.batch_fill)),
        ],
        [
            ("loss", metric("loss")),
            ("q mean", metric("q_mean")) if q else ("entropy", metric("entropy")),
            ("|td|", metric("td_abs")) if q else ("lag", metric("lag_mean")),
            ("batch", "none yet" if stages.batch_rows is None else f"{stages.batch_rows:.1f}"),
            ("wait p95", "none" if stages.queue_ms is None else _milliseconds(stages.queue_ms[1])),
        ],
    )


def _milliseconds(ms: float) -> str:
    return f"{ms:.1f} ms" if ms < 10 else f"{ms:.0f} ms" if ms < 1000 else f"{ms / 1000:.1f} s"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
