"""The page: its parts in their order, in one document that loads nothing."""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
from collections.abc import Sequence
from dataclasses import dataclass

from frugalrl.report.figures.palette import DARK, LIGHT, figure_css, variables
from frugalrl.report.figures.show import patterns, sign
from frugalrl.report.figures.svg import Drawing, Fineness, Key
from frugalrl.report.numbers import count
from frugalrl.report.page import provenance
from frugalrl.report.page.env_section import env_section, figure_group, part
from frugalrl.report.page.html import tag, text_of
from frugalrl.report.page.tables import Tables
from frugalrl.report.records import RunRecord
from frugalrl.report.results import Comparison
from frugalrl.report.titles import slots_of, title_of


@dataclass(frozen=True, slots=True)
class Detail:
    """How much goes into the page; the files beside it always have all."""

    fine: Fineness
    all_targets: bool = True
    """Figures and tables of every target, or of the headline target only."""
    views: bool = True
    """Figures of the fair views, whose numbers are in a table too."""
    brief: bool = False
    """Without the commands of the runs, with one figure of the load and one crossover; figures have a title but no
    description, and only the first environment explains its parts."""


LEVELS = (
    Detail(Fineness(120)), Detail(Fineness(40)), Detail(Fineness(30, 0, 3), all_targets=False),
    Detail(Fineness(14, 0, 0), all_targets=False, views=False, brief=True),
    Detail(Fineness(8, 0, 0), all_targets=False, views=False, brief=True),
)  # fmt: skip


MOST_SENTENCES = 30
"""Of each kind in a page that is brief."""


LESS = (
    "To stay small, this page shows one target of each environment and thinner lines; every figure and every number is "
    "in the files beside it."
)


@dataclass(frozen=True, slots=True)
class Figures:
    """All drawings, at the detail of the page."""

    by_env: dict[str, dict[str, list[Drawing]]]
    """Environment, then part (``views``, ``curves``, ``reached``, ``load``, ``pareto``, ``crossover``)."""
    overall: list[Drawing]


def page(comparison: Comparison, records: Sequence[RunRecord], figures: Figures, detail: Detail) -> str:
    """The document."""
    tables = Tables(comparison, dict(slots_of(comparison.methods)))
    many = len(comparison.envs) > 3
    main = [
        env_section(
            env,
            tables,
            figures.by_env[env.env],
            place,
            all_targets=detail.all_targets,
            folded=many,
            explained=place == 0 or not detail.brief,
        )
        for place, env in enumerate(comparison.envs)
    ]
    if comparison.overall:
        main.append(_overall(tables, figures.overall))
    main.append(tag("section", tag("h2", "Runs"), *_runs(comparison, records, tables, detail), id="runs"))
    if any(env.anchors for env in comparison.envs):
        text = "Scores that others published, under their own protocols: a place to stand, not a measurement of ours."
        body = tables.anchors(comparison.envs, "anchors-table")
        main.append(tag("section", tag("h2", "Anchors"), tag("p", text), body, id="anchors"))
    main.append(provenance.made(comparison, records))
    main.append(provenance.origins(tables.origins))
    return _document(comparison, _head(comparison, detail) + "".join(main))


def _overall(tables: Tables, drawings: list[Drawing]) -> str:
    text = (
        "Scores are normalised by environment: 0 is a random policy, 1 the reference. The interquartile mean leaves "
        "out the lowest and the highest quarter of the runs; the optimality gap is what is missing to 1."
    )
    body = [
        tag("h2", "All environments"),
        tag("p", text),
        tables.overall("overall-table"),
        figure_group(drawings, "three"),
    ]
    return tag("section", *body, id="overall")


def _runs(comparison: Comparison, records: Sequence[RunRecord], tables: Tables, detail: Detail) -> list[str]:
    table = tables.runs("runs-table")
    if len(comparison.runs) > 60:
        table = tag("details", tag("summary", f"{count(len(comparison.runs), 'run')}"), table)
    body = [table]
    commands = provenance.run_commands(records) if not detail.brief else ""
    return [*body, commands]


def _head(comparison: Comparison, detail: Detail) -> str:
    most = MOST_SENTENCES if detail.brief else 1_000
    title = title_of(comparison)
    seeds = {s for env in comparison.envs for m in env.methods for s in m.seeds}
    facts = [
        comparison.made.replace("T", " ").removesuffix("+00:00").removesuffix("Z") + " UTC",
        count(len(comparison.runs), "run"), count(len(seeds), "seed"), count(len(comparison.methods), "method"),
        count(len(comparison.envs), "environment"),
    ]  # fmt: skip
    less = "" if detail.all_targets else tag("p", LESS, class_="facts")
    lead = [tag("p", text_of(s), class_="lead") for s in comparison.sentences[:1]]
    lead.append(_listed(comparison.sentences[1:], 5, "sentence", "says", most))
    if comparison.modelled is not None:
        lead.append(tag("p", tag("strong", "Modelled. "), text_of(comparison.modelled), class_="modelled"))
    notes = ""
    if comparison.notes:
        known = [note for note in comparison.notes if note != comparison.modelled]
        notes = part("Notes", _listed(known, 6, "note", None, most), css="notes")
    docs = tag("dl", *(_method(comparison, name) for name in comparison.methods), class_="methods")
    return (
        tag("header", tag("h1", text_of(title)), tag("p", text_of(" · ".join(facts)), class_="facts"),
            tag("button", "theme", type="button", id="theme", aria_label="Theme: as the system", title="Theme"))
        + tag("section", tag("h2", "The answer"), *lead, less, notes, part("Methods", docs), id="answer")
        + _contents(comparison)
    )  # fmt: skip


def _listed(sentences: Sequence[str], first: int, what: str, css: str | None, most: int) -> str:
    """A list whose first sentences are seen at once; at most ``most`` are in the page, all are in a file."""
    items = [tag("li", text_of(s)) for s in sentences[:most]]
    if not items:
        return ""
    shown = tag("ul", *items[:first], class_=css)
    rest = len(sentences) - first
    if rest <= 0:
        return shown
    left = len(sentences) - len(items)
    more = tag("p", f"{count(left, f'more {what}')} in the file sentences.txt beside this page.") if left else ""
    return shown + tag(
        "details", tag("summary", count(rest, f"more {what}")), tag("ul", *items[first:], class_=css), more
    )


def _method(comparison: Comparison, name: str) -> str:
    drawn = sign(Key(name, "line", slots_of(comparison.methods)[name]))
    base = ' <span class="base">baseline</span>' if name == comparison.baseline else ""
    doc = tag("dd", text_of(comparison.method_docs.get(name, "")))
    return tag("div", tag("dt", drawn, text_of(name), base), doc)


def _contents(comparison: Comparison) -> str:
    links = [(f"env-{place}", env.env) for place, env in enumerate(comparison.envs)]
    links += [("overall", "All environments")] if comparison.overall else []
    links += [("runs", "Runs")]
    links += [("anchors", "Anchors")] if any(env.anchors for env in comparison.envs) else []
    links += [("made", "How it was made"), ("origins", "Where the numbers come from")]
    return tag("nav", *(tag("a", text_of(words), href=f"#{place}") for place, words in links), aria_label="Contents")


def asset(name: str) -> str:
    """A file of the page that is kept in the package."""
    return (importlib.resources.files("frugalrl.report.page") / "assets" / name).read_text(encoding="utf-8")


def _document(comparison: Comparison, body: str) -> str:
    light, dark = variables(LIGHT), variables(DARK)
    css = (
        f":root{{color-scheme:light;{light}}}"
        f"@media(prefers-color-scheme:dark){{:root:not([data-theme=light]){{color-scheme:dark;{dark}}}}}"
        f":root[data-theme=dark]{{color-scheme:dark;{dark}}}"
        f"@media print{{:root,:root:not([data-theme=light]),:root[data-theme=dark]{{color-scheme:light;{light}}}}}"
        + figure_css(len(comparison.methods))
        + asset("style.css")
    )
    script = asset("script.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{text_of(title_of(comparison))}</title><style>{css}</style></head>\n<body>"
        f'<svg class="sprite" aria-hidden="true">{patterns(len(comparison.methods))}</svg>{body}'
        f'<div id="tip" role="status" hidden></div><script>{script}</script></body></html>\n'
    )
