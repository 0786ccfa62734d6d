"""The levers on the terminal: a row per method, then the effects of the levers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from frugalrl.report.cells import cell, times
from frugalrl.report.lever_words import shown_effect
from frugalrl.report.levers import COSTS, TITLES
from frugalrl.report.numbers import plain
from frugalrl.report.results import QUANTITIES, EnvResult, LeverEffect, Levers, MethodResult, Quantity, ToTarget

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_WORK: tuple[Quantity, ...] = ("env_steps", "updates", "flop")
_LOAD: tuple[Quantity, ...] = ("sampler_s", "learner_s", "cpu_s", "gpu_s")
_PRICE: tuple[Quantity, ...] = ("wall_s", "joules", "eur")


def render_levers(env: EnvResult, targets: Sequence[float], console: Console) -> None:
    """Print the cells and the effects, for each of these targets."""
    levers = env.levers
    assert levers is not None
    text = (
        f"All with {levers.learner}; only the levers differ. Effect: with the lever over without it, averaged over the "
        f"other levers; 1 is none. Interaction: the effect of one where the other is used over where it is not."
    )
    console.print(text, style="dim", highlight=False, markup=False)
    console.print()
    for target in targets:
        found = next(t for t in levers.targets if t.target == target)
        for shown in (_WORK, _LOAD, _PRICE):
            _print_cells(env, target, shown, console)
        for size, title in ((1, "effect"), (2, "interaction")):
            console.print(_effects(levers, (*found.effects, *levers.score), size, f"{title}, to {plain(target)}"))
            console.print()
        if any(shown_effect(e)[1] for e in found.effects):
            text = "r: of the cost until the target or the end of the budget, as a cell has no success."
            console.print(text, style="dim", highlight=False, markup=False)
    if not targets:
        for size, title in ((1, "effect"), (2, "interaction")):
            console.print(_effects(levers, levers.score, size, title))
            console.print()


def _print_cells(env: EnvResult, target: float, shown: Sequence[Quantity], console: Console) -> None:
    rows = [(m, next((t for t in m.targets if t.target == target), None)) for m in env.methods]
    known = [q for q in shown if any(t is not None and t.expected[q].value is not None for _, t in rows)]
    if not known:
        return
    first = shown is _WORK
    columns: list[tuple[str, Callable[[MethodResult, ToTarget | None], str]]] = []
    if first:
        columns.append(("reached", lambda m, t: "" if t is None else f"{t.reached} of {t.runs}"))
        columns.append(("final score", lambda m, t: _two(cell(m.final_mean))))
    for quantity in known:
        title, unit = QUANTITIES[quantity]
        head = f"{title}\n{unit}" if unit in ("CPU-s", "GPU-s", "s") else title
        columns.append((head, lambda m, t, q=quantity: "" if t is None else _two(cell(t.expected[q]))))  # type: ignore[misc]
    table = _new(f"to a score of {plain(target)}", [head for head, _ in columns])
    for method, to in rows:
        _row(table, method.method, [of(method, to) for _, of in columns])
    console.print(table)
    console.print()


def _effects(levers: Levers, effects: Sequence[LeverEffect], size: int, title: str) -> Table:
    """A row per quantity, a column per effect of so many levers; the last one holds all larger ones."""
    names = [e for e in dict.fromkeys(x.levers for x in effects) if (len(e) == 1) == (size == 1)]
    heads = [_head(levers, name) for name in names]
    table = _new(title, heads)
    for quantity in (*COSTS, "score"):
        found = {e.levers: e for e in effects if e.quantity == quantity}
        cells = [_effect(found[name]) if name in found else "" for name in names]
        if any(cells):
            _row(table, TITLES[quantity], cells if size == 1 else [_two(c) for c in cells])
    return table


def _head(levers: Levers, names: tuple[str, ...]) -> str:
    if len(names) > 1:
        return "\nx ".join(names)
    (lever,) = (x for x in levers.levers if x.name == names[0])
    return f"{lever.name}\n{lever.high}\nover {lever.low}"


def _effect(found: LeverEffect) -> str:
    figure, bounded = shown_effect(found)
    if figure.value is None:
        return ""
    if found.quantity == "score":
        return f"{'+' if figure.value > 0 else ''}{cell(figure)}"
    return f"{times(figure)}{' r' if bounded else ''}"


def _two(text: str) -> str:
    """The interval below the number."""
    return text.replace(" [", "\n[")


def _new(first: str, heads: Sequence[str]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(first)
    for head in heads:
        table.add_column(head, justify="right", no_wrap=False)
    return table


def _row(table: Table, name: str, cells: Sequence[str]) -> None:
    from rich.text import Text

    table.add_row(Text(name), *(Text(c) for c in cells))
