"""``train`` and ``resume``: the configuration that is built, the lines that are printed, the exit codes."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from cli_fakes import BILL, FakeRun

from frugalrl.cli import main
from frugalrl.cli.parse import parse
from frugalrl.cli.train import build, default_folder, env_kwargs
from frugalrl.recipes import build_config
from frugalrl.report.records import find_runs
from frugalrl.run.config import RunConfig
from frugalrl.run.record import RunFolder
from frugalrl.run.rescue import how_to_go_on
from frugalrl.types import RunFailed, UserError


def built(*words: str) -> RunConfig:
    args: Any = parse(["train", *words])
    return build(args)


def test_every_option_reaches_the_configuration() -> None:
    config = built(
        *("CartPole-v1", "--explore", "counteractive", "--protocol", "plain", "--seed", "5", "--device", "cpu"),
        *("--threads", "2", "--machine", "generic", "--env-kwargs", "gravity=9.0", "--set", "agent.gamma=0.9"),
    )
    assert config.explore.name == "counteractive"
    assert (config.seed, config.device, config.threads, config.machine) == (5, "cpu", 2, "generic")
    assert config.env.kwargs == {"gravity": 9.0}
    assert config.agent.gamma == 0.9
    assert config.budget == build_config("CartPole-v1").budget


def test_options_left_out_change_nothing() -> None:
    assert built("CartPole-v1") == build_config("CartPole-v1")


def test_a_budget_replaces_the_recipes_and_a_target_alone_is_added() -> None:
    own = build_config("CartPole-v1").budget
    hours = built("CartPole-v1", "--budget-hours", "2", "--budget-eur", "0.5").budget
    assert (hours.env_steps, hours.hours, hours.eur) == (None, 2.0, 0.5)
    target = built("CartPole-v1", "--target", "475").budget
    assert (target.env_steps, target.target_score) == (own.env_steps, 475.0)
    both = built("CartPole-v1", "--target", "475", "--budget-steps", "10_000").budget
    assert (both.env_steps, both.target_score) == (10_000, 475.0)


def test_set_wins_over_options() -> None:
    assert built("CartPole-v1", "--seed", "1", "--set", "seed=2").seed == 2


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--explore", "contraactive"], "did you mean 'counteractive'?"),
        (["--recipe", "classic"], "did you mean 'classic-dqn'?"),
        (["--protocol", "plan"], "did you mean 'plain'?"),
        (["--set", "agent.gama=1"], "did you mean 'agent.gamma'?"),
        (["--set", "agent.gamma"], "has no '='"),
        (["--set", "seed=-1"], "seed"),
        (["--env-kwargs", '{"a":'], "not valid JSON"),
        (["--env-kwargs", "a"], "neither k=v nor a JSON object"),
        (["--env-kwargs", "a=1e400"], "--env-kwargs a=1e400: expected finite numbers"),
        (["--env-kwargs", '{"a": [NaN]}'], "expected finite numbers"),
        (["--set", 'env.kwargs={"a": NaN}'], "env.kwargs={'a': nan}: expected finite numbers"),
        (["--machine", "generik"], "did you mean 'generic'?"),
        (["--recipe", "ppo", "--probe-envs", "2"], "error: evaluation.probe_rows=2: the probe judges Q-values"),
        (["--prices", "none.toml"], "none.toml"),
    ],
)
def test_mistakes_are_found_before_anything_is_written(
    words: list[str], part: str, tmp_path: Path, fake: FakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "CartPole-v1", *words]) == 2
    shown = capsys.readouterr()
    assert part in shown.err
    assert shown.err.count("\n") == 1
    assert fake.folder is None
    assert list(tmp_path.iterdir()) == []


def test_env_kwargs_are_typed() -> None:
    assert env_kwargs(("a=1_000", "b=0.5", "c=false", "d=True", "e=4x4", "f=[1, 2]", "g=None", "h=x=y")) == {
        "a": 1000,
        "b": 0.5,
        "c": False,
        "d": True,
        "e": "4x4",
        "f": [1, 2],
        "g": None,
        "h": "x=y",
    }
    assert env_kwargs(('{"a": {"b": 1}}', "c=2")) == {"a": {"b": 1}, "c": 2}
    with pytest.raises(UserError, match="neither"):
        env_kwargs(("[1]",))


def test_default_folder_is_a_safe_name_that_nobody_else_gets() -> None:
    now = time.struct_time((2026, 11, 22, 13, 5, 9, 6, 326, 0))
    config = build_config("module.sub:ALE/Pong-v5")
    first = default_folder(config, now)
    assert first == Path("runs/module.sub-ALE-Pong-v5-epsilon-greedy-seed0-20261122-130509")
    assert default_folder(config, now) == first.with_name(first.name + "-2"), "runs that start together share a folder"


def test_a_default_folder_that_cannot_be_made_is_one_sentence() -> None:
    for make in (lambda: Path("runs").touch(), lambda: Path("runs").symlink_to("nowhere")):
        make()
        with pytest.raises(UserError, match="cannot be made"):
            default_folder(build_config("CartPole-v1"))
        Path("runs").unlink()


def test_a_run_that_does_not_start_leaves_no_folder(fake: FakeRun) -> None:
    fake.raises = UserError("no such thing")
    assert main(["train", "CartPole-v1", "--quiet"]) == 2
    assert not Path("runs").exists()


def test_plain_output(fake: FakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "CartPole-v1", "--out", "here"]) == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert lines[0] == (
        "ALE/Pong-v5 | protocol atari100k | recipe atari100k-ddqn | explorer counteractive | sampler inline | seed 7 | "
        "1 thread | device cpu"
    )
    assert lines[1] == "budget 10,000 steps | folder runs/pong"
    assert lines[2] == "note: the newest checkpoint was damaged"
    assert "score after 10 steps: 21.5 [20, 23] over 2 episodes, protocol atari100k, epsilon 0.001" in lines
    assert "Limit: learner takes 99 % of the CPU-seconds" in shown.out
    for command in ("frugal resume here", "frugal eval here", "frugal bill here"):
        assert command in shown.out
    assert "\x1b" not in shown.out
    assert "\r" not in shown.out
    assert shown.err == ""


def test_colours_asked_for_by_the_environment_stay_out_of_a_pipe(
    fake: FakeRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert main(["train", "CartPole-v1", "--out", "here"]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_quiet_is_the_first_line_notes_and_the_score(fake: FakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "CartPole-v1", "--quiet", "--out", "here"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("ALE/Pong-v5 | protocol")
    assert lines[1:] == [
        "note: the newest checkpoint was damaged",
        "note: evaluation takes 30 % of the CPU",
        "an environment that prints",
        "score after 10 steps: 21.5 [20, 23] over 2 episodes, protocol atari100k, epsilon 0.001",
    ]


@pytest.mark.parametrize("quiet", [False, True])
def test_json_is_all_of_stdout(quiet: bool, fake: FakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "CartPole-v1", "--json", "--out", "here", *(["--quiet"] if quiet else [])]) == 0
    shown = capsys.readouterr()
    (line,) = shown.out.splitlines()
    document = json.loads(line, parse_constant=pytest.fail)
    assert document["outcome"] == {
        "reason": "the budget of 10 steps is used",
        "completed": True,
        "env_steps": 10,
        "run": "here",
    }
    assert document["score"]["mean_return"] == 21.5
    assert document["bill"]["schema"] == "frugalrl.bill/1"
    assert ("protocol atari100k" in shown.err) is not quiet
    assert "an environment that prints" in shown.err


def test_the_run_is_told_the_command_the_tables_and_who_owns_the_process(fake: FakeRun) -> None:
    Path("my.toml").write_text("[electricity]\neur_per_kwh = 0.5\n")
    words = ["train", "CartPole-v1", "--out", "here", "--prices", "my.toml", "--quiet"]
    main(words)
    assert fake.folder == Path("here")
    assert fake.known["command"] == ["frugal", *words]
    assert fake.known["tables"].electricity.eur_per_kwh == 0.5
    assert fake.known["whole_process"] is False  # main was called with argv, by a process that does other things


def test_price_file_from_the_environment(fake: FakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("my.toml").write_text("[electricity]\neur_per_kwh = 0.5\n")
    monkeypatch.setenv("FRUGALRL_PRICES", "my.toml")
    main(["train", "CartPole-v1", "--quiet", "--out", "here"])
    assert fake.known["tables"].electricity.eur_per_kwh == 0.5


def test_commands_to_go_on_can_be_pasted(fake: FakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "CartPole-v1", "--out", "my runs/[a] b"]) == 0
    shown = capsys.readouterr().out
    for command in (
        "resume 'my runs/[a] b' --budget-steps N",
        "eval 'my runs/[a] b' --episodes",
        "bill 'my runs/[a] b'",
    ):
        assert f"frugal {command}" in shown
    assert "folder  my runs/[a] b\n" in shown
    fake.completed = False
    assert main(["train", "CartPole-v1", "--quiet", "--out", "my runs/[a] b"]) == 1
    assert "go on with: frugal resume 'my runs/[a] b'\n" in capsys.readouterr().err
    assert how_to_go_on("Broken", Path("a b"), 5).startswith("Broken; when that is mended, `frugal resume 'a b'` goes")


def test_interrupted_run_fails_and_says_how_to_go_on(fake: FakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    fake.completed, fake.score = False, None
    assert main(["train", "CartPole-v1", "--out", "here"]) == 1
    shown = capsys.readouterr()
    assert shown.err == "frugal: interrupted by SIGINT at step 10; go on with: frugal resume here\n"
    assert "score after 10 steps: not evaluated" in shown.out
    assert main(["train", "CartPole-v1", "--json", "--quiet", "--out", "here"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["score"] is None
    assert document["outcome"]["completed"] is False


@pytest.mark.parametrize(("error", "code"), [(RunFailed("the loss is NaN"), 1), (UserError("no such thing"), 2)])
def test_expected_errors_are_one_sentence(
    error: Exception, code: int, fake: FakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.raises = error
    assert main(["train", "CartPole-v1", "--quiet", "--out", "here"]) == code
    assert capsys.readouterr().err == f"frugal: error: {error}\n"


@pytest.mark.parametrize("exists", [False, True])
def test_unexpected_errors_leave_a_traceback(
    exists: bool, tmp_path: Path, fake: FakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "here"
    if exists:
        folder.mkdir()
    fake.raises = ZeroDivisionError("division\nby zero")
    assert main(["train", "CartPole-v1", "--quiet", "--out", str(folder)]) == 1
    where = (folder if exists else tmp_path) / "error.txt"
    assert capsys.readouterr().err == (
        f"frugal: error: unexpected ZeroDivisionError: division by zero; the traceback is in {where}\n"
    )
    assert "Traceback" in where.read_text()


def test_what_an_error_carries_for_the_user_is_said(
    tmp_path: Path, fake: FakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.raises = ZeroDivisionError("oops")
    fake.raises.add_note("`frugal resume here` goes on")
    assert main(["train", "CartPole-v1", "--quiet", "--out", "here"]) == 1
    assert "unexpected ZeroDivisionError: oops; `frugal resume here` goes on; the trace" in capsys.readouterr().err


def test_torch_without_memory_is_a_sentence(fake: FakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    fake.raises = RuntimeError(
        "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes."
    )
    assert main(["train", "CartPole-v1", "--quiet", "--out", "here"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("frugal: error: out of memory: ")
    assert said.endswith("; a smaller network, observation or batch needs less\n")


@pytest.mark.parametrize("words", [("train", "CartPole-v1", "--quiet", "--out"), ("resume",), ("bill",), ("eval",)])
def test_a_name_that_no_file_system_takes(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "a" * 300]) == 2
    said = capsys.readouterr().err
    assert said.startswith("frugal: error: the name ")
    assert said.endswith("a... is too long for this file system; shorten it\n")


def test_second_ctrl_c(fake: FakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    Path("here").mkdir()
    Path("here/config.json").write_text("{}")
    fake.raises = KeyboardInterrupt()
    assert main(["train", "CartPole-v1", "--quiet", "--out", "here"]) == 130
    assert capsys.readouterr().err == "frugal: error: interrupted; go on with: frugal resume here\n"


# -- resume ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return RunFolder.create(tmp_path / "run", build_config("CartPole-v1"), {}).path


def test_resume_keeps_the_budget_unless_told(run_folder: Path, fake: FakeRun) -> None:
    assert main(["resume", str(run_folder), "--quiet"]) == 0
    assert fake.folder == run_folder
    assert fake.known["budget"] is None
    assert main(["resume", str(run_folder), "--quiet", "--budget-steps", "200_000"]) == 0
    assert fake.known["budget"].env_steps == 200_000
    assert main(["resume", str(run_folder), "--quiet", "--target", "475"]) == 0
    assert (fake.known["budget"].env_steps, fake.known["budget"].target_score) == (60_000, 475.0)


@pytest.mark.parametrize("command", ["resume", "eval", "bill"])
def test_a_folder_that_is_no_run(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "nowhere"]) == 2
    assert "there is no run folder nowhere" in capsys.readouterr().err
    assert main([command, str(tmp_path)]) == 2
    assert "is not a run folder" in capsys.readouterr().err


def test_bill(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from frugalrl.cost import to_json

    assert main(["bill", str(run_folder)]) == 2
    assert re.search(r"has no bill yet.*frugal resume", capsys.readouterr().err)
    (run_folder / "bill.json").write_text(json.dumps(to_json(BILL)))
    assert main(["bill", str(run_folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == to_json(BILL)
    assert main(["bill", str(run_folder)]) == 0
    shown = capsys.readouterr().out
    assert "learner" in shown
    assert "\x1b" not in shown
    for broken in ('{"schema": "frugalrl.bill/1"}', "[]", "{}", ""):
        (run_folder / "bill.json").write_text(broken)
        assert main(["bill", str(run_folder)]) == 2
        assert "bill.json" in capsys.readouterr().err


def test_a_run_that_is_named_twice_is_billed_once(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from frugalrl.cost import to_json

    (run_folder / "bill.json").write_text(json.dumps(to_json(BILL)))
    (run_folder.parent / "latest").symlink_to(run_folder)
    other = RunFolder.create(run_folder.parent / "läufe", build_config("CartPole-v1"), {}).path
    (other / "bill.json").write_text(json.dumps(to_json(BILL)))
    names = [str(run_folder), "latest", "run", "läufe/../run", "läufe"]
    assert main(["bill", *names, "--json"]) == 0
    assert [run["run"] for run in json.loads(capsys.readouterr().out)["runs"]] == [str(run_folder), "läufe"]
    assert find_runs([run_folder.parent / "latest", run_folder]) == [run_folder.parent / "latest"]


def test_a_bill_that_is_older_than_its_run_is_said(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from frugalrl.cost import to_json

    (run_folder / "bill.json").write_text(json.dumps(to_json(BILL)))
    record = RunFolder.open(run_folder)
    for kind, said in (("end", ""), ("resume", "was resumed after this bill was made"), ("end", "")):
        record.log(kind, env_steps=10, evaluated=0, completed=True, reason="done")
        assert main(["bill", str(run_folder), "--json"]) == 0
        shown = capsys.readouterr()
        assert (said in shown.err, bool(shown.err)) == (True, bool(said))
        assert json.loads(shown.out) == to_json(BILL)
