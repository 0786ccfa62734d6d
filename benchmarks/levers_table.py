#!/usr/bin/env python3
"""The tables of a study of all levers, written into pages from the CSV files of its report.

    python benchmarks/levers_table.py README.md docs/levers.md

A page says where: ``<!-- levers_table STUDY TARGET TABLE -->`` ... ``<!-- end of levers_table -->``, where STUDY is a
folder with ``figures/table-*.csv``, TARGET a score, and TABLE one of target (expected cost per cell), effects (of each
lever, on that cost and on the final score) and budget (what each cell used in all).
"""

from __future__ import annotations

import argparse
import csv
import math
import re
from pathlib import Path

Rows = list[dict[str, str]]

END = "<!-- end of levers_table -->"
MARKED = re.compile(rf"(<!-- levers_table (\S+) (\S+) (\w+) -->\n).*?(\n{re.escape(END)})", re.DOTALL)
COSTS = {
    "env_steps": "samples", "updates": "updates",
    "sampler_s": "sampler load, CPU-s", "learner_s": "learner load, CPU-s",
    "flop": "GFLOP", "cpu_s": "CPU-s", "joules": "J", "eur": "0.001 EUR",
}  # fmt: skip
LEVERS = {"exploration": "counteractive instead of epsilon-greedy", "sampling": "central instead of inline",
          "sampler": "onnx-int8, every 4 updates, instead of fp32"}  # fmt: skip
EFFECTS = {"env_steps": "samples", "sampler_s": "sampler load", "learner_s": "learner load",
           "cpu_s": "CPU time, energy, money", "score": "final score"}  # fmt: skip


def main(pages: list[Path]) -> None:
    for page in pages:
        text, times = MARKED.subn(lambda m: f"{m[1]}\n{made(Path(m[2]), float(m[3]), m[4])}{m[5]}", page.read_text())
        if not times:
            raise SystemExit(f"{page} has no {END}")
        page.write_text(text)


def made(study: Path, target: float, table: str) -> str:
    read = {name: rows(study / f"figures/table-{name}.csv") for name in ("targets", "levers", "budget")}
    at_target = [r for r in read["targets"] if float(r["target"]) == target]
    lines = {
        "target": lambda: by_cell(at_target, read["budget"], target),
        "effects": lambda: effects([r for r in read["levers"] if not r["target"] or float(r["target"]) == target]),
        "budget": lambda: used(read["budget"]),
    }[table]()
    return "\n".join(lines) + "\n"


def rows(path: Path) -> Rows:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def by_cell(at_target: Rows, budget: Rows, target: float) -> list[str]:
    lines = head(f"to a score of {target:,g}", "reached", *COSTS.values(), "final score")
    for method in methods(at_target):
        of = {r["name"]: r for r in at_target if r["method"] == method}
        reached = re.match(r"\d+ of \d+", of["share_reached"]["source"])
        assert reached is not None
        (final,) = [r for r in budget if r["method"] == method and r["name"] == "final_mean"]
        costs = (cell(of[f"expected_{cost}"], cost) for cost in COSTS)
        lines.append(row(f"`{method}`", reached[0], *costs, cell(final, "score")))
    return lines


def effects(found: Rows) -> list[str]:
    """Of the expected cost; of the cost until target or end of the budget, marked r, where a cell has no success."""
    lines = head("", *EFFECTS.values())
    for levers in dict.fromkeys(r["levers"] for r in found):
        cells = []
        for quantity in EFFECTS:
            mine = {r["cost"]: r for r in found if r["levers"] == levers and r["quantity"] == quantity}
            if quantity == "score":
                (one,) = mine.values()
                sign = "+" if float(one["value"]) > 0 else ""
                text, shown = sign + cell(one, quantity), float(one["low"]) > 0 or float(one["high"]) < 0
            else:
                whole = "expected" in mine and math.isfinite(float(mine["expected"]["value"] or "nan"))
                one = mine["expected" if whole else "restricted"]
                value, low, high = (float(one[name]) for name in ("value", "low", "high"))
                text = f"x {value:.2f} [{low:.2f}, {high:.2f}]{'' if whole else ' r'}"
                shown = low > 1 or high < 1
            cells.append(f"**{text}**" if shown else text)
        lines.append(row(LEVERS.get(levers, levers), *cells))
    return lines


def used(budget: Rows) -> list[str]:
    kept = ("sampler_s", "learner_s", "cpu_s")
    lines = head("at the end", *(COSTS[name] for name in kept))
    for method in methods(budget):
        of = {r["name"]: r for r in budget if r["method"] == method}
        lines.append(row(f"`{method}`", *(cell(of[name], name) for name in kept)))
    return lines


def methods(found: Rows) -> list[str]:
    return list(dict.fromkeys(r["method"] for r in found))


def cell(found: dict[str, str], quantity: str) -> str:
    value = number(found["value"], quantity)
    if not found["low"]:
        return value
    return f"{value} [{number(found['low'], quantity)}, {number(found['high'], quantity)}]"


def number(text: str, quantity: str) -> str:
    value = float(text)
    if math.isinf(value):
        return "∞"
    if quantity == "env_steps":
        return f"{value / 1e3:,.0f}k" if value else "0"
    if quantity == "flop":
        return f"{value / 1e9:,.0f}"
    if quantity == "eur":
        return f"{value * 1e3:.2f}"
    if quantity == "updates" or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if quantity == "score" else f"{value:.1f}"


def head(*words: str) -> list[str]:
    return [row(*words), "|---" * len(words) + "|"]


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |".replace("|  |", "| |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pages", nargs="+", type=Path, metavar="PAGE")
    main(parser.parse_args().pages)
