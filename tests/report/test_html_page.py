"""The page: well-formed, loads nothing, escapes everything, and says what a number is when it is none."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import math
import re
from html.parser import HTMLParser

import pytest

from frugalrl.report.cells import number, times
from frugalrl.report.numbers import Scale, digits, scale_for
from frugalrl.report.page.table import Origins, figure_cell
from frugalrl.report.results import Figure
from frugalrl.report.titles import headline_target
from frugalrl.report.write import MOST_BYTES, html_report
from report.comparison_made import UNSAFE, figure, made

VOID = {"meta", "link", "br"}


class Strict(HTMLParser):
    """Collects what a page holds; an end tag must close the element that is open."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.headings: list[int] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"{tag} has an attribute twice"
        self.attributes += [(tag, name, value) for name, value in attrs]
        self.ids += [value for name, value in attrs if name == "id" and value]
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)


@pytest.fixture(scope="module")
def page() -> str:
    return html_report(made(modelled=True))


@pytest.fixture(scope="module")
def parsed(page: str) -> Strict:
    return Strict(page)


def test_it_is_well_formed(parsed: Strict) -> None:
    assert len(parsed.ids) == len(set(parsed.ids))
    assert parsed.headings[0] == 1
    assert parsed.headings.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(parsed.headings, parsed.headings[1:], strict=False))


def test_the_parser_is_not_blind() -> None:
    with pytest.raises(AssertionError):
        Strict("<p><b>x</p></b>")


def test_every_reference_has_its_place(parsed: Strict) -> None:
    for tag, name, value in parsed.attributes:
        if name in ("href", "aria-labelledby") and not (value or "").startswith("data:"):
            for part in (value or "").split():
                assert part.removeprefix("#") in parsed.ids, f"{tag} {name}={value}"


def test_it_loads_nothing(page: str, parsed: Strict) -> None:
    assert {value for _, name, value in parsed.attributes if name in ("src", "srcset", "data", "action")} == set()
    assert all(value and value[0] in "#d" for _, name, value in parsed.attributes if name in ("href", "xlink:href"))
    assert "@import" not in page
    assert "url(" not in page
    assert not re.search(r"https?://", page)
    (policy,) = (
        value
        for tag, name, value in parsed.attributes
        if tag == "meta" and name == "content" and "default-src" in (value or "")
    )
    digest = base64.b64encode(hashlib.sha256(parsed.texts["script"][0].encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in (policy or "")


def test_names_are_text_and_nothing_else(page: str, parsed: Strict) -> None:
    assert len(parsed.texts["script"]) == 1
    assert not any(name.startswith("on") for _, name, _ in parsed.attributes)
    assert "alert(1)</script>" not in page
    assert any(UNSAFE in text for texts in parsed.texts.values() for text in texts)


def test_control_characters_and_lone_surrogates_do_not_break_it() -> None:
    page = html_report(made(methods=2, envs=1, names=("a\x00\x1b[31m", "b\udcff")))
    Strict(page).texts  # noqa: B018
    page.encode()
    assert "\x00" not in page
    assert "\x1b" not in page


def test_the_parts_come_in_their_order(page: str) -> None:
    order = ["The answer", "Notes", "Methods", "What a score costs", "At the end of the budget", "Three fair views",
             "Learning curves", "Runs that reached a target", "Where the compute goes", "Who is cheaper, who is faster",
             "If a step cost more, or less", "All environments</h2>", "Runs</h2>", "Anchors</h2>",
             "How it was made</h2>", "Where the numbers come from</h2>"]  # fmt: skip
    places = [
        page.index(
            f">{title}" if title.endswith("h2>") else f"<h2>{title}" if title == "The answer" else f"<h3>{title}"
        )
        for title in order
    ]
    assert places == sorted(places)


def test_every_number_knows_its_origin(parsed: Strict, page: str) -> None:
    origins = len(re.findall("<li>", page[page.index('<ol id="how">') :]))
    refs = [int(value or "") for _, name, value in parsed.attributes if name == "data-r"]
    assert min(refs) >= -1
    assert max(refs) == origins - 1


# -- cells -----------------------------------------------------------------------------------------------------------


def cell(value: float | None, **more: object) -> str:
    origins = Origins()
    return figure_cell(figure(value, "CPU-s"), Scale(1.0, "CPU-s"), origins, "CPU time", **more).markup  # type: ignore[arg-type]


def test_what_is_not_known_is_not_measured() -> None:
    assert cell(None) == '<i class="no">not measured</i>'
    assert cell(math.nan) == '<i class="no">not measured</i>'
    assert figure_cell(None, Scale(1.0, ""), Origins(), "x").markup == '<i class="no">not measured</i>'
    assert cell(0.0) == "0"


def test_what_nobody_reached_is_more_than_was_used() -> None:
    assert cell(math.inf, bound=380.0) == '<i class="inf">&gt; 380</i><small>[70,000, ∞)</small>'
    assert cell(math.inf).startswith('<i class="inf">not reached</i>')


def test_a_ratio_is_marked_only_where_its_interval_excludes_one() -> None:
    assert '<span class="r less">▼0.62× <u>[0.50, 0.74]</u></span>' in cell(1.0, ratio=figure(0.62, "ratio"))
    assert '<span class="r more">▲2.00× ' in cell(1.0, ratio=figure(2.0, "ratio"))
    assert '<span class="r">1.10× ' in cell(1.0, ratio=figure(1.1, "ratio"))
    assert '<span class="r">0.50×</span>' in cell(1.0, ratio=figure(0.5, "ratio", n=1))
    unbounded = Figure(value=math.inf, unit="ratio", interval=(0.4, math.inf), how="measured", source="x")
    assert '<span class="r">not reached <u>&gt; 0.40×</u></span>' in cell(1.0, ratio=unbounded)


@pytest.mark.parametrize(
    ("ratio", "shown"),
    [(0.62, "0.62"), (0.0388, "0.0388"), (0.0995, "0.10"), (9.996, "10.0"), (82_447.0, "82,447")],
)
def test_a_ratio_has_the_same_digits_in_the_terminal_and_in_the_report(ratio: float, shown: str) -> None:
    found = Figure(value=ratio, unit="ratio", how="counted", source="")
    assert times(found) == f"x {shown}"
    assert f">{shown}×<" in figure_cell(figure(1.0, "steps"), Scale(1.0, "steps"), Origins(), "", ratio=found).markup


def test_memory_has_the_same_unit_in_the_terminal_and_in_the_report() -> None:
    scale = scale_for("B", [766_666_667.0])
    assert f"{digits(766_666_667.0 / scale.factor)} {scale.unit}" == number(766_666_667.0, "B") == "767 MB"


def test_modelled_and_assumed_numbers_are_marked() -> None:
    marks = [
        figure_cell(figure(1.0, "J", how=how), Scale(1.0, "J"), Origins(), "x").markup
        for how in ("measured", "modelled", "assumed")
    ]
    assert ["<sup>" in mark for mark in marks] == [False, True, True]


def test_one_seed_has_no_interval() -> None:
    page = html_report(made(methods=2, envs=1, seeds=1))
    body = page[page.index("<tbody>") : page.index("</tbody>")]
    assert "[" not in body
    assert "one seed" in page


def test_the_first_target_is_one_that_all_methods_reached() -> None:
    env = made(envs=1).envs[0]
    assert headline_target(env) == (5.0, "the highest target that runs of every method reached")
    no_targets = dataclasses.replace(
        env, targets=(), methods=tuple(dataclasses.replace(m, targets=()) for m in env.methods)
    )
    assert headline_target(no_targets) is None
    only_high = dataclasses.replace(env, targets=(15.0,))
    assert headline_target(only_high) == (
        15.0,
        "the lowest target that a run reached; none was reached by runs of every method",
    )


def test_a_comparison_of_one_run_without_anything_is_a_page() -> None:
    whole = made(methods=1, envs=1, seeds=1, targets=0)
    env = whole.envs[0]
    bare = dataclasses.replace(env.methods[0], curves={}, survival=(), flop_by_role={}, cpu_s_by_role={}, used={})
    alone = dataclasses.replace(env, methods=(bare,), views=(), crossovers=())
    page = html_report(dataclasses.replace(whole, sentences=(), notes=(), command=(), envs=(alone,)))
    Strict(page)
    assert "No target was set" in page


def test_a_report_of_260_runs_is_smaller_than_a_megabyte() -> None:
    page = html_report(made(methods=5, envs=26, seeds=2, points=100, targets=4))
    assert len(page.encode()) < MOST_BYTES
    assert page.count("<figure>") >= 26 * 7
    assert "The targets" in page
