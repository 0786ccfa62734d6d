"""Makes the bill: every figure of a run with its unit, how it was obtained and from what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any, cast

from frugalrl.cost.bottleneck import limit_sentence, rate_rows
from frugalrl.cost.ledger import Ledger
from frugalrl.cost.machine import Machine
from frugalrl.cost.meters import Usage
from frugalrl.cost.money import electricity_eur
from frugalrl.cost.places import Place, joules_of, places_of
from frugalrl.cost.power import Joules
from frugalrl.cost.record import Bill, BillRow, sum_rows, weakest
from frugalrl.cost.stages import Stages, stage_rows
from frugalrl.cost.tables import Price, Tables
from frugalrl.types import ROLES, Cost, How


def make_bill(
    ledger: Ledger,
    machine: Machine,
    tables: Tables,
    scores: Sequence[BillRow] = (),
    *,
    about: Mapping[str, str] | None = None,
    stages: Stages | None = None,
) -> Bill:
    """Makes the bill of what ``ledger`` holds now. The ledger is settled first.

    ``scores``: rows made with :func:`score_row`. ``about``: names of the run (environment, recipe, seed, ...).
    ``stages``: of a run whose engine has a thread of its own; the sentence about the limit then names a stage.
    """
    ledger.settle()
    used = ledger.usage()  # read once: making the bill costs time too, and its rows shall add up
    totals = ledger.totals(used)
    has_gpu = bool(machine.facts.gpus)
    roles = _role_rows(totals, has_gpu=has_gpu)
    places = places_of(ledger, used.cpu_s, used.wall_s, machine, tables)
    energy = _energy_rows(ledger, places, totals)
    money = _money_rows(places, tables, energy)
    rows = (
        *scores,
        *_count_rows(ledger),
        *roles,
        *(() if stages is None else (*stage_rows(stages), *rate_rows(stages))),
        *_use_rows(ledger, used, roles),
        *energy,
        *money,
        _per_frames(next(row for row in money if row.name == "on_demand_eur"), ledger.counts.frames),
    )
    return Bill(
        about=dict(about or {}),
        machine=_machine_facts(machine),
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        rows=rows,
        limit=(None if stages is None else limit_sentence(stages)) or _limit(totals, has_gpu=has_gpu),
        warnings=_warnings(totals),
    )


def _machine_facts(machine: Machine) -> dict[str, Any]:
    facts = asdict(machine.facts)
    facts["gpus"] = list(machine.facts.gpus)
    return {"profile": machine.profile.name, "chosen_because": machine.chosen_because, **facts}


# -- rows ------------------------------------------------------------------------------------------------------------

_NETWORK_ROLES = frozenset({"inference", "learner", "target", "correction", "evaluation", "probe", "redone"})
_APPLIES: Mapping[str, frozenset[str]] = {
    "calls": frozenset({"environment", "inference", "learner", "target", "replay", "correction", "transport"}),
    "cpu_s": frozenset(ROLES) - {"waiting"},
    "busy_s": frozenset(ROLES) - {"unassigned"},
    "gpu_s": _NETWORK_ROLES,
    "flop": _NETWORK_ROLES,
    "bytes_min": _NETWORK_ROLES | {"replay", "transport"},
}
"""Quantities that a role has. One that is missing there is "not measured"; elsewhere it is no question."""

_QUANTITIES: Mapping[str, tuple[str, How, str]] = {
    "calls": ("calls", "counted", "counter of the role"),
    "env_steps": ("steps", "counted", "counter of the role"),
    "frames": ("frames", "counted", "counter of the role"),
    "updates": ("updates", "counted", "counter of the role"),
    "cpu_s": ("s", "measured", "CPU clocks of the role's threads"),
    "busy_s": ("s", "measured", "wall clock of the loop"),
    "gpu_s": ("s", "measured", "GPU events around one piece of work in 16"),
    "flop": ("FLOP", "counted", "matrix products and convolutions, multiply-add = 2, per call x calls"),
    "bytes_min": ("B", "modelled", "lower bound: weights, inputs and outputs once per call"),
    "energy_j": ("J", "measured", "joule counter"),
}


def _role_rows(totals: Mapping[str, Cost], *, has_gpu: bool) -> tuple[BillRow, ...]:
    rows = []
    cpu = sum(cost.cpu_s for cost in totals.values() if cost.cpu_s is not None)
    for role, cost in totals.items():
        for name, (unit, how, source) in _QUANTITIES.items():
            value = getattr(cost, name)
            asked = role in _APPLIES.get(name, ()) and (name != "gpu_s" or has_gpu)
            if value is None and not asked:
                continue
            rows.append(BillRow(section="role", role=role, name=name, value=value, unit=unit, how=how, source=source))
        if cost.cpu_s is not None and cpu > 0:
            share = 100 * cost.cpu_s / cpu
            source = "CPU-seconds of the role / CPU-seconds of the run"
            rows.append(
                BillRow(
                    section="role", role=role, name="cpu_share", value=share, unit="%", how="measured", source=source
                )
            )
    return tuple(rows)


def _count_rows(ledger: Ledger) -> tuple[BillRow, ...]:
    counts = ledger.counts
    per_step = counts.updates / counts.agent_steps if counts.agent_steps else None
    listed: tuple[tuple[str, float | None, str, str], ...] = (
        ("agent_steps", counts.agent_steps, "steps", "valid transitions of training"),
        ("frames", counts.frames, "frames", "emulator frames of training"),
        ("episodes", counts.episodes, "episodes", "episodes that ended in training"),
        ("invalid_rows", counts.invalid_rows, "rows", "resets, which are no transitions"),
        ("updates", counts.updates, "updates", "gradient steps"),
        ("updates_per_step", per_step, "updates/step", "updates / agent steps"),
    )
    return tuple(
        BillRow(section="counts", name=name, value=value, unit=unit, how="counted", source=source)
        for name, value, unit, source in listed
    )


def _use_rows(ledger: Ledger, used: Usage, roles: Sequence[BillRow]) -> tuple[BillRow, ...]:
    counts = ledger.counts
    processes = len(ledger.sessions)
    over = f"{processes} process{'es' if processes > 1 else ''}"
    rate = counts.agent_steps / used.cpu_s if used.cpu_s > 0 else None
    rows = [
        _use("cpu_s", used.cpu_s, "s", "operating system, " + over),
        _use("wall_h", used.wall_s / 3600, "h", over + ", never paused"),
        _use("steps_per_cpu_s", rate, "steps/s", "agent steps / CPU-seconds of the run"),
        _use("cpu_h_per_1e9_frames", _share(used.cpu_s / 3600, counts.frames), "h", "CPU-hours / frames x 1e9"),
        _use("peak_memory", used.peak_rss_bytes, "B", "most resident memory of a process, its children added"),
    ]
    if used.peak_gpu_bytes is not None:
        rows.append(_use("peak_gpu_memory", used.peak_gpu_bytes, "B", "most memory torch has reserved"))
    for name, unit, default in (("flop", "FLOP", "counted"), ("bytes_min", "B", "modelled")):
        total = sum_rows(row for row in roles if row.name == name)
        missing = f"; not measured: {', '.join(total.not_measured)}" if total.not_measured else ""
        rows.append(_use(name, total.known, unit, "sum over roles" + missing, total.how or cast(How, default)))
    return tuple(rows)


def _use(name: str, value: float | None, unit: str, source: str, how: How = "measured") -> BillRow:
    return BillRow(section="use", name=name, value=value, unit=unit, how=how, source=source)


def _energy_rows(ledger: Ledger, places: Sequence[Place], totals: Mapping[str, Cost]) -> tuple[BillRow, ...]:
    gpu_times = [cost.gpu_s for cost in totals.values() if cost.gpu_s is not None]
    parts = joules_of(places, ledger.sessions, sum(gpu_times) if gpu_times else None)
    if "redone" in totals:
        parts = {name: _without_the_lost(part) for name, part in parts.items()}
    rows = tuple(
        BillRow(section="energy", name=name, value=part.value, unit="J", how=part.how, source=part.source)
        for name, part in parts.items()
    )
    total = sum_rows(rows)
    missing = f"; not measured: {', '.join(total.not_measured)}" if total.not_measured else ""
    source = "sum of these lines" + missing
    how = total.how or "modelled"
    return (*rows, BillRow(section="energy", name="energy_j", value=total.known, unit="J", how=how, source=source))


def _without_the_lost(part: Joules) -> Joules:
    """A counter is not read by a process that is killed: of what it lost, joules are only modelled."""
    if part.how != "measured":
        return part
    return replace(part, how="modelled", source=f"{part.source}; lost work at the mean watts of its process")


def _money_rows(places: Sequence[Place], tables: Tables, energy: Sequence[BillRow]) -> tuple[BillRow, ...]:
    tariff, joules = tables.electricity, energy[-1]
    power = None if joules.value is None else electricity_eur(joules.value, tables)
    power_how = weakest((joules.how, tariff.how))
    power_source = f"joules x {tariff.eur_per_kwh:g} EUR/kWh ({tariff.how} {tariff.date}: {tariff.source})"
    rows = [_rent(name, places, power, power_how) for name in ("on_demand_eur", "spot_eur", "owned_eur")]
    rows.append(
        BillRow(section="money", name="electricity_eur", value=power, unit="EUR", how=power_how, source=power_source)
    )
    return tuple(rows)


def _rent(name: str, places: Sequence[Place], power: float | None, power_how: How) -> BillRow:
    """One offer: the hours on each machine x its price there. One machine without such an offer leaves no sum."""
    value, hows, sources = 0.0, list[How](["measured"]), list[str]()
    for place in places:
        price, per_hour = place.price, _offers(place.price)[name]
        if price is None or per_hour is None:
            source = f"no such price for machine {place.name!r}"
            return BillRow(section="money", name=name, value=None, unit="EUR", how="assumed", source=source)
        hours = place.wall_s / 3600
        source = f"{hours:.4g} h x {per_hour:.4g} EUR/h, {price.name} ({price.how} {price.date}: {price.source})"
        if name == "owned_eur":
            source = f"{source}; {price.purchase_eur:g} EUR over {price.years:g} years x {price.hours_per_year:g} h"
        value, hows, sources = value + hours * per_hour, [*hows, price.how], [*sources, source]
    if name == "owned_eur":
        value, hows, sources[-1] = value + (power or 0.0), [*hows, power_how], sources[-1] + ", plus electricity"
    source = "; ".join(sources)
    return BillRow(section="money", name=name, value=value, unit="EUR", how=weakest(hows), source=source)


def _share(value: float | None, frames: int) -> float | None:
    """Of 1e9 frames; start-up and evaluation are spread over the frames of training."""
    return value / frames * 1e9 if value is not None and frames else None


def _per_frames(offer: BillRow, frames: int) -> BillRow:
    """SEED's own unit: the price of 1e9 frames at the pace of this run."""
    return replace(
        offer, name="eur_per_1e9_frames", value=_share(offer.value, frames), source=f"per frame x 1e9; {offer.source}"
    )


def _offers(price: Price | None) -> dict[str, float | None]:
    if price is None:
        return {"on_demand_eur": None, "spot_eur": None, "owned_eur": None}
    return {
        "on_demand_eur": price.eur_per_hour_on_demand,
        "spot_eur": price.eur_per_hour_spot,
        "owned_eur": price.eur_per_hour_owned,
    }


# -- sentences -------------------------------------------------------------------------------------------------------

_HELP: Mapping[str, str] = {
    "environment": "a method that needs fewer samples, or a faster emulator, would help most",
    "inference": "acting in larger batches, a smaller network, or bf16 where the processor has it would help most",
    "learner": "fewer updates per step, bf16 where the processor has it, a smaller network or a GPU would help most",
    "target": "computing the targets in bf16 where the processor has it, or a smaller network would help most",
    "replay": "fewer or smaller batches, or uniform sampling, would help most",
    "correction": "correcting fewer samples, or a sampler closer to the learner, would help most",
    "transport": "fewer and larger messages would help most",
    "evaluation": "evaluating less often or over fewer episodes would help most",
    "probe": "fewer or no probe environments would help most",
    "startup": "the run is short: a longer one would spread the start-up",
    "checkpoint": "fewer checkpoints would help most",
    "reporting": "reporting less often would help most",
    "waiting": "more work in parallel, or one process less on the machine, would help most",
    "redone": "checkpoints in a shorter rhythm would lose less work",
}


def _limit(totals: Mapping[str, Cost], *, has_gpu: bool) -> str:
    """The costliest role: by CPU-seconds, or by wall seconds where a GPU does part of the work."""
    name, unit = ("busy_s", "wall time") if has_gpu else ("cpu_s", "CPU-seconds")
    spent = {role: getattr(cost, name) or 0.0 for role, cost in totals.items() if role in _HELP}
    whole = sum(getattr(cost, name) or 0.0 for cost in totals.values())
    role = max(spent, key=lambda r: spent[r], default=None)
    if role is None or whole <= 0:
        return "Limit: nothing was measured yet."
    return f"Limit: {role} takes {100 * spent[role] / whole:.0f} % of the {unit}; {_HELP[role]}."


def _warnings(totals: Mapping[str, Cost]) -> tuple[str, ...]:
    cpu = sum(cost.cpu_s for cost in totals.values() if cost.cpu_s is not None)
    if cpu <= 0:
        return ()

    def share(role: str) -> float:
        return 100 * (totals.get(role, Cost()).cpu_s or 0.0) / cpu

    found = []
    rest = share("unassigned")
    if cpu > 10 and rest > 3:  # in a run of seconds the making of the bill itself is more
        found.append(f"no role claims {rest:.1f} % of the CPU-seconds (unassigned); the roles are less sure")
    if cpu > 10 and rest < -3:
        found.append(f"{-rest:.1f} % of the CPU-seconds were charged twice (unassigned is negative); report this")
    if share("evaluation") > 20:
        found.append(f"evaluation takes {share('evaluation'):.0f} % of the CPU-seconds; evaluate less often")
    if cpu > 10 and share("checkpoint") > 2:
        found.append(f"checkpoints take {share('checkpoint'):.1f} % of the CPU-seconds; save less often")
    return tuple(found)
