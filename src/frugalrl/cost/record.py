"""The bill as a record: its rows, its totals, and its JSON.

A row whose value is ``None`` was not measured, which is not zero. A total is the sum of what is known, the list of
the parts that are not, and the weakest ``how`` among the known ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import Any, Literal, cast, get_args

from frugalrl.types import HOWS, How, UserError

SCHEMA = "frugalrl.bill/1"

Section = Literal["score", "counts", "role", "stages", "use", "energy", "money"]

BOUNDARY = (
    "Counted: this process, its threads and its children; joules and euro are those of the whole machine while the "
    "run lasted. Left out: network, cooling, making the hardware, people."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class BillRow:
    """One figure."""

    section: Section
    role: str | None = None
    name: str
    value: float | None
    """``None`` when it was not measured."""
    unit: str
    interval: tuple[float, float] | None = None
    """95 % interval over seeds or episodes, where there is one."""
    how: How
    source: str


@dataclass(frozen=True, slots=True)
class Total:
    """A sum that admits what it does not know."""

    known: float | None
    """Sum of the known parts; ``None`` when no part is known."""
    not_measured: tuple[str, ...]
    how: How | None
    """The weakest of the parts; ``None`` when no part is known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bill:
    """The bill of one run."""

    about: Mapping[str, str] = field(default_factory=dict)
    """Which run: environment, recipe, seed, ..."""
    machine: Mapping[str, Any]
    made: str
    """When, UTC, ISO 8601."""
    rows: tuple[BillRow, ...]
    limit: str
    """One sentence: the costliest role and what would help."""
    warnings: tuple[str, ...] = ()
    boundary: str = BOUNDARY

    def find(self, name: str, role: str | None = None) -> BillRow:
        """The row of that name; raises ``KeyError``."""
        for row in self.rows:
            if row.name == name and row.role == role:
                return row
        raise KeyError((role, name))

    def total(self, name: str) -> Total:
        """Sum of one quantity (``cpu_s``, ``busy_s``, ``flop``, ``bytes_min``, ...) over the roles."""
        return sum_rows(row for row in self.rows if row.section == "role" and row.name == name)


def sum_rows(rows: Iterable[BillRow]) -> Total:
    """Adds rows of one quantity; parts are named by their role, or by their name without one."""
    rows = tuple(rows)
    known = [row for row in rows if row.value is not None]
    missing = tuple(row.role or row.name for row in rows if row.value is None)
    if not known:
        return Total(None, missing, None)
    return Total(sum(cast(float, row.value) for row in known), missing, weakest(row.how for row in known))


def weakest(hows: Iterable[How]) -> How:
    """The weakest of several; a sum is only as strong as that."""
    return max(hows, key=HOWS.index)


def score_row(
    name: str, value: float | None, *, unit: str, source: str, interval: tuple[float, float] | None = None
) -> BillRow:
    """A row for what the run reached, to be handed to :func:`make_bill`."""
    return BillRow(section="score", name=name, value=value, unit=unit, interval=interval, how="measured", source=source)


# -- JSON ------------------------------------------------------------------------------------------------------------


def to_json(bill: Bill) -> dict[str, Any]:
    """The bill as JSON can hold it, with its schema first; figures that are not finite become ``None``."""
    rows = [asdict(row) for row in bill.rows]
    for row in rows:
        row["value"] = _finite(row["value"])
        row["interval"] = list(row["interval"]) if row["interval"] is not None else None
    return {
        "schema": SCHEMA,
        "made": bill.made,
        "about": dict(bill.about),
        "machine": dict(bill.machine),
        "limit": bill.limit,
        "warnings": list(bill.warnings),
        "boundary": bill.boundary,
        "rows": rows,
    }


def bill_from_json(data: Mapping[str, Any]) -> Bill:
    """The inverse of :func:`to_json`. Raises :class:`UserError` for another schema or a broken bill."""
    schema = data.get("schema") if isinstance(data, Mapping) else None
    if schema != SCHEMA:
        raise UserError(f"this is no bill that this version can read: schema {schema!r}, not {SCHEMA!r}")
    try:
        rows = tuple(_row_from_json(row) for row in data["rows"])
        return Bill(
            about=dict(data["about"]),
            machine=dict(data["machine"]),
            made=str(data["made"]),
            rows=rows,
            limit=str(data["limit"]),
            warnings=tuple(data["warnings"]),
            boundary=str(data["boundary"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"this bill is damaged ({type(error).__name__}: {error}); make it again from the run") from None


def _row_from_json(row: Mapping[str, Any]) -> BillRow:
    if row["section"] not in get_args(Section) or row["how"] not in HOWS:
        raise ValueError(f"unknown section or how: {row['section']!r}, {row['how']!r}")
    interval = row["interval"]
    return BillRow(**{**row, "interval": None if interval is None else (interval[0], interval[1])})


def _finite(value: float | None) -> float | None:
    return value if value is not None and isfinite(value) else None
