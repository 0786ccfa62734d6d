"""What tables and figures call things."""

from __future__ import annotations

from collections.abc import Mapping

from frugalrl.report.numbers import Scale, digits, plain, scale_for
from frugalrl.report.results import QUANTITIES, Comparison, EnvResult, Quantity, View

VIEW_TITLES = {"env_steps": "equal samples", "flop": "equal FLOPs", "eur": "equal money"}


def view_title(view: View) -> str:
    """``equal samples``."""
    return VIEW_TITLES[view.axis]


def amount_words(view: View) -> str:
    """``200,000 steps``, ``1.25 TFLOP``."""
    unit = QUANTITIES[view.axis][1]
    scale = scale_for(unit, [view.amount])
    shown = plain(round(view.amount)) if view.axis == "env_steps" else digits(view.amount / scale.factor)
    return f"{shown} {scale.unit}"


def cost_scale(env: EnvResult, target: float, quantity: Quantity) -> Scale:
    """The unit in which a target's cost stands in the table; figures of the same cost take it too."""
    found = [(m, t) for m in env.methods for t in m.targets if t.target == target]
    figures = [f for m, t in found for f in (t.expected.get(quantity), m.used.get(quantity))]
    return scale_for(QUANTITIES[quantity][1], [None if f is None else f.value for f in figures])


def headline_target(env: EnvResult) -> tuple[float, str] | None:
    """The target that is shown first, and which one it is in words; None without targets."""
    found = {t: [to for m in env.methods for to in m.targets if to.target == t] for t in env.targets}
    found = {t: tos for t, tos in found.items() if tos}
    everybody = [t for t, tos in found.items() if all(to.reached for to in tos)]
    anybody = [t for t, tos in found.items() if any(to.reached for to in tos)]
    if everybody:
        return max(everybody), "the highest target that runs of every method reached"
    if anybody:
        return min(anybody), "the lowest target that a run reached; none was reached by runs of every method"
    return (min(found), "the lowest target; no run reached one") if found else None


def title_of(comparison: Comparison) -> str:
    """The comparison in a few words."""
    names = comparison.methods
    both = " and ".join((", ".join(names[:-1]), names[-1])) if len(names) > 1 else names[0]
    shown = both if len(names) <= 4 else f"{len(names)} methods"
    where = comparison.envs[0].env if len(comparison.envs) == 1 else f"{len(comparison.envs)} environments"
    return f"{shown} on {where}"


def slots_of(methods: tuple[str, ...]) -> Mapping[str, int]:
    """The place of each method: its colour, dash and marker."""
    return {name: place for place, name in enumerate(methods)}


def upper(words: str) -> str:
    """With a capital letter in front, the rest as it is."""
    return words[:1].upper() + words[1:]
