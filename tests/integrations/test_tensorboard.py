"""Event files, read back with TensorBoard's own reader."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from frugalrl.integrations import tensorboard as adapter
from frugalrl.integrations.tensorboard import TensorBoard
from frugalrl.recipes import build_config
from frugalrl.run.config import RunConfig
from frugalrl.run.config_io import override
from frugalrl.run.evaluate import Score
from frugalrl.run.status import Header, Silent, Status
from frugalrl.run.train import resume, train
from frugalrl.types import UserError

reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
HEADER = Header(
    env="e", protocol="p", recipe="r", explorer="x", sampler="s", seed=0, threads=1, device="cpu", folder="f",
    budget="b",
)  # fmt: skip
STATUS = Status(
    phase="evaluating", env_steps=10, frames=40, updates=3, episodes=2, wall_s=1.5, steps_per_s=None, done=None,
    eta_s=None, score=None, score_step=None, behaviour_return=-20.5, epsilon=0.25, metrics={"loss": 0.5},
    shares={"learner": 0.75}, memory_bytes=None, cpu_s=1.25, flop=None, eur=0.125,
)  # fmt: skip
SCORE = Score(21.5, (20.0, 23.0), (20.0, 23.0), (100, 120), 0.001, "p")


class Ears(Silent):
    """A reporter that writes down what it hears."""

    interval_s = 3.5

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def start(self, header: Header) -> None:
        self.heard.append(header)

    def status(self, status: Status) -> None:
        self.heard.append(status)

    def score(self, env_steps: int, score: Score) -> None:
        self.heard.append((env_steps, score))

    def note(self, text: str) -> None:
        self.heard.append(text)

    def close(self) -> None:
        self.heard.append("close")


def points(folder: Path, *, purge: bool = True) -> dict[str, list[tuple[int, float]]]:
    events = reader.EventAccumulator(str(folder), size_guidance={"scalars": 0}, purge_orphaned_data=purge)
    events.Reload()
    return {tag: [(p.step, p.value) for p in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_what_is_known_is_written_and_what_is_not_is_not(tmp_path: Path) -> None:
    ears = Ears()
    board = TensorBoard(ears, tmp_path / "new" / "run", resumed=False)
    assert not (tmp_path / "new").exists()
    assert board.interval_s == 3.5
    board.note("early")
    board.start(HEADER)
    board.status(STATUS)
    board.score(10, SCORE)
    board.close()
    board.close()
    assert ears.heard == ["early", HEADER, STATUS, (10, SCORE), "close", "close"]
    found = points(tmp_path / "new" / "run")
    assert found == {
        "behaviour/return": [(10, -20.5)], "behaviour/epsilon": [(10, 0.25)], "behaviour/episodes": [(10, 2.0)],
        "progress/updates": [(10, 3.0)], "progress/frames": [(10, 40.0)],
        "bill/wall_s": [(10, 1.5)], "bill/cpu_s": [(10, 1.25)], "bill/eur": [(10, 0.125)],
        "learner/loss": [(10, 0.5)], "wall_share/learner": [(10, 0.75)],
        "score/mean_return": [(10, 21.5)], "score/low": [(10, 20.0)], "score/high": [(10, 23.0)],
        "score/mean_length": [(10, 110.0)],
    }  # fmt: skip


def test_a_fast_screen_does_not_fill_the_disk(tmp_path: Path) -> None:
    board = TensorBoard(Ears(), tmp_path, resumed=False)
    board.start(HEADER)
    for step in range(11, 31):
        board.status(replace(STATUS, env_steps=step, phase="training"))
    board.status(replace(STATUS, env_steps=40))
    board.close()
    assert [step for step, _ in points(tmp_path)["learner/loss"]] == [11, 40]


def test_a_resumed_run_writes_no_point_twice(tmp_path: Path) -> None:
    board = TensorBoard(Ears(), tmp_path, resumed=False)
    board.start(HEADER)
    for step in (10, 20, 30):
        board.status(replace(STATUS, env_steps=step))
        board.score(step, replace(SCORE, mean_return=1.0))
    board.close()
    board = TensorBoard(Ears(), tmp_path, resumed=True)
    board.start(replace(HEADER, resumed_at=20))
    board.status(replace(STATUS, env_steps=20, eur=None, flop=5.0))
    for step in (20, 25, 30):
        board.score(step, replace(SCORE, mean_return=2.0))
        board.status(replace(STATUS, env_steps=step))
    board.close()
    found = points(tmp_path)
    assert found["score/mean_return"] == [(10, 1.0), (20, 1.0), (25, 2.0), (30, 2.0)]
    assert [s for s, _ in found["learner/loss"]] == [10, 20, 25, 30]
    assert found["bill/flop"] == [(20, 5.0)], "a tag without a point at this step may still get one"
    blind = points(tmp_path, purge=False)
    assert [s for s, _ in blind["score/mean_return"]] == [10, 20, 30, 25, 30], "this test must see a missing purge"


def test_a_new_run_does_not_write_among_the_events_of_another(tmp_path: Path) -> None:
    board = TensorBoard(Ears(), tmp_path, resumed=False)
    board.start(HEADER)
    board.close()
    with pytest.raises(UserError, match="holds the events of another run"):
        TensorBoard(Ears(), tmp_path, resumed=False)


def test_a_missing_package_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'frugalrl\[tensorboard\]'"):
        TensorBoard(Ears(), tmp_path, resumed=False)


def test_a_folder_that_cannot_be_written_does_not_end_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ears = Ears()
    board = TensorBoard(ears, tmp_path / "file" / "run", resumed=False)
    board.start(HEADER)
    board.status(STATUS)
    board.score(10, SCORE)
    board.close()
    assert next(e for e in ears.heard if isinstance(e, str)).endswith("the run goes on without TensorBoard")
    assert ears.heard[-3:] == [STATUS, (10, SCORE), "close"]


# -- real runs -------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Ends a run like a kill -9 does: nothing is saved."""


class Deadly(Silent):
    interval_s = 0.0

    def status(self, status: Status) -> None:
        if status.env_steps >= 450:
            raise Killed


def config() -> RunConfig:
    small = (
        "schedule.warmup_env_steps=64", "net.hidden_units=16", "evaluation.episodes=2", "budget.env_steps=600",
        "evaluation.every_env_steps=200", "checkpoint.every_s=3600", "device=cpu",
    )  # fmt: skip
    return override(build_config("frugalrl/Catch-v0", "classic-dqn"), list(small))


def test_the_curve_of_a_killed_run_is_that_of_an_uninterrupted_one(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train(config(), tmp_path / "a", TensorBoard(Silent(), whole, resumed=False))
    with pytest.raises(Killed):
        train(config(), tmp_path / "b", TensorBoard(Deadly(), killed, resumed=False))
    resume(tmp_path / "b", TensorBoard(Silent(), killed, resumed=True))
    expected, found = points(whole), points(killed)
    for tag in ("score/mean_return", "score/low", "score/high", "score/mean_length"):
        assert found[tag] == expected[tag]
        assert len(expected[tag]) >= 3
    for tag, curve in found.items():
        steps = [step for step, _ in curve]
        assert steps == sorted(set(steps)), tag
    blind = [step for step, _ in points(killed, purge=False)["score/mean_return"]]
    assert len(blind) > len(set(blind)), "the killed run wrote no point that was done again"
