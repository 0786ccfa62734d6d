from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from run_support import cartpole

from frugalrl.run.record import Done, Progress, RunFolder, code_version, read_json, read_progress, write_json
from frugalrl.run.rescue import keep_tracebacks
from frugalrl.types import RunFailed, UserError

CONFIG = cartpole()


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A write beyond ``size`` bytes fails, as on a full disk: the system says so, nothing is faked."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# -- the folder ------------------------------------------------------------------------------------------------------


def test_a_new_folder_holds_configuration_and_machine(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "deep" / "run", CONFIG, {"machine": "m"})
    assert folder.config() == CONFIG
    assert read_json(folder.path / "machine.json") == {"machine": "m"}
    assert RunFolder.open(folder.path).config() == CONFIG


def test_a_folder_that_died_while_it_was_made_is_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With config.json alone it was gone on with, and `compare` ended at its end for want of machine.json."""
    written: list[str] = []

    def write_one(path: Path, document: object) -> None:
        if written:
            raise SystemExit
        written.append(path.name)
        write_json(path, document)

    monkeypatch.setattr("frugalrl.run.record.write_json", write_one)
    with pytest.raises(SystemExit):
        RunFolder.create(tmp_path / "run", CONFIG, {"machine": "m"})
    assert written
    with pytest.raises(UserError, match=r"it has no config\.json"):
        RunFolder.open(tmp_path / "run")


def test_an_empty_folder_can_be_used(tmp_path: Path) -> None:
    assert RunFolder.create(tmp_path, CONFIG, {}).config() == CONFIG


def test_a_used_folder_is_refused(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "run", CONFIG, {})
    before = (tmp_path / "run" / "config.json").read_bytes()
    with pytest.raises(UserError, match="already used; continue it with `frugal resume`"):
        RunFolder.create(tmp_path / "run", CONFIG, {})
    assert (tmp_path / "run" / "config.json").read_bytes() == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="already used; choose another"):
        RunFolder.create(tmp_path / "other", CONFIG, {})


def test_of_two_processes_that_found_a_folder_empty_one_gets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one must not write its configuration over that of the first, which goes on with the wrong one."""
    monkeypatch.setattr("frugalrl.run.record.refuse_used", lambda *paths: None)  # both have looked before either wrote
    RunFolder.create(tmp_path / "run", CONFIG, {})
    with pytest.raises(UserError, match="taken by another process"):
        RunFolder.create(tmp_path / "run", cartpole("seed=7"), {})
    assert RunFolder.open(tmp_path / "run").config() == CONFIG


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(UserError, match=r"cannot be written \(.+\); choose another --out"):
            RunFolder.create(path, CONFIG, {})

    def refuse(*args: object, **kwargs: object) -> None:  # root may write anywhere, so permissions show nothing here
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", refuse)
        with pytest.raises(UserError, match=r"cannot be written \(Permission denied\)"):
            RunFolder.create(tmp_path / "run", CONFIG, {})
    with files_of_at_most(100), pytest.raises(UserError, match="cannot be written"):
        RunFolder.create(tmp_path / "full", CONFIG, {})
    RunFolder.create(tmp_path / "full", CONFIG, {})  # once there is room again, it is not used


def test_the_traceback_of_a_message_that_no_encoding_knows_is_kept(tmp_path: Path) -> None:
    keep_tracebacks(tmp_path, ValueError("no file caf\udce9"))
    assert "no file caf\\udce9" in (tmp_path / "error.txt").read_text()


def test_a_folder_that_is_no_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no run folder"):
        RunFolder.open(tmp_path / "nowhere")
    file = tmp_path / "prices.toml"
    file.touch()
    with pytest.raises(UserError, match=r"prices.toml is a file; give the folder of a run"):
        RunFolder.open(file)
    with pytest.raises(UserError, match=r"is not a run folder: it has no config.json"):
        RunFolder.open(tmp_path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "cannot be read"),
        ('{"recipe": "x", "env"', "cannot be read"),
        ("[]", "is damaged: config must be a group of fields"),
        ('{"recipe": "x"}', "is damaged: .*env"),
        ('{"recipe": "x", "env": {"id": "a", "protocol": "plain"}, "sed": 1}', "no field 'sed'; did you mean 'seed'"),
    ],
)
def test_a_damaged_configuration_is_named(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=says) as caught:
        RunFolder.open(tmp_path).config()
    assert str(tmp_path / "config.json") in str(caught.value)


def test_json_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "bill.json"
    write_json(path, {"a": 1})
    with files_of_at_most(1_000), pytest.raises(RunFailed, match=r"bill.json cannot be written: .+"):
        write_json(path, {"a": "x" * 5_000})
    assert read_json(path) == {"a": 1}
    assert [f.name for f in tmp_path.iterdir()] == ["bill.json"]


def test_the_code_version_changes_with_the_code() -> None:
    version = code_version()
    assert len(version["source_sha256"]) == 64
    assert version == code_version()


# -- metrics.jsonl ---------------------------------------------------------------------------------------------------


def steps(folder: RunFolder, kind: str) -> list[int]:
    return [line["env_steps"] for line in folder.lines() if line["kind"] == kind]


def test_what_a_resumed_run_did_again_replaces_what_was_there(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.lines() == []
    for step in (100, 200, 300):
        folder.log("evaluation", env_steps=step, score=step)
        folder.log("progress", env_steps=step)
    folder.log("resume", env_steps=200, evaluated=200)
    folder.log("evaluation", env_steps=300, score=-300)
    assert steps(folder, "evaluation") == [100, 200, 300]
    assert folder.lines()[-1]["score"] == -300
    folder.log("resume", env_steps=100, evaluated=100)
    assert steps(folder, "evaluation") == [100]
    assert steps(folder, "progress") == [100]


def test_an_evaluation_after_the_checkpoint_of_the_same_step_is_not_kept_twice(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.log("evaluation", env_steps=100)
    # the checkpoint of step 200 was saved before the evaluation of step 200, and the run died after it
    folder.log("evaluation", env_steps=200)
    folder.log("resume", env_steps=200, evaluated=100)
    folder.log("evaluation", env_steps=200)
    assert steps(folder, "evaluation") == [100, 200]


def test_a_resume_line_of_an_older_version_is_understood(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for step in (100, 200):
        folder.log("evaluation", env_steps=step)
    folder.log("resume", env_steps=150)
    assert steps(folder, "evaluation") == [100]


@pytest.mark.parametrize("tail", [b'{"kind": "progress", "env_st', b"\x00\x00\xff\xfe", b'{"kind": "progress"'])
def test_a_line_that_was_cut_short_stays_alone(tmp_path: Path, tail: bytes) -> None:
    folder = RunFolder(tmp_path)
    folder.log("evaluation", env_steps=100)
    folder.log("evaluation", env_steps=200)
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(tail)
    assert steps(folder, "evaluation") == [100, 200]
    folder.log("resume", env_steps=100, evaluated=100)  # would be lost if it were glued to the broken line
    assert steps(folder, "evaluation") == [100]
    assert steps(folder, "resume") == [100]


def test_a_full_disk_fails_the_run_in_one_sentence(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.log("progress", env_steps=1)
    with files_of_at_most(40), pytest.raises(RunFailed, match=r"metrics.jsonl cannot be written: .+"):
        folder.log("progress", env_steps=2, text="x" * 100)
    folder.log("progress", env_steps=3)
    assert steps(folder, "progress") == [1, 3]


# -- progress.bin ----------------------------------------------------------------------------------------------------


def test_progress_keeps_the_beginning_and_the_end_of_each_process(tmp_path: Path) -> None:
    path = tmp_path / "progress.bin"
    written = []
    for session in range(3):
        progress = Progress(path)
        progress.begin(Done(session, 10 * session, 0, 0.5, 0.5))
        for step in range(1, 4):
            progress.write(Done(session, 10 * session + step, step, 1.0, 2.0))
        written += [Done(session, 10 * session, 0, 0.5, 0.5), Done(session, 10 * session + 3, 3, 1.0, 2.0)]
        assert progress.read() == written
        progress.close()
    assert read_progress(path.read_bytes()) == written
    assert read_progress(path.read_bytes()[:-1]) == written[:-1]
    assert read_progress(b"") == []


def test_a_process_that_died_right_after_its_beginning_loses_no_record(tmp_path: Path) -> None:
    path = tmp_path / "progress.bin"
    first = Progress(path)
    first.begin(Done(0, 0, 0, 0.0, 0.0))
    first.write(Done(0, 70, 7, 1.0, 1.0))
    first.close()
    second = Progress(path)
    second.begin(Done(1, 50, 5, 0.1, 0.1))
    second.close()
    third = Progress(path)
    assert [(d.session, d.env_steps) for d in third.read()] == [(0, 0), (0, 70), (1, 50)]
    third.close()


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    progress = RunFolder(tmp_path).progress()
    with pytest.raises(UserError, match="another process is working in the run folder"):
        RunFolder(tmp_path).progress()
    code = (
        "import sys; from pathlib import Path; from frugalrl.run.record import Progress\n"
        "try: Progress(Path(sys.argv[1]))\n"
        "except Exception as error: print(type(error).__name__)"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "progress.bin")]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip() == "UserError"
    progress.close()
    RunFolder(tmp_path).progress().close()


def test_progress_that_cannot_be_written_fails_the_run(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match=r"progress.bin cannot be written"):
        Progress(tmp_path / "nowhere" / "progress.bin")
    progress = Progress(tmp_path / "progress.bin")
    with files_of_at_most(20), pytest.raises(RunFailed, match=r"progress.bin cannot be written: .+"):
        progress.begin(Done(0, 0, 0, 0.0, 0.0))
    progress.close()


def test_progress_of_an_older_version_is_read(tmp_path: Path) -> None:
    (tmp_path / "progress.bin").write_bytes(Progress._RECORD.pack(1, 500, 100, 3.0, 4.0))
    progress = RunFolder(tmp_path).progress()
    assert progress.read() == [Done(1, 500, 100, 3.0, 4.0)]
    progress.close()


def test_damaged_lines_do_not_count(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", CONFIG, {})
    folder.log("progress", env_steps=4)
    with (folder.path / "metrics.jsonl").open("a") as file:
        file.write('3\n[]\n{"env_steps": 5}\n\0\0\n')
    folder.log("end", env_steps=6)
    assert [line["env_steps"] for line in folder.lines()] == [4, 6]


def test_the_lines_are_json(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.log("progress", env_steps=1, loss=0.5)
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line) == {"kind": "progress", "env_steps": 1, "loss": 0.5}


def test_meters_that_are_not_finite_leave_json_that_others_can_read(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", CONFIG, {})
    folder.log("progress", env_steps=3, loss=float("nan"), grad_norm=float("inf"), td=1.5, why=None)
    text = (folder.path / "metrics.jsonl").read_text()
    line = json.loads(text, parse_constant=pytest.fail)
    assert line == {"kind": "progress", "env_steps": 3, "loss": None, "grad_norm": None, "td": 1.5, "why": None}
