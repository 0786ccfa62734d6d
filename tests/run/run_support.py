"""What the tests of runs share: tiny configurations, a reporter that can end a run, and the comparison of two runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from frugalrl.envs import PROTOCOLS
from frugalrl.recipes import build_config
from frugalrl.run.config import RunConfig
from frugalrl.run.config_io import override
from frugalrl.run.evaluate import Score
from frugalrl.run.status import Header, Silent, Status
from frugalrl.types import Collected, Episode, Rows

SHORT = "ale-sticky-short"

TINY = (
    "env.rows=1",
    "replay.n_step=1",
    "schedule.warmup_env_steps=64",
    "agent.batch_size=8",
    "agent.target_period_updates=20",
    "net.hidden_units=16",
    "evaluation.episodes=2",
    "evaluation.rows=2",
    "device=cpu",
    "checkpoint.every_s=3600",
)


def add_short_protocol() -> None:
    """Sticky actions, and evaluation episodes of 40 steps: an untrained policy may stand still for 27,000."""
    PROTOCOLS[SHORT] = replace(PROTOCOLS["ale-sticky"], name=SHORT, eval_max_steps=40)


def cartpole(*settings: str, steps: int | None = 600) -> RunConfig:
    """classic-dqn, shrunk."""
    known = ("replay.capacity_transitions=500", "evaluation.every_env_steps=200", *TINY, f"budget.env_steps={steps}")
    return override(build_config("CartPole-v1", "classic-dqn"), [*known, *settings])


def vtrace(*settings: str, steps: int | None = 600) -> RunConfig:
    """inline-vtrace on CartPole, shrunk."""
    known = (
        "env.rows=4",
        "agent.unroll_steps=5",
        "agent.batch_unrolls=2",
        "schedule.steps_per_round=5",
        "net.hidden_units=16",
        "evaluation.every_env_steps=200",
        "evaluation.episodes=2",
        "evaluation.rows=2",
        "device=cpu",
        "checkpoint.every_s=3600",
        f"budget.env_steps={steps}",
    )
    return override(build_config("CartPole-v1", "inline-vtrace"), [*known, *settings])


def ppo(*settings: str, steps: int | None = 600) -> RunConfig:
    """ppo on CartPole, shrunk."""
    known = (
        "env.rows=4",
        "agent.unroll_steps=10",
        "agent.batch_unrolls=4",
        "agent.epochs=2",
        "schedule.steps_per_round=10",
        "net.hidden_units=16",
        "evaluation.every_env_steps=200",
        "evaluation.episodes=2",
        "evaluation.rows=2",
        "device=cpu",
        "checkpoint.every_s=3600",
        f"budget.env_steps={steps}",
    )
    return override(build_config("CartPole-v1", "ppo"), [*known, *settings])


def r2d2(*settings: str, steps: int | None = 600) -> RunConfig:
    """seed-r2d2-small on Recall with an inline sampler, shrunk."""
    known = (
        "env.rows=3",
        "sampler.kind=inline",
        "agent.unroll_steps=4",
        "agent.burn_in_steps=2",
        "agent.batch_size=4",
        "agent.target_period_updates=5",
        "sequences.capacity_sequences=60",
        "schedule.warmup_env_steps=60",
        "schedule.steps_per_round=4",
        "net.hidden_units=8",
        "net.lstm_units=8",
        "evaluation.every_env_steps=200",
        "evaluation.episodes=2",
        "evaluation.rows=2",
        "device=cpu",
        "checkpoint.every_s=3600",
        f"budget.env_steps={steps}",
    )
    return override(build_config("frugalrl/Recall-v0", "seed-r2d2-small"), [*known, *settings])


def breakout(*settings: str, steps: int | None = 240) -> RunConfig:
    """atari100k-ddqn with sticky actions, shrunk; needs the short protocol."""
    add_short_protocol()
    known = (
        f"env.protocol={SHORT}",
        "replay.capacity_transitions=150",
        "evaluation.every_env_steps=120",
        "explore.epsilon.start_step=64",
        "explore.epsilon.steps=100",
        "agent.learning_rate=1e-3",
        *TINY,
        f"budget.env_steps={steps}",
    )
    return override(build_config("ALE/Breakout-v5", "atari100k-ddqn"), [*known, *settings])


class Killed(BaseException):
    """Ends a run like a kill -9 does: nothing is saved."""


@dataclass
class Watcher(Silent):
    """A reporter that hears everything, and calls ``act`` at the first status from a step on."""

    at_step: int | None = None
    act: Callable[[], None] | None = None
    interval_s: float = 10.0
    phase: str | None = None
    """Act only in this phase."""
    headers: list[Header] = field(default_factory=list)
    statuses: list[Status] = field(default_factory=list)
    scores: list[tuple[int, Score]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.at_step is not None:
            self.interval_s = 0.0

    def start(self, header: Header) -> None:
        self.headers.append(header)

    def status(self, status: Status) -> None:
        self.statuses.append(status)
        if self.act is not None and self.at_step is not None and status.env_steps >= self.at_step:
            if self.phase not in (None, status.phase):
                return
            act, self.act = self.act, None
            act()

    def score(self, env_steps: int, score: Score) -> None:
        self.scores.append((env_steps, score))

    def note(self, text: str) -> None:
        self.notes.append(text)


def die() -> None:
    raise Killed


def block(steps: int, rows: int, obs: np.ndarray[Any, Any], *, first: bool = False, **changes: Any) -> Rows:
    """``steps`` rows of plain transitions with the observations [T, B, ...]; the first one a reset if ``first``."""
    shape = (steps, rows)
    valid = np.ones(shape, np.bool_)
    valid[0] = not first
    fields: dict[str, Any] = {
        "obs": obs,
        "action": np.zeros(shape, np.int64),
        "reward": np.ones(shape, np.float32),
        "discount": np.ones(shape, np.float32),
        "last": np.zeros(shape, np.bool_),
        "valid": valid,
        "log_mu": np.zeros(shape, np.float32),
        "version": np.zeros(shape, np.int64),
        "explored": np.zeros(shape, np.bool_),
    }
    return Rows(**(fields | changes))


def collected(rows: Rows, episodes: tuple[Episode, ...] = ()) -> Collected:
    return Collected(data=rows, episodes=episodes, env_steps=int(rows.valid.sum()), costs={})


def on_snapshot(parts: Any, see: Callable[[Any], object]) -> None:
    """``see`` is shown every snapshot that the learner of a run's parts publishes."""
    snapshot = parts.learner.snapshot

    def published() -> Any:
        made = snapshot()
        see(made)
        return made

    parts.learner.snapshot = published
