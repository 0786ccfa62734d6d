"""Tables that can be sorted, whose numbers say how they were made."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from frugalrl.cost.show import NOT_MEASURED
from frugalrl.report.cells import one_sided
from frugalrl.report.numbers import Scale, between, digits, two
from frugalrl.report.page.html import tag, text_of
from frugalrl.report.results import Figure

MARKS = {"modelled": "m", "assumed": "a"}


@dataclass(frozen=True, slots=True)
class Cell:
    """What a cell shows and what it is sorted by; a cell without a key comes last either way."""

    markup: str
    key: float | str | None = None
    ref: int | None = None
    """Place of its origin in ``Origins``."""
    n: int | None = None
    """Runs it rests on."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column's head."""

    title: str
    unit: str = ""
    numeric: bool = True


@dataclass
class Origins:
    """How and from what numbers were obtained, each said once, and for which columns."""

    said: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    _places: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, figure: Figure, column: str) -> int:
        """The place of a figure's origin."""
        origin = (figure.how, figure.source)
        place = self._places.setdefault(origin, len(self._places))
        where = self.said.setdefault(origin, [])
        if column not in where:
            where.append(column)
        return place


def words(text: object, *, key: float | str | None = None) -> Cell:
    """A cell of text, sorted by that text."""
    return Cell(text_of(text), str(text) if key is None else key)


def number(value: float | None, scale: Scale | None = None) -> Cell:
    """A number without an interval."""
    if value is None or math.isnan(value):
        return Cell(f'<i class="no">{NOT_MEASURED}</i>')
    return Cell(digits(value / (scale.factor if scale else 1.0)), value)


def figure_cell(
    figure: Figure | None, scale: Scale, origins: Origins, column: str, *, ratio: Figure | None = None,
    bound: float | None = None, refused: str = NOT_MEASURED,
) -> Cell:  # fmt: skip
    """A figure with its interval below it and its ratio to the baseline below that.

    ``bound``: what each run had used without success, shown as "> bound" where the figure is infinite.
    """
    if figure is None or figure.value is None or math.isnan(figure.value):
        ref = None if figure is None else origins.add(figure, column)
        return Cell(f'<i class="no">{refused}</i>', None, ref, None if figure is None else figure.n)
    mark = MARKS.get(figure.how, "")
    sign = f"<sup>{mark}</sup>" if mark else ""
    if math.isinf(figure.value):
        known = bound is not None and math.isfinite(bound)
        shown = f"&gt; {digits((bound or 0.0) / scale.factor)}" if known else "not reached"
        parts = [f'<i class="inf">{shown}</i>{sign}']
        if figure.interval is not None and math.isfinite(figure.interval[0]):
            parts.append(f"<small>{between(figure.interval, scale.factor)}</small>")
    else:
        parts = [digits(figure.value / scale.factor) + sign]
        if figure.interval is not None and figure.interval != (figure.value, figure.value):
            parts.append(f"<small>{between(figure.interval, scale.factor)}</small>")
    if ratio is not None:
        parts.append(_ratio(ratio, figure))
    return Cell("".join(parts), figure.value, origins.add(figure, column), figure.n)


def _ratio(ratio: Figure, cost: Figure) -> str:
    if ratio.value is None or math.isnan(ratio.value):
        return '<span class="r">no ratio</span>'
    low, high = ratio.interval or (-math.inf, math.inf)
    clear, arrow = ("less", "▼") if high < 1 else ("more", "▲") if low > 1 else ("", "")
    if (sided := one_sided(ratio, cost)) is not None:
        who, bound = sided
        shown = f"{arrow}{who}" + (f" <u>{text_of(bound)}×</u>" if bound else "")
    elif ratio.interval is None:
        shown = f"{arrow}{two(ratio.value)}×"
    else:
        high_words = "∞)" if math.isinf(high) else f"{two(high)}]"
        shown = f"{arrow}{two(ratio.value)}× <u>[{two(low)}, {high_words}</u>"
    return f'<span class="r {clear}">{shown}</span>' if clear else f'<span class="r">{shown}</span>'


SMALL = 12
"""Rows up to which a printed table is kept on one sheet."""


def table(name: str, caption: str, columns: Sequence[Column], rows: Sequence[Sequence[Cell]], css: str = "") -> str:
    """A table in a box of its own, which scrolls where the page is too narrow. The first cell of a row is its head.

    What most cells of a column have in common, their origin and number of runs, is said by the column.
    """
    usual = [_usual([row[at] for row in rows]) for at in range(len(columns))]
    heads = []
    for column, (ref, n) in zip(columns, usual, strict=True):
        unit = f"<small>{text_of(column.unit)}</small>" if column.unit else ""
        button = tag("button", text_of(column.title), unit)
        heads.append(tag("th", button, scope="col", class_=None if column.numeric else "w", data_r=ref, data_n=n))
    body = []
    for row in rows:
        cells = [_cell(cell, columns[at], usual[at], head=at == 0) for at, cell in enumerate(row)]
        body.append(f"<tr>{''.join(cells)}</tr>")
    kept = " keep" if len(rows) <= SMALL else ""
    return (
        f'<div class="scroll{css}{kept}" role="region" tabindex="0" aria-labelledby="{name}-c"><table id="{name}">'
        f'<caption id="{name}-c">{text_of(caption)}</caption><thead><tr>{"".join(heads)}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _usual(cells: Sequence[Cell]) -> tuple[int | None, int | None]:
    refs = Counter(cell.ref for cell in cells if cell.ref is not None)
    ns = Counter(cell.n for cell in cells if cell.n)
    return (refs.most_common(1)[0][0] if refs else None, ns.most_common(1)[0][0] if ns else None)


def _cell(cell: Cell, column: Column, usual: tuple[int | None, int | None], *, head: bool) -> str:
    """Markup of a cell; what it is sorted by is left out where that is the text it shows."""
    key: float | str | None = cell.key
    start = cell.markup.partition("<")[0].replace(",", "")
    if not column.numeric or (start and _is_number(start) and not math.isinf(float(key or 0))):
        key = None
    elif isinstance(key, float | int):
        key = f"{key:.6g}"
    ref = None if cell.ref == usual[0] else -1 if cell.ref is None else cell.ref
    n = None if cell.n == usual[1] or not cell.n else cell.n
    if head:
        return f'<th scope="row">{cell.markup}</th>'
    return tag("td", cell.markup, class_=None if column.numeric else "w", data_v=key, data_r=ref, data_n=n)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
