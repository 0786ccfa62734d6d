"""``frugal reproduce chain``: files, refusals, and an interrupt that leaves nothing."""

from __future__ import annotations

import csv
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from frugalrl.cli import main
from frugalrl.cli.arguments import Compare
from frugalrl.cli.compare import _default_folder
from frugalrl.cli.reproduce import free_folder
from frugalrl.study import chain_files
from frugalrl.study.chain_grid import METHODS

TINY = ["--gamma", "0.9", "--alpha", "0.9", "0.5", "--eps", "0.25", "--seeds", "10", "--processes", "1"]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A small study and what it printed."""
    folder = tmp_path_factory.mktemp("study") / "chain"
    done = subprocess.run(
        [sys.executable, "-m", "frugalrl.cli", "reproduce", "chain", *TINY, "--json", "--out", str(folder)],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert "CoAct" in done.stderr
    return folder, done.stdout


def test_json_is_the_last_line_and_the_same_as_the_file(study: tuple[Path, str]) -> None:
    folder, stdout = study
    (line,) = stdout.splitlines()
    document = json.loads(line)
    kept = json.loads((folder / "result.json").read_text())
    assert kept.items() <= document.items()
    assert document["folder"] == str(folder)
    assert document["wall_s"] > 0
    assert [(s["gamma"], s["alpha"], s["eps"]) for s in kept["settings"]] == [(0.9, 0.9, 0.25), (0.9, 0.5, 0.25)]
    assert kept["settings"][0]["faster"] in ("counteractive", "epsilon-greedy", None)
    gain = kept["settings"][0]["methods"]["counteractive"]["score_gain"]
    assert gain["low"] <= gain["mean"] <= gain["high"]


def test_every_file_is_whole_and_they_agree(study: tuple[Path, str]) -> None:
    folder, _ = study
    assert sorted(p.name for p in folder.iterdir()) == sorted(chain_files.NAMES)
    assert (folder / "chain.png").read_bytes().startswith(b"\x89PNG")
    sentences = (folder / "sentences.txt").read_text().splitlines()
    assert sentences[0].startswith("gamma 0.9, alpha 0.9, eps 0.25: ")

    with (folder / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * len(METHODS)
    with (folder / "curves.csv").open() as file:
        curves = list(csv.DictReader(file))
    assert len(curves) == 2 * len(METHODS) * 100
    with gzip.open(folder / "seeds.csv.gz", "rt") as file:
        seeds = list(csv.DictReader(file))
    assert len(seeds) == 2 * len(METHODS) * 3

    coact = next(r for r in rows if r["method"] == "counteractive")
    curve = [float(r["return"]) for r in curves if r["method"] == "counteractive" and r["alpha"] == "0.9"]
    mine = next(r for r in seeds if (r["method"], r["quantity"], r["alpha"]) == ("counteractive", "mean_return", "0.9"))
    mean = sum(float(mine[f"seed{n}"]) for n in range(10)) / 10
    assert float(coact["mean_return"]) == pytest.approx(mean, rel=1e-4)
    assert sum(curve) / 100 == pytest.approx(mean, rel=1e-2)


def test_a_used_folder_is_refused_and_replaced_on_request(
    study: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["reproduce", "chain", *TINY, "--out", "here"]
    Path("here").mkdir()
    Path("here/notes.txt").write_text("mine")
    assert main(words) == 2
    assert "here is not empty; choose another --out" in capsys.readouterr().err
    assert main([*words, "--overwrite"]) == 0
    assert "figure, tables and sentences: here" in capsys.readouterr().out
    assert Path("here/notes.txt").read_text() == "mine"
    for name in chain_files.NAMES:
        assert Path("here", name).read_bytes() == (study[0] / name).read_bytes(), (
            f"{name} differs between equal studies"
        )


WRONG = (
    (["chian"], "frugal reproduce has no topic 'chian'; did you mean 'chain'?"),
    (["zzzz"], "frugal reproduce has no topic 'zzzz'; known: chain"),
    (["chain", "--alpha", "2"], "alpha 2 is outside (0, 1]"),
    (["chain", "--alpha"], "--alpha: one value or more is needed"),
    (["chain", "--seeds", "5"], "5 seeds are too few for an interval over seeds; use 10 or more"),
    (["chain", "--out", "a_file"], "a_file is a file; --out names a folder"),
    (["chain", "--out", "a_file/below"], "a_file/below cannot be made"),
)


@pytest.mark.parametrize(("words", "part"), WRONG)
def test_mistakes_are_one_sentence_and_leave_nothing(
    words: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("a_file").write_text("")
    assert main(["reproduce", *words]) == 2
    shown = capsys.readouterr().err
    assert part in shown
    assert shown.count("\n") == 1
    assert [p.name for p in Path().rglob("*") if p.name not in ("a_file", "runs")] == []


def test_studies_that_start_together_get_folders_of_their_own() -> None:
    now = time.strptime("2026-11-25 10:00:00", "%Y-%m-%d %H:%M:%S")
    first = free_folder(now)
    assert first == Path("runs/chain-20261125-100000")
    assert free_folder(now) == Path("runs/chain-20261125-100000-2")


def test_comparisons_that_start_together_get_folders_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frugalrl.cli.compare.time.strftime", lambda *_: "now")
    assert [_default_folder(Compare()) for _ in "ab"] == [Path("runs/compare-now"), Path("runs/compare-now-2")]


def test_a_comparison_that_cannot_begin_leaves_no_folder() -> None:
    assert main(["compare", "--env", "NoSuch-v0"]) == 2
    assert not Path("runs").exists()


def test_ctrl_c_ends_all_processes_and_leaves_no_files(tmp_path: Path) -> None:
    program = subprocess.Popen(
        [sys.executable, "-m", "frugalrl.cli", "reproduce", "chain", "--seeds=2000", "--processes=2", "--out=here"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        # a shell starts what it runs in the background with Ctrl-C switched off, and children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    parent = psutil.Process(program.pid)
    until = time.monotonic() + 60
    while not Path("here").exists() or len(parent.children()) < 3:  # two of the study, one of multiprocessing
        assert time.monotonic() < until
        time.sleep(0.05)
    children = parent.children()
    os.killpg(program.pid, signal.SIGINT)  # as a terminal does it: parent and children
    try:
        _, shown = program.communicate(timeout=60)
    finally:
        program.kill()
    assert program.returncode == 130
    assert shown == "frugal: error: interrupted\n"
    assert not Path("here").exists()
    assert psutil.wait_procs(children, timeout=20)[1] == []
