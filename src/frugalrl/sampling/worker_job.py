"""What a worker process is told: plain values as JSON, nothing that would have to be unpickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from frugalrl.envs.protocols import Protocol
from frugalrl.types import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvPlan:
    """Which environment the workers make; the arguments of ``make_env``."""

    env_id: str
    protocol: Protocol
    seed: int
    training: bool = True
    threads: int = 1
    """Native threads of each group's environment that has them."""
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Must be the same after a way through JSON."""

    def __post_init__(self) -> None:
        if self.env_id.startswith("__main__:"):
            raise UserError(
                f"{self.env_id} lives in the script that was started, which worker processes do not run; "
                f"move the class into a module of its own, or use sampler.workers=0."
            )
        kwargs = dict(self.env_kwargs)
        try:
            same = json.loads(json.dumps(kwargs)) == kwargs
        except (TypeError, ValueError):
            same = False
        if not same:
            raise UserError(
                f"env_kwargs {kwargs} cannot be sent to worker processes; use numbers, texts, lists and dictionaries, "
                f"or sampler.workers=0."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """All that one worker process needs to know."""

    plan: EnvPlan
    first_rows: tuple[int, ...]
    """First row of each of its groups."""
    group_rows: tuple[int, ...]
    retry_s: float
    path: tuple[str, ...]
    """``sys.path`` of the process that started it."""
    parent: int
    """Process id of it."""
    memory_fd: int
    report_fd: int
    life_fd: int

    def to_json(self) -> str:
        """On one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        """The inverse."""
        values = json.loads(text)
        plan = values.pop("plan")
        protocol = Protocol(**plan.pop("protocol"))
        values |= {name: tuple(values[name]) for name in ("first_rows", "group_rows", "path")}
        return cls(plan=EnvPlan(protocol=protocol, **plan), **values)


def enough_for_each_group(num_rows: int, workers: int, groups: int) -> tuple[int, ...]:
    """Rows of each of ``workers * groups`` groups, as equal as can be.

    Raises:
        UserError: there are more groups than rows.
    """
    parts = workers * groups
    if num_rows < parts:
        raise UserError(
            f"{num_rows} environments are too few for sampler.workers={workers} with sampler.groups={groups} each; "
            f"use at least {parts} environments, or fewer workers or groups."
        )
    return tuple(num_rows // parts + (group < num_rows % parts) for group in range(parts))
