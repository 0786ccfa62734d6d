"""The same counts on another machine, or with another simulator: modelled through roofs, prices and a cost per step.

Roles of networks (inference, learner, target, correction) are scaled by ``max(FLOP / peak, bytes / bandwidth)`` there
over the same here, on the GPU where one works; all other roles by the peak of one core. From a GPU to a core nothing is
scaled: the least seconds on the core are taken. The environment's seconds become samples x cost of a step where that is
given. Roles follow each other: serial time is their sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from frugalrl.cost.roofs import Roofs, tabulated
from frugalrl.cost.tables import MachineProfile
from frugalrl.report.records import Point, RunRecord
from frugalrl.types import Cost, UserError

NETWORK_ROLES = ("inference", "learner", "target", "correction")


@dataclass(frozen=True, kw_only=True, slots=True)
class Repricing:
    """What changes; None stays as measured."""

    machine: MachineProfile | None = None
    step_ms: float | None = None
    """Milliseconds of one environment step."""
    here: Roofs | None = None
    """Roofs of the machine of the runs; None takes the tabulated ones of its profile."""
    profiles: Mapping[str, MachineProfile]
    """To find that profile in."""

    def __post_init__(self) -> None:
        if self.step_ms is not None and not 0 <= self.step_ms < float("inf"):
            raise UserError(f"an environment step of {self.step_ms} ms is no cost; give 0 or more milliseconds")

    def roofs(self, record: RunRecord) -> tuple[Roofs, Roofs] | None:
        """(here, there); None where the machine does not change.

        Raises UserError for a machine whose roofs are not known.
        """
        name = str(record.machine.get("profile", ""))
        if self.machine is None or self.machine.name == name:
            return None
        here = self.here or _tabulated(self.profiles.get(name), name)
        if not on_a_gpu(record):  # the GPU of that machine has done nothing for this run
            here = replace(here, gpu_gflop_per_s=None, gpu_gb_per_s=None)
        there = _tabulated(self.machine, self.machine.name)
        return here, there

    def changes_seconds(self, record: RunRecord) -> bool:
        """False for the machine of the run and its own environment: what was measured stays, to the last digit."""
        return self.step_ms is not None or self.roofs(record) is not None

    def in_words(self, record: RunRecord) -> str:
        """How the figures are made."""
        parts = []
        roofs = self.roofs(record)
        if roofs is not None and self.machine is not None:
            here, there = roofs
            parts.append(
                f"seconds of inference, learner, target and correction are scaled by max(FLOP / peak, bytes / "
                f"bandwidth) on {self.machine.name} over the same on the machine of the runs, those of all other roles "
                f"by the peak of one core (there: {there.in_words()}; here: {here.in_words()})"
            )
            if there.gpu_gflop_per_s is not None:
                parts.append("what it takes to start work on a GPU is left out, which small networks feel most")
            elif on_a_gpu(record):
                parts.append(
                    "but what a GPU took for small work is mostly starting it, so inference, learner, target and "
                    "correction on one core are the least that they can take there, max(FLOP / peak, bytes / bandwidth)"
                )
        elif self.machine is not None:
            parts.append(f"{self.machine.name} is the machine of the runs, so only prices and watts are those of today")
        if self.step_ms is not None:
            parts.append(f"the environment's seconds are samples x {self.step_ms:g} ms, evaluations as measured")
        if self.changes_seconds(record):
            parts.append("the roles follow each other, so wall time is their sum")
        return f"Modelled, not measured: samples, updates and FLOPs are those of the runs; {'; '.join(parts)}."


def on_a_gpu(record: RunRecord) -> bool:
    """Whether a GPU has worked for the run, which its machine alone does not say."""
    last = None if record.spent is None else record.spent.costs
    return any(cost.gpu_s is not None for role, cost in (last or {}).items() if role in NETWORK_ROLES)


def _tabulated(profile: MachineProfile | None, name: str) -> Roofs:
    roofs = None if profile is None else tabulated(profile)
    if roofs is None:
        raise UserError(
            f"the roofs of machine {name!r} are not known, so seconds cannot be carried over; add gflop_per_s_core and "
            f"gb_per_s to [machine.{name}] in a price file"
        )
    return roofs


def repriced(record: RunRecord, repricing: Repricing) -> RunRecord:
    """The run as it would have been: its counts and scores, other seconds. Its facts of the machine stay.

    Raises UserError for a run without costs by role.
    """
    roofs = repricing.roofs(record)
    if not repricing.changes_seconds(record):
        return record
    from_gpu = on_a_gpu(record)

    def elsewhere(point: Point) -> Point:
        if point.costs is None:
            raise UserError(
                f"{record.name} cannot be repriced: its evaluations hold no costs by role (an older version); "
                "leave it out, or run it again"
            )
        costs = {
            role: _role(role, cost, point, repricing.step_ms, roofs, from_gpu=from_gpu)
            for role, cost in point.costs.items()
            if role != "waiting"
        }
        total = sum(cost.cpu_s or 0.0 for cost in costs.values())
        return replace(point, costs=costs, cpu_s=total, wall_s=total)

    ended = None if record.ended is None else elsewhere(record.ended)
    return replace(record, points=tuple(elsewhere(point) for point in record.points), ended=ended)


def _role(
    role: str, cost: Cost, point: Point, step_ms: float | None, roofs: tuple[Roofs, Roofs] | None, *, from_gpu: bool
) -> Cost:
    if role == "environment" and step_ms is not None:
        seconds: float | None = point.env_steps * step_ms / 1e3
        return replace(cost, cpu_s=seconds, busy_s=seconds)
    seconds = cost.busy_s if from_gpu and cost.busy_s is not None else cost.cpu_s
    if seconds is not None and roofs is not None:
        to_core = from_gpu and roofs[1].gpu_gflop_per_s is None and role in NETWORK_ROLES
        least = _roofline_s(cost, roofs[1]) if to_core else 0.0
        seconds = least or seconds * scale(role, cost, *roofs)
    if roofs is None:  # the same machine: what its GPU did stays, evaluations included
        return replace(cost, cpu_s=seconds, busy_s=seconds)
    on_gpu = role in NETWORK_ROLES and roofs[1].gpu_gflop_per_s is not None
    return replace(cost, cpu_s=seconds, busy_s=seconds, gpu_s=seconds if on_gpu else None)


def scale(role: str, cost: Cost, here: Roofs, there: Roofs) -> float:
    """Seconds there over seconds here."""
    if role not in NETWORK_ROLES or not (cost.flop or cost.bytes_min):
        return here.gflop_per_s_core / there.gflop_per_s_core
    return _roofline_s(cost, there) / _roofline_s(cost, here)


def _roofline_s(cost: Cost, roofs: Roofs) -> float:
    """The least seconds that this work takes: on the GPU where there is one, else on one core."""
    gflop, gb = roofs.gflop_per_s_core, roofs.gb_per_s
    if roofs.gpu_gflop_per_s is not None and roofs.gpu_gb_per_s is not None:
        gflop, gb = roofs.gpu_gflop_per_s, roofs.gpu_gb_per_s
    return max((cost.flop or 0.0) / (gflop * 1e9), (cost.bytes_min or 0.0) / (gb * 1e9))
