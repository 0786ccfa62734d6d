"""A comparison as text: what it says, a table per environment, the three fair views."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from frugalrl.report.cells import cell, number, times
from frugalrl.report.lever_table import render_levers
from frugalrl.report.numbers import plain
from frugalrl.report.results import (
    QUANTITIES,
    Comparison,
    EnvResult,
    Figure,
    MethodResult,
    Overall,
    Quantity,
    ToTarget,
    ViewRow,
)
from frugalrl.report.titles import headline_target

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_NO_RUN = "no run evaluated"
_SHORT: tuple[Quantity, ...] = ("env_steps", "cpu_s", "eur")
_AXIS_WORDS = {"env_steps": ("equal samples", "steps"), "flop": ("equal FLOPs", "FLOP"), "eur": ("equal money", "EUR")}


def render(comparison: Comparison, console: Console) -> None:
    """Print a comparison: the tables, what a reader must know, and last what the figures say.

    Targets other than the main one have their most important rows only; the report has all, and every source.
    """
    for env in comparison.envs:
        _line(console, f"{env.env} · protocol {env.protocol} · baseline {comparison.baseline}", "bold cyan")
        console.print()
        _render_env(env, console)
        console.print()
    if comparison.overall:
        console.print(_overall(comparison))
        console.print()
    for note in comparison.notes:
        _line(console, f"Note: {note}", "yellow")
    _line(
        console,
        f"[ ]: {comparison.level:.0%} interval over seeds; x: expected cost over that of {comparison.baseline}, paired "
        f"by seed. {_whose_times(comparison)}",
        "dim",
    )
    console.print()
    for sentence in comparison.sentences:
        _line(console, sentence, "bold")


def _whose_times(comparison: Comparison) -> str:
    if comparison.modelled is not None:
        return "Times are modelled, see the note."
    return f"Times are those of the machine {comparison.machine.get('profile', 'unknown')}."


def _line(console: Console, text: str, style: str) -> None:
    console.print(text, style=style, highlight=False, markup=False)


def _render_env(env: EnvResult, console: Console) -> None:
    main = headline_target(env)
    if env.levers is not None:
        # as many methods beside each other would fit no terminal
        render_levers(env, [] if main is None else [main[0]], console)
        if env.views:
            console.print(_view_table(env))
        return
    console.print(_end_table(env))
    for target in env.targets:
        console.print()
        whole = main is None or target == main[0]
        console.print(_target_table(env, target, tuple(QUANTITIES) if whole else _SHORT))
    if env.views:
        console.print()
        console.print(_view_table(env))
    if env.anchors:
        console.print()
        console.print(_anchor_table(env))


def _new(first: str, methods: Sequence[str] = ()) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(first, no_wrap=False)
    for name in methods:
        table.add_column(Text(name), justify="right")  # a name is no markup, whatever brackets it has
    return table


def _add(table: Table, name: str, cells: Sequence[str], how: str = "") -> None:
    from rich.text import Text

    table.add_row(Text(name), *(Text(c) for c in cells), Text(how, style="dim"))


def _how(figures: Sequence[Figure]) -> str:
    """How the figures of a row were obtained; what nobody measured was not obtained."""
    return ", ".join(dict.fromkeys(f.how for f in figures if f.value is not None))


def _end_table(env: EnvResult) -> Table:
    methods = env.methods
    table = _new("end of the budget", [m.method for m in methods])
    table.add_column("how")
    counts = [f"{len(m.seeds)}" + (f" + {len(m.failed)} failed" if m.failed else "") for m in methods]
    _add(table, "runs", counts)

    def row(name: str, of: Callable[[MethodResult], Figure | None]) -> None:
        found = [of(m) for m in methods]
        known = [f for f in found if f is not None]
        if any(f.value is not None for f in known):
            _add(table, name, ["" if f is None else cell(f) for f in found], _how(known))

    row("final score, mean", lambda m: m.final_mean)
    row("final score, IQM", lambda m: m.final_iqm)
    row("normalised", lambda m: m.final_normalized)
    row("worst run", lambda m: m.tolerance)
    for quantity, (title, _) in QUANTITIES.items():
        row(_title(quantity, title), lambda m, q=quantity: m.used.get(q))  # type: ignore[misc]
    row("peak memory", lambda m: m.peak_memory)
    return table


def _title(quantity: Quantity, title: str) -> str:
    unit = QUANTITIES[quantity][1]
    return f"{title}, {unit}" if unit in ("CPU-s", "GPU-s", "s") else title


def _target_table(env: EnvResult, target: float, shown: Sequence[Quantity]) -> Table:
    # a method none of whose runs was evaluated has no such entry
    found = [next((t for t in m.targets if t.target == target), None) for m in env.methods]
    known = [t for t in found if t is not None]
    table = _new(f"to a score of {plain(target)}", [m.method for m in env.methods])
    table.add_column("how")
    reached = [_NO_RUN if t is None else f"{t.reached} of {t.runs}" for t in found]
    _add(table, "runs that reached it", reached, _how([t.share_reached for t in known]))
    medians = ["" if t is None else cell(t.median_steps) for t in found]
    _add(table, "samples, median", medians, _how([t.median_steps for t in known]))
    for quantity in shown:
        title = QUANTITIES[quantity][0]
        figures = [t.expected[quantity] for t in known if quantity in t.expected]
        if any(f.value is not None for f in figures):
            _add(table, _title(quantity, title), [_expected(t, quantity) for t in found], _how(figures))
    return table


def _expected(found: ToTarget | None, quantity: Quantity) -> str:
    """An expected cost, and below it the ratio to the baseline."""
    if found is None or quantity not in found.expected:
        return ""
    text = cell(found.expected[quantity])
    ratio = times(found.ratio[quantity], found.expected[quantity]) if quantity in found.ratio else ""
    return f"{text}\n{ratio}" if ratio else text


def _view_table(env: EnvResult) -> Table:
    """A row per method, a column per fair view; below a score its difference to the baseline."""
    heads = []
    for view in env.views:
        words, unit = _AXIS_WORDS[view.axis]
        heads.append(f"{words}\n{number(view.amount, unit)}{' steps' if unit == 'steps' else ''}")
    table = _new("score at", heads)
    table.add_column("")
    rows = [[row for row in view.rows if row.method == m.method] for m in env.methods for view in env.views]
    for i, method in enumerate(env.methods):
        found = rows[i * len(env.views) : (i + 1) * len(env.views)]
        _add(table, method.method, ["\n".join(_view_lines(row[0])) if row else "" for row in found])
    return table


def _view_lines(row: ViewRow) -> list[str]:
    lines = [cell(row.score)]
    if row.difference is not None and row.difference.value is not None:
        sign = "+" if row.difference.value > 0 else ""
        lines.append(f"{sign}{cell(row.difference)}")
    return lines if row.verdict == "baseline" else [*lines, row.verdict]


def _anchor_table(env: EnvResult) -> Table:
    from rich.text import Text

    table = _new("from elsewhere, not measured here")
    for title in ("score", "steps", "source"):
        table.add_column(title, justify="left" if title == "source" else "right")
    for a in env.anchors:
        between = "" if a.interval is None else f" [{number(a.interval[0])}, {number(a.interval[1])}]"
        steps = "unknown" if a.env_steps is None else number(a.env_steps, "steps")
        table.add_row(*(Text(c) for c in (a.name, f"{number(a.score)}{between}", steps, a.source)))
    return table


def _overall(comparison: Comparison) -> Table:
    table = _new("all environments, normalised", [o.method for o in comparison.overall])
    table.add_column("how")
    rows: tuple[tuple[str, Callable[[Overall], Figure | None]], ...] = (
        ("mean", lambda o: o.mean),
        ("median", lambda o: o.median),
        ("IQM", lambda o: o.iqm),
        ("optimality gap", lambda o: o.optimality_gap),
        ("P(better than the baseline)", lambda o: o.improvement),
    )
    for name, of in rows:
        figures = [of(o) for o in comparison.overall]
        _add(table, name, ["" if f is None else cell(f) for f in figures], _how([f for f in figures if f is not None]))
    return table
