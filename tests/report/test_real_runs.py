"""Two real runs, from their folders to the commands that compare them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from frugalrl.cli import main
from frugalrl.cost.tables import load_tables
from frugalrl.recipes.catalog import build_config
from frugalrl.report.comparison import compare
from frugalrl.report.comparison_io import from_json
from frugalrl.report.records import find_runs, read_run
from frugalrl.run.config import BudgetConfig, EvaluationConfig
from frugalrl.run.train import train
from frugalrl.types import ROLES


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One table learner on Catch, two seeds."""
    place = tmp_path_factory.mktemp("study")
    plain = build_config("frugalrl/Catch-v0", "tabular-q")
    config = replace(
        plain,
        env=replace(plain.env, kwargs={"observation": "index"}),
        evaluation=EvaluationConfig(every_env_steps=300, episodes=4, rows=2),
        budget=BudgetConfig(env_steps=900),
    )
    for seed in (0, 1):
        train(replace(config, seed=seed), place / f"seed{seed}")
    return place


def test_figures_of_real_folders(study: Path) -> None:
    records = [read_run(folder) for folder in find_runs([study])]
    found = compare(records, tables=load_tables(), rng=np.random.default_rng(0), draws=100)
    (env,) = found.envs
    assert env.targets[-1] == 1
    (method,) = env.methods
    assert method.seeds == (0, 1)
    assert method.used["env_steps"].value == 900
    assert method.used["updates"].value == 900
    used = {q: figure.value for q, figure in method.used.items()}
    assert used["cpu_s"] is not None
    assert used["sampler_s"] is not None
    assert used["learner_s"] is not None
    assert 0 < used["sampler_s"] + used["learner_s"] < used["cpu_s"]
    assert set(method.cpu_s_by_role) <= set(ROLES)
    # the two clocks of an evaluation line are read one after the other
    assert sum(method.cpu_s_by_role.values()) == pytest.approx(used["cpu_s"], rel=0.01)
    assert method.final_normalized is not None
    assert [line.seed for line in found.runs] == [0, 1]


def test_bill_of_several(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [str(study / f"seed{i}") for i in (0, 1)]
    assert main(["bill", *runs]) == 0
    shown = capsys.readouterr().out
    assert "sum of 2 runs" in shown
    assert "1,800" in shown
    assert main(["bill", str(study), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["sum"]["agent_steps"] == {"known": 1_800, "not_measured": [], "how": "counted"}
    one = [next(r["value"] for r in run["bill"]["rows"] if r["name"] == "energy_j") for run in document["runs"]]
    assert document["sum"]["energy_j"]["known"] == pytest.approx(sum(one))
    assert document["sum"]["energy_j"]["how"] == "modelled"
    assert document["sum"]["on_demand_eur"]["how"] in ("assumed", None)


def test_a_run_without_a_bill_is_named(study: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    begun.mkdir()
    for name in ("config.json", "machine.json"):
        (begun / name).write_text((study / "seed0" / name).read_text())
    assert main(["bill", str(study / "seed0"), str(begun), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["runs"][1]["bill"] is None
    assert document["sum"]["cpu_s"]["not_measured"] == [str(begun)]
    assert document["sum"]["cpu_s"]["known"] > 0
    assert main(["bill", str(study / "seed0"), str(begun)]) == 0
    assert "No bill yet" in capsys.readouterr().out


def test_reprice(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["reprice", str(study), "--on", "workstation-1gpu", "--env-step-ms", "5", "--target", "2", "--json"]) == 0
    )
    found = from_json(json.loads(capsys.readouterr().out))
    assert "samples x 5 ms" in str(found.modelled)
    assert found.envs[0].targets == (2,)
    assert found.envs[0].methods[0].cpu_s_by_role["environment"] == pytest.approx(4.5)
    assert found.command[:2] == ("frugal", "reprice")
    assert main(["reprice", str(study), "--env-step-ms", "5"]) == 0
    shown = capsys.readouterr().out
    assert "Modelled, not measured" in " ".join(shown.split())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["bill"], "needs RUN"),
        (["reprice"], "needs RUN"),
        (["reprice", "STUDY"], "needs --on MACHINE, --env-step-ms X, or both"),
        (["reprice", "STUDY", "--on", "cloud-h10"], "unknown machine 'cloud-h10'; did you mean 'cloud-h100'"),
        (["reprice", "STUDY", "--env-step-ms", "-1"], "'-1' must be 0 or more"),
        (["reprice", "STUDY", "--env-step-ms", "1e308"], "--env-step-ms 1e+308: that is more than a day for one step"),
        (["reprice", "STUDY", "--env-step-ms", "1", "--baseline", "x"], "no run has the method 'x'"),
        (["reprice", "nowhere", "--env-step-ms", "1"], "there is no folder nowhere"),
    ],
)
def test_wrong_usage(words: list[str], says: str, study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(study) if word == "STUDY" else word for word in words]) == 2
    assert says in capsys.readouterr().err
