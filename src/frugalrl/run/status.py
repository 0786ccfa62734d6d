"""What a run tells its reader: the records behind the screen, the plain lines and the JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from frugalrl.cost.stages import Stages
from frugalrl.run.evaluate import Score


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """The first line: what runs where."""

    env: str
    protocol: str
    recipe: str
    explorer: str
    sampler: str
    seed: int
    threads: int
    device: str
    folder: str
    budget: str
    """In words: ``10,000 steps``, ``2 h``, ..."""
    resumed_at: int | None = None
    """Agent step a resumed run goes on from."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Status:
    """A moment of a run. ``None`` means not known yet."""

    phase: str
    """``filling the replay``, ``training``, ``evaluating``, ``saving``."""
    env_steps: int
    frames: int
    updates: int
    episodes: int
    wall_s: float
    """Of all sessions of the run."""
    steps_per_s: float | None
    """Agent steps per wall second since the last status."""
    done: float | None
    """Share of the budget used, 0 to 1; None without a limit that can be foreseen."""
    eta_s: float | None
    score: Score | None
    """The last evaluation."""
    score_step: int | None
    behaviour_return: float | None
    """Mean raw return of the last episodes of the exploring policy: not the score."""
    epsilon: float | None
    """Probability of an exploratory action; None for an explorer that has none."""
    metrics: Mapping[str, float]
    """Means since the last status: loss, td_mean, td_abs, q_mean."""
    shares: Mapping[str, float]
    """Share of the wall time by role since the last status: environment, inference, learner, ..., waiting."""
    memory_bytes: int | None
    cpu_s: float
    flop: float | None
    eur: float | None
    """On-demand price of the machine so far."""
    stages: Stages | None = None
    """Of a run whose engine has a thread of its own."""


class Reporter(Protocol):
    """Reads a run: a terminal screen, plain lines, nothing."""

    def start(self, header: Header) -> None: ...

    def status(self, status: Status) -> None:
        """Called every ``interval_s``."""

    def score(self, env_steps: int, score: Score) -> None:
        """After each evaluation."""

    def note(self, text: str) -> None:
        """One sentence worth reading: a checkpoint that was damaged, an evaluation that costs too much, ..."""

    def close(self) -> None: ...

    @property
    def interval_s(self) -> float:
        """Wall seconds between two statuses."""


class Silent:
    """Reports nothing."""

    interval_s = 10.0

    def start(self, header: Header) -> None: ...

    def status(self, status: Status) -> None: ...

    def score(self, env_steps: int, score: Score) -> None: ...

    def note(self, text: str) -> None: ...

    def close(self) -> None: ...
