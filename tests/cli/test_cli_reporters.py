"""Every reporter: what it shows, what it never shows, and that it survives its reader."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from cli_fakes import HEADER, NOTHING_KNOWN, SCORE, status, tell
from rich.console import Console

from frugalrl.cli.plain import Plain, Quiet, status_line
from frugalrl.cli.screen import Screen
from frugalrl.cli.words import duration, euros, first_line, one_line, score_in_words, second_line, short
from frugalrl.cost.stages import Lane, Stages
from frugalrl.run.status import Silent
from frugalrl.types import ROLES


def screen(width: int, height: int = 24) -> tuple[Screen, io.StringIO]:
    stream = io.StringIO()
    return Screen(Console(file=stream, force_terminal=True, width=width, height=height)), stream


def rendered(found: Screen, shown: object) -> list[str]:
    stream = io.StringIO()
    console = Console(file=stream, width=found._console.width, color_system=None)
    console.print(shown)
    return stream.getvalue().rstrip("\n").split("\n")


@pytest.mark.parametrize("reporter", [Plain(io.StringIO()), Quiet(io.StringIO()), Silent()])
def test_reporters_take_every_call(reporter: object) -> None:
    tell(reporter)


def test_plain_lines() -> None:
    stream = io.StringIO()
    tell(Plain(stream))
    lines = stream.getvalue().splitlines()
    assert lines[0] == first_line(HEADER)
    assert lines[2] == "note: the newest checkpoint was damaged"  # it came before the start
    assert lines[3] == "step 12,000 | filling the replay | epsilon 0.05 | CPU 2 min"
    assert lines[4] == (
        "step 12,000 | 40 % | training | score 21.5 [20, 23] at 10,000 | behaviour return -20.5 (not the score) | "
        "92.4 steps/s | ETA 3 min | epsilon 0.05 | loss 0.0123 | td mean 0.1 | td abs 0.2 | q mean 1.25 | CPU 2 min | "
        "0.0036 EUR"
    )
    assert lines[5] == ("score at step 10,000: 21.5 [20, 23] over 2 episodes, protocol atari100k, epsilon 0.001")
    assert "\x1b" not in stream.getvalue()


def test_an_explorer_without_epsilon_shows_none() -> None:
    assert "epsilon" not in status_line(status(epsilon=None))
    found, _ = screen(80)
    found.start(HEADER)
    text = " ".join(" ".join(rendered(found, found.render(status(epsilon=None)))).split())
    found.close()
    assert "epsilon none" in text


def test_a_note_is_not_lost_when_the_run_does_not_start() -> None:
    stream = io.StringIO()
    reporter = Plain(stream)
    reporter.note("damaged")
    reporter.close()
    assert stream.getvalue() == "note: damaged\n"
    found, stream = screen(80)
    found.note("damaged")
    found.close()
    assert "damaged" in stream.getvalue()


EVERYTHING = (
    *("21.5  [20, 23]", "step 10,000", "▁", "behaviour return -20.5", "not the score", "environment", "learner"),
    *("waiting", "70 %", "12,000", "48,000", "2,600", "92.4", "0.0123", "1.25", "0.0036 EUR", "129.0", "4.5 T"),
    *("1.23 GB", "training", "40 %", "10,000 steps", "ETA 3 min"),
)


def lines_of(width: int, height: int, **changes: object) -> list[str]:
    found, _ = screen(width, height)
    found.start(replace(HEADER, resumed_at=2_000))
    for step in range(5):
        found.status(status(wall_s=130.0 + step))
        found.score(step, replace(SCORE, mean_return=float(step)))
    lines = rendered(found, found.render(status(**changes)))
    found.close()
    assert len(lines) <= height
    assert all(len(line) <= min(width, 120) for line in lines)
    return lines


@pytest.mark.parametrize(("width", "height"), [(60, 32), (75, 32), (76, 24), (80, 24), (81, 24), (120, 24), (200, 24)])
def test_screen_fits_and_says_everything(width: int, height: int) -> None:
    lines = lines_of(width, height)
    if width >= 76:
        assert len(lines) == 18  # with two wrapped lines above it, 24 rows are enough
    text = "\n".join(lines)
    assert "…" not in text
    for part in EVERYTHING:
        assert part in text, part


@pytest.mark.parametrize(
    ("width", "height", "titles"),
    [
        *((80, 18, ["score", "where the time goes", "learning", "the bill so far"]), (80, 5, [])),
        *((80, 17, ["score", "where the time goes"]), (80, 15, ["score", "where the time goes"])),
        *((60, 24, ["score", "the bill so far", "learning"]), (60, 15, ["score"]), (60, 8, [])),
    ],
)
def test_a_low_terminal_loses_its_lowest_panels_and_never_the_progress(
    width: int, height: int, titles: list[str]
) -> None:
    lines = lines_of(width, height)
    known = ("score", "where the time goes", "learning", "the bill so far")
    assert [t for t in known if f"╭─ {t} ─" in "\n".join(lines)] == sorted(titles, key=known.index)
    assert " 40 % " in lines[-2]
    assert "budget 10,000 steps  |  ETA 3 min" in lines[-1]


@pytest.mark.parametrize("width", [40, 60, 75, 76, 80])
def test_no_value_is_cut_however_narrow_the_screen(width: int) -> None:
    large = {"loss": -1_234_567.0, "entropy": 0.5, "value_mean": -0.00030812}
    counts = {"env_steps": 12_345_678, "frames": 49_382_712, "updates": 1_312_345, "episodes": 999_999}
    text = "\n".join(lines_of(width, 40, metrics=large, **counts))
    for part in ("12.35 M", "49.38 M", "1.312 M", "999,999", "-1,234,567", "-0.000308", "0.0036 EUR"):
        assert f"{part} " in text, part


METRICS = dict.fromkeys(("loss", "entropy", "value_mean", "grad_norm", "rho_clipped_share", "live_rows"), 0.1234)
CENTRAL = Stages(
    covers=None, wall_s=100.0, other_s=0.0, cpu_s=150.0, cores=2, gpu=False, env_steps=50_000,
    environments=Lane(work_cpu_s=75.0, transport_cpu_s=1.0, width=2),
    engine=Lane(work_cpu_s=30.0, transport_cpu_s=2.0, network_cpu_s=25.0), learner=Lane(work_cpu_s=40.0),
    blocked_s=71.0, starved_s=2.0, learner_waited_s=3.0, batches=5_000, batch_rows=116.8, batch_fill=0.75,
    by_rule={"full": 3_000, "share": 2_000, "deadline": 0}, queue_ms=(0.5, 187.25, 204.0), forward_ms=None, rows=128,
    live_rows=127, restarts=1, dropped_steps=7, repeated=0, lag_min=0.0, lag_mean=1.5, lag_max=4.0,
)  # fmt: skip


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_screen_of_a_central_run_shows_its_stages(width: int) -> None:
    found, _ = screen(width, 24 if width > 60 else 32)
    found.start(HEADER)
    shown = status(stages=CENTRAL, metrics={**METRICS, "loss": -0.00689, "lag_mean": 3.857}, env_steps=12_345_678)
    found.status(shown)
    lines = rendered(found, found.render(shown))
    found.close()
    assert len(lines) <= (18 if width > 60 else 32)
    assert all(len(line) <= min(width, 120) for line in lines)
    text = "\n".join(lines)
    assert "…" not in text
    for part in (
        *(
            "environments",
            "50 %",
            "transport",
            "engine",
            "73 %",
            "learner",
            "others",
            "queue full 71 %, no request 2 %",
        ),
        *("127 of 128 rows live, restarts 1", "entropy", "0.1234", "3.857", "116.8", "75 %", "187 ms", "0.0036 EUR"),
    ):
        assert part in text, part
    assert "q mean" in "\n".join(rendered(found, found.render(status(stages=CENTRAL))))  # a learner of values


def test_screen_of_a_central_run_before_anything_is_known() -> None:
    found, _ = screen(80)
    found.start(HEADER)
    bare = replace(CENTRAL, wall_s=0.0, batch_rows=None, batch_fill=None, queue_ms=None)
    text = "\n".join(rendered(found, found.render(status(**NOTHING_KNOWN, stages=bare))))
    found.close()
    assert "nothing measured yet" in text
    assert "None" not in text


def test_a_line_of_a_central_run_has_what_matters_and_no_more() -> None:
    engine = {"lag_mean": 1.5, "batch_rows": 11.5, "queue_ms_p95": 3.25, "forward_ms_p50": 0.1, "dropped_steps": 7.0}
    line = status_line(status(stages=CENTRAL, epsilon=None, score=None, metrics=METRICS | engine))
    assert line == (
        "step 12,000 | 40 % | training | behaviour return -20.5 (not the score) | 92.4 steps/s | ETA 3 min | "
        "loss 0.1234 | entropy 0.1234 | lag mean 1.5 | batch rows 11.5 | queue ms p95 3.25 | "
        "waits: engine 71 % queue full, 2 % no request, learner 3 %, restarts 1 | CPU 2 min | 0.0036 EUR"
    )


def test_screen_of_an_actor_critic_shows_entropy() -> None:
    found, _ = screen(80)
    found.start(HEADER)
    text = "\n".join(rendered(found, found.render(status(metrics=METRICS))))
    found.close()
    assert "entropy" in text
    assert "q mean" not in text


def test_screen_before_anything_is_known() -> None:
    found, _ = screen(80)
    found.start(HEADER)
    lines = rendered(found, found.render(status(**NOTHING_KNOWN)))
    found.close()
    assert len(lines) <= 18
    assert "not evaluated yet" in "\n".join(lines)
    assert "None" not in "\n".join(lines)


def test_screen_groups_the_small_roles() -> None:
    found, _ = screen(80)
    found.start(HEADER)
    shares = {role: 0.3 if role in ("learner", "waiting") else 0.4 / (len(ROLES) - 2) for role in ROLES}
    found.status(status(shares=shares))
    text = "\n".join(rendered(found, found.render(status())))
    found.close()
    assert "others" in text
    for role in ("environment", "inference", "replay"):  # a bar of their own, however small
        assert f"{role} " in text
    assert text.index("learner ") < text.index("waiting ") < text.index("others ")


def test_screen_adds_up_the_session() -> None:
    found, _ = screen(80)
    found.start(HEADER)
    found.status(status(wall_s=1.0, shares={"learner": 1.0}))
    found.status(status(wall_s=4.0, shares={"environment": 1.0}))
    text = "\n".join(rendered(found, found.render(status())))
    found.close()
    assert "  75 %" in text
    assert "  25 %" in text


def test_screen_gives_the_terminal_back() -> None:
    found, stream = screen(80)
    tell(found)
    assert stream.getvalue().rstrip().endswith("\x1b[?25h")  # the cursor is shown again
    assert found.interval_s == 2.0


def test_plain_outlives_its_reader(capsys: pytest.CaptureFixture[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as stream:
        tell(Plain(stream))  # raises nothing
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # so that closing can flush


class Gone(io.StringIO):
    """A terminal whose window was closed, or a log on a full disk."""

    def write(self, text: str) -> int:
        raise OSError(5, "Input/output error")


def test_reporters_outlive_a_terminal_that_is_gone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for make in (Plain, lambda stream: Screen(Console(file=stream, force_terminal=True, width=80))):
        gone = Gone()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", gone)
            tell(make(gone))  # raises nothing
            sys.stdout.close()
        assert capsys.readouterr().err == "frugal: stdout: Input/output error; the run goes on in runs/pong\n"


def test_what_cannot_be_written_is_said_in_one_sentence(tmp_path: Path) -> None:
    """Stdout that is full or closed, and a traceback in a working directory that was deleted."""
    code = "import os, sys\nfrom frugalrl.cli import main\n"
    listing = code + "sys.exit(main(['list', 'explorers', '--json']))"
    lost = "import os, tempfile\nd = tempfile.mkdtemp(); os.chdir(d); os.rmdir(d)\n" + code
    lost += "from frugalrl.cli import errors\n"
    lost += "def oops(): raise ValueError('caf\\udce9')\n"
    lost += "sys.exit(errors.guarded(oops, errors.Context()))"
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    full = "frugal: error: standard output cannot be written: No space left on device\n"
    for words, program, exit_code, said in (
        ("exec > /dev/full;", listing, 1, full),
        ("exec >&-;", listing, 0, ""),
        ("", lost, 1, "frugal: error: unexpected ValueError: caf\\udce9; the traceback is in "),
    ):
        command = ["sh", "-c", f'{words} exec "$0" -c "$1"', sys.executable, program]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
        assert done.returncode == exit_code, done.stderr
        assert done.stderr.startswith(said)
        assert done.stderr.count("\n") == exit_code


def test_a_closed_pipe_is_no_error() -> None:
    code = "import sys\nfrom frugalrl.cli import main\nsys.exit(main(['list', 'explorers', '--json']))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    timer = threading.Timer(60, process.kill)
    timer.start()
    with process.stderr as stderr:
        assert stderr.read() == b""
    assert process.wait() == 1
    timer.cancel()


def test_status_line_without_anything() -> None:
    assert "None" not in status_line(status(**NOTHING_KNOWN))


def test_words() -> None:
    assert second_line(replace(HEADER, resumed_at=5_000)).startswith("resumed at step 5,000 | budget")
    assert [short(x) for x in (0.0, 1.5, 123.456, 12_345.6, 0.000308, 1e-7, -2.0, float("nan"), 1e12)] == [
        *("0", "1.5", "123.5", "12,346", "0.000308", "1.0e-07", "-2", "nan", "1e+12")
    ]
    assert [duration(s) for s in (5, 120, 7_500, 200_000)] == ["5 s", "2 min", "2 h 05 min", "2 d 8 h"]
    assert [euros(x) for x in (0, 0.00123, 2.5)] == ["0 EUR", "0.0012 EUR", "2.50 EUR"]
    single = replace(SCORE, interval=None, returns=(3.0,))
    assert score_in_words(single) == "21.5 over 1 episode, protocol atari100k, epsilon 0.001"
    answers = replace(single, protocol="lm-exact-match", epsilon=0.0, mean_return=0.5, returns=(0.0, 1.0))
    assert score_in_words(answers) == "0.5 over 2 prompts, protocol lm-exact-match, answers sampled at temperature 1"
    assert one_line({"a": (float("nan"), 1.0), "b": "läufe"}) == '{"a": [null, 1.0], "b": "l\\u00e4ufe"}'
