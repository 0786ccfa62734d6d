"""The machines that a run was on: each is charged for its own seconds, at its own watts and prices."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from frugalrl.cost.ledger import Ledger, Session
from frugalrl.cost.machine import Machine
from frugalrl.cost.power import Joules, cpu_joules, gpu_joules, idle_joules
from frugalrl.cost.record import weakest
from frugalrl.cost.tables import MachineProfile, Price, Tables


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """One machine, and what a run has used there."""

    name: str
    profile: MachineProfile | None
    """None: an earlier machine that the tables do not know now."""
    price: Price | None
    cores: int
    has_gpu: bool
    cpu_s: float
    wall_s: float


def places_of(ledger: Ledger, cpu_s: float, wall_s: float, machine: Machine, tables: Tables) -> tuple[Place, ...]:
    """Where the ``cpu_s`` and ``wall_s`` seconds of a ledger were used: earlier machines, then this one."""
    before = []
    for name, (cpu, wall) in ledger.elsewhere().items():
        profile = tables.machines.get(name)
        before.append(
            Place(
                name=name,
                profile=profile,
                price=tables.price(name),
                cores=1 if profile is None else profile.cores,
                has_gpu=profile is not None and profile.gpus > 0,
                cpu_s=cpu,
                wall_s=wall,
            )
        )
    cpu_s -= sum(place.cpu_s for place in before)
    wall_s -= sum(place.wall_s for place in before)
    return (*before, place_of(machine, cpu_s, wall_s))


def place_of(machine: Machine, cpu_s: float = 0.0, wall_s: float = 0.0) -> Place:
    """This machine."""
    return Place(
        name=machine.profile.name,
        profile=machine.profile,
        price=machine.price,
        cores=machine.facts.cores,
        has_gpu=bool(machine.facts.gpus),
        cpu_s=cpu_s,
        wall_s=wall_s,
    )


def joules_of(places: Sequence[Place], sessions: Sequence[Session], gpu_s: float | None) -> dict[str, Joules]:
    """Processor, GPUs and the rest of the machines."""
    rapl = _all_known(s.cpu_j for s in sessions)
    counted = rapl is not None
    known = [(place, place.profile) for place in places if place.profile is not None]
    processor = [cpu_joules(None, place.cpu_s, profile) for place, profile in known]
    return {
        "cpu_j": cpu_joules(rapl, 0.0, _last(places)) if counted else _sum(places, processor),
        "gpu_j": _gpu(places, sessions, gpu_s),
        "idle_j": _sum(places, [idle_joules(p.wall_s, profile, cores_counted=counted) for p, profile in known]),
    }


def _last(places: Sequence[Place]) -> MachineProfile:
    profile = places[-1].profile
    assert profile is not None  # this machine has one
    return profile


def _gpu(places: Sequence[Place], sessions: Sequence[Session], gpu_s: float | None) -> Joules:
    """A process on a machine without a GPU has no counter, and needs none."""
    with_gpu = [place for place in places if place.has_gpu]
    bare = {place.name for place in places if place.profile is not None and not place.has_gpu}
    if not with_gpu:
        return gpu_joules(_all_known(s.gpu_j for s in sessions), gpu_s, 0.0, _last(places), has_gpu=False)
    counted = _all_known(
        0.0 if s.gpu_j is None and (s.profile or places[-1].name) in bare else s.gpu_j for s in sessions
    )
    wall_s = sum(place.wall_s for place in with_gpu)
    return gpu_joules(counted, gpu_s, wall_s, with_gpu[-1].profile or _last(places), has_gpu=True)


def _sum(places: Sequence[Place], parts: Sequence[Joules]) -> Joules:
    unknown = [place.name for place in places if place.profile is None]
    if unknown:
        return Joules(value=None, how="modelled", source=f"no table has the machine {unknown[0]!r} any more")
    return Joules(
        value=sum(part.value or 0.0 for part in parts),
        how=weakest(part.how for part in parts),
        source="; ".join(part.source for part in parts),
    )


def _all_known(values: Iterable[float | None]) -> float | None:
    found = list(values)
    known = [value for value in found if value is not None]
    return sum(known) if known and len(known) == len(found) else None
