"""A study in real processes: failures are kept, a kill -9 costs nothing that was finished."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from frugalrl.cli import main
from frugalrl.report.records import find_runs, read_run
from frugalrl.run.record import Progress

SMALL = ("schedule.warmup_env_steps=64", "evaluation.episodes=2", "net.hidden_units=16", "agent.batch_size=16")
BASE = ["compare", "--env", "frugalrl/Catch-v0", "--evaluations", "2", "--set", *SMALL]


def outcomes(folder: Path) -> dict[str, str]:
    runs = find_runs([folder / "runs"])
    return {p.relative_to(folder / "runs").as_posix(): read_run(p).outcome for p in runs}


def test_failures_are_kept_and_finished_runs_are_not_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "study"
    methods = ["epsilon-greedy", "broken=counteractive+agent.learning_rate=1e30"]
    words = [*BASE, "--methods", *methods, "--seeds", "0", "1", "--budget-steps", "200", "--out", str(out)]
    assert main([*words, "--processes", "2", "--quiet"]) == 1
    said, errors = capsys.readouterr()
    assert "unexpected" not in errors
    assert "0 of 2" in said
    assert f"report  {out / 'report.html'}" in said
    assert "failed: frugalrl-Catch-v0/broken/seed0 | not evaluated" in said
    failures = json.loads((out / "failures.json").read_text())
    assert set(failures) == {"frugalrl-Catch-v0/broken/seed0", "frugalrl-Catch-v0/broken/seed1"}
    assert all("lower agent.learning_rate" in f["reason"] and not f["killed"] for f in failures.values())
    assert outcomes(out) == {
        f"frugalrl-Catch-v0/{name}/seed{i}": outcome
        for i in (0, 1)
        for name, outcome in (("epsilon-greedy", "completed"), ("broken", "failed"))
    }

    before = {p: p.stat().st_mtime_ns for p in out.rglob("bill.json")}
    assert main(words) == 2
    assert "add --resume" in capsys.readouterr().err
    assert main([*words, "--resume", "--quiet"]) == 1, "what failed by itself is not tried again, and still said"
    assert "frugal: failed: frugalrl-Catch-v0/broken/seed0: " in capsys.readouterr().err
    assert {p: p.stat().st_mtime_ns for p in out.rglob("bill.json")} == before
    fewer = [*BASE, "--methods", "epsilon-greedy", "--seeds", "2", "--budget-steps", "200", "--out", str(out)]
    assert main([*fewer, "--resume"]) == 2
    assert "name all that it has and what is new" in capsys.readouterr().err


def test_a_failed_run_that_was_ended_by_hand_has_not_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The reason of a failure says `frugal resume`; the study called that run failed after it, too, with 1."""
    made = "import gymnasium as gym\nfrom gymnasium.envs.classic_control import CartPoleEnv\nfrom pathlib import Path\n"
    made += "class Frail(CartPoleEnv):\n    def step(self, action):\n        if Path('broken').exists():\n"
    made += (
        "            raise ValueError('broken')\n        return super().step(action)\ngym.register('Frail-v0', Frail)\n"
    )
    (tmp_path / "frail_world.py").write_text(made)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    words = ["compare", "--env", "frail_world:Frail-v0", "--methods", "epsilon-greedy", "--evaluations", "1"]
    words += ["--budget-steps", "80", "--quiet", "--out", "study", "--set", *SMALL, "evaluation.episodes=1"]
    assert main([*words, "--seeds", "1"]) == 0
    (tmp_path / "broken").touch()
    assert main([*words, "--seeds", "2", "--resume"]) == 1
    (tmp_path / "broken").unlink()
    (failed,) = [run for run in find_runs(["study"]) if read_run(run).outcome == "failed"]
    assert main(["resume", str(failed), "--quiet"]) == 0
    capsys.readouterr()
    assert main(["compare", "--out", "study", "--resume", "--quiet"]) == 0
    assert "failed" not in capsys.readouterr().err


def test_a_study_that_another_process_runs_stays_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command that was refused had put its methods into study.json."""
    out = tmp_path / "study"
    words = [*BASE, "--budget-steps", "100", "--out", str(out), "--quiet", "--seeds", "1", "--methods"]
    assert main([*words, "epsilon-greedy"]) == 0
    before = (out / "study.json").read_bytes()
    other = Progress(out / "lock.bin")
    assert main([*words, "epsilon-greedy", "counteractive", "--resume"]) == 2
    assert "another process is working" in capsys.readouterr().err
    assert (out / "study.json").read_bytes() == before
    other.close()
    assert main([*words, "epsilon-greedy", "counteractive", "--resume"]) == 0
    assert [method["name"] for method in json.loads((out / "study.json").read_text())["methods"]][1:] == [
        "counteractive"
    ]


def test_a_method_that_cannot_run_costs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "study"
    assert main(["compare", "--methods", "epsilon-greedy", "a=ucb", "--out", str(out)]) == 2
    assert "method 'a' on CartPole-v1: the explorer 'ucb' counts visits of states" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--retry-failed",), "add --resume, or leave it out"),
        (("--against", "nowhere.csv"), "there is no file nowhere.csv"),
        (("--prices", "nowhere.toml"), "there is no such price file"),
        (("--set", "machine=my-desktop"), "unknown machine 'my-desktop'"),
        (
            ("--evaluations", "4", "--set", "budget.hours=0.01", "budget.env_steps=null"),
            "has no budget.env_steps, so 4 evaluations cannot be spread over it",
        ),
    ],
)
def test_a_mistake_is_said_before_the_runs(
    words: tuple[str, ...], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "study"
    assert main(["compare", "--out", str(out), *words]) == 2
    assert says in capsys.readouterr().err
    assert not out.exists()


def test_a_study_goes_on_with_the_price_file_of_its_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Seeds that were added failed one by one, as the machine of the others was only in that file."""
    prices, out = tmp_path / "mine.toml", tmp_path / "study"
    keys = dict.fromkeys(("watts_per_busy_core", "idle_watts", "gpu_busy_watts", "gpu_idle_watts"), 1.0)
    lines = "".join(f"{key} = {value}\n" for key, value in {**keys, "cores": 2, "memory_gb": 4, "gpus": 0}.items())
    origin = 'date = "2026-11-01"\nhow = "measured"\nsource = "my receipt"\n'
    prices.write_text(
        f'[machine.mine]\ntitle = "mine"\n{lines}{origin}[price.mine]\neur_per_hour_on_demand = 7.25\n{origin}'
    )
    words = [
        *BASE,
        "machine=mine",
        "--methods",
        "epsilon-greedy",
        "--budget-steps",
        "300",
        "--out",
        str(out),
        "--quiet",
    ]
    assert main([*words, "--seeds", "1", "--prices", str(prices)]) == 0
    assert main([*words, "--seeds", "2", "--resume", "--json"]) == 0
    assert outcomes(out) == {f"frugalrl-Catch-v0/epsilon-greedy/seed{i}": "completed" for i in range(2)}
    assert "7.25 EUR/h" in capsys.readouterr().out
    prices.unlink()
    assert main(["report", str(out), "--json"]) == 0
    printed = capsys.readouterr()
    assert "7.25 EUR/h" not in printed.out
    assert f"the runs began with the price file {prices}, which is gone" in printed.err


def test_the_headline_says_what_the_runs_do(tmp_path: Path) -> None:
    from frugalrl.cli.compare_screen import headline
    from frugalrl.study.folder import StudyFolder
    from frugalrl.study.matrix import Method, Study
    from frugalrl.study.runner import View

    methods = (Method(name="a"), Method(name="b", set=("budget.env_steps=20",)))
    study = Study(envs=("CartPole-v1",), methods=methods, seeds=(0, 1), baseline="a", budget_steps=10)
    begun = headline(StudyFolder(tmp_path, study), View(cells={}, before=0, processes=1))
    assert begun.startswith("2 methods x 1 environment x 2 seeds = 4 runs | budgets of the methods | 1 process |")
    same = StudyFolder(tmp_path, replace(study, methods=methods[:1], set=("budget.env_steps=5_000",)))
    assert "1 method x 1 environment x 2 seeds = 2 runs | 5,000 steps each" in headline(
        same, View(cells={}, before=0, processes=1)
    )


def test_a_killed_study_goes_on_where_it_was(tmp_path: Path) -> None:
    out = tmp_path / "study"
    words = [*BASE, "--methods", "epsilon-greedy", "counteractive", "--seeds", "1", "--out", str(out), "--quiet"]
    words += ["--budget-steps", "1500", "--set", "checkpoint.every_s=0.5", "--processes", "1"]
    command = [sys.executable, "-m", "frugalrl.cli", *words]
    study = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    second = out / "runs" / "frugalrl-Catch-v0" / "counteractive" / "seed0"
    until = time.monotonic() + 120
    while not list(second.glob("checkpoints/0*")) and time.monotonic() < until:
        time.sleep(0.05)
    os.kill(study.pid, signal.SIGKILL)
    study.wait()
    while read_run(second).outcome == "unfinished" and time.monotonic() < until:
        time.sleep(0.1)  # the run notices that its parent is gone, and saves
    assert read_run(second).outcome in ("interrupted", "completed")
    first = out / "runs" / "frugalrl-Catch-v0" / "epsilon-greedy" / "seed0" / "bill.json"
    before = first.stat().st_mtime_ns
    assert main(["compare", "--out", str(out), "--resume", "--quiet"]) == 0
    assert set(outcomes(out).values()) == {"completed"}
    assert first.stat().st_mtime_ns == before


def test_runs_that_were_still_starting_at_ctrl_c_have_not_failed(tmp_path: Path) -> None:
    out = tmp_path / "study"
    words = [*BASE, "--methods", "epsilon-greedy", "--seeds", "1", "--out", str(out), "--processes", "1"]
    command = [sys.executable, "-m", "frugalrl.cli", *words, "--budget-steps", "200"]
    study = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    until = time.monotonic() + 120
    while not list(out.glob("logs/*.log")) and time.monotonic() < until:
        time.sleep(0.01)
    study.send_signal(signal.SIGINT)
    said, _ = study.communicate(timeout=120)
    assert "failed" not in said
    assert study.returncode == 1
    assert main(["compare", "--out", str(out), "--resume", "--quiet"]) == 0
    assert set(outcomes(out).values()) == {"completed"}


def test_the_screen_is_closed_before_the_table_comes(tmp_path: Path) -> None:
    from frugalrl.cli.compare_screen import MatrixScreen
    from frugalrl.study.folder import StudyFolder
    from frugalrl.study.matrix import Method, Study
    from frugalrl.study.runner import Runner

    study = Study(envs=("CartPole-v1",), methods=(Method(name="a"),), seeds=(0,), baseline="a")
    folder = StudyFolder(tmp_path, study)
    console = Console(file=io.StringIO(), force_terminal=True)
    assert Runner(folder, [], MatrixScreen(console, folder), processes=1, environment={}).run()
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b[?25l" in shown, "a live display hides the cursor"
    assert shown.rstrip().endswith("\x1b[?25h"), "and gives it back"


class Gone(io.StringIO):
    """A terminal whose window was closed."""

    def write(self, text: str) -> int:
        raise OSError(5, "Input/output error")


@pytest.mark.parametrize("live", [False, True])
def test_a_study_outlives_its_reader(
    tmp_path: Path, live: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error of the screen killed all runs, without a checkpoint or a bill."""
    from frugalrl.cli.compare_screen import Lines, MatrixScreen
    from frugalrl.study.folder import StudyFolder
    from frugalrl.study.matrix import Method, Study
    from frugalrl.study.runner import Progressing, Runner

    study = Study(envs=("CartPole-v1",), methods=(Method(name="a"),), seeds=(0,), baseline="a")
    folder, gone = StudyFolder(tmp_path, study), Gone()
    console = Console(file=gone, force_terminal=True)
    listener = MatrixScreen(console, folder) if live else Lines(gone, folder)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", gone)
        assert Runner(folder, [], listener, processes=1, environment={}).run()
        listener.note("SIGHUP")
        listener.ended(Progressing(folder.cells[0], ended="failed"), "an environment raised")
        sys.stdout.close()
    said = f"frugal: stdout: Input/output error; the study goes on in {tmp_path}\n"
    assert capsys.readouterr().err == said


def test_files_of_the_working_folder_hide_nothing_of_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("queue", "types", "json"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('the wrong module')\n")
    made = "import gymnasium as gym\ngym.register('Own-v0', 'gymnasium.envs.classic_control:CartPoleEnv')\n"
    (tmp_path / "own_world.py").write_text(made)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    words = ["compare", "--env", "own_world:Own-v0", "--methods", "epsilon-greedy", "--seeds", "1", "--out", "study"]
    few = ["--evaluations", "1", "--budget-steps", "80", "--quiet", "--set", *SMALL, "evaluation.episodes=1"]
    assert main([*words, *few]) == 0, capsys.readouterr().err
    assert set(outcomes(tmp_path / "study").values()) == {"completed"}


def test_each_process_is_told_what_it_is_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two files of jobs had one name: one run was made twice, the other never."""
    ids = "for name in ('Grid', 'Grid_a'):\n    gym.register(name, 'gymnasium.envs.classic_control:CartPoleEnv')\n"
    (tmp_path / "two_worlds.py").write_text(f"import gymnasium as gym\n{ids}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    words = ["compare", "--env", "two_worlds:Grid", "two_worlds:Grid_a", "--seeds", "1", "--out", "study"]
    words += [
        "--methods",
        "b=epsilon-greedy",
        "a_b=counteractive",
        "--processes",
        "4",
        "--budget-steps",
        "80",
        "--quiet",
    ]
    assert main([*words, "--evaluations", "1", "--set", *SMALL, "evaluation.episodes=1"]) == 0
    assert list(outcomes(tmp_path / "study").values()) == ["completed"] * 4


LOUD = """
import os
import gymnasium as gym
from gymnasium.envs.classic_control import CartPoleEnv
class Loud(CartPoleEnv):
    def reset(self, **how):
        os.write(1, b"3\\n" + bytes([255, 254]) + b"\\nno end of line ")
        return super().reset(**how)
gym.register("Loud-v0", Loud)
"""


def test_what_a_library_prints_past_python_is_no_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A number ended the study with a traceback, a byte that is no UTF-8 made it wait for ever."""
    (tmp_path / "loud_world.py").write_text(LOUD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    words = ["compare", "--env", "loud_world:Loud-v0", "--methods", "epsilon-greedy", "--seeds", "1", "--out", "study"]
    few = ["--evaluations", "1", "--budget-steps", "80", "--quiet", "--set", *SMALL, "evaluation.episodes=1"]
    command = [sys.executable, "-m", "frugalrl.cli", *words, *few]
    done = subprocess.run(command, capture_output=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert set(outcomes(tmp_path / "study").values()) == {"completed"}
    log = next((tmp_path / "study" / "logs").glob("*.log")).read_bytes()
    assert b"3\n\xff\xfe\nno end of line " in log


def test_damaged_records_are_repaired_or_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "study"
    words = [*BASE, "--methods", "epsilon-greedy", "--seeds", "2", "--budget-steps", "100", "--quiet"]
    assert main([*words, "--out", str(out), "--no-stack"]) == 0
    first, second = find_runs([out / "runs"])
    (first / "bill.json").write_text("{")
    assert main(["compare", "--out", str(out), "--resume", "--quiet"]) == 0
    assert read_run(first).bill is not None
    lines = (second / "metrics.jsonl").read_text().splitlines()
    (second / "metrics.jsonl").write_text("".join(f"{text}\n" for text in lines if '"evaluation"' not in text))
    capsys.readouterr()
    assert main(["compare", "--out", str(out), "--resume", "--quiet"]) == 1
    said = capsys.readouterr().err
    assert f"seed1: it holds no evaluation; to run it again delete {second}" in said
    shutil.rmtree(second)
    assert main(["compare", "--out", str(out), "--resume", "--quiet"]) == 0
