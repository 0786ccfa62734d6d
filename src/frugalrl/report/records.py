"""``RunRecord``: what a run's folder says, as a comparison reads it. Nothing is run and no weight is loaded."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from frugalrl.cost.record import Bill, bill_from_json
from frugalrl.run.config import RunConfig
from frugalrl.run.record import RunFolder, read_json
from frugalrl.types import Cost, UserError

Outcome = Literal["completed", "interrupted", "failed", "unfinished"]
"""``unfinished``: the run ended without a word (killed), or goes on."""

_NOT_NAMED = "not named"
"""The stack of a folder that was written before stacks had names: all such seeds of a method may have been in one."""
_COST_FIELDS = tuple(f.name for f in fields(Cost))


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One evaluation, and what the run had used by then."""

    env_steps: int
    mean_return: float
    """nan where nobody scored it: the end of a run that did not complete."""
    interval: tuple[float, float] | None
    """95 % over episodes."""
    episodes: int
    cpu_s: float
    wall_s: float
    updates: int | None = None
    """None, like the fields below, in folders written before these were kept."""
    frames: int | None = None
    peak_rss_bytes: int | None = None
    costs: Mapping[str, Cost] | None = None
    """Cumulative, by role; ``waiting`` and ``unassigned`` included."""

    def flop(self) -> float | None:
        """FLOPs of all roles so far; None where no role counted any."""
        if self.costs is None:
            return None
        known = [c.flop for c in self.costs.values() if c.flop is not None]
        return sum(known) if known else None


@dataclass(frozen=True, kw_only=True, slots=True)
class RunRecord:
    """A run: what was asked, what it scored and used, how it ended."""

    name: str
    """The folder's name, as the user gave it."""
    method: str
    """Runs of one method differ in environment and seed only."""
    config: RunConfig
    points: tuple[Point, ...]
    """Evaluations, by agent step."""
    bill: Bill | None
    """None when the run ended without one, or it cannot be read."""
    no_bill: str = ""
    """Why the bill that is there cannot be read, one sentence."""
    ended: Point | None = None
    """What a run that did not complete had used when it ended, without a score; None where its folder does not say."""
    outcome: Outcome
    reason: str
    """Why it ended, one sentence."""
    machine: Mapping[str, Any]
    """Facts of the machine, from machine.json: ``profile``, ``cpu``, ``cores``, ``versions``, ..."""
    code: Mapping[str, Any]
    """``version`` and ``source_sha256`` of the code that began the run."""
    stacked: int | None = None
    """Seeds that trained together in one process; None for a run of its own."""
    stacks: tuple[str, ...] = ()
    """Names of the processes that it shared with other seeds: their clocks are divided evenly (docs/stacked.md)."""
    moved: Mapping[str, Any] | None = None
    """Facts of another machine on which it went on; None where it stayed on the one."""
    price_file: Path | None = None
    """The user's price file that it began with; it may be gone."""
    command: tuple[str, ...] = ()

    @property
    def env(self) -> str:
        return self.config.env.id

    @property
    def seed(self) -> int:
        return self.config.seed

    @property
    def spent(self) -> Point | None:
        """All that is known that it used: at its end, else at its newest evaluation, which is then a lower bound."""
        return self.ended or self.last

    @property
    def last(self) -> Point | None:
        """The newest evaluation."""
        return self.points[-1] if self.points else None


def method_of(config: RunConfig) -> str:
    """A label for a run that no study named: recipe and explorer."""
    return f"{config.recipe} {config.explore.name}"


def read_run(folder: Path | str, *, method: str | None = None, name: str | None = None) -> RunRecord:
    """The record of a run's folder; ``method`` and ``name`` replace the labels it would get.

    Raises UserError for a folder that is no run, or that this version cannot read.
    """
    folder = Path(folder)
    record = RunFolder.open(folder)
    try:
        config = record.config()
    except UserError as error:
        raise UserError(
            f"{folder} cannot be compared: {error}; if it was written by another version of FrugalRL, read it with that"
        ) from error
    document = read_json(folder / "machine.json")
    lines = record.lines()
    outcome, reason = _ending(lines)
    try:
        bill, no_bill = read_bill(folder / "bill.json")
        points = tuple(_point(line) for line in lines if line["kind"] == "evaluation")
        return RunRecord(
            name=name or str(folder),
            method=method or method_of(config),
            config=config,
            points=points,
            bill=bill,
            no_bill=no_bill,
            ended=_ended(outcome, bill, lines),
            outcome=outcome,
            reason=reason,
            machine=dict(document.get("machine", {})),
            code=dict(document.get("code", {})),
            stacked=document.get("stacked_seeds"),
            stacks=_stacks(document, lines),
            moved=next((line["machine"] for line in lines if line["kind"] == "resume" and line.get("machine")), None),
            price_file=record.price_file(),
            command=tuple(document.get("command", ())),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{folder} cannot be compared: a record of it is damaged ({type(error).__name__}: {error}); leave it out"
        ) from error


def find_runs(places: Iterable[Path | str]) -> list[Path]:
    """Run folders at or below these places, in natural order (seed2 before seed10).

    Raises UserError for a place that does not exist or holds no run.
    """
    found: dict[Path, None] = {}
    for place in map(Path, [places] if isinstance(places, str | Path) else places):
        if not place.is_dir():
            raise UserError(f"there is no folder {place}; give run folders, or a folder that holds some")
        here = [place] if (place / "config.json").exists() else [p.parent for p in place.rglob("config.json")]
        runs = [p for p in here if (p / "machine.json").exists()]
        if not runs:
            raise UserError(f"{place} holds no run: no config.json with a machine.json beside it")
        found |= dict.fromkeys(sorted(runs, key=_natural))
    return each_once(found)


def each_once(folders: Iterable[Path]) -> list[Path]:
    """Under its first name a folder that is named in several ways (a link, an absolute path): it has one bill."""
    found: dict[Path, Path] = {}
    for folder in folders:
        found.setdefault(folder.resolve(), folder)
    return list(found.values())


def _natural(path: Path) -> list[tuple[int, int, str]]:
    parts = re.split(r"(\d+)", str(path))
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts]


def _ending(lines: list[dict[str, Any]]) -> tuple[Outcome, str]:
    last = next((line for line in reversed(lines) if line["kind"] in ("end", "resume")), None)
    if last is None or last["kind"] == "resume":
        return "unfinished", "it ended without a word, or goes on"
    if last["completed"]:
        return "completed", str(last["reason"])
    return ("interrupted" if str(last["reason"]).startswith("interrupted") else "failed"), str(last["reason"])


def read_bill(path: Path) -> tuple[Bill | None, str]:
    """(the bill, why one that is there cannot be read): one broken file costs a comparison no more than that bill."""
    if not path.exists():
        return None, ""
    try:
        return bill_from_json(read_json(path)), ""
    except UserError as error:
        return None, str(error).replace(str(path), path.name)  # whose bill it is is said where this is shown


def _ended(outcome: Outcome, bill: Bill | None, lines: list[dict[str, Any]]) -> Point | None:
    """From the end's line and the bill that is written with it. A completed run is scored at its end."""
    if bill is None or outcome not in ("failed", "interrupted"):
        return None
    end = next(line for line in reversed(lines) if line["kind"] == "end")
    costs: dict[str, dict[str, Any]] = {}
    for row in bill.rows:
        if row.section == "role" and row.role is not None and row.name in _COST_FIELDS:
            costs.setdefault(row.role, {})[row.name] = row.value
    known = {row.name: row.value for row in bill.rows if row.role is None and row.section in ("counts", "use")}
    cpu_s, wall_h = known["cpu_s"], known["wall_h"]
    if cpu_s is None or wall_h is None:
        return None
    counts = {name: _whole(known.get(name)) for name in ("updates", "frames", "peak_memory")}
    return Point(
        env_steps=int(end["env_steps"]),
        mean_return=math.nan,
        interval=None,
        episodes=0,
        cpu_s=cpu_s,
        wall_s=3600.0 * wall_h,
        updates=counts["updates"],
        frames=counts["frames"],
        peak_rss_bytes=counts["peak_memory"],
        costs={role: _cost(values) for role, values in costs.items()},
    )


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _stacks(document: Mapping[str, Any], lines: list[dict[str, Any]]) -> tuple[str, ...]:
    """One where it began, and one for each time that it went on in a stack; an old folder names none."""
    begun = document.get("stack") or (_NOT_NAMED if (document.get("stacked_seeds") or 1) > 1 else None)
    resumed = [line.get("stack") for line in lines if line["kind"] == "resume"]
    return tuple(dict.fromkeys(str(stack) for stack in (begun, *resumed) if stack))


def _point(line: Mapping[str, Any]) -> Point:
    score, costs = line["score"], line.get("costs")
    interval = score["interval"]
    return Point(
        env_steps=int(line["env_steps"]),
        mean_return=float(score["mean_return"]),
        interval=None if interval is None else (interval[0], interval[1]),
        episodes=int(score["episodes"]),
        cpu_s=float(line["cpu_s"]),
        wall_s=float(line["wall_s"]),
        updates=line.get("updates"),
        frames=line.get("frames"),
        peak_rss_bytes=line.get("peak_rss_bytes"),
        costs=None if costs is None else {role: _cost(c) for role, c in costs.items()},
    )


def _cost(values: Mapping[str, Any]) -> Cost:
    """Quantities that this version does not know are left out."""
    return Cost(**{name: value for name, value in values.items() if name in _COST_FIELDS})
