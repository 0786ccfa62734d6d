"""A ratio of which only one side reached the target is no number: nobody paid 0 times the cost, or infinitely often."""

from __future__ import annotations

import csv
import io
import math

import numpy as np
import pytest
from rich.console import Console

from frugalrl.cost.tables import load_tables
from frugalrl.report.cells import times
from frugalrl.report.comparison import compare
from frugalrl.report.csv_files import tables_as_csv
from frugalrl.report.numbers import Scale
from frugalrl.report.page.table import Origins, figure_cell
from frugalrl.report.results import Figure
from frugalrl.report.table import render
from frugalrl.report.write import html_report
from report.comparison_made import figure
from report.records_made import line, record


def ratio(value: float, *interval: float) -> Figure:
    ends = (interval[0], interval[1]) if interval else None
    return Figure(value=value, unit="ratio", interval=ends, how="measured", source="x", n=3)


@pytest.mark.parametrize(
    ("found", "cost", "page", "terminal"),
    [
        (ratio(0, 0, 42.8), 9.0, '<span class="r">baseline not reached <u>&lt; 42.8×</u></span>',
         "baseline not reached, x < 42.8"),
        (ratio(0, 0, 0.8), 9.0, '<span class="r less">▼baseline not reached <u>&lt; 0.80×</u></span>',
         "baseline not reached, x < 0.80"),
        (ratio(0, 0, math.inf), 9.0, '<span class="r">baseline not reached</span>', "baseline not reached"),
        (ratio(0), 9.0, '<span class="r">baseline not reached</span>', "baseline not reached"),
        (ratio(math.inf, 2.1, math.inf), math.inf, '<span class="r more">▲not reached <u>&gt; 2.10×</u></span>',
         "not reached, x > 2.10"),
        (ratio(math.inf), math.inf, '<span class="r">not reached</span>', "not reached"),
        (ratio(0), 0.0, '<span class="r">0×</span>', "x 0"),
        (ratio(math.inf), 9.0, '<span class="r">∞×</span>', "x ∞"),
    ],
)  # fmt: skip
def test_it_says_who_never_got_there(found: Figure, cost: float, page: str, terminal: str) -> None:
    mine = figure(cost, "CPU-s")
    assert page in figure_cell(mine, Scale(1.0, "CPU-s"), Origins(), "CPU time", ratio=found).markup
    assert times(found, mine) == terminal


@pytest.mark.parametrize("swapped", [False, True])
def test_in_every_table(swapped: bool) -> None:
    never, good = ("counteractive", "epsilon-greedy") if swapped else ("epsilon-greedy", "counteractive")
    runs = [record(never, s, line([1, 2, 3 + s, 4])) for s in range(3)]
    runs += [record(good, s, line([5, 20, 120][s:] + [150] * (s + 1))) for s in range(3)]
    ways = {"tables": load_tables(), "rng": np.random.default_rng(0)}
    whole = compare(runs, baseline="epsilon-greedy", targets={"CartPole-v1": (100.0,)}, **ways)  # type: ignore[arg-type]
    who = "not reached" if swapped else "baseline not reached"
    console = Console(width=120, record=True, file=io.StringIO())
    render(whole, console)
    assert f"{who}, x {'>' if swapped else '<'} " in console.export_text()
    assert f"{who} <u>&{'gt' if swapped else 'lt'}; " in html_report(whole)
    rows = [
        r for r in csv.DictReader(io.StringIO(tables_as_csv(whole, [])["table-ratios"])) if r["name"] == "env_steps"
    ]
    assert [(r["value"], r["source"].partition(";")[0]) for r in rows] == [("", who)]
    assert math.isinf(float(rows[0]["high"])) == swapped
