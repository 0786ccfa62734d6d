"""The levers of a factorial: effects by hand, what is no factorial, what is not known, and how it is shown."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from frugalrl.cost.tables import load_tables
from frugalrl.report.comparison import compare
from frugalrl.report.comparison_io import from_json, to_json
from frugalrl.report.csv_files import tables_as_csv
from frugalrl.report.figures.lever_steps import lever_steps
from frugalrl.report.figures.levers import lever_figures
from frugalrl.report.figures.svg import Fineness, text_of
from frugalrl.report.groups import groups_of
from frugalrl.report.lever_design import Design, design_of
from frugalrl.report.lever_words import step_words
from frugalrl.report.records import RunRecord
from frugalrl.report.results import Comparison, LeverEffect, LeverLine, Levers
from frugalrl.report.table import render
from frugalrl.report.write import html_report
from frugalrl.sampling.exploration import ExploreConfig
from report.levers_made import BASE, factorial
from report.records_made import two_methods


def compared(records: list[RunRecord], baseline: str = BASE) -> Comparison:
    return compare(
        records, baseline=baseline, targets={"CartPole-v1": [100]}, tables=load_tables(), rng=np.random.default_rng(0),
        draws=200,
    )  # fmt: skip


def levers_in(comparison: Comparison) -> Levers:
    levers = comparison.envs[0].levers
    assert levers is not None
    return levers


def effect(levers: Levers, quantity: str, *names: str) -> LeverEffect:
    effects = levers.score if quantity == "score" else levers.targets[0].effects
    (found,) = (e for e in effects if e.levers == names and e.quantity == quantity)
    return found


@pytest.fixture(scope="module")
def whole() -> Comparison:
    return compared(factorial())


def test_effects_by_hand(whole: Comparison) -> None:
    levers = levers_in(whole)
    assert [(x.name, x.low, x.high) for x in levers.levers] == [
        ("exploration", "epsilon-greedy", "counteractive"),
        ("sampling", "inline", "central"),
        ("sampler", "fp32", "int8-dynamic"),
    ]
    assert levers.cells["coact-inline-int8"] == (True, False, True)
    for quantity in ("env_steps", "frames", "updates", "flop", "sampler_s", "learner_s", "cpu_s", "wall_s", "eur"):
        assert effect(levers, quantity, "exploration").effect.value == pytest.approx(0.5), quantity
        assert effect(levers, quantity, "sampling").effect.value == pytest.approx(1.0), quantity
        assert effect(levers, quantity, "exploration", "sampler").effect.value == pytest.approx(1.0), quantity
    # a step costs 1 ms of environment, 1 of inference and 3 of learner; int8 halves the inference
    assert effect(levers, "sampler_s", "sampler").effect.value == pytest.approx(1.5 / 2)
    assert effect(levers, "cpu_s", "sampler").effect.value == pytest.approx(4.5 / 5)
    assert effect(levers, "learner_s", "sampler").effect.value == pytest.approx(1.0)
    assert effect(levers, "score", "exploration").effect.value == 0.0
    gpu = effect(levers, "gpu_s", "sampler").effect
    assert (gpu.value, gpu.how) == (None, "measured")


def test_pairing_takes_the_seed_out(whole: Comparison) -> None:
    steps = effect(levers_in(whole), "env_steps", "exploration").effect
    assert steps.interval == pytest.approx((0.5, 0.5)), "each seed says one half, however slow it is"
    assert "paired" in steps.source
    assert levers_in(whole).learner == "V-trace"
    assert any("eps-central-int8" in note and "asynchronous" in note for note in whole.notes)
    other = [
        replace(r, config=replace(r.config, seed=r.seed + 100)) if "central" in r.method else r for r in factorial()
    ]
    loose = effect(levers_in(compared(other)), "env_steps", "exploration").effect
    assert loose.interval is not None
    assert loose.interval[0] < 0.45
    assert "not paired" in loose.source


def test_a_cell_without_success_has_no_expected_cost_but_a_restricted_one() -> None:
    found = compared(factorial(never=("eps-central-fp32",)))
    both = effect(levers_in(found), "env_steps", "exploration")
    assert both.effect.value is None
    assert "1 of 8 cells" in both.effect.source
    assert both.restricted is not None
    assert both.restricted.value is not None
    assert both.restricted.value < 0.5, "the cell that never got there used its whole budget"
    assert any("until the target or the end of the budget" in s for s in found.sentences)
    nobody = compared(factorial(seeds=2, never=tuple({r.method for r in factorial(1)})))
    nothing = effect(levers_in(nobody), "env_steps", "exploration").restricted
    assert nothing is not None
    assert nothing.value is None
    assert any("nothing can be said, no run reached it" in s for s in nobody.sentences)


def test_sentences_say_what_is_saved_and_what_is_not(whole: Comparison) -> None:
    explore, sampling, sampler, _, last = whole.sentences
    assert explore.startswith("Exploration: counteractive instead of epsilon-greedy on CartPole-v1, to a score of 100")
    assert "saves samples (0.5 [0.5, 0.5] times), frames" in explore
    assert "sampling" not in explore
    assert "nothing can be said, every interval holds 1" in sampling
    assert "saves sampler load (0.75 [0.75, 0.75] times)" in sampler
    assert "no difference shown in samples" in sampler
    assert "no interaction" in last
    one = compared(factorial(seeds=1))
    assert any("one seed has no interval" in s for s in one.sentences)


def test_the_effect_by_the_cost_of_a_step_by_hand(whole: Comparison) -> None:
    """A step takes 4 ms beside the environment, 3.5 with int8; the measured ms of the environment is not in it."""
    explore, sampling, sampler = levers_in(whole).targets[0].by_step
    assert [x.lever for x in (explore, sampling, sampler)] == ["exploration", "sampling", "sampler"]
    assert explore.step_ms[0] == pytest.approx(0.001)
    assert explore.step_ms[-1] == pytest.approx(1_000)
    for c, a, b, s in zip(sampler.step_ms, explore.value, sampling.value, sampler.value, strict=True):
        assert a == pytest.approx(0.5)
        assert b == pytest.approx(1.0)
        assert s == pytest.approx((c + 3.5) / (c + 4.0))
        assert s != pytest.approx((c + 4.5) / (c + 5.0), rel=1e-3) or c > 10, "with the measured step in it"
    (said,) = (x for x in whole.sentences if "cost more or less" in x)
    assert "exploration saves whatever a step costs; sampling: no difference shown at any cost of a step" in said
    assert "sampler saves whatever a step costs." in said


def test_a_lever_that_ties_in_a_few_seeds_has_no_bounds_whatever_the_quantity() -> None:
    """Three seeds that all need half of the evaluations differ by the same amount, but for the ends of blocks."""

    def late(run: RunRecord) -> RunRecord:
        few = (run.seed + len(run.method)) % 3
        return replace(
            run, points=tuple(replace(p, env_steps=p.env_steps + few, cpu_s=p.cpu_s + few) for p in run.points)
        )

    found = levers_in(compared([late(run) for run in factorial(3)]))
    for quantity in ("env_steps", "frames", "flop", "cpu_s", "eur"):
        assert effect(found, quantity, "exploration").effect.interval == (0.0, float("inf")), quantity
    explore, sampling, sampler = found.targets[0].by_step
    assert (set(explore.low), set(explore.high)) == ({0.0}, {float("inf")})
    # what needs as many evaluations with both levels saves what it saves at each of them
    assert sampler.high[-1] is not None
    assert sampler.high[-1] < 1.01
    assert sampling.high[-1] is not None
    assert sampling.high[-1] < 1.01


def test_words_of_a_line() -> None:
    steps, far = (0.1, 1.0, 10.0, 100.0), (2.0,) * 4

    def words(low: tuple[float | None, ...], high: tuple[float | None, ...]) -> str:
        return step_words(LeverLine(lever="sampler", step_ms=steps, value=far, low=low, high=high))

    assert words((0.5, 0.5, 0.5, 1.1), (0.9, 0.9, 1.1, 1.5)) == (
        "sampler saves while a step costs at most 1 CPU-ms, costs more while a step costs at least 100 CPU-ms"
    )
    assert words((0.5, 1.1, 1.1, 0.5), far) == "sampler costs more while a step costs 1 to 10 CPU-ms"
    assert words((0.5,) * 4, far) == "sampler: no difference shown at any cost of a step"
    assert words((None,) * 4, (None,) * 4) == "sampler: not known"


def test_no_line_where_a_cell_has_no_success() -> None:
    found = compared(factorial(never=("eps-central-fp32",)))
    target = levers_in(found).targets[0]
    assert {v for line in target.by_step for v in (*line.value, *line.low)} == {None}
    assert lever_steps(found.envs[0], target, "x", Fineness(50)) is None


def design(records: list[RunRecord], baseline: str = BASE) -> Design | None:
    return design_of(groups_of(records)["CartPole-v1"], baseline)


def test_what_is_no_factorial_has_no_levers() -> None:
    assert design(two_methods(), "epsilon-greedy") is None
    runs = factorial(seeds=1)
    assert design(runs) is not None
    assert design(runs[:-1]) is None, "a cell is missing"
    odd = [replace(r, config=replace(r.config, threads=2)) if r.method == BASE else r for r in runs]
    assert design(odd) is None, "something else differs too"
    third = [replace(r, config=replace(r.config, explore=ExploreConfig(name="policy"))) for r in runs[:1]]
    assert design([*third, *runs[1:]]) is None, "three levels of one lever"
    two = design([r for r in runs if "int8" not in r.method])
    assert two is not None
    assert [x.name for x in two.levers] == ["exploration", "sampling"]
    assert compared(two_methods(), "epsilon-greedy").envs[0].levers is None


def test_json_csv_page_and_terminal(whole: Comparison) -> None:
    again = from_json(json.loads(json.dumps(to_json(whole))))
    assert again == whole
    older = json.loads(json.dumps(to_json(whole)))
    del older["envs"][0]["levers"]
    assert from_json(older).envs[0].levers is None, "a document of an earlier version"
    rows = list(csv.DictReader(io.StringIO(tables_as_csv(whole, [])["table-levers"])))
    (row,) = (r for r in rows if (r["levers"], r["quantity"], r["cost"]) == ("exploration", "env_steps", "expected"))
    assert float(row["value"]) == pytest.approx(0.5)
    assert row["target"] == "100.0"
    page = html_report(whole)
    assert ">Levers<" in page
    for sentence in whole.sentences:
        assert page.count(text_of(sentence)) == 1, f"{sentence}: the answer says it, the levers need not say it again"
    assert "exploration × sampling × sampler" in page
    drawn = lever_figures(whole.envs[0], "x")
    assert [d.name for d in drawn] == ["x-lever-exploration", "x-lever-sampling", "x-lever-sampler"]
    assert ("samples", 0.5) in [(r[0], round(r[1], 9)) for r in drawn[0].rows]
    assert all(d.title in page for d in drawn)
    by_step = lever_steps(whole.envs[0], levers_in(whole).targets[0], "x", Fineness(50))
    assert by_step is not None
    assert by_step.title in page
    assert [k.label for k in by_step.keys] == ["exploration", "sampling", "sampler"]
    console = Console(width=110, record=True, file=io.StringIO())
    render(whole, console)
    text = console.export_text()
    assert "x 0.50 [0.50, 0.50]" in text
    assert "coact-central-int8" in text
    assert max(len(x) for x in text.splitlines() if x.startswith(("eps-", "coact-", "samples"))) <= 110


def test_clocks_of_levers_whose_seeds_shared_processes_hold_the_spread_of_the_processes() -> None:
    alone = factorial()
    slow = [replace(p, cpu_s=1.3 * p.cpu_s) for p in alone[0].points]
    alone[0] = replace(alone[0], points=tuple(slow))
    shared = [replace(run, stacked=3, stacks=(f"{run.method} {run.seed % 2}",)) for run in alone]
    apart, together = levers_in(compared(alone)), levers_in(compared(shared))
    assert together.targets[0].by_step
    for before, found in zip(apart.targets[0].effects, together.targets[0].effects, strict=True):
        if found.quantity in ("env_steps", "frames", "updates", "flop"):
            assert found == before
        if found.quantity == "cpu_s":
            for mine, theirs in ((found.effect, before.effect), (found.restricted, before.restricted)):
                assert mine is not None
                assert theirs is not None
                assert mine.value == theirs.value
                assert mine.interval is not None
                assert "processes that runs shared (8 degrees of freedom)" in mine.source
                assert "processes" not in theirs.source
