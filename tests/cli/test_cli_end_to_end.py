"""A real run, from the console script's entry to its bill."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from frugalrl.cli import main

SMALL = ["--set", "schedule.warmup_env_steps=100", "evaluation.episodes=2", "net.hidden_units=16", "env.rows=1"]


def test_train_resume_eval_bill(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(tmp_path / "run")
    words = ["train", "CartPole-v1", "--explore", "counteractive", "--budget-steps", "6_00", "--out", run, *SMALL]
    assert main([*words, "--json", "--quiet"]) == 0
    document = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert document["outcome"]["env_steps"] == 600
    assert document["score"]["episodes"] == 2
    assert document["bill"]["about"]["explorer"] == "counteractive"

    assert main(["resume", run, "--budget-steps", "800"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("CartPole-v1 | protocol plain | recipe classic-dqn | explorer counteractive | ")
    assert "resumed at step 600 | budget 800 steps" in shown
    assert "score after 800 steps" in shown

    assert main(["eval", run, "--episodes", "3", "--json"]) == 0
    score = json.loads(capsys.readouterr().out)
    assert {"mean_return", "interval", "episodes", "protocol"} <= set(score)
    assert (score["episodes"], score["protocol"], score["env_steps"], len(score["returns"])) == (3, "plain", 800, 3)
    assert main(["eval", run, "--episodes", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == score

    assert main(["bill", run, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert next(row["value"] for row in rows if row["name"] == "agent_steps") == 800

    assert main(words) == 2
    assert "already used" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_before_a_run_is_under_way_is_said(tmp_path: Path, name: str) -> None:
    """It ended with 143 and no word, and a supervisor that goes by the documented codes took it for something else."""
    code = "import os, signal\nfrom frugalrl.cli import app, main\n"
    # in the place of whatever the process that started the tests ignores, such as nohup's SIGHUP
    fresh = f"import signal\nsignal.signal(signal.{name}, signal.SIG_DFL)\n"
    code += f"app.main = lambda argv: os.kill(os.getpid(), signal.{name}) or 0\nmain()"
    done = subprocess.run(
        [sys.executable, "-c", fresh + code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"frugal: error: ended by {name}\n")
    ignored = fresh + "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + code  # as nohup does
    done = subprocess.run([sys.executable, "-c", ignored], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == (1 if name == "SIGTERM" else 0)


def test_a_command_called_by_a_program_leaves_its_signals_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert main(["list", "explorers", "--json"]) == 0
    assert signal.getsignal(signal.SIGTERM) == before


def test_continuous_actions_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "Pendulum-v1", "--quiet"]) == 2
    assert "Discrete" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_resume_takes_the_price_file_of_the_start_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mine, elsewhere = tmp_path / "mine.toml", tmp_path / "elsewhere"
    mine.write_text("[electricity]\neur_per_kwh = 7.25\n")
    elsewhere.mkdir()
    monkeypatch.chdir(tmp_path)

    def priced(*words: str) -> bool:
        assert main([*words, "--quiet"]) == 0
        bill = json.loads((tmp_path / "run" / "bill.json").read_text())
        return "7.25" in json.dumps(bill)

    base = ["train", "frugalrl/Catch-v0", "--out", "run", "--set", "device=cpu", "evaluation.episodes=2"]
    assert priced(*base, "--budget-steps", "100", "--prices", "mine.toml")
    monkeypatch.chdir(elsewhere)
    assert priced("resume", "../run", "--budget-steps", "200")
    assert "price" not in capsys.readouterr().err
    mine.rename(tmp_path / "other.toml")
    assert not priced("resume", "../run", "--budget-steps", "300")
    assert "mine.toml, which is gone" in capsys.readouterr().err
    assert priced("resume", "../run", "--budget-steps", "400", "--prices", "../other.toml")


def test_ctrl_c_while_the_command_line_loads_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import frugalrl.cli

    class Pressed:
        """Ctrl-C in the middle of an import."""

        @staticmethod
        def find_spec(name: str, *_: object) -> None:
            if name == "frugalrl.cli.app":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "frugalrl.cli.app", raising=False)
    monkeypatch.delattr(frugalrl.cli, "app", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Pressed, *sys.meta_path])
    assert frugalrl.cli.main(["list", "recipes"]) == 130
    assert capsys.readouterr().err == "frugal: error: interrupted\n"
