"""Scores of a random policy and of a person, or the best possible ones, by environment: the scale of a score."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

SCHEMA = "frugalrl.references/1"

SHARES = (0.25, 0.5, 0.75, 1.0)
"""Where the targets lie that nobody named: shares of the way from random to the reference."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """Two scores of one environment."""

    env: str
    random: float
    """Mean return of uniform actions."""
    reference: float | None
    """None: no score with a source that can be named, so nothing is normalised and no target derived."""
    what: str
    """Whose score the reference is: ``human``, ``optimal``, another implementation's."""
    ignores: tuple[str, ...]
    """Arguments of the environment that change neither score."""
    date: str
    source: str

    def normalized(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """0 at random, 1 at the reference. Raises ValueError without a reference."""
        if self.reference is None:
            raise ValueError(f"{self.env} has no reference score")
        return np.asarray((scores - self.random) / (self.reference - self.random))

    def targets(self) -> tuple[float, ...]:
        """25, 50, 75 and 100 % of the way from random to the reference; empty without one."""
        if self.reference is None:
            return ()
        # ten digits, so that 0.99 is not missed by a rounding error of the sum
        return tuple(float(f"{self.random + s * (self.reference - self.random):.10g}") for s in SHARES)


@cache
def references() -> Mapping[str, Reference]:
    """All of the package's table, by environment id."""
    text = (files("frugalrl.report") / "tables" / "references.toml").read_text(encoding="utf-8")
    document = tomllib.loads(text)
    if document.get("schema") != SCHEMA:
        raise ValueError(f"references.toml has the schema {document.get('schema')!r}, not {SCHEMA!r}")
    return {env: r for group in document["group"] for env, r in _group(group).items()}


def _group(group: Mapping[str, Any]) -> dict[str, Reference]:
    return {
        env: Reference(
            env=env,
            random=float(scores["random"]),
            reference=None if "reference" not in scores else float(scores["reference"]),
            what=group["what"],
            ignores=tuple(group.get("ignores", ())),
            date=group["date"],
            source=group["source"],
        )
        for env, scores in group["scores"].items()
    }


def reference_of(env: str, kwargs: Mapping[str, Any]) -> Reference | None:
    """The reference of an environment; None where there is none, or where its arguments change the scores."""
    found = references().get(env) or references().get(env.rsplit(":", 1)[-1])
    return found if found is not None and set(kwargs) <= set(found.ignores) else None
