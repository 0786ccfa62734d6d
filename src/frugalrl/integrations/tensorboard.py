"""Scalars for TensorBoard beside the ordinary reporter. The x axis is agent steps.

``score/*`` is the evaluation and ``behaviour/return`` what the exploring policy got while it learned: never one curve.
A run that is resumed goes on in its folder: points after the checkpoint it goes on from are purged, as TensorBoard does
after a restart (``purge_step``), and no tag gets two points at one step.
"""

from __future__ import annotations

import importlib
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from frugalrl.run.evaluate import Score
from frugalrl.run.status import Header, Reporter, Status
from frugalrl.types import UserError

_EVERY_S = 10.0
_EVENTS = "events.out.tfevents.*"


class TensorBoard:
    """A reporter that tells another one all it hears, and writes what has a number."""

    def __init__(self, inner: Reporter, folder: Path, *, resumed: bool) -> None:
        """``folder`` holds the events of this run alone. Nothing is written before ``start``.

        Raises UserError when the package is missing, or a new run would write among the events of another one.
        """
        if find_spec("tensorboard") is None:
            raise UserError("--tensorboard needs the package tensorboard; run: pip install 'frugalrl[tensorboard]'")
        if not resumed and any(folder.glob(_EVENTS)):
            raise UserError(f"--tensorboard: {folder} holds the events of another run; choose another folder")
        self._inner, self._folder = inner, folder
        self._writer: Any = None
        self._latest: dict[str, int] = {}
        """Step of the last point by tag."""
        self._wrote_at = -_EVERY_S

    @property
    def interval_s(self) -> float:
        """That of the reporter inside."""
        return self._inner.interval_s

    def start(self, header: Header) -> None:
        """Open the events; forwards."""
        self._inner.start(header)
        at = header.resumed_at
        try:
            if at is not None:
                self._latest = dict.fromkeys(tags_at(self._folder, at), at)
            purge = None if at is None else at + 1
            self._writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter(
                str(self._folder), purge_step=purge
            )
        except OSError as error:
            self._give_up(error)

    def status(self, status: Status) -> None:
        """Write every ten seconds at most, and before each evaluation; forwards."""
        self._inner.status(status)
        if status.phase == "training" and time.monotonic() - self._wrote_at < _EVERY_S:
            return
        self._wrote_at = time.monotonic()
        self._write(scalars(status), status.env_steps)

    def score(self, env_steps: int, score: Score) -> None:
        """Write mean and interval of an evaluation; forwards."""
        self._inner.score(env_steps, score)
        low, high = score.interval or (None, None)
        found = {"score/mean_return": score.mean_return, "score/low": low, "score/high": high}
        self._write({**found, "score/mean_length": sum(score.lengths) / score.episodes}, env_steps)

    def note(self, text: str) -> None:
        """Forwards."""
        self._inner.note(text)

    def close(self) -> None:
        """Flush; forwards."""
        writer, self._writer = self._writer, None
        try:
            if writer is not None:
                writer.close()
        except OSError as error:
            self._give_up(error)
        finally:
            self._inner.close()

    def _write(self, values: dict[str, float | None], step: int) -> None:
        if self._writer is None:
            return
        try:
            for tag, value in values.items():
                if value is not None and self._latest.get(tag) != step:
                    self._writer.add_scalar(tag, value, step)
                    self._latest[tag] = step
            self._writer.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """A run is worth more than its curves."""
        self._writer = None
        self._inner.note(
            f"{self._folder} cannot be written ({error.strerror or error}); the run goes on without TensorBoard"
        )


def scalars(status: Status) -> dict[str, float | None]:
    """Tags and values of a moment; None is not known and not written."""
    found: dict[str, float | None] = {
        "behaviour/return": status.behaviour_return,
        "behaviour/epsilon": status.epsilon,
        "behaviour/episodes": status.episodes,
        "speed/steps_per_s": status.steps_per_s,
        "progress/updates": status.updates,
        "progress/frames": status.frames,
        "bill/wall_s": status.wall_s,
        "bill/cpu_s": status.cpu_s,
        "bill/flop": status.flop,
        "bill/eur": status.eur,
        "bill/memory_bytes": status.memory_bytes,
    }
    found |= {f"learner/{name}": value for name, value in status.metrics.items()}
    return found | {f"wall_share/{role}": value for role, value in status.shares.items()}


def tags_at(folder: Path, step: int) -> list[str]:
    """Tags that already have a point at this step, of any process that wrote to the folder."""
    if not any(folder.glob(_EVENTS)):
        return []
    module = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    events = module.EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return [tag for tag in events.Tags()["scalars"] if any(point.step == step for point in events.Scalars(tag))]
