"""Runs that failed or were interrupted count with all that they used until they ended."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frugalrl.cli import main
from frugalrl.cost.tables import load_tables
from frugalrl.recipes import build_config
from frugalrl.report.comparison import compare
from frugalrl.report.records import RunRecord, read_run
from frugalrl.report.reprice import Repricing, repriced
from frugalrl.report.results import Comparison, MethodResult
from frugalrl.report.write import write_report
from frugalrl.run.config_io import override
from frugalrl.run.train import train
from report.records_made import line, point, record

TABLES = load_tables()


@pytest.fixture(scope="module")
def completed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ended") / "run"
    settings = ["device=cpu", "budget.env_steps=60", "evaluation.every_env_steps=30", "evaluation.episodes=1"]
    train(override(build_config("CartPole-v1", "classic-dqn"), [*settings, "net.hidden_units=(8,)"]), folder)
    return folder


def cut(completed: Path, place: Path, evaluations: int, end: Mapping[str, Any] | None) -> Path:
    """The folder as if the run had ended in another way."""
    shutil.copytree(completed, place)
    kept, seen = [], 0
    for text in (place / "metrics.jsonl").read_text().splitlines():
        each = json.loads(text)
        seen += each["kind"] == "evaluation"
        if each["kind"] == "evaluation" and seen > evaluations:
            continue
        if each["kind"] == "end":
            if end is None:
                continue
            each |= end
        kept.append(json.dumps(each) + "\n")
    (place / "metrics.jsonl").write_text("".join(kept))
    return place


def failed(completed: Path, place: Path, evaluations: int = 1) -> Path:
    end = {"env_steps": 57, "completed": False, "reason": "a loss is not finite"}
    return cut(completed, place, evaluations, end)


def compared(records: list[RunRecord], target: float = 100.0) -> Comparison:
    ways = {"targets": {"CartPole-v1": (target,)}, "draws": 200, "tables": TABLES}
    return compare(records, rng=np.random.default_rng(0), **ways)  # type: ignore[arg-type]


def only(comparison: Comparison) -> MethodResult:
    return comparison.envs[0].methods[0]


def test_the_end_is_read_from_its_line_and_the_bill(completed: Path, tmp_path: Path) -> None:
    run = read_run(failed(completed, tmp_path / "run"))
    assert run.ended is not None
    assert run.spent is run.ended
    assert (run.ended.env_steps, run.ended.episodes) == (57, 0)
    assert math.isnan(run.ended.mean_return)
    assert run.bill is not None
    assert run.ended.cpu_s == run.bill.find("cpu_s").value
    assert run.ended.wall_s == pytest.approx(3600 * run.bill.find("wall_h").value)  # type: ignore[operator]
    assert run.ended.flop() == run.bill.find("flop").value
    assert run.ended.updates == run.bill.find("updates").value
    assert run.last is not None
    assert run.last.env_steps < 57
    assert read_run(completed).ended is None


def test_a_run_is_charged_until_it_ended_and_without_an_evaluation_too(completed: Path, tmp_path: Path) -> None:
    runs = [read_run(failed(completed, tmp_path / str(k), k), method="m", name=str(k)) for k in (0, 1)]
    runs = [replace(run, config=replace(run.config, seed=seed)) for seed, run in enumerate(runs)]
    made = compared([*runs, replace(read_run(completed, method="m"), config=replace(runs[0].config, seed=2))], 0.0)
    (target,) = only(made).targets
    assert (target.reached, target.runs) == (2, 3)
    first = runs[1].points[0].env_steps
    assert target.expected["env_steps"].value == (57 + 2 * first) / 2
    lines = {each.seed: each for each in made.runs}
    assert (lines[0].env_steps, lines[0].final) == (57, None)
    cpu_s = target.expected["cpu_s"].value
    assert cpu_s is not None
    assert runs[0].ended is not None
    assert cpu_s * 2 == pytest.approx(runs[0].ended.cpu_s + 2 * runs[1].points[0].cpu_s, rel=1e-9)
    assert sum("with all it used until it ended" in note for note in made.notes) == 2


def test_what_is_not_known_is_called_a_lower_bound_or_left_out(completed: Path, tmp_path: Path) -> None:
    killed = read_run(cut(completed, tmp_path / "killed", 1, None), method="m")
    nothing = read_run(cut(completed, tmp_path / "nothing", 0, None), method="m")
    assert (killed.outcome, killed.ended, nothing.spent) == ("unfinished", None, None)
    nothing = replace(nothing, config=replace(nothing.config, seed=1))
    made = compared([killed, nothing])
    assert only(made).targets[0].runs == 1
    said = " ".join(made.notes)
    assert "expected costs with it are lower bounds" in said
    assert "it is left out, as nothing is known of what it used" in said


def test_an_end_counts_for_survival_and_for_other_machines() -> None:
    ended = replace(point(3_500, math.nan), episodes=0)
    runs = [
        record("a", 0, line([50, 100, 120, 130])),
        replace(record("a", 1, line([20, 40]), outcome="failed", reason="broke"), ended=ended),
    ]
    made = only(compared(runs))
    assert made.targets[0].expected["env_steps"].value == 2_000 + 3_500
    assert made.survival[0].share == (0.5,)
    dear = repriced(runs[1], Repricing(step_ms=1_000.0, profiles=TABLES.machines))
    assert dear.ended is not None
    assert dear.ended.cpu_s > 3_500


def test_runs_that_all_ended_early_and_reached_nothing_have_a_report(completed: Path, tmp_path: Path) -> None:
    """No budget was used and no target reached: an axis from 0 to 0 ended the command, and the report of a study in
    which every run of one environment had failed."""
    records = [read_run(failed(completed, tmp_path / "failed"))]
    write_report(compared(records), records, tmp_path / "report.html")
    assert "a loss is not finite" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("text", ["{", '{"schema": "frugalrl.bill/1"}', '{"schema": "another"}', "[]"])
def test_a_bill_that_cannot_be_read_costs_no_more_than_itself(
    completed: Path, tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = failed(completed, tmp_path / "study" / "broken")
    shutil.copytree(completed, tmp_path / "study" / "whole")
    (broken / "bill.json").write_text(text)
    run = read_run(broken, name="the run")
    assert (run.bill, run.ended) == (None, None)
    assert run.no_bill
    assert str(tmp_path) not in run.no_bill
    notes = " ".join(compared([run]).notes)
    assert f"the run counts as a run without a bill: {run.no_bill}." in notes
    assert "expected costs with it are lower bounds" in notes
    assert main(["bill", str(tmp_path / "study")]) == 0
    assert "broken counts as a run without a bill" in capsys.readouterr().err
    assert main(["bill", str(broken)]) == 2, "there is nothing else to show"
