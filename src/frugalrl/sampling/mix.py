"""Several samplers in one run: how many rows each acts for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from frugalrl.policies.transforms import Plan, parse


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows and what acts for them."""

    rows: int
    plan: Plan
    engine: str

    @property
    def name(self) -> str:
        """In words, without the rows."""
        return self.plan.computed_by(self.engine)


def read_mix(mix: Sequence[str], engines: Sequence[str]) -> tuple[Part, ...]:
    """Read ``ROWS*TRANSFORM@ENGINE`` entries. Raises ValueError, or UserError for a transform that is not known."""
    return tuple(_part(entry, engines) for entry in mix)


def _part(entry: str, engines: Sequence[str]) -> Part:
    where = f"sampler.mix: {entry!r}"
    rows, star, rest = entry.partition("*")
    if not star or not rows.strip().isdecimal() or int(rows) < 1:
        raise ValueError(f"{where} is not written ROWS*TRANSFORM, such as 16*int8, or 16*none@onnx")
    transform, at, engine = rest.partition("@")
    if at and engine not in engines:
        near = get_close_matches(engine, engines, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"use one of {', '.join(engines)}"
        raise ValueError(f"{where} has no engine {engine!r}; {hint}")
    return Part(int(rows), parse(transform.strip(), "sampler.mix: transform"), engine or "torch")
