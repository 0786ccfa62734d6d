"""What the report says in words: targets by their own digits, whole steps, and no word on what is not shown."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import numpy as np
from rich.console import Console

from frugalrl.cost.tables import load_tables
from frugalrl.report.cells import cell
from frugalrl.report.comparison import compare
from frugalrl.report.figures.crossover import crossover
from frugalrl.report.figures.pareto import pareto
from frugalrl.report.figures.svg import Fineness
from frugalrl.report.numbers import plain
from frugalrl.report.page.tables import Tables
from frugalrl.report.table import render
from frugalrl.report.titles import amount_words, slots_of
from frugalrl.report.write import html_report
from report.comparison_made import figure, made
from report.records_made import line, record

GOAL = 1952.775  # a person's quarter in one of the games: rounded to six digits it lies above
SPELLED = "1,952.775"


def test_a_target_has_one_spelling_and_all_its_digits() -> None:
    runs = [record("epsilon-greedy", s, line([100, 500, 1953, 2000])) for s in range(3)]
    runs += [record("counteractive", s, line([100 + s, 1953, 1953, 2000])) for s in range(3)]
    wanted = {"CartPole-v1": (GOAL, 9000.123)}
    whole = compare(runs, baseline="epsilon-greedy", targets=wanted, tables=load_tables(), rng=np.random.default_rng(0))
    said = tuple(s for s in whole.sentences if "CPU time" not in s and "sampler cores" not in s)
    whole = replace(whole, sentences=said)
    console = Console(width=200, record=True, file=io.StringIO())
    render(whole, console)
    texts = " ".join([*said, *whole.notes, console.export_text(), html_report(whole)])
    for other in ("1,952.8", "1,953 on", "1953 on", "1,952.78", "1,952 on", "9,000 on", "9,000.1 "):
        assert other not in texts
    assert any(f"reaches {SPELLED} on CartPole-v1" in s for s in said)
    assert any("Nobody reached 9,000.123 on" in s for s in said)
    assert f"to a score of {SPELLED}" in texts
    assert f"Cost to reach a mean return of {SPELLED} on CartPole-v1" in texts


def test_a_number_that_was_given_keeps_its_digits() -> None:
    shown = {380.536: "380.536", 1952.775: SPELLED, 21.0: "21", 0.1 + 0.2: "0.3", -20.5: "-20.5", 1e6: "1,000,000"}
    assert {v: plain(v) for v in shown} == shown


def test_equal_samples_are_whole_steps() -> None:
    view = made(envs=1).envs[0].views[0]
    assert amount_words(replace(view, amount=30_003.4)) == "30,003 steps"


def test_a_tolerance_interval_is_explained_where_one_is_shown() -> None:
    def page(runs: int) -> str:
        records = [record(m, s, line([s, s + 1])) for m in ("epsilon-greedy", "counteractive") for s in range(runs)]
        ways = {"targets": {"CartPole-v1": (1.0,)}, "tables": load_tables(), "rng": np.random.default_rng(0)}
        return html_report(compare(records, draws=100, **ways))  # type: ignore[arg-type]

    bracket = "Worst run: the bracket is a tolerance interval"
    none = "Worst run: no bound: bounds for 90% of future runs with 95% confidence take 46 runs, these bound 61%."
    few, many = page(10), page(46)
    assert none in few
    assert bracket not in few
    assert bracket in many
    assert "no bound" not in many


def test_a_cost_has_one_unit_in_its_table_and_in_its_figures() -> None:
    env = made(envs=1).envs[0]
    slots = slots_of([m.method for m in env.methods])
    assert "<small>s</small>" in Tables(made(envs=1), dict(slots)).target(env, 5.0, "t")[0]
    by_step = crossover(env, env.crossovers[0], slots, "x", Fineness(40))
    beside = pareto(env, 5.0, slots, "x", hints=False)
    assert by_step is not None
    assert beside is not None
    for drawn in (by_step, beside):
        assert "wall time, s<" in drawn.body, "hours, where the table has seconds"


def test_money_that_never_got_there_keeps_its_unit() -> None:
    found = replace(figure(math.inf, "EUR"), interval=(7.6e-06, math.inf))
    assert cell(found) == "not reached [7.6e-06, ∞] EUR"
    assert cell(replace(found, unit="steps")) == "not reached [0, ∞]"
    assert cell(figure(0.5, "EUR")) == "0.5 EUR [0.4, 0.6]"
