"""The figures: every one is a file with its data, and what they are drawn with is right."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frugalrl.report.figures.axes import Axis, bounds, even_ticks, log_ticks
from frugalrl.report.figures.curves import _stretches, learning_curves
from frugalrl.report.figures.load import gathered
from frugalrl.report.figures.palette import DARK, LIGHT, figure_css
from frugalrl.report.figures.pareto import frontier
from frugalrl.report.figures.survival import stairs
from frugalrl.report.figures.svg import Fineness, Point, path, thinned
from frugalrl.report.numbers import digits, plain, scale_for, slug
from frugalrl.report.write import html_report, write_report
from frugalrl.types import UserError
from report.comparison_made import made

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_report(made(), [], folder / "report.html")
    return folder


def test_every_figure_is_an_svg_with_its_data(written: Path) -> None:
    figures = written / "figures"
    pictures = sorted(p.stem for p in figures.glob("*.svg"))
    tables = sorted(p.stem for p in figures.glob("*.csv") if not p.stem.startswith("table-"))
    assert pictures == tables
    assert len(pictures) == 2 * (3 + 4 + 2 + 2 + 2 + 2) + 4
    page = (written / "report.html").read_text()
    assert {f'id="{name}-t"' for name in pictures} == set(re.findall(r'id="[^"]+-t"', page))


def test_a_figure_stands_alone(written: Path) -> None:
    for file in (written / "figures").glob("*.svg"):
        root = ET.parse(file).getroot()
        assert root.tag == f"{SVG}svg"
        ids = [e.get("id") for e in root.iter() if e.get("id")]
        assert len(ids) == len(set(ids))
        assert root.find(f"{SVG}title") is not None
        assert root.find(f"{SVG}desc") is not None
        style = root.find(f"{SVG}style")
        assert style is not None
        assert "var(" not in (style.text or ""), "many programs that read SVG know no variables"
        used = {e.get("href") for e in root.iter(f"{SVG}use")}
        assert used <= {f"#{i}" for i in ids}
        known = set(re.findall(r"\.([A-Za-z]+\d*)", style.text or ""))
        assert {c for e in root.iter() for c in (e.get("class") or "").split()} <= known


def test_the_data_of_a_figure_are_those_of_the_comparison(written: Path) -> None:
    rows = list(csv.DictReader(io.StringIO((written / "figures/minatar-breakout-v1-score-by-flop.csv").read_text())))
    curve = made().envs[0].methods[1].curves["flop"]
    mine = [row for row in rows if row["method"] == "counteractive"]
    assert [float(row["flop"]) for row in mine] == list(curve.grid)
    assert [float(row["mean_return"]) for row in mine] == list(curve.value)
    targets = (written / "figures/table-targets.csv").read_text()
    assert "expected_gpu_s,,,,GPU-s,measured" in targets
    assert "expected_cpu_s,inf,70000.0,inf,CPU-s,measured" in targets


def test_a_report_replaces_the_one_before_and_leaves_no_part(written: Path) -> None:
    before = (written / "report.html").stat().st_ino
    write_report(made(methods=2, envs=1), [], written / "report.html", written / "other")
    assert (written / "report.html").stat().st_ino != before
    assert not list(written.rglob(".part-*"))


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose another place for the report"):
        write_report(made(methods=1, envs=1, seeds=1), [], tmp_path / "file" / "report.html")
    with pytest.raises(UserError, match=r"is a folder; name a file such as .*report\.html"):
        write_report(made(methods=1, envs=1, seeds=1), [], tmp_path)
    with pytest.raises(UserError, match="choose another place"):
        write_report(made(methods=1, envs=1, seeds=1), [], tmp_path / "report.html", tmp_path / "file")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]


# -- what they are drawn with ----------------------------------------------------------------------------------------


def read_path(markup: str) -> list[Point]:
    """The places of a path of one M and relative steps."""
    (d,) = re.findall(r' d="M([^"z]*)z?"', markup)
    numbers = [float(n) for n in re.findall(r"-?(?:\d+\.?\d*|\.\d+)", d)]
    steps = np.array(numbers).reshape(-1, 2)
    return [(float(x), float(y)) for x, y in steps.cumsum(axis=0)]


def drifting(points: list[Point]) -> list[Point]:
    """Wrong: each step is rounded by itself, so errors add up."""
    steps = np.diff(np.array([(0.0, 0.0), *points]), axis=0).round(0)
    return [(float(x), float(y)) for x, y in steps.cumsum(axis=0)]


places = st.lists(st.tuples(st.floats(-50, 450), st.floats(-50, 450)), min_size=1, max_size=60)


@settings(max_examples=60, deadline=None)
@given(points=places, decimals=st.sampled_from([0, 1]))
def test_a_path_goes_through_its_places(points: list[Point], decimals: int) -> None:
    found = read_path(path(points, "l0", decimals=decimals))
    assert len(found) == len(points)
    assert np.abs(np.array(found) - np.array(points)).max() <= 0.5 / 10**decimals + 1e-6


def test_rounding_each_step_by_itself_would_drift() -> None:
    points = [(0.4 * i, 0.4 * i) for i in range(100)]
    assert np.abs(np.array(drifting(points)) - np.array(points)).max() > 10
    assert np.abs(np.array(read_path(path(points, "l0", decimals=0))) - np.array(points)).max() <= 0.5


@settings(max_examples=80, deadline=None)
@given(low=st.floats(-1e6, 1e6), width=st.floats(1e-3, 1e6), room=st.integers(2, 6))
def test_ticks_are_even_within_bounds_and_say_their_value(low: float, width: float, room: int) -> None:
    high = low + width
    ticks = even_ticks(low, high, room)
    values = [v for v, _ in ticks]
    assert 1 <= len(ticks) <= room + 1
    assert all(low - width * 1e-6 <= v <= high + width * 1e-6 for v in values)
    assert len({words for _, words in ticks}) == len(ticks)
    for value, words in ticks:
        assert float(words.replace(",", "")) == pytest.approx(value, rel=1e-9, abs=width * 1e-9)


def test_ticks_of_known_axes() -> None:
    assert [w for _, w in even_ticks(0, 200_000, 4)] == ["0", "50,000", "100,000", "150,000", "200,000"]
    assert [w for _, w in even_ticks(0, 1, 4)] == ["0.00", "0.25", "0.50", "0.75", "1.00"]
    assert [w for _, w in log_ticks(0.001, 1000, 4)] == ["0.001", "0.1", "10", "1,000"]
    assert [w for _, w in log_ticks(90, 1100, 5)] == ["100", "200", "500", "1,000"]
    assert Axis(1.0, 100.0, 0.0, 200.0, log=True).at(10.0) == pytest.approx(100.0)
    assert bounds([None, math.inf]) is None
    assert bounds([3.0, 3.0]) == pytest.approx((2.7, 3.3))
    assert bounds([0.0, 0.0], zero=True) == (0.0, 1.0), "a range of no width has no ticks"


def slow_frontier(points: list[Point]) -> list[Point]:
    """Places for which there is no other that is as good in both and better in one."""
    return sorted({
        p for p in points if not any(q[0] <= p[0] and q[1] <= p[1] and q != p for q in points)
    })  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(points=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=12))
def test_the_frontier_is_those_whom_nobody_beats(points: list[Point]) -> None:
    assert frontier(points) == slow_frontier(points)


def test_steps_keep_a_value_until_the_next() -> None:
    assert stairs([0, 10, 20], [0.0, 0.5, 1.0], 30) == ([0, 10, 10, 20, 20, 30], [0.0, 0.0, 0.5, 0.5, 1.0, 1.0])


def test_small_roles_are_gathered_and_nothing_is_lost() -> None:
    found = gathered({"learner": 60.0, "environment": 38.0, "replay": 1.0, "reporting": 1.5, "unassigned": -0.5}, 100.0)
    assert found == [("environment", 38.0), ("learner", 60.0), ("other", 2.5)]


def test_thinned_lines_keep_their_ends() -> None:
    assert thinned(5, 9) == [0, 1, 2, 3, 4]
    kept = thinned(1000, 40)
    assert (kept[0], kept[-1], len(kept)) == (0, 999, 40)


def contrast(one: str, other: str) -> float:
    """WCAG 2.2: (L1 + 0.05) / (L2 + 0.05) of the relative luminances."""
    found = []
    for colour in (one, other):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        found.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(found) + 0.05) / (min(found) + 0.05)


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_can_be_seen(colours: dict[str, str]) -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    for name in ("ink", "soft", "c0", "c1", "c2", "c4"):
        assert contrast(colours[name], colours["bg"]) >= 4.3, f"{name}: text in this colour is too faint"
    for name in (f"c{i}" for i in range(8)):
        assert contrast(colours[name], colours["bg"]) >= 3, f"{name}: a line in this colour is too faint"


@settings(max_examples=100, deadline=None)
@given(value=st.floats(1e-12, 1e15))
def test_numbers_in_words_have_three_digits(value: float) -> None:
    assert float(digits(value).replace(",", "")) == pytest.approx(
        value, rel=0.05 if value < 1e-4 or value >= 1e12 else 0.0051
    )


def test_numbers_of_known_sizes() -> None:
    shown = {0.0: "0", 0.00123: "0.00123", 0.9999: "1.00", 9.996: "10.0", 99.96: "100", 1234.5: "1,234", 4e-5: "4.0e-5",
             math.inf: "∞", -3.14159: "-3.14", 2e12: "2.0e12"}  # fmt: skip
    assert {v: digits(v) for v in shown} == shown
    assert plain(200_000.0) == "200,000"
    assert plain(2.5) == "2.5"
    assert (scale_for("CPU-s", [9.0, None, math.inf]).unit, scale_for("CPU-s", [20_000]).unit) == ("CPU-s", "CPU-h")
    assert scale_for("FLOP", [4e12]).factor == 1e12
    assert slug("MinAtar/Breakout-v1") == "minatar-breakout-v1"
    assert slug("<&>") == "x"


def test_a_mean_of_some_runs_is_pale() -> None:
    assert _stretches([5, 5, 5]) == [(slice(0, 3), True)]
    assert _stretches([3, 5, 5, 4, 3]) == [(slice(0, 2), False), (slice(1, 3), True), (slice(2, 5), False)]
    assert _stretches([5, 5, 4]) == [(slice(0, 2), True), (slice(1, 3), False)]
    assert _stretches([]) == []
    env = made(envs=1).envs[0]
    first = env.methods[0]
    curve = first.curves["env_steps"]
    fewer = dataclasses.replace(curve, n=(*curve.n[:40], *(6,) * 20))
    shown = [dataclasses.replace(first, curves={"env_steps": c}) for c in (curve, fewer)]
    bodies = [
        learning_curves(dataclasses.replace(env, methods=(m,)), {first.method: 0}, "x", Fineness(60))[0].body
        for m in shown
    ]
    assert [body.count('<g class="few">') for body in bodies] == [0, 2], "a line and a band"
    assert "text.n" in figure_css(1)
    assert ".few{opacity:" in figure_css(1)
    page = html_report(made(envs=1))
    assert "pale where only some of the runs, at least half, have evaluations on both sides" in page
