"""The suite of levers: eight methods that differ in three levers only, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from frugalrl.report.groups import groups_of
from frugalrl.report.lever_design import design_of
from frugalrl.report.records import RunRecord
from frugalrl.run.config_io import differences, to_dict
from frugalrl.study.jobs import at_a_time
from frugalrl.study.matrix import cells
from frugalrl.study.study_file import read_study
from frugalrl.study.suites import cheap_settings, suite_study, suite_words
from frugalrl.types import UserError

STUDIES = Path(__file__).parents[2] / "benchmarks" / "studies"


def record(cell: object) -> RunRecord:
    return RunRecord(
        name=cell.key, method=cell.method, config=cell.config, points=(), bill=None, outcome="completed",  # type: ignore[attr-defined]
        reason="", machine={}, code={},
    )  # fmt: skip


def test_eight_methods_that_differ_in_the_levers_only() -> None:
    study = suite_study("levers", seeds=(0,))
    found = cells(study)
    assert [c.method for c in found] == [
        "eps-inline-fp32", "eps-inline-onnx-int8", "eps-central-fp32", "eps-central-onnx-int8",
        "coact-inline-fp32", "coact-inline-onnx-int8", "coact-central-fp32", "coact-central-onnx-int8",
    ]  # fmt: skip
    assert study.baseline == "eps-inline-fp32"
    base = found[0].config
    assert (base.agent.kind, base.explore.name, base.explore.epsilon.start) == ("impala", "uniform", 0.05)
    allowed = {"explore.name", "sampler.kind", "sampler.engine", "sampler.sync_every_updates"}
    for cell in found[1:]:
        assert set(differences(to_dict(base), to_dict(cell.config))) <= allowed
    design = design_of(groups_of([record(c) for c in found])["MinAtar/Breakout-v1"], study.baseline)
    assert design is not None
    assert design.learner == "V-trace"
    assert [(x.low, x.high) for x in design.levers] == [
        ("epsilon-greedy", "counteractive"), ("inline", "central"), ("fp32", "onnx-int8, every 4 updates"),
    ]  # fmt: skip
    assert design.cells["coact-central-fp32"] == (1, 1, 0)
    assert (at_a_time(found, 2), at_a_time(found, 8), at_a_time(found[:2], 8)) == (1, 4, 8)
    pipelined = cells(suite_study("levers", seeds=(0,), settings=["schedule.lag_blocks=1"]))[:2]
    assert at_a_time(pipelined, 8) == 4


def test_what_is_given_wins() -> None:
    study = suite_study(
        "levers", envs=["CartPole-v1"], cheap="int4", seeds=(3, 5), budget_steps=1_000, evaluations=4, targets=[40.0],
        settings=["explore.epsilon.start=0.2"],
    )  # fmt: skip
    (cell, *_) = [c for c in cells(study) if c.method == "coact-inline-int4" and c.seed == 5]
    assert (cell.config.sampler.transform, cell.config.explore.epsilon.start) == ("int4", 0.2)
    assert (cell.config.budget.env_steps, cell.config.evaluation.every_env_steps) == (1_000, 250)
    assert dict(study.targets) == {"CartPole-v1": (40.0,)}
    assert "saves nothing" not in suite_words("levers", study, chosen=True)
    assert "saves nothing" in suite_words("levers", suite_study("levers", envs=["CartPole-v1"]), chosen=False)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: suite_study("lever"), r"did you mean 'levers'\?; suites are levers: "),
        (lambda: suite_study("levers", envs=["a", "b"]), "one environment, not a, b"),
        (lambda: cheap_settings("int9"), "did you mean 'int8'.*or an engine: onnx, onnx-int8"),
        (lambda: cheap_settings("none"), "nothing to compare"),
    ],
)
def test_what_is_refused(call: object, said: str) -> None:
    with pytest.raises(UserError, match=said):
        call()  # type: ignore[operator]


def test_a_study_file_can_name_the_suite(tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_text('suite = "levers"\nenvs = ["CartPole-v1"]\nseeds = 2\n[targets]\n"CartPole-v1" = 50\n')
    study = read_study(path)
    assert (len(study.methods), study.seeds, dict(study.targets)) == (8, (0, 1), {"CartPole-v1": (50.0,)})
    path.write_text('suite = "levers"\n[targets]\n"MinAtar/Breakout-v1" = 3\n')  # the suite's own environment
    assert dict(read_study(path).targets) == {"MinAtar/Breakout-v1": (3.0,)}
    for text, said in (
        ('suite = "levers"\nbaseline = "a"\n', "leave out 'baseline'"),
        ('suite = "levers"\nenvs = ["CartPole-v1"]\n[targets]\n"CartPole-v0" = 50\n', "did you mean 'CartPole-v1'"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=said):
            read_study(path)


@pytest.mark.parametrize("name", ["levers-minatar.toml", "levers-krull.toml"])
def test_the_studies_of_the_benchmarks_can_be_read(name: str) -> None:
    assert len(read_study(STUDIES / name).methods) == 8
