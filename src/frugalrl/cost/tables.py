"""Machine profiles and prices: dated tables of the package, and the user's own file merged over them.

A user file has the layout of the package's tables and may hold any part of them::

    [price.cloud-2vcpu]
    eur_per_hour_on_demand = 0.12
    source = "my invoice of October"
    date = "2026-10-31"

    [electricity]
    eur_per_kwh = 0.27

An entry that the file touches takes its ``source`` from the file; without one it says who set it.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from difflib import get_close_matches
from importlib.resources import files
from math import isfinite
from pathlib import Path
from typing import Any, cast

from frugalrl.types import HOWS, How, UserError

SCHEMA = "frugalrl.tables/1"


@dataclass(frozen=True, kw_only=True, slots=True)
class MachineProfile:
    """What a machine draws and can do at most, for the models of energy and of time."""

    name: str
    title: str
    cores: int
    memory_gb: float
    gpus: int
    gpu_names: tuple[str, ...] = ()
    """Words in the name of a GPU that choose this profile."""
    watts_per_busy_core: float
    """Draw of one busy core over an idle one."""
    idle_watts: float
    """Draw of the machine when nothing runs, without its GPUs."""
    gpu_busy_watts: float
    """Draw of one busy GPU."""
    gpu_idle_watts: float
    gflop_per_s_core: float | None = None
    """fp32 peak of one core, 10^9 FLOP per second; None, like the three below, where no roof is known."""
    gb_per_s: float | None = None
    """10^9 bytes per second that one core moves."""
    gpu_tflop_per_s: float | None = None
    """fp32 peak of one GPU, 10^12 FLOP per second."""
    gpu_gb_per_s: float | None = None
    """10^9 bytes per second of one GPU's memory."""
    date: str
    how: How
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Price:
    """What an hour of a machine costs; ``None`` where there is no such offer."""

    name: str
    eur_per_hour_on_demand: float | None = None
    eur_per_hour_spot: float | None = None
    purchase_eur: float | None = None
    years: float | None = None
    hours_per_year: float | None = None
    """Hours of use per year over which the purchase is spread."""
    date: str
    how: How
    source: str

    @property
    def eur_per_hour_owned(self) -> float | None:
        """Purchase price / (years * hours per year), without electricity."""
        if self.purchase_eur is None or self.years is None or self.hours_per_year is None:
            return None
        return self.purchase_eur / (self.years * self.hours_per_year)


@dataclass(frozen=True, kw_only=True, slots=True)
class Electricity:
    """The tariff."""

    eur_per_kwh: float
    date: str
    how: How
    source: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Tables:
    """Machine profiles and prices by name, and the tariff."""

    machines: Mapping[str, MachineProfile]
    prices: Mapping[str, Price]
    electricity: Electricity
    user_file: str | None = None
    """What was merged over the tables of the package; an absolute path."""

    @property
    def origin(self) -> dict[str, str]:
        """``price_file``, for the record of a run; empty without one."""
        return {} if self.user_file is None else {"price_file": self.user_file}

    def machine(self, name: str) -> MachineProfile:
        """The profile called ``name``; raises :class:`UserError` with a hint."""
        if name not in self.machines:
            raise UserError(f"unknown machine {name!r}{_hint(name, self.machines)}")
        return self.machines[name]

    def price(self, name: str) -> Price | None:
        """The price of that machine, if the tables have one."""
        return self.prices.get(name)


def load_tables(user_file: Path | str | None = None) -> Tables:
    """The tables of the package with ``user_file`` merged over them.

    Raises :class:`UserError` naming file, key and value: no such file, broken TOML, unknown key, wrong type,
    negative number, or a new machine that lacks a key.
    """
    user_file = None if user_file is None else Path(user_file)
    merged: dict[str, Any] = {"machine": {}, "price": {}, "electricity": {}}
    folder = files("frugalrl.cost") / "tables"
    for name in ("machines.toml", "prices.toml"):
        _merge(merged, _checked(tomllib.loads((folder / name).read_text(encoding="utf-8")), name), set_by=None)
    if user_file is not None:
        _merge(merged, _checked(_read_user_file(user_file), str(user_file)), set_by=user_file.name)
    where = str(user_file) if user_file is not None else "the package's tables"
    machines = {k: _machine(k, v, where) for k, v in merged["machine"].items()}
    prices = {k: Price(name=k, **_complete(Price, v, f"price.{k}", where)) for k, v in merged["price"].items()}
    for name in prices:
        if name not in machines:
            raise UserError(f"{where}: price.{name} names a machine that is in no table{_hint(name, machines)}")
    return Tables(
        machines=machines,
        prices=prices,
        electricity=Electricity(**_complete(Electricity, merged["electricity"], "electricity", where)),
        user_file=str(user_file.absolute()) if user_file is not None else None,
    )


def _read_user_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such price file; give the path of a TOML file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: this price file cannot be read ({error}); give the path of a TOML file") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: this price file is not valid TOML: {error}") from None


# -- checking --------------------------------------------------------------------------------------------------------

_SECTIONS: Mapping[str, type] = {"machine": MachineProfile, "price": Price, "electricity": Electricity}
_ORIGIN = ("date", "how", "source")
_TEXT = ("title", *_ORIGIN)
_INTEGER = ("cores", "gpus")
_ROOFS = ("gflop_per_s_core", "gb_per_s", "gpu_tflop_per_s", "gpu_gb_per_s")
_POSITIVE = ("cores", "years", "hours_per_year", *_ROOFS)


def _checked(table: dict[str, Any], where: str) -> dict[str, Any]:
    for key, value in table.items():
        if key == "schema":
            _one_of(where, key, value, SCHEMA)
        elif key == "currency":
            _one_of(where, key, value, "EUR")
        elif key not in _SECTIONS:
            raise UserError(f"{where}: unknown key {key!r}{_hint(key, ('schema', 'currency', *_SECTIONS))}")
        elif key == "electricity":
            _check_entry(value, "electricity", Electricity, where)
        else:
            for name, entry in _table(value, key, where).items():
                _check_entry(entry, f"{key}.{name}", _SECTIONS[key], where)
    return table


def _table(value: object, path: str, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{where}: {path} is {value!r}; it must be a table such as [{path}]")
    return value


def _check_entry(entry: object, path: str, kind: type, where: str) -> None:
    allowed = _keys(kind)
    for key, value in _table(entry, path, where).items():
        if key not in allowed:
            raise UserError(f"{where}: unknown key {path}.{key}{_hint(key, allowed)}")
        _check_value(value, key, f"{where}: {path}.{key} is {value!r}")


def _check_value(value: object, key: str, seen: str) -> None:
    if key == "gpu_names":
        if not isinstance(value, list) or not all(isinstance(v, str) and v for v in value):
            raise UserError(f"{seen}; it must be a list of words")
    elif key in _TEXT:
        if not isinstance(value, str) or not value.strip():
            raise UserError(f"{seen}; it must be text")
        if key == "how" and value not in HOWS:
            raise UserError(f"{seen}; it must be one of {', '.join(HOWS)}")
        if key == "date" and not re.fullmatch(r"\d{4}-\d{2}-\d{2}", value):
            raise UserError(f'{seen}; write a day as "2026-11-22"')
    elif isinstance(value, bool) or not isinstance(value, int if key in _INTEGER else int | float):
        raise UserError(f"{seen}; it must be a {'whole ' if key in _INTEGER else ''}number")
    elif not isfinite(cast(float, value)) or cast(float, value) < 0:
        raise UserError(f"{seen}; it must be 0 or more")
    elif key in _POSITIVE and value == 0:
        raise UserError(f"{seen}; it must be more than 0")


def _one_of(where: str, key: str, value: object, wanted: str) -> None:
    if value != wanted:
        raise UserError(f"{where}: {key} is {value!r}; this version knows only {wanted!r}")


def _keys(kind: type) -> tuple[str, ...]:
    return tuple(f.name for f in fields(kind) if f.name != "name")


def _hint(name: str, known: Iterable[str]) -> str:
    known = tuple(known)
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}"


# -- merging ---------------------------------------------------------------------------------------------------------


def _merge(merged: dict[str, Any], table: dict[str, Any], *, set_by: str | None) -> None:
    for section in ("machine", "price"):
        for name, entry in table.get(section, {}).items():
            _merge_entry(merged[section].setdefault(name, {}), entry, set_by)
    _merge_entry(merged["electricity"], table.get("electricity", {}), set_by)


def _merge_entry(into: dict[str, Any], entry: dict[str, Any], set_by: str | None) -> None:
    if not entry:
        return
    if set_by is not None:
        rest = f"; the rest: {into['source']}" if into.keys() - entry.keys() - set(_ORIGIN) else ""
        into.update(source=f"{', '.join(entry)} set in {set_by}{rest}", how="assumed", date="undated")
    into.update(entry)


def _complete(kind: type, entry: dict[str, Any], path: str, where: str) -> dict[str, Any]:
    missing = [f.name for f in fields(kind) if f.name != "name" and f.default is MISSING and f.name not in entry]
    if missing:
        raise UserError(f"{where}: {path} lacks {', '.join(missing)}")
    return entry


def _machine(name: str, entry: dict[str, Any], where: str) -> MachineProfile:
    known = _complete(MachineProfile, entry, f"machine.{name}", where)
    return MachineProfile(name=name, **{**known, "gpu_names": tuple(known.get("gpu_names", ()))})
