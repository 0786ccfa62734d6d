"""``frugal report`` on run folders and on a study's folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from frugalrl.cli import main
from frugalrl.study.matrix import Method, Study
from frugalrl.study.study_file import to_document

RUN = Path(__file__).parents[2] / "evidence" / "minatar-breakout-seed0"
"""A real run: 4 evaluations, written before costs by role were kept."""


def copied(place: Path, seed: int = 0) -> Path:
    """The run as one of another seed."""
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(RUN, place)
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps({**config, "seed": seed}))
    return place


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two methods and two seeds in the layout of a study; one cell never began."""
    folder = tmp_path / "study"
    for method in ("plain", "other"):
        for seed in (0, 1):
            copied(folder / "runs" / "MinAtar-Breakout-v1" / method / f"seed{seed}", seed)
    asked = Study(
        envs=("MinAtar/Breakout-v1",),
        methods=(Method(name="plain"), Method(name="other")),
        seeds=(0, 1, 2),
        budget_steps=200_000,
        evaluations=4,
        baseline="plain",
        targets={"MinAtar/Breakout-v1": (2.0, 3.0)},
    )
    (folder / "study.json").write_text(json.dumps(to_document(asked)))
    failures = {"MinAtar-Breakout-v1/other/seed2": {"reason": "out of memory", "killed": False}}
    (folder / "failures.json").write_text(json.dumps(failures))
    return folder


def test_a_study_is_reported_with_its_names_targets_and_failures(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(study), "--json"]) == 0
    printed = capsys.readouterr()
    document = json.loads(printed.out.splitlines()[-1])
    assert document["methods"] == ["plain", "other"]
    assert document["baseline"] == "plain"
    assert document["envs"][0]["targets"] == [2.0, 3.0]
    assert any("seed 2" in note and "out of memory" in note for note in document["notes"])
    assert str(study / "report.html") in printed.err.replace("\n", "")
    page = (study / "report.html").read_text()
    assert "out of memory" in page
    assert f"frugal report {study}" in page
    assert (study / "figures" / "table-evaluations.csv").exists()


def test_methods_of_two_studies_with_one_name_and_other_settings_are_told_apart(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = tmp_path / "again"
    shutil.copytree(study, again, ignore=shutil.ignore_patterns("failures.json"))
    for config in again.glob("runs/*/plain/*/config.json"):
        document = json.loads(config.read_text())
        document["agent"]["learning_rate"] *= 2
        config.write_text(json.dumps(document))
    for config in again.glob("runs/*/other/*/config.json"):  # the same method, two more seeds
        document = json.loads(config.read_text())
        config.write_text(json.dumps({**document, "seed": document["seed"] + 10}))
    assert main(["report", str(study), str(again), "--json", "--out", str(tmp_path / "r.html")]) == 0
    document = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert document["methods"] == ["plain (study)", "other", "plain (again)"]
    assert document["baseline"] == "plain (study)"
    seeds = {m["method"]: m["seeds"] for m in document["envs"][0]["methods"]}
    assert seeds == {"plain (study)": [0, 1], "other": [0, 1, 10, 11], "plain (again)": [0, 1]}
    assert len({run["name"] for run in document["runs"]}) == len(document["runs"])


def test_one_run_is_reported_without_intervals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "deep" / "r.html"
    assert main(["report", str(RUN), "--out", str(out), "--target", "2"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "has one seed on MinAtar/Breakout-v1: no interval can be given for it" in printed
    assert f"report {out}" in printed
    assert out.exists()


def test_prices_are_those_that_the_runs_began_with(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The bill of the run had the invoice's price, and its report the package's."""
    runs = [copied(tmp_path / f"run{seed}", seed) for seed in range(3)]
    mine = tmp_path / "mine.toml"
    profile = json.loads((RUN / "machine.json").read_text())["machine"]["profile"]
    mine.write_text(f"[price.{profile}]\neur_per_hour_on_demand = 7.25\n")

    def begun_with(run: Path, prices: Path) -> None:
        document = json.loads((run / "machine.json").read_text())
        (run / "machine.json").write_text(json.dumps({**document, "price_file": str(prices)}))

    def money(*words: str) -> tuple[bool, str]:
        names = [str(run) for run in runs]
        assert main(["report", *names, "--out", str(tmp_path / "report.html"), "--json", *words]) == 0
        printed = capsys.readouterr()
        return "7.25 EUR/h" in printed.out, printed.err

    for run in runs[:2]:
        begun_with(run, mine)
    mixed, said = money()
    assert not mixed
    assert f"began with different price files ({mine}, none)" in said
    begun_with(runs[2], mine)
    assert money()[0]
    other = tmp_path / "other.toml"
    other.write_text("[electricity]\neur_per_kwh = 0.1\n")
    assert not money("--prices", str(other))[0]


def test_anchors_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scores = tmp_path / "published.csv"
    scores.write_text("name,env,score,source\nSomebody,MinAtar/Breakout-v1,9.5,a table that was made for this test\n")
    out = tmp_path / "r.html"
    assert main(["report", str(RUN), "--out", str(out), "--against", str(scores)]) == 0
    assert "a table that was made for this test" in out.read_text()
    capsys.readouterr()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "frugal report needs RUN, the folder of a run or of a study"),
        (["nowhere"], "there is no folder nowhere"),
        ([str(RUN), "--baseline", "epsilon"], "so it cannot be the baseline; known: minatar-dqn epsilon-greedy"),
        ([str(RUN), "--out", "."], "is a folder; name a file"),
        ([str(RUN), "--target", "high"], "is not a number such as 1.5"),
        ([str(RUN), "--against", "nothing.csv"], "nothing.csv"),
    ],
)
def test_mistakes_are_one_sentence(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.strip().splitlines()) == 1
    assert not Path("report.html").exists()


def test_runs_without_a_score_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = copied(tmp_path / "run")
    lines = (run / "metrics.jsonl").read_text().splitlines()
    (run / "metrics.jsonl").write_text("".join(f"{x}\n" for x in lines if '"evaluation"' not in x))
    assert main(["report", str(run)]) == 1
    assert "none of these runs has been evaluated yet" in capsys.readouterr().err
