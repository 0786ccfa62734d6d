"""How the report was made: commands, code, machine, and the origin of each number."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from frugalrl.report.numbers import count, digits
from frugalrl.report.page.html import tag, text_of
from frugalrl.report.page.table import Origins
from frugalrl.report.records import RunRecord
from frugalrl.report.results import Comparison


def made(comparison: Comparison, records: Sequence[RunRecord]) -> str:
    """Command, date, machine and code."""
    rows: list[tuple[str, str]] = []
    if comparison.command:
        rows.append(("command", tag("code", text_of(shlex.join(comparison.command)))))
    rows.append(("made", text_of(comparison.made)))
    rows += [(key, _value(value)) for key, value in comparison.code.items()]
    rows += [(key, _value(value)) for key, value in comparison.machine.items() if key != "versions"]
    versions = comparison.machine.get("versions")
    if isinstance(versions, Mapping):
        rows.append(("versions", _value(versions)))
    rows += _threads(records)
    interval = (
        f"{digits(100 * comparison.level)} % over seeds, {comparison.draws:,} draws where the bootstrap is used; "
        "the origin of each number says which way was used. One seed has no interval."
    )
    rows.append(("intervals", interval))
    rows.append(("clock", "Never paused: evaluation, start-up and saving are in the times."))
    body = tag("dl", *(tag("div", tag("dt", text_of(key)), tag("dd", value)) for key, value in rows), class_="made")
    return tag("section", tag("h2", "How it was made"), body, id="made")


def _threads(records: Sequence[RunRecord]) -> list[tuple[str, str]]:
    """What differs between the runs, by number of runs."""
    found = []
    for name, part in (("code of the runs", "code"), ("machine of the runs", "machine")):
        kinds: Counter[str] = Counter()
        for record in records:
            facts: Mapping[str, Any] = getattr(record, part)
            keys = ("version", "source_sha256") if part == "code" else ("profile", "cpu", "cores")
            kinds[", ".join(str(facts[key]) for key in keys if key in facts)] += 1
        if any(kinds):
            found.append((name, "<br>".join(text_of(f"{kind} ({count(n, 'run')})") for kind, n in kinds.most_common())))
    stacked = Counter(r.stacked for r in records)
    if set(stacked) - {None}:
        said = [f"{count(n, 'run')} {'alone' if s is None else f'of {s} seeds together'}" for s, n in stacked.items()]
        found.append(("processes", text_of(", ".join(said))))
    return found


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return text_of(", ".join(f"{key} {item}" for key, item in value.items()))
    if isinstance(value, list | tuple):
        return text_of(", ".join(str(item) for item in value))
    return text_of(value)


def run_commands(records: Sequence[RunRecord]) -> str:
    """The command of every run that has one, each said once."""
    commands = dict.fromkeys(shlex.join(r.command) for r in records if r.command)
    if not commands:
        return ""
    title = tag("summary", f"{count(len(commands), 'command')} of the runs")
    return tag("details", title, tag("pre", text_of("\n".join(commands)), tabindex="0"))


def origins(found: Origins) -> str:
    """How and from what each number was obtained, numbered as the cells refer to it."""
    items = []
    for (how, source), columns in found.said.items():
        items.append(tag("li", tag("b", how), f" {text_of(source)} ", tag("small", text_of(", ".join(columns)))))
    text = "A number shows its own line when the pointer is on it, or when it is tapped."
    title = tag("summary", f"{count(len(items), 'origin')}")
    body = tag("details", title, tag("ol", *items, id="how"))
    return tag("section", tag("h2", "Where the numbers come from"), tag("p", text), body, id="origins")
