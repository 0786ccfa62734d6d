"""The report in a real browser: no errors, no network, sorting, both themes, narrow and wide, print."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from frugalrl.report.write import write_report
from report.browser import Browser, browser, missing
from report.comparison_made import made

WHY = missing()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(WHY is not None, reason=f"the report was not looked at: {WHY}")]

CELLS = """
const table = document.getElementById(arguments[0]);
return Array.from(table.tBodies[0].rows, row => row.cells[arguments[1]].firstChild.textContent);
"""
SORT = "document.getElementById(arguments[0]).tHead.rows[0].cells[arguments[1]].firstChild.click();"
STATE = "return document.getElementById(arguments[0]).tHead.rows[0].cells[arguments[1]].getAttribute('aria-sort');"
TOO_WIDE = """
return Array.from(document.querySelectorAll("body *")).filter(e => {
  const box = e.getBoundingClientRect();
  const wide = box.width && box.right > document.documentElement.clientWidth + 1;
  return wide && !e.closest(".scroll, details:not([open])");
}).map(e => e.outerHTML.slice(0, 80));
"""
CUT = """
return Array.from(document.querySelectorAll("figure > svg text")).filter(e => {
  const box = e.getBBox(), view = e.closest("svg").viewBox.baseVal;
  return box.x < -2 || box.x + box.width > view.width + 4 || box.y + box.height > view.height + 2;
}).map(e => e.textContent);
"""
CUT_TABLES = """
return Array.from(document.querySelectorAll(".scroll"))
  .filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.textContent.slice(0, 60));
"""
TIP = """
if (arguments[0]) document.getElementById("env-0-target").rows[1].cells[8].click();
else document.dispatchEvent(new KeyboardEvent("keydown", {key: "Escape"}));
const tip = document.getElementById("tip");
return [tip.hidden, tip.textContent];
"""
BREAKS = """
const box = getComputedStyle(document.querySelector(arguments[0]).closest(".scroll"));
return [box.breakInside, box.breakAfter];
"""
GROUND = "return getComputedStyle(document.body).backgroundColor;"
LINE = "return getComputedStyle(document.querySelector('figure path.l0')).stroke;"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("browser") / "report.html"
    write_report(made(), [], path)
    return path


@pytest.fixture(scope="module")
def driven() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture
def seen(driven: Browser, page: Path) -> Browser:
    driven.size(1600)
    driven.media("light")
    driven.log("performance")
    driven.open(page)
    return driven


def test_it_is_silent_and_alone(seen: Browser) -> None:
    assert seen.log() == []
    asked = [json.loads(entry["message"])["message"] for entry in seen.log("performance")]
    sent = [e["params"] for e in asked if e["method"] == "Network.requestWillBeSent"]
    addresses = {e["request"]["url"] for e in sent if e["documentURL"].startswith("file:")}
    assert len(addresses) > 0
    assert {address.partition(":")[0] for address in addresses} <= {"file", "data"}
    assert seen.run("return document.querySelectorAll('script').length") == 1
    assert seen.run("return performance.getEntriesByType('resource').length") == 0


def test_the_console_is_not_deaf(seen: Browser) -> None:
    seen.run("setTimeout(() => { throw new Error('on purpose') })")
    assert "on purpose" in str(seen.log())


@pytest.mark.parametrize("width", [400, 1600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_never_scrolls_sideways_and_no_label_is_cut(seen: Browser, width: int, scheme: str) -> None:
    seen.size(width)
    seen.media(scheme)
    seen.run("for (const box of document.querySelectorAll('details')) box.open = true")
    assert seen.run("return document.documentElement.scrollWidth") <= width
    assert seen.run(TOO_WIDE) == []
    assert seen.run(CUT) == []


def test_text_of_figures_can_be_read_at_400(seen: Browser) -> None:
    seen.size(400)
    sizes = seen.run(
        "return Array.from(document.querySelectorAll('figure > svg'), s => 12 * s.getBoundingClientRect().width / 400)"
    )
    assert min(size for size in sizes if size) >= 10.5


def test_a_table_is_sorted_by_click_and_what_is_infinite_or_unknown_comes_last(seen: Browser) -> None:
    table = "env-0-target-0"  # the target of 15, which two methods never reached
    seen.run(SORT, table, 3)
    assert seen.run(STATE, table, 3) == "ascending"
    assert seen.run(CELLS, table, 3) == ["117,000", "> 200,000", "> 200,000"]
    seen.run(SORT, table, 3)
    assert seen.run(STATE, table, 3) == "descending"
    assert seen.run(CELLS, table, 3) == ["> 200,000", "> 200,000", "117,000"]
    seen.run(SORT, "env-0-budget", 4)
    assert seen.run(STATE, "env-0-budget", 4) == "ascending"
    assert seen.run(CELLS, "env-0-budget", 4) == ["0.400", "0.500", "no reference"]
    seen.run(SORT, "env-0-budget", 4)
    assert seen.run(CELLS, "env-0-budget", 4) == ["0.500", "0.400", "no reference"]


def test_text_is_sorted_as_text_and_by_key(seen: Browser) -> None:
    seen.run("document.getElementById('runs-table').tHead.rows[0].cells[4].firstChild.focus()")
    for key in ("rawKeyDown", "keyUp"):
        seen.tell("Input.dispatchKeyEvent", type=key, key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r")
    seen.tell("Input.dispatchKeyEvent", type="char", key="Enter", text="\r")
    assert seen.run(STATE, "runs-table", 4) in ("ascending", "descending")
    seen.run(SORT, "runs-table", 4)
    outcomes = seen.run(CELLS, "runs-table", 4)
    assert outcomes in (sorted(outcomes), sorted(outcomes, reverse=True))
    assert set(outcomes) == {"completed", "failed"}


def test_a_number_says_where_it_comes_from(seen: Browser) -> None:
    told = seen.run(TIP, True)
    assert told[0] is False
    assert told[1].startswith("measured, 10 runs: sum over all runs")
    assert seen.run(TIP, False)[0] is True


def test_dark_is_dark_and_the_button_wins_over_the_system(seen: Browser) -> None:
    light = (seen.run(GROUND), seen.run(LINE))
    seen.media("dark")
    dark = (seen.run(GROUND), seen.run(LINE))
    assert light[0] == "rgb(255, 255, 255)"
    assert dark[0] != light[0]
    assert dark[1] != light[1]
    seen.run("document.getElementById('theme').click()")
    assert (seen.run(GROUND), seen.run(LINE)) == light
    seen.media("light")
    seen.run("document.getElementById('theme').click()")
    assert (seen.run(GROUND), seen.run(LINE)) == dark
    seen.media("light", "print")
    assert seen.run(GROUND) == light[0], "paper is white"


def test_it_prints_whole(seen: Browser) -> None:
    seen.size(1040)  # about A4 across, without its margins
    seen.media("light", "print")
    seen.run("window.dispatchEvent(new Event('beforeprint'))")
    assert seen.run("return document.querySelectorAll('details:not([open])').length") == 0
    assert seen.run("return document.documentElement.scrollWidth") <= 1040
    assert seen.run(CUT_TABLES) == []
    assert seen.run(BREAKS, "#env-0-target") == ["avoid", "avoid"], "a small table stays on one sheet, with its foot"
    assert seen.run(BREAKS, "#runs-table") == ["auto", "auto"], "a long one would leave most of a sheet empty"
    seen.run("window.dispatchEvent(new Event('afterprint'))")
    assert seen.run("return document.querySelectorAll('details:not([open])').length") > 0
    assert seen.pdf().startswith(b"%PDF-")
