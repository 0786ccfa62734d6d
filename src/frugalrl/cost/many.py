"""The bills of several runs: one line each, and a sum that admits what it does not know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from frugalrl.cost.record import Bill, BillRow, Total, sum_rows, to_json
from frugalrl.cost.show import NOT_MEASURED, figure

if TYPE_CHECKING:
    from rich.console import Console

SCHEMA = "frugalrl.bills/1"

COLUMNS: Mapping[str, tuple[str, str]] = {
    "agent_steps": ("steps", ""),
    "updates": ("updates", ""),
    "cpu_s": ("CPU-s", ""),
    "wall_h": ("wall h", ""),
    "flop": ("FLOPs", "FLOP"),
    "energy_j": ("energy", "J"),
    "on_demand_eur": ("rented", "EUR"),
    "owned_eur": ("owned", "EUR"),
}
"""Rows that are added up: head and the unit that is printed."""

SHARED = (
    "Joules and euro of a run are those of the whole machine while it lasted; runs that shared the machine count it "
    "more than once."
)


def sums_of(bills: Mapping[str, Bill | None]) -> dict[str, Total]:
    """The sum of each figure over the runs; a run without a bill, or without the figure, is named as not measured."""
    return {name: sum_rows(_row(run, bill, name) for run, bill in bills.items()) for name in COLUMNS}


def _row(run: str, bill: Bill | None, name: str) -> BillRow:
    """The figure of a run, under the run's name."""
    missing = BillRow(section="use", role=run, name=name, value=None, unit="", how="measured", source="no bill")
    if bill is None:
        return missing
    try:
        return replace(bill.find(name), role=run)
    except KeyError:
        return missing


def many_to_json(bills: Mapping[str, Bill | None]) -> dict[str, Any]:
    """Every bill as it is (null: none yet), and the sums."""
    return {
        "schema": SCHEMA,
        "runs": [{"run": run, "bill": None if bill is None else to_json(bill)} for run, bill in bills.items()],
        "sum": {name: asdict(total) for name, total in sums_of(bills).items()},
    }


def render_many(bills: Mapping[str, Bill | None], console: Console) -> None:
    """Prints one line per run, the sum, what is missing in it and how sure it is."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    sums = sums_of(bills)
    shown = [name for name, total in sums.items() if total.known is not None]
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("run", overflow="fold")
    for name in shown:
        table.add_column(COLUMNS[name][0], justify="right", no_wrap=True)
    for run, bill in bills.items():
        table.add_row(Text(run), *(_cell(_row(run, bill, name).value, name) for name in shown))
    table.add_section()
    table.add_row(Text(f"sum of {len(bills)} runs"), *(_cell(sums[name].known, name) for name in shown))
    table.add_row(Text("how"), *(str(sums[name].how) for name in shown), style="dim")
    console.print(table)
    console.print()
    for name in COLUMNS:
        missing = sums[name].not_measured
        if missing and name in shown:
            _line(console, f"{COLUMNS[name][0]}: {NOT_MEASURED} for {', '.join(missing)}")
    without = [run for run, bill in bills.items() if bill is None]
    if without:
        _line(console, f"No bill yet, the run did not come to an end: {', '.join(without)}")
    _line(console, SHARED)


def _cell(value: float | None, name: str) -> str:
    return NOT_MEASURED if value is None else figure(value, COLUMNS[name][1])


def _line(console: Console, text: str) -> None:
    console.print(text, style="dim", highlight=False, markup=False)
