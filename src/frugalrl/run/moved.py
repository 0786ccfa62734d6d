"""A run that goes on on another machine than it began on: said, and recorded with the resume."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from frugalrl.cost.machine import Machine
from frugalrl.run.record import RunFolder, read_json
from frugalrl.types import UserError

FACTS = ("profile", "cpu", "cores", "gpus")
"""What tells two machines apart."""


def moved(record: RunFolder, machine: Machine, note: Callable[[str], None]) -> dict[str, Any]:
    """``machine`` with its facts, for the line of a resume; nothing where they are those of the start."""
    try:
        begun = dict(read_json(record.path / "machine.json")["machine"])
    except (UserError, KeyError, TypeError, ValueError):
        return {}
    facts = machine.facts
    here = {
        "profile": machine.profile.name, "cpu": facts.cpu, "cores": facts.cores, "gpus": list(facts.gpus),
    }  # fmt: skip
    for name in FACTS:
        if name in begun and begun[name] != here[name]:
            note(
                f"this run began on another machine ({name} {begun[name]!r}, here {here[name]!r}): its bill charges "
                f"each machine profile for its own hours, and comparisons leave its seconds, joules and money out"
            )
            return {"machine": here}
    return {}
