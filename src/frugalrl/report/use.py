"""What a run had used by an evaluation, as one figure per quantity, and how each figure was obtained.

A study runs several runs at a time on one machine, so the whole machine is not charged to each of them: without a GPU,
a run pays for its CPU-seconds, each at the price and the watts of one core. The clock is never paused: the evaluations
of a run, the last one included, are in its seconds, FLOPs, joules and money.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from frugalrl.cost.money import electricity_eur
from frugalrl.cost.record import weakest
from frugalrl.cost.tables import MachineProfile, Price, Tables
from frugalrl.report.records import Point, RunRecord
from frugalrl.report.results import LEARNER_ROLES, QUANTITIES, SAMPLER_ROLES, Quantity
from frugalrl.types import How

Used = dict[Quantity, float | None]

COUNTS: tuple[Quantity, ...] = ("env_steps", "updates", "flop")
"""The same on every machine; the other quantities depend on it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """What the seconds of a run cost on one machine."""

    profile: MachineProfile | None
    """None: the tables do not know the machine, so joules and money are not known."""
    price: Price | None
    tables: Tables
    has_gpu: bool
    modelled: bool = False
    """The seconds were not measured on this machine but modelled for it."""

    def eur_per_hour(self) -> float | None:
        """Rented on demand, else the purchase spread over its hours; electricity of an owned machine apart."""
        if self.price is None:
            return None
        rented = self.price.eur_per_hour_on_demand
        return rented if rented is not None else self.price.eur_per_hour_owned

    @property
    def owned(self) -> bool:
        """Electricity comes on top of the price."""
        return self.price is not None and self.price.eur_per_hour_on_demand is None

    def joules(self, cpu_s: float, gpu_s: float | None, wall_s: float) -> float | None:
        """Without a GPU: CPU-s x (W per busy core + idle W / cores). With one: the whole machine over the wall time."""
        machine = self.profile
        if machine is None:
            return None
        if not self.has_gpu:
            return cpu_s * (machine.watts_per_busy_core + machine.idle_watts / machine.cores)
        if gpu_s is None:
            return None
        idle_s = max(0.0, wall_s * max(machine.gpus, 1) - gpu_s)
        idle = idle_s * machine.gpu_idle_watts + wall_s * machine.idle_watts
        return cpu_s * machine.watts_per_busy_core + gpu_s * machine.gpu_busy_watts + idle

    def eur(self, cpu_s: float, gpu_s: float | None, wall_s: float) -> float | None:
        """Without a GPU: CPU-hours x price of an hour / cores. With one: wall hours x price of an hour."""
        per_hour = self.eur_per_hour()
        if per_hour is None or self.profile is None:
            return None
        hours = wall_s / 3600 if self.has_gpu else cpu_s / 3600 / self.profile.cores
        if not self.owned:
            return hours * per_hour
        joules = self.joules(cpu_s, gpu_s, wall_s)
        return None if joules is None else hours * per_hour + electricity_eur(joules, self.tables)


def rates_of(record: RunRecord, tables: Tables) -> Rates:
    """Prices and watts of the machine that a run names; a machine that is in no table has none."""
    name = str(record.machine.get("profile", ""))
    return Rates(
        profile=tables.machines.get(name),
        price=tables.price(name),
        tables=tables,
        has_gpu=bool(record.machine.get("gpus")),
    )


def rates_on(profile: MachineProfile, tables: Tables) -> Rates:
    """Prices and watts of another machine, for modelled seconds."""
    price = tables.price(profile.name)
    return Rates(profile=profile, price=price, tables=tables, has_gpu=profile.gpus > 0, modelled=True)


def used_at(point: Point, rates: Rates) -> Used:
    """What the run had used when this evaluation was done; None where it is not known."""
    gpu_s = _of_roles(point, None, "gpu_s") if rates.has_gpu else None
    return {
        "env_steps": float(point.env_steps),
        "updates": None if point.updates is None else float(point.updates),
        "flop": point.flop(),
        "sampler_s": _of_roles(point, SAMPLER_ROLES, "cpu_s"),
        "learner_s": _of_roles(point, LEARNER_ROLES, "cpu_s"),
        "cpu_s": point.cpu_s,
        "gpu_s": gpu_s,
        "wall_s": point.wall_s,
        "joules": rates.joules(point.cpu_s, gpu_s, point.wall_s),
        "eur": rates.eur(point.cpu_s, gpu_s, point.wall_s),
    }


def _of_roles(point: Point, roles: tuple[str, ...] | None, name: str) -> float | None:
    """Sum over roles (all of them with None) of what is known; None when nothing is."""
    if point.costs is None:
        return None
    chosen = [cost for role, cost in point.costs.items() if roles is None or role in roles]
    known = [value for cost in chosen if (value := getattr(cost, name)) is not None]
    return float(sum(known)) if known else None


_SOURCES: Mapping[Quantity, tuple[How, str]] = {
    "env_steps": ("counted", "valid transitions of training"),
    "updates": ("counted", "gradient steps"),
    "flop": ("counted", "matrix products and convolutions of all roles, evaluations included: per call x calls"),
    "sampler_s": ("measured", "CPU clocks of the roles environment and inference"),
    "learner_s": ("measured", "CPU clocks of the roles learner, target, replay and correction"),
    "cpu_s": ("measured", "operating system, all threads of the run, evaluations included"),
    "gpu_s": ("measured", "GPU events, all roles"),
    "wall_s": ("measured", "wall clock of the run, evaluations included, with whatever else ran on the machine"),
}


def origin(quantity: Quantity, rates: Rates) -> tuple[How, str]:
    """How a quantity was obtained, and from what."""
    if quantity == "joules":
        return "modelled", _joules_source(rates)
    if quantity == "eur":
        return _eur_origin(rates)
    how, source = _SOURCES[quantity]
    if rates.modelled and quantity not in COUNTS:
        return "modelled", f"scaled from: {source}"
    return how, source


def _joules_source(rates: Rates) -> str:
    machine = rates.profile
    if machine is None:
        return "the machine of the runs is in no table"
    about = f"{machine.name} ({machine.how} {machine.date}: {machine.source})"
    watts = f"{machine.watts_per_busy_core:g} W per busy core"
    if rates.has_gpu:
        gpu = f"GPU-s x {machine.gpu_busy_watts:g} W (idle {machine.gpu_idle_watts:g} W)"
        return f"CPU-s x {watts} + {gpu} + wall s x {machine.idle_watts:g} W, {about}"
    return f"CPU-s x ({watts} + {machine.idle_watts:g} W idle / {machine.cores} cores), {about}"


def _eur_origin(rates: Rates) -> tuple[How, str]:
    price, machine, per_hour = rates.price, rates.profile, rates.eur_per_hour()
    if price is None or machine is None or per_hour is None:
        return "assumed", "no price for the machine of the runs"
    hours = "wall hours" if rates.has_gpu else "CPU-hours"
    share = "" if rates.has_gpu else f" / {machine.cores} cores"
    tariff = rates.tables.electricity
    power = f", plus electricity at {tariff.eur_per_kwh:g} EUR/kWh" if rates.owned else ""
    kind = "owned" if rates.owned else "on demand"
    # the joules of that electricity are modelled, so a receipt for the machine does not make the sum measured
    hows: list[How] = ["modelled" if rates.modelled else "measured", price.how]
    hows += ["modelled", tariff.how] if rates.owned else []
    source = (
        f"{hours} x {per_hour:.4g} EUR/h{share}, {price.name} {kind} ({price.how} {price.date}: {price.source}){power}"
    )
    return weakest(hows), source


def unit_of(quantity: Quantity) -> str:
    """Its unit."""
    return QUANTITIES[quantity][1]
