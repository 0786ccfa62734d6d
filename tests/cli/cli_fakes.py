"""A run that is over at once: what the command line needs of ``run.train``, without training."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from frugalrl.cost.record import Bill, BillRow
from frugalrl.run.config import RunConfig
from frugalrl.run.evaluate import Score
from frugalrl.run.status import Header, Status
from frugalrl.run.train import Outcome

SCORE = Score(21.5, (20.0, 23.0), (20.0, 23.0), (100, 120), 0.001, "atari100k")
HEADER = Header(
    env="ALE/Pong-v5",
    protocol="atari100k",
    recipe="atari100k-ddqn",
    explorer="counteractive",
    sampler="inline",
    seed=7,
    threads=1,
    device="cpu",
    folder="runs/pong",
    budget="10,000 steps",
)
BILL = Bill(
    about={"env": "ALE/Pong-v5"},
    machine={"profile": "generic", "chosen_because": "a test"},
    made="2026-11-22T00:00:00+00:00",
    rows=(
        BillRow(section="role", role="learner", name="cpu_s", value=1.5, unit="s", how="measured", source="a test"),
        BillRow(section="use", name="cpu_s", value=float("nan"), unit="s", how="measured", source="a test"),
    ),
    limit="Limit: learner takes 99 % of the CPU-seconds; fewer updates would help.",
)


def status(**changes: Any) -> Status:
    known: dict[str, Any] = {
        "phase": "training",
        "env_steps": 12_000,
        "frames": 48_000,
        "updates": 2_600,
        "episodes": 14,
        "wall_s": 130.0,
        "steps_per_s": 92.4,
        "done": 0.4,
        "eta_s": 195.0,
        "score": SCORE,
        "score_step": 10_000,
        "behaviour_return": -20.5,
        "epsilon": 0.05,
        "metrics": {"loss": 0.0123, "td_mean": 0.1, "td_abs": 0.2, "q_mean": 1.25},
        "shares": {"environment": 0.2, "learner": 0.7, "waiting": 0.1},
        "memory_bytes": 1_230_000_000,
        "cpu_s": 129.0,
        "flop": 4.5e12,
        "eur": 0.0036,
    }
    return Status(**{**known, **changes})


NOTHING_KNOWN = {
    "steps_per_s": None,
    "done": None,
    "eta_s": None,
    "score": None,
    "score_step": None,
    "behaviour_return": None,
    "metrics": {},
    "shares": {},
    "memory_bytes": None,
    "flop": None,
    "eur": None,
}


def tell(reporter: Any) -> None:
    """One call of everything a reporter hears, a note before the start included."""
    reporter.note("the newest checkpoint was damaged")
    reporter.start(HEADER)
    reporter.status(status(**NOTHING_KNOWN, phase="filling the replay"))
    reporter.status(status())
    reporter.score(10_000, SCORE)
    reporter.note("evaluation takes 30 % of the CPU")
    reporter.status(status(score=None, behaviour_return=None))
    reporter.close()
    reporter.close()


@dataclass
class FakeRun:
    """Stands for ``train`` and ``resume``; keeps what it was called with."""

    raises: BaseException | None = None
    completed: bool = True
    score: Score | None = SCORE
    config: RunConfig | None = None
    folder: Path | None = None
    known: dict[str, Any] = field(default_factory=dict)

    def train(self, config: RunConfig, folder: Path, reporter: Any, **known: Any) -> Outcome:
        self.config = config
        return self._play(folder, reporter, known)

    def resume(self, folder: Path, reporter: Any, **known: Any) -> Outcome:
        return self._play(folder, reporter, known)

    def _play(self, folder: Path, reporter: Any, known: dict[str, Any]) -> Outcome:
        self.folder, self.known = folder, known
        tell(reporter)
        print("an environment that prints")
        if self.raises is not None:
            raise self.raises
        reason = "the budget of 10 steps is used" if self.completed else "interrupted by SIGINT"
        return Outcome(reason, self.completed, self.score, 10, folder, BILL)
