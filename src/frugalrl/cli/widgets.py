"""Small parts of a panel: a bar, two columns of facts."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

DIM = "bright_black"


def bar(share: float, width: int, colour: str) -> Text:
    """``width`` cells, the first ``share`` of them in colour."""
    full = round(min(1.0, max(0.0, share)) * width)
    return Text.assemble(("━" * full, colour), ("─" * (width - full), DIM))


def facts(rows: list[tuple[str, str]]) -> Table:
    """Names on the left, values on the right. Where both do not fit, the name is cut: a cut value is another one."""
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(style=DIM)  # a column that may wrap gives way to one that may not
    table.add_column(justify="right", no_wrap=True)
    for name, value in rows:
        table.add_row(Text(name, no_wrap=True, overflow="ellipsis"), value)
    return table


def columns(left: list[tuple[str, str]], right: list[tuple[str, str]]) -> Table:
    """Two columns of facts side by side."""
    both = Table.grid(padding=(0, 2), expand=True)
    both.add_column(ratio=1)
    both.add_column(ratio=1)
    both.add_row(facts(left), facts(right))
    return both
