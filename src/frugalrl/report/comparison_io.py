"""A comparison as JSON, and back, exactly.

JSON has no infinity: an infinite float is the text ``"inf"`` or ``"-inf"``, one that is not a number ``"nan"``. Floats
are written so that they read back as the same number. Tuples are lists; mappings are objects.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from math import isfinite
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from frugalrl.report.results import SCHEMA, Comparison
from frugalrl.run.record import read_json, write_json
from frugalrl.types import UserError

_WORDS = {"inf": float("inf"), "-inf": float("-inf"), "nan": float("nan")}


def to_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison as JSON can hold it, its schema first."""
    document = _plain(comparison)
    return {"schema": SCHEMA, **document}


def from_json(document: Mapping[str, Any]) -> Comparison:
    """The inverse of ``to_json``.

    Raises UserError for another schema, and for a document with a part that is missing or of the wrong type.
    """
    if not isinstance(document, Mapping) or document.get("schema") != SCHEMA:
        seen = document.get("schema") if isinstance(document, Mapping) else document
        raise UserError(f"this is no comparison that this version can read: schema {seen!r}, not {SCHEMA!r}")
    try:
        found = _typed(Comparison, {k: v for k, v in document.items() if k != "schema"}, "comparison")
    except ValueError as error:
        raise UserError(f"this comparison is damaged: {error}; make it again from the runs") from None
    assert isinstance(found, Comparison)
    return found


def write_comparison(comparison: Comparison, path: Path) -> None:
    """Write it atomically. Raises RunFailed when the disk refuses."""
    write_json(path, to_json(comparison))


def read_comparison(path: Path) -> Comparison:
    """Read it. Raises UserError that names the file."""
    try:
        return from_json(read_json(path))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def one_line(comparison: Comparison) -> str:
    """For the last line of stdout, in ASCII, as that may have any encoding."""
    return json.dumps(to_json(comparison), allow_nan=False)


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not isfinite(value):
        return str(value)
    return value


def _typed(kind: Any, value: Any, where: str) -> Any:
    """The value as that type; raises ValueError that says where it is not."""
    if kind is Any:
        return value
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        if value is None and type(None) in args:
            return None
        (inner,) = (a for a in args if a is not type(None))
        return _typed(inner, value, where)
    if is_dataclass(kind):
        return _record(kind, value, where)
    if origin is tuple:
        return _tuple(args, value, where)
    if origin is not None and origin is not Literal:
        return _mapping(args, value, where)
    return _scalar(kind, value, where)


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _record(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} is {value!r}, not a record")
    hints = _hints(kind)
    # documents of earlier versions lack what has a default
    may_lack = {f.name for f in fields(kind) if f.default is not MISSING or f.default_factory is not MISSING}
    if wrong := sorted((set(value) ^ set(hints)) - (may_lack - set(value))):
        raise ValueError(f"{where} lacks {wrong[0]!r}" if wrong[0] in hints else f"{where} has no field {wrong[0]!r}")
    return kind(**{name: _typed(hints[name], value[name], f"{where}.{name}") for name in hints if name in value})


def _tuple(args: tuple[Any, ...], value: Any, where: str) -> Any:
    if not isinstance(value, list):
        raise ValueError(f"{where} is {value!r}, not a list")
    kinds = (args[0],) * len(value) if args[-1] is Ellipsis else args
    if len(kinds) != len(value):
        raise ValueError(f"{where} has {len(value)} entries, not {len(kinds)}")
    return tuple(_typed(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True)))


def _mapping(args: tuple[Any, ...], value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} is {value!r}, not a mapping")
    return {_typed(args[0], k, where): _typed(args[1], v, f"{where}.{k}") for k, v in value.items()}


def _scalar(kind: Any, value: Any, where: str) -> Any:
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ValueError(f"{where} is {value!r}, not one of {', '.join(map(str, get_args(kind)))}")
        return value
    if kind is float:
        if isinstance(value, str) and value in _WORDS:
            return _WORDS[value]
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    elif isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    raise ValueError(f"{where} is {value!r}, not {kind.__name__}")
