"""Money: wall hours x price of the whole machine, and electricity where the machine is one's own."""

from __future__ import annotations

from frugalrl.cost.ledger import Ledger
from frugalrl.cost.machine import Machine
from frugalrl.cost.places import Place, place_of, places_of
from frugalrl.cost.tables import Tables
from frugalrl.types import UserError

JOULES_PER_KWH = 3.6e6


def electricity_eur(joules: float, tables: Tables) -> float:
    """Price of that many joules at the tariff."""
    return joules / JOULES_PER_KWH * tables.electricity.eur_per_kwh


def cost_so_far_eur(ledger: Ledger, machine: Machine, tables: Tables) -> float:
    """What the run has cost until now, for a stop rule: cheap enough to ask after every block.

    Rented machines: wall hours of all processes x the on-demand price. Own machines: wall hours x purchase per hour
    of use, plus electricity at the watts of the profile with all cores busy, GPUs included (an upper estimate). Hours
    of earlier processes on another machine cost what that one does. Raises :class:`UserError` when a machine has no
    price.
    """
    places = places_of(ledger, 0.0, ledger.wall_s(), machine, tables)
    return sum(place.wall_s / 3600 * _per_hour(place, tables) for place in places)


def shown_eur(ledger: Ledger, machine: Machine, tables: Tables) -> float | None:
    """As `cost_so_far_eur`, for a reader; None for a machine without such a price, as one that is spot only."""
    for place in places_of(ledger, 0.0, 0.0, machine, tables):
        price = place.price
        if price is None or (price.eur_per_hour_on_demand is None and price.eur_per_hour_owned is None):
            return None
    return cost_so_far_eur(ledger, machine, tables)


def budget_per_hour(machine: Machine, tables: Tables) -> float:
    """The price of an hour for a budget. Raises :class:`UserError` where there is none, or nothing is ever used up."""
    per_hour = eur_per_hour(machine, tables)
    if per_hour == 0:
        raise UserError(
            f"an hour of machine {machine.profile.name!r} costs 0 EUR, so a budget in euro would never be used up; "
            f"give a budget in steps or hours"
        )
    return per_hour


def eur_per_hour(machine: Machine, tables: Tables) -> float:
    """The price of an hour that a budget in euro uses; see :func:`cost_so_far_eur`."""
    return _per_hour(place_of(machine), tables)


def _per_hour(place: Place, tables: Tables) -> float:
    price, profile = place.price, place.profile
    if price is not None and price.eur_per_hour_on_demand is not None:
        return price.eur_per_hour_on_demand
    if price is None or profile is None or price.eur_per_hour_owned is None:
        raise UserError(
            f"machine {place.name!r} has no price, so a budget in euro cannot be kept; "
            f"add [price.{place.name}] to a price file or name another machine"
        )
    watts = profile.idle_watts + place.cores * profile.watts_per_busy_core + profile.gpus * profile.gpu_busy_watts
    return price.eur_per_hour_owned + electricity_eur(watts * 3600, tables)
