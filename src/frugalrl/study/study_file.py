"""A study as a TOML file, and as the JSON document that its folder keeps."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from frugalrl.run.config_io import hint
from frugalrl.study.matrix import Method, Study, refuse_evaluations, seeds_of
from frugalrl.study.suites import DEFAULT_ENV, suite_study
from frugalrl.types import UserError

SCHEMA = "frugalrl.study/1"
_KEYS = (
    "envs", "seeds", "method", "suite", "cheap_sampler", "baseline", "budget_steps", "evaluations", "targets", "set",
)  # fmt: skip
_LARGEST = 2**1023
"""Whole numbers beyond it are no floats."""
_METHOD_TEXTS = ("recipe", "explore", "sampler_transform", "sampler_engine", "correction")


def read_study(path: Path) -> Study:
    """Read a TOML file. Raises UserError that names file, key and value::

    envs = ["MinAtar/Breakout-v1"]
    seeds = 10                      # or a list
    budget_steps = 200_000
    baseline = "epsilon-greedy"     # default: the first method
    [targets]
    "MinAtar/Breakout-v1" = [2, 5]
    [set]                           # for all methods
    schedule.steps_per_round = 2
    [method.epsilon-greedy]
    explore = "epsilon-greedy"
    [method.counteractive]
    explore = "counteractive"
    set.agent.learning_rate = 1e-3
    [method.int4-tis2]
    sampler_transform = "int4"
    correction = "token-tis:2"

    ``suite = "levers"`` (with ``cheap_sampler = "int8"`` or without) takes the place of methods and baseline.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"there is no study file {path}; give the path of a TOML file, or flags without one") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} is not valid TOML: {error}") from None
    try:
        study = _study(document)
        if "evaluations" in document:
            refuse_evaluations(study)
        return study
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def to_document(study: Study) -> dict[str, Any]:
    """A study as JSON holds it."""
    return {"schema": SCHEMA, **json.loads(json.dumps(asdict(study)))}


def from_document(document: Mapping[str, Any], where: str) -> Study:
    """The inverse of ``to_document``. Raises UserError for another schema or a damaged document."""
    if document.get("schema") != SCHEMA:
        raise UserError(f"{where} is of schema {document.get('schema')!r}; this version reads {SCHEMA!r} only")
    try:
        methods = tuple(Method(**{**m, "set": tuple(m["set"])}) for m in document["methods"])
        targets = {env: tuple(values) for env, values in document["targets"].items()}
        rest: dict[str, Any] = {name: tuple(document[name]) for name in ("envs", "seeds", "set")}
        rest |= {name: document[name] for name in ("baseline", "budget_steps", "evaluations")}
        return Study(methods=methods, targets=targets, **rest)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{where} is damaged ({type(error).__name__}: {error}); start the study anew") from None


def _study(document: dict[str, Any]) -> Study:
    _known(document, _KEYS, "")
    envs = _list(document.get("envs", []), str, "envs", "texts")
    seeds = document.get("seeds", 10)
    seeds = seeds_of([seeds]) if _is(seeds, int) else tuple(_list(seeds, int, "seeds", "whole numbers"))
    targets = {
        env: tuple(float(v) for v in _list(values if isinstance(values, list) else [values], float, env, "numbers"))
        for env, values in _table(document.get("targets", {}), "targets").items()
    }
    budget = _natural(document.get("budget_steps"), "budget_steps")
    evaluations = _natural(document.get("evaluations"), "evaluations")
    settings = _settings(document.get("set", {}), "set")
    if "suite" in document:
        if twice := [key for key in ("method", "baseline") if key in document]:
            raise UserError(f"a suite makes methods and baseline, so leave out {twice[0]!r}, or suite")
        known = envs or [DEFAULT_ENV]
        if other := [env for env in targets if env not in known]:
            raise UserError(f"there are targets for {other[0]!r}, which is not in the matrix{hint(other[0], known)}")
        cheap = document.get("cheap_sampler")
        return suite_study(
            _one(document["suite"], str, "suite", "a text"),
            envs=envs,
            cheap=None if cheap is None else _one(cheap, str, "cheap_sampler", "a text"),
            seeds=seeds if "seeds" in document else None,
            budget_steps=budget,
            evaluations=evaluations,
            targets=next(iter(targets.values()), ()),
            settings=settings,
        )
    methods = tuple(_method(name, entry) for name, entry in _table(document.get("method", {}), "method").items())
    if not methods:
        raise UserError("the matrix is empty: it has no method; add a table such as [method.counteractive]")
    return Study(
        envs=tuple(envs),
        methods=methods,
        seeds=seeds,
        baseline=_one(document.get("baseline", methods[0].name), str, "baseline", "a text"),
        budget_steps=budget,
        evaluations=evaluations or 20,
        targets=targets,
        set=settings,
    )


def _method(name: str, entry: Any) -> Method:
    where = f"method.{name}"
    entry = _table(entry, where)
    _known(entry, (*_METHOD_TEXTS, "set"), f"{where}.")
    texts = {key: _one(entry[key], str, f"{where}.{key}", "a text") for key in _METHOD_TEXTS if key in entry}
    return Method(name=name, **texts, set=_settings(entry.get("set", {}), f"{where}.set"))


def _settings(value: Any, where: str) -> tuple[str, ...]:
    """``a.b=c`` texts from a list of them or from a table, however nested."""
    if isinstance(value, list):
        return tuple(_list(value, str, where, "texts a.b=c"))
    found: list[str] = []
    for key, entry in _table(value, where).items():
        if isinstance(entry, dict) and not key.endswith("kwargs"):
            found += [f"{key}.{setting}" for setting in _settings(entry, f"{where}.{key}")]
        else:
            found.append(f"{key}={entry if isinstance(entry, str) else _json(entry, f'{where}.{key}')}")
    return tuple(found)


def _json(value: Any, where: str) -> str:
    try:
        return json.dumps(value)
    except TypeError:  # TOML has dates and times, JSON has none
        raise UserError(f"{where} holds a date or a time, which no setting is; write text in quotes") from None


def _known(table: Mapping[str, Any], keys: tuple[str, ...], prefix: str) -> None:
    for key in table:
        if key not in keys:
            raise UserError(f"unknown key {prefix + key!r}{hint(key, keys)}")


def _table(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{where} is {value!r}; it must be a table such as [{where}]")
    return value


def _list(value: Any, kind: type, where: str, words: str) -> list[Any]:
    if not isinstance(value, list) or not all(_is(v, kind) for v in value):
        raise UserError(f"{where} is {value!r}; it must be a list of {words}")
    return value


def _one(value: Any, kind: type, where: str, words: str) -> Any:
    if not _is(value, kind):
        raise UserError(f"{where} is {value!r}; it must be {words}")
    return value


def _natural(value: Any, where: str) -> int | None:
    if value is None:
        return None
    if not _is(value, int) or value < 1:
        raise UserError(f"{where} is {value!r}; it must be a whole number of at least 1")
    return int(value)


def _is(value: Any, kind: type) -> bool:
    if isinstance(value, bool):
        return False
    if kind is float and isinstance(value, int):
        return abs(value) < _LARGEST
    return isinstance(value, kind)
