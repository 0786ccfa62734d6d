"""The levers on the page: what each does to every cost of the main target, and to the score."""

from __future__ import annotations

from collections.abc import Sequence

from frugalrl.report.lever_words import change, shown_effect, verdict
from frugalrl.report.levers import COSTS, TITLES
from frugalrl.report.numbers import between, digits, plain, two
from frugalrl.report.page.html import tag, text_of
from frugalrl.report.page.table import MARKS, Cell, Column, Origins, table, words
from frugalrl.report.results import EnvResult, LeverEffect, Levers
from frugalrl.report.titles import headline_target

NOTE = (
    "A main effect is the cost with the lever over the cost without it, the geometric mean over the combinations of "
    "the other levers; an interaction is the effect of one lever where the other is used over its effect where it is "
    "not. 1 means none; of the score, a difference, 0 does. ▼ less and ▲ more where the interval excludes that."
)
_BOUNDED = " r: of the cost until the target or the end of the budget, because some combination never got there."


def levers_body(env: EnvResult, origins: Origins, name: str) -> list[str]:
    """Tables and how to read them; empty where the methods are no factorial. The sentences are in the answer."""
    levers = env.levers
    if levers is None:
        return []
    main = headline_target(env)
    target = None if main is None else main[0]
    found = next((t for t in levers.targets if t.target == target), None)
    effects = (*(found.effects if found else ()), *levers.score)
    goal = "" if target is None else f", to a mean return of {plain(target)}"
    each = [e for e in effects if len(e.levers) == 1]
    together = [e for e in effects if len(e.levers) > 1]
    bounded = _BOUNDED if any(shown_effect(e)[1] for e in effects) else ""
    return [
        tag("p", text_of(f"All methods have the same learner, {levers.learner}; only the levers differ.")),
        _table(levers, each, origins, name, f"What each lever does on {env.env}{goal}"),
        _table(levers, together, origins, f"{name}-x", f"Whether the levers change each other on {env.env}{goal}"),
        tag("p", text_of(NOTE + bounded), class_="foot"),
    ]


def _table(levers: Levers, effects: Sequence[LeverEffect], origins: Origins, name: str, caption: str) -> str:
    names = list(dict.fromkeys(e.levers for e in effects))
    columns = [Column("quantity", numeric=False)]
    for of in names:
        lever = next((x for x in levers.levers if of == (x.name,)), None)
        title, unit = (
            (" × ".join(of), "interaction") if lever is None else (lever.name, change(lever).partition(": ")[2])
        )
        columns.append(Column(title, unit))
    rows = []
    for quantity in (*COSTS, "score"):
        found = {e.levers: e for e in effects if e.quantity == quantity}
        if any(shown_effect(e)[0].value is not None for e in found.values()):
            rows.append([words(TITLES[quantity]), *(_cell(found[of], origins) for of in names)])
    return table(name, caption, columns, rows)


def _cell(effect: LeverEffect, origins: Origins) -> Cell:
    figure, bounded = shown_effect(effect)
    ref = origins.add(figure, f"{' × '.join(effect.levers)}, {TITLES[effect.quantity]}")
    if figure.value is None:
        return Cell('<i class="no">not known</i>', None, ref, figure.n)
    of_score = effect.quantity == "score"
    clear = verdict(figure, 0.0 if of_score else 1.0)
    arrow = {"less": "▼", "more": "▲", "": ""}[clear]
    sign = "+" if of_score and figure.value > 0 else ""
    value = digits(figure.value) if of_score else f"{two(figure.value)}×"
    mark = MARKS.get(figure.how, "") + ("r" if bounded else "")
    raised = f"<sup>{mark}</sup>" if mark else ""
    shown = f'<span class="r {clear}">{arrow}{sign}{value}</span>' if clear else f"{sign}{value}"
    interval = "" if figure.interval is None else f"<small>{between(figure.interval)}</small>"
    return Cell(f"{shown}{raised}{interval}", figure.value, ref, figure.n)
