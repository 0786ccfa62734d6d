"""Scores from elsewhere, read from a CSV file: shown beside the runs, under their own protocols, compared with nothing.

A header line names the columns: ``name, env, score`` and, where they are known, ``low, high, env_steps, seed, source``.
Rows of one name and environment with different seeds become one anchor: their mean, with an interval over seeds.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from math import isfinite
from pathlib import Path

import numpy as np

from frugalrl import stats
from frugalrl.report.results import Anchor
from frugalrl.types import UserError

REQUIRED = ("name", "env", "score")
OPTIONAL = ("low", "high", "env_steps", "seed", "source")
_LIST = f"{', '.join(REQUIRED)} and optionally {', '.join(OPTIONAL)}"


@dataclass(frozen=True, slots=True)
class _Row:
    line: int
    name: str
    env: str
    score: float
    interval: tuple[float, float] | None
    env_steps: int | None
    seed: int | None
    source: str


def read_anchors(
    path: Path, *, rng: np.random.Generator, draws: int = 2_000, level: float = 0.95
) -> tuple[Anchor, ...]:
    """The anchors of a file, in its order.

    Raises UserError that names file, line and value: no such file, a column that is missing or unknown, a cell that is
    no number, half an interval, the same row twice.
    """
    rows = list(_rows(path))
    if not rows:
        raise UserError(f"{path} holds no score; give one line per score under the header")
    groups: dict[tuple[str, str], list[_Row]] = {}
    for row in rows:
        groups.setdefault((row.name, row.env), []).append(row)
    return tuple(_anchor(path, group, rng, draws, level) for group in groups.values())


def _anchor(path: Path, rows: Sequence[_Row], rng: np.random.Generator, draws: int, level: float) -> Anchor:
    first = rows[0]
    seen: dict[int | None, _Row] = {}
    for row in rows:
        if seen.setdefault(row.seed, row) is not row or (len(rows) > 1 and row.seed is None):
            other = seen[row.seed].line if seen[row.seed] is not row else rows[1].line
            raise UserError(
                f"{path}, line {max(row.line, other)}: {row.name} on {row.env} stands there twice (also line "
                f"{min(row.line, other)}); runs need different numbers in a column 'seed'"
            )
    score, interval, source = first.score, first.interval, first.source
    if len(rows) > 1:
        made = stats.stratified([[r.score for r in rows]], stats.mean, rng=rng, draws=draws, level=level)
        score, interval = made.value, made.interval
        source = f"{source or path.name}; mean of {len(rows)} runs, {made.how}"
    return Anchor(
        name=first.name,
        env=first.env,
        score=score,
        interval=interval,
        env_steps=first.env_steps,
        source=source or path.name,
    )


def _rows(path: Path) -> Iterator[_Row]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            names = [name.strip() for name in reader.fieldnames or ()]
            _check_header(path, names)
            reader.fieldnames = names
            for cells in reader:
                yield _row(path, reader.line_num, cells)
    except FileNotFoundError:
        raise UserError(f"there is no file {path}; give a CSV file with the columns {_LIST}") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read ({error}); give a CSV file with the columns {_LIST}") from None


def _check_header(path: Path, names: Sequence[str]) -> None:
    known = (*REQUIRED, *OPTIONAL)
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            raise UserError(f"{path}, line 1: unknown column {name!r}; {hint}")
    for name in REQUIRED:
        if name not in names:
            raise UserError(f"{path}, line 1: the column {name!r} is missing; the columns are {_LIST}")


def _row(path: Path, line: int, cells: dict[str | None, str | None]) -> _Row:
    if None in cells:
        raise UserError(f"{path}, line {line}: more cells than the header has columns; quote a text that holds a comma")
    text = {str(name): (value or "").strip() for name, value in cells.items()}
    for name in REQUIRED:
        if not text[name]:
            raise UserError(f"{path}, line {line}: {name} is empty; every row needs {', '.join(REQUIRED)}")
    score = _number(path, line, "score", text["score"])
    ends = [text.get(name, "") for name in ("low", "high")]
    if any(ends) and not all(ends):
        raise UserError(f"{path}, line {line}: one of low and high is empty; give both ends of an interval, or neither")
    low_high = (_number(path, line, "low", ends[0]), _number(path, line, "high", ends[1])) if all(ends) else None
    if low_high is not None and not low_high[0] <= low_high[1]:
        raise UserError(f"{path}, line {line}: low {ends[0]} is above high {ends[1]}; exchange them")
    return _Row(
        line=line,
        name=text["name"],
        env=text["env"],
        score=score,
        interval=low_high,
        env_steps=_whole(path, line, "env_steps", text.get("env_steps", "")),
        seed=_whole(path, line, "seed", text.get("seed", "")),
        source=text.get("source", ""),
    )


def _number(path: Path, line: int, column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not isfinite(value):
        raise UserError(f"{path}, line {line}: {column} is {text!r}; it must be a number such as 841.9")
    return value


def _whole(path: Path, line: int, column: str, text: str) -> int | None:
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise UserError(
            f"{path}, line {line}: {column} is {text!r}; it must be a whole number such as 100000"
        ) from None
