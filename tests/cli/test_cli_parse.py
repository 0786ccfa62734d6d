"""Usage: help, version, and one sentence for each mistake."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import fields
from typing import Any

import pytest

from frugalrl.cli import main
from frugalrl.cli.parse import COMMANDS, EXAMPLES, kind_of, parse, positional
from frugalrl.types import UserError

USAGES = (
    "train ENV --recipe NAME --explore NAME --set a.b=c d.e=f --set g=h --env-kwargs k=v --protocol NAME --seed 3 "
    "--out DIR --budget-steps 10_000 --budget-hours 2 --budget-eur 0.5 --target -3 --device cpu --threads 2 "
    "--machine NAME --prices FILE --tensorboard DIR --quiet --json",
    "resume RUN --budget-steps 10_000 --budget-hours 1_0.5 --budget-eur 1 --target 3 --tensorboard DIR",
    "eval RUN --episodes 1_00 --seed 0 --json",
    "watch RUN --video out.mp4 --episodes 3 --seed 0 --max-steps 1_000 --fps 12.5 --json",
    "export RUN --to onnx --out FILE --json",
    "bill RUN --json",
    "bill RUN RUN",
    "report RUN RUN --out FILE --baseline NAME --target 1 -2 --against FILE --prices FILE --json",
    "reprice RUN RUN --on NAME --env-step-ms 0.5 --baseline NAME --target 1 -2 --prices FILE --json",
    "mismatch RUN --correction token-tis:2 --strict --json",
    "list recipes --json",
    "doctor --json",
    "reproduce chain --seeds 1_00 --gamma 0.9 --alpha 0.1 0.5 --eps 0.2 --quick --out DIR --overwrite --processes 1 "
    "--json",
)


@pytest.mark.parametrize("usage", USAGES)
def test_published_usage_is_understood(usage: str) -> None:
    assert parse(shlex.split(usage)) is not None


@pytest.mark.parametrize("line", [line for lines in EXAMPLES.values() for line in lines])
def test_examples_are_understood(line: str) -> None:
    words = shlex.split(line.partition(" > ")[0])
    assert words[0] == "frugal"
    assert parse(words[1:]) is not None


def test_set_is_repeatable_and_takes_several_values() -> None:
    args: Any = parse(["train", "--set", "a=1", "b=2", "--set", "c=-3", "CartPole-v1"])
    assert args.set == (("a=1", "b=2"), ("c=-3",))
    assert args.env == "CartPole-v1"


def test_numbers_may_have_underscores() -> None:
    args: Any = parse(["train", "X", "--budget-steps", "10_000", "--budget-hours", "1_0.5", "--target", "-21"])
    assert (args.budget_steps, args.budget_hours, args.target) == (10_000, 10.5, -21.0)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_and_explains_every_option(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    shown = " ".join(re.sub(r"[│╭╮╰╯─]", " ", capsys.readouterr().out).split())
    for field in fields(kind_of(command)):
        if not positional(field):
            assert re.search(rf"--{field.name.replace('_', '-')} ([A-Za-z.|=]+ )?[A-Z$]", shown), field.name
    assert all(line in shown for line in EXAMPLES[command])
    assert "default: None" not in shown


def test_overview_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for name, (_, summary) in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(summary)}$", shown, re.MULTILINE)
        assert kind_of(name).__doc__ == summary
    assert "examples:" in shown
    assert "\x1b" not in shown


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert re.fullmatch(r"frugal \d+\.\d+\.\d+\S*\n", capsys.readouterr().out)


WRONG = (
    ([], "a command is missing"),
    (["tran"], "unknown command 'tran'; did you mean 'train'?"),
    (["zzzz"], "see frugal --help"),
    (["--quiet", "train"], "unknown option '--quiet'"),
    (["train"], "frugal train needs ENV"),
    (["resume"], "frugal resume needs RUN"),
    (["train", "--quiet"], "frugal train needs ENV"),
    (["watch", "R"], "frugal watch needs RUN, the folder of a run, and --video FILE"),
    (["watch", "R", "--video", "a.mp4", "--fps", "0"], "--fps: '0' must be more than 0"),
    (["export", "R"], "frugal export needs RUN, the folder of a run, and --to torch or --to onnx"),
    (["export", "R", "--to", "tflite"], "--to: 'tflite' is not one of torch, onnx"),
    (["list"], "needs a topic: recipes, envs"),
    (["train", "X", "--budgt-steps", "3"], "no option '--budgt-steps'; did you mean '--budget-steps'?"),
    (["train", "--budgt-steps", "3"], "no option '--budgt-steps'; did you mean '--budget-steps'?"),
    (["train", "X", "--budget", "3"], "did you mean '--budget-steps' or '--budget-hours' or '--budget-eur'?"),
    (["train", "X", "--zzz=3"], "no option '--zzz'"),
    (["train", "X", "y"], "'y'"),
    (["train", "X", "--seed"], "--seed needs a value"),
    (["train", "X", "--seed", "-1"], "--seed: '-1' must be 0 or more"),
    (["train", "X", "--device", "gpu"], "--device: 'gpu' is not one of auto, cpu, cuda"),
    (["train", "X", "--budget-steps", "ten"], "--budget-steps: 'ten' is not a whole number"),
    (["train", "X", "--budget-steps", "1.5"], "--budget-steps: '1.5' is not a whole number"),
    (["train", "X", "--budget-hours", "-1"], "--budget-hours: '-1' must be more than 0"),
    (["train", "X", "--budget-eur", "0"], "--budget-eur: '0' must be more than 0"),
    (["train", "X", "--target", "nan"], "--target: 'nan' is not a finite number"),
    (["eval", "R", "--actions", "sample"], "--actions: 'sample' is not one of greedy, sampled"),
    (["eval", "R", "--episodes", "0"], "--episodes: '0' must be more than 0"),
)


@pytest.mark.parametrize(("words", "part"), WRONG)
def test_wrong_usage_is_one_sentence_and_exit_code_2(
    words: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError) as caught:
        parse(words)
    assert part in str(caught.value)
    assert main(words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("frugal: error: ")
    assert part in shown.err
    assert shown.err.count("\n") == 1
    assert not re.search(r"[│╭\x1b]", shown.err)


def test_mistakes_are_sentences_whatever_the_terminal_can_draw() -> None:
    for encoding in ("utf-8", "ascii"):
        done = subprocess.run(
            [sys.executable, "-m", "frugalrl.cli", "train", "X", "--seed", "x"],
            env={**os.environ, "PYTHONIOENCODING": encoding},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stderr == (
            "frugal: error: --seed: 'x' is not a whole number such as 10_000; see frugal train --help\n"
        )


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["--version"], ["nonsense"], ["train", "X", "--a"]])
def test_help_loads_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys\nfrom frugalrl.cli import main\n"
        f"main({words!r})\n"
        "heavy = ('torch', 'numpy', 'gymnasium', 'rich', 'safetensors', 'ale_py', 'matplotlib')\n"
        "assert not [name for name in heavy if name in sys.modules]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_module_runs_as_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "frugalrl.cli", "tran"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert done.stderr == "frugal: error: unknown command 'tran'; did you mean 'train'?\n"
