"""The bill and the doctor's findings as text: rich tables that fit 80 columns."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from frugalrl.cost.record import Bill, BillRow
from frugalrl.types import ROLES

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

NOT_MEASURED = "not measured"
NOT_KNOWN = "not known"

_TITLES = {
    "agent_steps": "agent steps",
    "frames": "emulator frames",
    "invalid_rows": "rows between episodes",
    "updates_per_step": "updates per step",
    "cpu_s": "CPU-seconds",
    "wall_h": "wall hours",
    "steps_per_cpu_s": "steps per CPU-second",
    "peak_memory": "peak memory",
    "peak_gpu_memory": "peak GPU memory",
    "flop": "FLOPs",
    "bytes_min": "bytes moved, at least",
    "cpu_j": "processor",
    "gpu_j": "GPU",
    "idle_j": "rest of the machine",
    "energy_j": "energy",
    "on_demand_eur": "rented on demand",
    "spot_eur": "rented spot",
    "owned_eur": "own machine",
    "electricity_eur": "electricity alone",
    "cpu_h_per_1e9_frames": "CPU-hours per 1e9 frames",
    "eur_per_1e9_frames": "1e9 frames on demand",
    "environments_cpu_s": "environments, CPU",
    "transport_cpu_s": "transport, CPU",
    "engine_cpu_s": "engine, CPU",
    "learner_cpu_s": "learner, CPU",
    "engine_blocked_s": "engine: queue full",
    "engine_starved_s": "engine: no request",
    "learner_waited_s": "learner: no unrolls",
    "batch_rows": "rows of a batch",
    "batch_fill": "batch fill",
    **{f"{part}_{q}": f"{part} time {q}" for part in ("queue", "forward") for q in ("p50", "p95", "p99")},
    "steps_per_s": "steps per second",
    "steps_per_s_bound": "steps per second, at most",
    "dropped_steps": "dropped steps",
    "lag_min": "lag, lowest",
    "lag_mean": "lag, mean",
    "lag_max": "lag, highest",
}
_HEADS = {"score": "score", "counts": "work", "stages": "stages", "use": "use, energy, money"}
_ROLE_COLUMNS = (
    ("calls", "calls"),
    ("cpu_s", "CPU-s"),
    ("cpu_share", "CPU %"),
    ("busy_s", "busy s"),
    ("gpu_s", "GPU s"),
    ("flop", "FLOPs"),
    ("bytes_min", "bytes ≥"),
)
_FIGURE_WIDTH = 8
_SOURCE_WIDTH = 20
"""Cells below which sources are left out: they would be all ellipsis, or one word a line."""


def render(bill: Bill, console: Console) -> None:
    """Prints the bill. ``None`` is printed as "not measured", never as 0; a blank cell is no question.

    Sources are cut to one line where they are formulas; the JSON has them in full.
    """
    about = " · ".join(f"seed {value}" if key == "seed" else value for key, value in bill.about.items())
    _line(console, f"Bill{': ' + about if about else ''}", "bold")
    _line(console, f"{bill.made}, machine {bill.machine.get('profile')} ({bill.machine.get('chosen_because')})", "dim")
    width = console.width
    tables = (
        _sections_table(bill, ("score",), width, fold=True),
        _sections_table(bill, ("counts",), width),
        _role_table(bill, width),
        _sections_table(bill, ("stages",), width),
        _sections_table(bill, ("use", "energy", "money"), width),
    )
    for table, _ in tables:
        if table.row_count:
            console.print()
            console.print(table)
    console.print()
    left_out = tuple(dict.fromkeys(title for _, titles in tables for title in titles))
    if left_out:
        what = "; ".join(left_out)
        _line(console, f"Left out, the terminal is too narrow: {what}. A wider one or --json shows all.", "yellow")
    for name in ("flop", "bytes_min"):
        missing = bill.total(name).not_measured
        if missing:
            _line(console, f"{_TITLES[name]}: {NOT_MEASURED} for {', '.join(missing)}", "dim")
    _line(console, bill.limit, "bold")
    for warning in bill.warnings:
        _line(console, f"Warning: {warning}", "yellow")
    _line(console, bill.boundary, "dim")


def _line(console: Console, text: str, style: str) -> None:
    console.print(text, style=style, highlight=False, markup=False)


def _table(right: int = 2) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    return Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, right, 0, 0), pad_edge=False)


def _sections_table(
    bill: Bill, sections: tuple[str, ...], width: int, *, fold: bool = False
) -> tuple[Table, tuple[str, ...]]:
    """A table, and which of its columns a narrow terminal has no room for."""
    from rich.text import Text

    table = _table()
    rows = [[row for row in bill.rows if row.section == section] for section in sections]
    lines = [[(_TITLES.get(r.name, r.name), _cell(r), _how(r), r.source) for r in part] for part in rows if part]
    # the sources get what the other columns leave; rich alone would shrink the figures
    taken = sum(max((len(line[i]) for part in lines for line in part), default=0) for i in range(3))
    left = width - taken - 3 * 3
    sourced = left >= _SOURCE_WIDTH
    table.add_column(_HEADS[sections[0]], no_wrap=True)
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("how", no_wrap=True)
    if sourced:
        table.add_column("from", style="dim", overflow="fold", max_width=left)
    for number, part in enumerate(lines):
        if number:
            table.add_row()
        for *cells, source in part:
            short = source if fold or len(source) <= left else source[: left - 1] + "…"
            table.add_row(*(Text(cell) for cell in (*cells, *([short] if sourced else []))))
    return table, () if sourced or not lines else (f"from ({_HEADS[sections[0]]})",)


def _how(row: BillRow) -> str:
    """What has no value was neither measured nor assumed."""
    return NOT_KNOWN if row.value is None else row.how


def _cell(row: BillRow) -> str:
    if row.value is None:
        return "no price" if row.section == "money" else NOT_MEASURED
    unit = "" if row.section in ("counts", "use") and row.unit not in ("B", "FLOP") else row.unit
    if row.interval is None:
        return figure(row.value, unit)
    low, high = row.interval
    return f"{figure(row.value, unit)} [{low:.4g}, {high:.4g}]"


def _role_table(bill: Bill, width: int) -> tuple[Table, tuple[str, ...]]:
    """The roles, and the columns that a narrow terminal has no room for: the last ones give way."""
    table = _table(right=1)
    known = {(row.role, row.name): row for row in bill.rows if row.section == "role"}
    roles = [role for role in ROLES if any(key[0] == role for key in known)]
    used = [(name, title) for name, title in _ROLE_COLUMNS if any(key[1] == name for key in known)]
    cells = {name: [_role_cell(known.get((role, name))) for role in roles] for name, _ in used}
    # a figure that is cut at the edge of a narrow terminal would be read as another one
    needed = {name: min(_FIGURE_WIDTH, max(map(len, (title, *cells[name])))) for name, title in used}
    easy = {name: max(needed[name], 5 if name == "cpu_share" else 7) for name, _ in used}
    first = max(map(len, roles), default=0)
    wide = easy if first + sum(easy.values()) + 2 * len(used) <= width else needed
    kept = list(used)
    while len(kept) > 1 and first + sum(wide[name] for name, _ in kept) + 2 * len(kept) > width:
        kept.pop()
    table.add_column("role", no_wrap=True)
    for name, title in kept:
        table.add_column(title, justify="right", min_width=wide[name], max_width=_FIGURE_WIDTH)
    for at, role in enumerate(roles):
        table.add_row(role, *(cells[name][at] for name, _ in kept))
    return table, tuple(title for _, title in used[len(kept) :])


def _role_cell(row: BillRow | None) -> str:
    if row is None:
        return ""
    if row.value is None:
        return NOT_MEASURED
    if row.unit == "%":
        return f"{row.value:.1f}"
    if row.unit == "s" and abs(row.value) < 99_999.5:
        return (
            "<0.01" if 0 < row.value < 0.005 else f"{row.value:,.2f}" if abs(row.value) < 1000 else f"{row.value:,.0f}"
        )
    if row.name == "calls" and row.value < 100_000:
        return f"{row.value:,.0f}"
    number, prefix = _scaled(row.value)
    return f"{number} {prefix}".rstrip()


def figure(value: float, unit: str = "") -> str:
    """A number for people: ``12,345 steps``, ``1.23 GB``, ``4.56 T`` (FLOPs), ``0.0012 EUR``."""
    if unit in ("B", "J", "FLOP"):
        number, prefix = _scaled(value)
        return f"{number} {prefix}{'' if unit == 'FLOP' else unit}".rstrip()
    size = abs(value)
    if unit == "EUR" and size >= 1:
        text = f"{value:,.2f}"
    elif size >= 1000 or (size >= 1 and float(value).is_integer()):
        text = f"{value:,.0f}"
    elif size >= 0.1 or value == 0:
        text = f"{value:.4g}"
    else:
        text = f"{value:.2g}"
    return f"{text} {unit}".rstrip()


def _scaled(value: float) -> tuple[str, str]:
    for power, prefix in ((18, "E"), (15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if abs(value) >= 0.9995 * 10**power:
            return f"{value / 10**power:.3g}", prefix
    return f"{value:.3g}", ""


def render_findings(findings: Iterable[tuple[str, str, str, str]], console: Console) -> None:
    """Prints (topic, name, value, note) lines, one table per topic."""
    from rich.text import Text

    topics: dict[str, list[tuple[str, str, str]]] = {}
    for topic, name, value, note in findings:
        topics.setdefault(topic, []).append((name, value, note))
    for topic, lines in topics.items():
        table = _table()
        table.add_column(topic, no_wrap=True, min_width=21)
        table.add_column("")
        for name, value, note in lines:
            table.add_row(Text(name), Text.assemble(value, (f" ({note})" if note else "", "dim")))
        console.print(table)
        console.print()
