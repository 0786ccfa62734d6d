"""One environment: its tables and figures, in the order in which they are read."""

from __future__ import annotations

from collections.abc import Sequence

from frugalrl.report.figures.show import inline, legend
from frugalrl.report.figures.svg import Drawing
from frugalrl.report.numbers import count, plain
from frugalrl.report.page.html import tag, text_of
from frugalrl.report.page.levers import levers_body
from frugalrl.report.page.tables import Tables
from frugalrl.report.results import QUANTITIES, EnvResult, Quantity
from frugalrl.report.titles import headline_target

PARTS = {
    "curves": ("Learning curves",
               "Mean over runs, interpolated between evaluations; pale where only some of the runs, at least half, "
               "have evaluations on both sides. The band is the pointwise interval over seeds, cut where it would "
               "squeeze the lines."),
    "reached": ("Runs that reached a target",
                "Kaplan-Meier: a run that ended before it reached the target counts as long as it ran."),
    "load": ("Where the compute goes",
             "At the end of the budget, mean over runs. Blue is the sampler, orange the learner, grey the rest."),
    "pareto": ("Who is cheaper, who is faster",
               "Expected cost of one success, with intervals. Left and below is better; dotted: not beaten in both."),
    "crossover": ("If a step cost more, or less",
                  "Modelled: samples do not depend on what a step costs; time and money do. Markers: as measured."),
}  # fmt: skip
"""Title and explanation of a part with figures."""


BUDGET_NOTE = "Final score: the last evaluation. IQM: mean of the middle half of the runs."
VIEWS_NOTE = "Each view gives every method the same amount of one resource, the most that all of them have used."
TARGET_NOTE = (
    " Expected cost of one success: what all runs used until they reached it or ended, over the number that reached "
    "it. In brackets the interval over seeds; below it the ratio to the baseline, ▼ less and ▲ more where the interval "
    "excludes 1. m: modelled, a: assumed, no mark: measured or counted."
)


def part(title: str, *body: str, css: str | None = None) -> str:
    """A titled part of a section."""
    return tag("div", tag("h3", text_of(title)), *body, class_=f"part {css}" if css else "part")


def figure_group(drawings: Sequence[Drawing], css: str) -> str:
    """Figures beside each other, with one legend where all have the same."""
    if not drawings:
        return ""
    shared = len({d.keys for d in drawings}) == 1
    shown = []
    for d in drawings:
        caption = tag("figcaption", tag("b", text_of(d.title)), f" {text_of(d.note)}" if d.note else "")
        shown.append(tag("figure", caption, "" if shared else legend(d.keys), inline(d)))
    return (legend(drawings[0].keys) if shared else "") + tag("div", *shown, class_=f"figures {css}")


def env_section(
    env: EnvResult, tables: Tables, figures: dict[str, list[Drawing]], place: int, *, all_targets: bool, folded: bool,
    explained: bool,
) -> str:  # fmt: skip
    """A section; ``folded``: its figures are in a box that opens; ``explained``: its parts say how to read them."""
    body = [tag("h2", text_of(env.env)), tag("p", f"Protocol {text_of(env.protocol)}.", class_="facts")]
    body.append(part("What a score costs", *_targets(env, tables, place, all_targets, explained)))
    if levers := levers_body(env, tables.origins, f"env-{place}-levers"):
        drawn = [
            figure_group(figures.get("levers", []), "three"),
            figure_group(figures.get("lever_steps", []), "three"),
        ]
        body.insert(2, part("Levers", *levers, *drawn))
    table, missing = tables.budget(env, f"env-{place}-budget")
    note = _foot(f"{BUDGET_NOTE} {_worst_run(env)}" if explained else "", missing)
    body.append(part("At the end of the budget", table, note, *_failed(env)))
    if env.views:
        text = tag("p", VIEWS_NOTE) if explained else ""
        views = figure_group(figures.get("views", []), "three")
        body.append(part("Three fair views", text, tables.views(env, f"env-{place}-views"), views))
    wide = _part_of(figures, "curves", "four", explained)
    halves = []
    for name in ("reached", "load", "pareto", "crossover"):
        css = "four" if len(figures.get(name, ())) > 2 else "half"
        halves.append(_part_of(figures, name, css, explained))
    drawn_parts = [wide, tag("div", *halves, class_="pair")] if wide or any(halves) else []
    if folded and drawn_parts:
        drawn_parts = [tag("details", tag("summary", f"Figures of {text_of(env.env)}"), *drawn_parts)]
    return tag("section", *body, *drawn_parts, id=f"env-{place}")


def _part_of(figures: dict[str, list[Drawing]], name: str, css: str, explained: bool) -> str:
    if not figures.get(name):
        return ""
    title, text = PARTS[name]
    words = tag("p", text_of(text)) if explained else ""
    return part(title, words, figure_group(figures[name], css), css="whole" if css == "four" else None)


def _targets(env: EnvResult, tables: Tables, place: int, all_targets: bool, explained: bool) -> list[str]:
    headline = headline_target(env)
    if headline is None:
        return [tag("p", "No target was set, so no cost to a target is known.")]
    table, missing = tables.target(env, headline[0], f"env-{place}-target")
    note = f"{plain(headline[0])} is {headline[1]}.{TARGET_NOTE if explained else ''}"
    body = [table, _foot(note, missing)]
    others = [t for t in env.targets if t != headline[0]]
    if others and all_targets:
        more = [tables.target(env, t, f"env-{place}-target-{at}")[0] for at, t in enumerate(others)]
        names = ", ".join(plain(t) for t in others)
        body.append(tag("details", tag("summary", f"{count(len(others), 'more target')}: {names}"), *more))
    elif others:
        names = ", ".join(plain(t) for t in others)
        body.append(tag("p", f"The targets {names} are in the tables beside this page.", class_="foot"))
    return body


def _foot(note: str, missing: Sequence[Quantity]) -> str:
    names = ", ".join(QUANTITIES[q][0] for q in missing)
    said = " ".join(part for part in (note, f"Not measured: {names}." if names else "") if part)
    return tag("p", text_of(said), class_="foot") if said else ""


def _worst_run(env: EnvResult) -> str:
    """What the bracket of a worst run is, or what it would take to have one."""
    found = [m.tolerance for m in env.methods if m.tolerance.value is not None]
    if any(f.interval is not None for f in found):
        return "Worst run: the bracket is a tolerance interval, in which a stated share of future runs lies."
    why = next((f.source.partition("; ")[2] for f in found), "")
    return f"Worst run: no bound{': ' if why else ''}{why}."


def _failed(env: EnvResult) -> list[str]:
    lines = [f"{m.method}, seed {seed}: {reason}" for m in env.methods for seed, reason in m.failed]
    if not lines:
        return []
    title = tag("summary", f"{count(len(lines), 'run')} failed or did not end")
    return [tag("details", title, tag("ul", *(tag("li", text_of(x)) for x in lines)), class_="warn", open=True)]
