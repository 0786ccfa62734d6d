"""The transforms by name, and how a name such as ``int3+stale:8`` is read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

import numpy as np
from torch import Tensor, nn

from frugalrl.policies.transforms import bfloat16, int8_dynamic
from frugalrl.policies.transforms.noise import add_noise
from frugalrl.policies.transforms.rounding import round_rows
from frugalrl.types import UserError

Stage = Literal["weights", "compute", "noise", "age", "none"]
ChangeWeight = Callable[[Tensor, np.random.Generator], Tensor]
"""A weight [rows, ...] and random numbers -> another weight of the same shape; the given one is left as it is."""


@dataclass(frozen=True, slots=True)
class Compute:
    """Other arithmetic: how a module is made to use it, and what must be done when its parameters were changed."""

    prepare: Callable[[nn.Module], nn.Module]
    changed: Callable[[nn.Module], None]


@dataclass(frozen=True, slots=True)
class Transform:
    """One entry: what a name between two ``+`` does. Of each stage a name may have one."""

    name: str
    stage: Stage
    what: str
    weight: Callable[[float], ChangeWeight] | None = None
    """Stages weights and noise: from the number after the colon (0 without) to what is done to each weight."""
    compute: Compute | None = None
    number: str = ""
    """What stands after the colon, such as SIGMA; empty for a name without."""


def _rounded(bits: int) -> Callable[[float], ChangeWeight]:
    return lambda _: lambda weight, _rng: round_rows(weight, bits)


def _noisy(sigma: float) -> ChangeWeight:
    return lambda weight, rng: add_noise(weight, sigma, rng)


_STAND_IN = "weights of dense, convolution and LSTM layers rounded to {} bits per output row, arithmetic in fp32"
TRANSFORMS: Mapping[str, Transform] = {
    t.name: t
    for t in (
        Transform("none", "none", "the learner's own weights and precision"),
        Transform(
            "bf16", "compute", "a copy in bfloat16 that computes in bfloat16",
            compute=Compute(bfloat16.to_bf16, bfloat16.nothing),
        ),
        Transform(
            "int8-dynamic", "compute", "dense layers multiply in int8 (W8A8, activations rounded per call); "
            "convolutions and LSTMs stay in fp32", compute=Compute(int8_dynamic.to_int8, int8_dynamic.pack),
        ),
        Transform("int8-weight", "weights", _STAND_IN.format(8), weight=_rounded(8)),
        *(
            Transform(f"int{k}", "weights", f"{_STAND_IN.format(k)}: a stand-in for int8 of big models",
                      weight=_rounded(k))
            for k in range(7, 1, -1)
        ),
        Transform(
            "noise", "noise", "Gaussian noise on the weights of those layers, SIGMA times each tensor's own deviation",
            weight=_noisy, number="SIGMA",
        ),
        Transform("stale", "age", "the weights of K updates ago", number="K"),
    )
}  # fmt: skip
"""By the word before the colon."""
ALIASES: Mapping[str, str] = {"fp32": "none", "int8": "int8-dynamic"}
_ORDER: tuple[Stage, ...] = ("weights", "compute", "noise", "age")


@dataclass(frozen=True, slots=True)
class Plan:
    """A name, read. The order of work is always the same: which weights, noise, rounding, arithmetic."""

    name: str
    """With its parts in one order and aliases replaced: two spellings of one transform have one name."""
    updates_ago: int = 0
    changes: tuple[ChangeWeight, ...] = ()
    """What is done to each weight, in this order."""
    compute: Compute | None = None
    compute_name: str = ""

    @property
    def changes_nothing(self) -> bool:
        """The learner's weights, as they are."""
        return not (self.updates_ago or self.changes or self.compute)

    def computed_by(self, engine: str) -> str:
        """In words: the transform, and the engine where that is not PyTorch."""
        if engine == "torch":
            return self.name
        return engine if self.changes_nothing else f"{self.name} in {engine}"


def parse(name: str, where: str = "transform") -> Plan:
    """Read ``part+part+...``. Raises UserError, which calls the setting ``where``, for what is not in ``TRANSFORMS``
    or does not go together."""
    found: dict[Stage, tuple[Transform, float]] = {}
    for part in name.split("+"):
        entry, number = _part(part.strip(), name, where)
        if entry.stage in found:
            raise UserError(
                f"{where}={name!r} has {found[entry.stage][0].name!r} and {entry.name!r}, which are two of one kind "
                f"({entry.stage}); leave one out"
            )
        found[entry.stage] = entry, number
    parts = [found[stage] for stage in _ORDER if stage in found]
    changes = [found[s][0].weight(found[s][1]) for s in ("noise", "weights") if s in found]  # type: ignore[misc]
    compute = found.get("compute")
    return Plan(
        name="+".join(f"{e.name}:{number:g}" if e.number else e.name for e, number in parts) or "none",
        updates_ago=int(found["age"][1]) if "age" in found else 0,
        changes=tuple(changes),
        compute=compute[0].compute if compute else None,
        compute_name=compute[0].name if compute else "",
    )


def usage(entry: Transform) -> str:
    """The name as it is typed, such as ``stale:K``."""
    return f"{entry.name}:{entry.number}" if entry.number else entry.name


def _part(part: str, name: str, where: str) -> tuple[Transform, float]:
    word, colon, text = part.partition(":")
    entry = TRANSFORMS.get(ALIASES.get(word, word))
    within = f"{where}={name!r}" if part == name else f"{where}={name!r}: {part!r}"
    if entry is None:
        near = get_close_matches(word, [*TRANSFORMS, *ALIASES], n=1)
        hint = f"did you mean {near[0]!r}?" if near else "see 'frugal list transforms'"
        raise UserError(f"{within} is no transform; {hint}")
    if bool(entry.number) != bool(colon):
        raise UserError(f"{within} is written {usage(entry)}")
    if not entry.number:
        return entry, 0.0
    return entry, _number(text, entry, within)


def _number(text: str, entry: Transform, within: str) -> float:
    whole = entry.stage == "age"
    try:
        number = float(int(text) if whole else float(text))
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        kind = "a whole number of updates, 1 or more" if whole else "a positive number"
        raise UserError(f"{within}: {entry.number} must be {kind}, such as {entry.name}:{8 if whole else 0.1}")
    return number
