"""Which runs may be compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from frugalrl.cost.tables import load_tables
from frugalrl.report.check import check
from frugalrl.report.comparison import compare
from frugalrl.report.records import RunRecord, find_runs, read_run
from frugalrl.types import UserError
from report.records_made import MACHINE, record, two_methods

TABLES = load_tables()


def changed(run: RunRecord, group: str, **values: object) -> RunRecord:
    return replace(run, config=replace(run.config, **{group: replace(getattr(run.config, group), **values)}))


def test_what_agrees_passes() -> None:
    found = check(two_methods())
    assert (found.same_machine, found.notes) == (True, ())


@pytest.mark.parametrize(
    ("group", "values", "path"),
    [
        ("env", {"protocol": "atari100k"}, "env.protocol is 'plain' in .* and 'atari100k' in"),
        ("env", {"kwargs": {"a": 1}}, "env.kwargs is {} in .* and {'a': 1} in"),
        ("evaluation", {"every_env_steps": 7}, "evaluation.every_env_steps is 10000 in .* and 7 in"),
        ("evaluation", {"episodes": 3}, "evaluation.episodes is None in .* and 3 in"),
        ("evaluation", {"rows": 3}, "evaluation.rows"),
        ("evaluation", {"seed": 3}, "evaluation.seed"),
    ],
)
def test_different_protocols_are_refused(group: str, values: dict[str, object], path: str) -> None:
    records = two_methods()
    records[4] = changed(records[4], group, **values)
    with pytest.raises(UserError, match=f"different protocols.*{path}") as error:
        check(records)
    assert records[0].name in str(error.value)
    assert records[4].name in str(error.value)
    elsewhere = [changed(r, group, **values) for r in two_methods("Acrobot-v1")]
    assert check([*two_methods(), *elsewhere]).notes == ()


def test_a_method_that_differs_is_refused() -> None:
    records = two_methods()
    records[5] = changed(records[5], "agent", learning_rate=1.0)
    with pytest.raises(UserError, match=r"agent.learning_rate of 'counteractive' is 0.0005 in .*-0 and 1.0 in .*-2"):
        check(records)
    records[5] = replace(records[5], method="counteractive, faster")
    check(records)


def test_the_same_run_twice_is_refused() -> None:
    records = two_methods()
    twin = replace(records[0], name="runs/again")
    with pytest.raises(UserError, match=r"runs/epsilon-greedy-CartPole-v1-0 and runs/again are both .* with seed 0"):
        check([*records, twin])
    with pytest.raises(UserError, match="there is no run to compare"):
        check([])


def test_a_record_that_stands_twice_is_refused() -> None:
    """As a notebook makes it with ``records += others``: three of three runs reached a target where two did."""
    records = two_methods()
    with pytest.raises(UserError, match=f"{records[0].name} stands twice among the runs, and would count double"):
        check([*records, records[0]])


def test_folders_may_be_given_as_texts(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "a"
    run.mkdir(parents=True)
    for name in ("config.json", "machine.json"):
        (run / name).write_text("{}")
    assert find_runs(str(tmp_path)) == find_runs([str(tmp_path)]) == find_runs([tmp_path]) == [run]
    with pytest.raises(UserError, match="cannot be compared"):
        read_run(str(run))


def test_different_machines_do_not_compare_seconds() -> None:
    records = two_methods()
    records[5] = replace(records[5], machine={**MACHINE, "cores": 16})
    found = compare(records, targets={"CartPole-v1": [100]}, tables=TABLES, rng=np.random.default_rng(0), draws=100)
    assert any("cores is 2 in" in note and "are not compared" in note for note in found.notes)
    env = found.envs[0]
    target = env.methods[1].targets[0]
    for quantity in ("sampler_s", "learner_s", "cpu_s", "wall_s", "joules", "eur"):
        assert target.expected[quantity].value is None  # type: ignore[index]
        assert target.ratio[quantity].value is None  # type: ignore[index]
        assert env.methods[1].used[quantity].value is None  # type: ignore[index]
    assert target.ratio["env_steps"].value is not None
    assert set(env.methods[1].curves) == {"env_steps", "flop"}
    assert [view.axis for view in env.views] == ["env_steps", "flop"]
    assert env.crossovers == ()
    assert env.methods[1].cpu_s_by_role == {}
    with pytest.raises(UserError, match="different machines cannot be repriced"):
        compare(records, tables=TABLES, rng=np.random.default_rng(0), step_ms=1.0)


@pytest.mark.parametrize("at", [0, 6])
def test_a_run_that_never_began_has_no_machine_and_changes_no_figure(at: int) -> None:
    lost = replace(record("counteractive", 3, []), outcome="failed", reason="signal 9", machine={}, code={})
    records = two_methods()
    records.insert(at, lost)
    found = check(records)
    assert found.same_machine
    assert not any("machine" in note or "versions" in note for note in found.notes)
    ways = {"baseline": "epsilon-greedy", "targets": {"CartPole-v1": [100.0]}, "tables": TABLES, "draws": 100}
    with_it, without = (compare(r, rng=np.random.default_rng(0), **ways) for r in (records, two_methods()))
    mine, theirs = ({m.method: m.used["eur"].value for m in c.envs[0].methods} for c in (with_it, without))
    assert mine == theirs
    assert None not in mine.values()
    assert with_it.machine == MACHINE


def test_notes() -> None:
    records = two_methods()
    records[0] = replace(records[0], code={"source_sha256": "b" * 64})
    records[1] = replace(records[1], machine={**MACHINE, "versions": {"torch": "2.12.0"}})
    records[3] = replace(records[3], stacked=16)
    notes = check(records).notes
    assert notes[0].startswith("The runs were made by 2 versions of the code (source hashes bbbbbbbbbbbb and aaaaaaaaa")
    assert notes[1] == "The runs used different versions of torch: 2.13.0 and 2.12.0."
    assert "counteractive in processes of 16 seeds" in notes[2]
    lost = [*two_methods()[:5], record("counteractive", 2, [], outcome="failed", reason="the loss is nan")]
    assert "counteractive on CartPole-v1, seed 2, did not complete (failed: the loss is nan)" in check(lost).notes[0]


def test_a_score_that_is_no_number_is_refused() -> None:
    records = two_methods()
    bad = replace(records[3].points[1], mean_return=float("nan"))
    records[3] = replace(records[3], points=(records[3].points[0], bad))
    with pytest.raises(UserError, match=r"the score of runs/counteractive-CartPole-v1-0 after 2,000 steps is nan"):
        check(records)


def test_an_environment_without_the_baseline() -> None:
    records = [*two_methods(), *(r for r in two_methods("Acrobot-v1") if r.method == "counteractive")]
    found = compare(records, tables=TABLES, rng=np.random.default_rng(0), draws=100)
    (row,) = found.envs[1].views[0].rows
    assert (row.difference, row.verdict) == (None, "no difference shown")
    assert any("epsilon-greedy has no completed run on Acrobot-v1" in note for note in found.notes)


@pytest.mark.parametrize(
    ("ways", "says"),
    [
        ({"baseline": "epsilon-gredy"}, "no run has the method 'epsilon-gredy'.*did you mean 'epsilon-greedy'"),
        ({"targets": {"CartPole-v0": [1]}}, "names 'CartPole-v0', which no run has.*did you mean 'CartPole-v1'"),
        ({"targets": {"CartPole-v1": [float("nan")]}}, "the target nan of CartPole-v1 is no score"),
        ({"step_ms": -1.0}, "an environment step of -1.0 ms is no cost"),
    ],
)
def test_wrong_wishes_are_refused(ways: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says):
        compare(two_methods(), tables=TABLES, rng=np.random.default_rng(0), **ways)  # type: ignore[arg-type]
