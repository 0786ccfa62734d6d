"""Scores from elsewhere, and every way to write them wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from frugalrl.cost.tables import load_tables
from frugalrl.report.anchors import read_anchors
from frugalrl.report.comparison import compare
from frugalrl.report.results import Anchor
from frugalrl.types import UserError
from report.records_made import two_methods

EXAMPLE = Path(__file__).parent.parent / "fixtures" / "atari100k_published.csv"


def read(path: Path, text: str) -> tuple[Anchor, ...]:
    path.write_text(text)
    return read_anchors(path, rng=np.random.default_rng(0))


def test_the_example_file() -> None:
    found = read_anchors(EXAMPLE, rng=np.random.default_rng(0))
    assert len(found) == 4 * 26
    (spr,) = (a for a in found if (a.name, a.env) == ("SPR", "ALE/Alien-v5"))
    assert (spr.score, spr.env_steps, spr.interval) == (841.9, 100_000, None)
    assert "100 runs" in spr.source


def test_runs_become_a_mean_with_an_interval(tmp_path: Path) -> None:
    rows = "name,env,score,seed,source\nX,A,1,0,paper\nX,A,2,1,paper\nX,A,3,2,paper\nY,A,5,,\n"
    x, y = read(tmp_path / "s.csv", rows)
    assert x.score == pytest.approx(2)
    assert x.interval is not None
    # Student, two degrees of freedom: 2 +- 4.303 x 1 / sqrt(3)
    assert x.interval == pytest.approx((2 - 2.484, 2 + 2.484), rel=0.1)
    assert x.source.startswith("paper; mean of 3 runs")
    assert (y.interval, y.source) == (None, "s.csv")


def test_given_intervals_stay(tmp_path: Path) -> None:
    (x,) = read(tmp_path / "s.csv", "\ufeffname, env, score, low, high, env_steps\nX, A, 1.5, 1, 2, 100_000\n")
    assert x == Anchor(name="X", env="A", score=1.5, interval=(1, 2), env_steps=100_000, source="s.csv")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "line 1: the column 'name' is missing"),
        ("name,env\nX,A\n", "line 1: the column 'score' is missing"),
        ("name,env,scor\n", "line 1: unknown column 'scor'; did you mean 'score'"),
        ("name,env,score\n", "holds no score"),
        ("name,env,score\nX,A,1\nX,B,high\n", "line 3: score is 'high'; it must be a number"),
        ("name,env,score\nX,A,inf\n", "line 2: score is 'inf'"),
        ("name,env,score\nX,A,\n", "line 2: score is empty"),
        ("name,env,score\n,A,1\n", "line 2: name is empty"),
        ("name,env,score,low,high\nX,A,1,0,\n", "line 2: one of low and high is empty"),
        ("name,env,score,low,high\nX,A,1,3,2\n", "line 2: low 3 is above high 2"),
        ("name,env,score,env_steps\nX,A,1,1e5\n", "line 2: env_steps is '1e5'; it must be a whole number"),
        ("name,env,score,seed\nX,A,1,0\nX,A,2,0\n", r"line 3: X on A stands there twice \(also line 2\)"),
        ("name,env,score\nX,A,1\nX,A,2\n", r"line 3: X on A stands there twice \(also line 2\)"),
        ("name,env,score\nX,A,1,2\n", "line 2: more cells than the header has columns"),
    ],
)
def test_mistakes(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=says) as error:
        read(tmp_path / "s.csv", text)
    assert "s.csv" in str(error.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no file"):
        read_anchors(tmp_path / "none.csv", rng=np.random.default_rng(0))
    (tmp_path / "s.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read"):
        read_anchors(tmp_path / "s.csv", rng=np.random.default_rng(0))


def test_anchors_are_shown_beside_their_environment() -> None:
    here, there = (
        Anchor(name="X", env=env, score=1, interval=None, env_steps=None, source="s") for env in ("CartPole-v1", "B")
    )
    found = compare(two_methods(), tables=load_tables(), rng=np.random.default_rng(0), draws=100, anchors=(here, there))
    assert found.envs[0].anchors == (here,)
    assert any("Scores from elsewhere for B are not shown" in note for note in found.notes)
