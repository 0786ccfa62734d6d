"""Configurations as JSON, and typed overrides such as ``agent.learning_rate=1e-3``."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import types
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from frugalrl.types import UserError

C = TypeVar("C")


def to_dict(config: Any) -> Any:
    """A dataclass tree as plain dicts, lists and scalars."""
    if dataclasses.is_dataclass(config):
        return {f.name: to_dict(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, Mapping):
        return {k: to_dict(v) for k, v in config.items()}
    if isinstance(config, tuple | list):
        return [to_dict(v) for v in config]
    return config.tolist() if isinstance(config, np.generic | np.ndarray) else config


def checked(cls: type[C], config: C) -> C:
    """A configuration as its file will hold it: dataclasses do not look at types, and numpy's numbers are not JSON.

    Raises UserError, naming the field.
    """
    if not isinstance(config, cls):
        raise UserError(f"a run needs a {cls.__name__}, but got {config!r}; frugalrl.build_config(ENV) makes one")
    return from_dict(cls, to_dict(config))


def from_dict(cls: type[C], data: Mapping[str, Any], where: str = "config") -> C:
    """The inverse of ``to_dict``. Raises UserError for unknown keys and wrong types, naming the field."""
    if not isinstance(data, Mapping):
        raise UserError(f"{where} must be a group of fields, but is {data!r}")
    hints = get_type_hints(cls)
    names = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for key in data:
        if key not in names:
            raise UserError(f"{where} has no field {key!r}{hint(key, names)}")
    values = {key: _typed(hints[key], value, f"{where}.{key}") for key, value in data.items()}
    try:
        return cls(**values)
    except (ValueError, TypeError) as error:
        raise UserError(str(error)) from error


def differences(mine: Any, theirs: Any, path: str = "") -> dict[str, tuple[Any, Any]]:
    """Fields in which two trees of ``to_dict`` differ, by dotted name, with both values; None where one has none."""
    if isinstance(mine, dict) and isinstance(theirs, dict):
        found: dict[str, tuple[Any, Any]] = {}
        for key in [*mine, *(k for k in theirs if k not in mine)]:
            found |= differences(mine.get(key), theirs.get(key), f"{path}.{key}" if path else key)
        return found
    return {} if mine == theirs else {path: (mine, theirs)}


def override(config: C, settings: Sequence[str]) -> C:
    """Apply ``a.b=value`` settings; values are read by the type of the field they set. Raises UserError."""
    tree = to_dict(config)
    # a kind says which fields a group has, so it comes first
    for setting in sorted(settings, key=lambda s: not s.partition("=")[0].strip().endswith(".kind")):
        path, eq, text = setting.partition("=")
        if not eq:
            raise UserError(f"--set {setting!r} has no '='; write --set agent.learning_rate=1e-3")
        node, cls, keys = tree, type(config), path.strip().split(".")
        kind: Any = cls
        for depth, key in enumerate(keys):
            cls = variant(cls, node)
            hints = get_type_hints(cls)
            if key not in hints:
                whole = ".".join([*keys[:depth], key])
                known = hint(path, all_paths(type(config), tree)) or hint(key, list(hints))
                raise UserError(f"--set {path}: there is no field {whole!r}{known}")
            if depth == len(keys) - 1:
                if _groups(hints[key]):
                    fields = ", ".join(get_type_hints(variant(hints[key], node[key])))
                    raise UserError(f"--set {path} names a group; set one of its fields: {fields}")
                if key == "kind" and len(_groups(kind)) > 1:
                    _change_kind(kind, node, text.strip(), path)
                else:
                    node[key] = _parse(hints[key], text, path)
                break
            if not _groups(hints[key]):
                raise UserError(f"--set {path}: {'.'.join(keys[: depth + 1])} is a value, not a group of fields")
            node, cls = node[key], hints[key]
            kind = cls
    return from_dict(type(config), tree)


def variant(kind: Any, data: Mapping[str, Any]) -> Any:
    """The dataclass that data belongs to: of several, the one of that ``kind``; without a kind, the first.

    Raises UserError for an unknown kind.
    """
    groups = _groups(kind)
    if len(groups) <= 1 or "kind" not in data:
        return groups[0] if groups else kind
    known, name = {_kind_of(g): g for g in groups}, str(data["kind"])
    if name not in known:
        raise UserError(f"kind={name!r}: expected one of {', '.join(known)}{hint(name, list(known), told=True)}")
    return known[name]


def _groups(kind: Any) -> list[Any]:
    """The dataclasses that a type allows."""
    return [k for k in (get_args(kind) if _is_union(kind) else (kind,)) if dataclasses.is_dataclass(k)]


def _kind_of(cls: Any) -> str:
    (name,) = get_args(get_type_hints(cls)["kind"])
    return str(name)


def _change_kind(kind: Any, node: dict[str, Any], name: str, path: str) -> None:
    """Another variant of a group: it keeps the fields that both have."""
    if name not in (known := [_kind_of(g) for g in _groups(kind)]):
        raise UserError(f"{path}={name!r}: expected one of {', '.join(known)}{hint(name, known, told=True)}")
    fields = get_type_hints(variant(kind, {"kind": name}))
    for key in set(node) - set(fields):
        del node[key]
    node["kind"] = name


def all_paths(cls: Any, data: Mapping[str, Any] | None = None, prefix: str = "") -> list[str]:
    """Dotted names of all fields of a dataclass tree; with ``data``, only of the variants that it holds."""
    paths: list[str] = []
    for name, kind in get_type_hints(cls).items():
        groups = _groups(kind)
        if data is not None and groups:
            groups = [variant(kind, data[name])]
        for group in groups:
            paths += all_paths(group, None if data is None else data[name], f"{prefix}{name}.")
        if not groups:
            paths.append(prefix + name)
    return list(dict.fromkeys(paths))


def hint(word: str, known: Sequence[str], *, told: bool = False) -> str:
    """``; did you mean 'x'?`` or the known words when there are few, and they are not ``told`` already."""
    last = word.rpartition(".")[-1]
    ends = {k: k.rpartition(".")[-1] for k in known}
    close = (
        [k for k, end in ends.items() if end == last]
        or [k for k, end in ends.items() if "." in word and end.startswith(f"{last}_")]
        or difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    )
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(known)}" if len(known) <= 20 and not told else ""


def _parse(kind: Any, text: str, path: str) -> Any:
    """Text to the JSON value that ``_typed`` expects for this type."""
    text = text.strip()
    if text in ("None", "none", "null") and type(None) in get_args(kind):
        return None
    kinds = [k for k in (get_args(kind) if _is_union(kind) else (kind,)) if k is not type(None)]
    if kinds == [str] or get_origin(kinds[0]) is Literal:
        return _typed(kind, text, path)
    if kinds[0] in (int, float):
        return _typed(kind, _number(text, path, kinds[0]), path)
    try:
        value = json.loads({"True": "true", "False": "false"}.get(text, text))
    except json.JSONDecodeError:
        if get_origin(kinds[0]) is tuple and get_args(kinds[0])[0] is str:
            raise UserError(
                f"{path}={text}: expected a list of texts in double quotes; a shell keeps these inside of single ones, "
                f'as in \'{path}=["a","b"]\''
            ) from None
        if get_origin(kinds[0]) is tuple:
            return _typed(
                kind, [_number(t.strip(), path, float) for t in text.strip("()[]").split(",") if t.strip()], path
            )
        raise UserError(f"{path}={text!r}: expected {_name(kind)}") from None
    if get_origin(kinds[0]) is tuple and not isinstance(value, list):
        value = [value]
    return _typed(kind, value, path)


def _number(text: str, path: str, kind: Any) -> int | float:
    """``1_000``, ``.5`` and ``1e6`` are numbers."""
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    raise UserError(f"{path}={text!r}: expected {_name(kind)}")


def _typed(kind: Any, value: Any, where: str) -> Any:
    """Check a JSON value against a type and convert it; floats take integers, tuples take lists."""
    if _groups(kind):
        if not isinstance(value, Mapping):
            raise UserError(f"{where}={value!r}: expected a group of fields")
        return from_dict(variant(kind, value), value, where)
    if _is_union(kind):
        if value is None and type(None) in get_args(kind):
            return None
        (kind,) = (k for k in get_args(kind) if k is not type(None))
    origin = get_origin(kind)
    if origin is Literal:
        if value not in get_args(kind):
            known = [str(a) for a in get_args(kind)]
            raise UserError(
                f"{where}={value!r}: expected one of {', '.join(known)}{hint(str(value), known, told=True)}"
            )
        return value
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_typed(get_args(kind)[0], v, where) for v in value)
    if origin is not None and isinstance(value, Mapping):
        return dict(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{where}={value!r}: expected a finite number")
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(kind, type) and isinstance(value, kind) and (kind is bool) == isinstance(value, bool):
        return value
    raise UserError(f"{where}={value!r}: expected {_name(kind)}")


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, types.UnionType)


def _name(kind: Any) -> str:
    if _is_union(kind):
        return " or ".join(_name(k) for k in get_args(kind))
    if kind is type(None):
        return "None"
    if get_origin(kind) is Mapping:
        return 'names with values, as in {"name": 1}'
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    return words.get(kind) or str(kind)
