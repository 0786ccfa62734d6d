"""``write_report``: the comparison as one HTML file, its figures as SVG and its numbers as CSV beside it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from frugalrl.report.csv_files import as_csv, tables_as_csv
from frugalrl.report.figures.crossover import crossover
from frugalrl.report.figures.curves import learning_curves
from frugalrl.report.figures.dots import overall_figures, view_figures
from frugalrl.report.figures.lever_steps import lever_steps
from frugalrl.report.figures.levers import lever_figures
from frugalrl.report.figures.load import load_figures
from frugalrl.report.figures.pareto import pareto
from frugalrl.report.figures.show import standalone
from frugalrl.report.figures.survival import survivals
from frugalrl.report.figures.svg import Drawing, Fineness
from frugalrl.report.numbers import slug
from frugalrl.report.page.page import LEVELS, Detail, Figures, page
from frugalrl.report.records import RunRecord
from frugalrl.report.results import Comparison, EnvResult
from frugalrl.report.titles import headline_target, slots_of
from frugalrl.types import RunFailed, UserError

MOST_BYTES = 1_000_000
"""A report is smaller than that; where all of it would be larger, the page shows less and the files keep all."""
WHOLE = 2_000
"""Points of a line in a figure's own file."""


def write_report(comparison: Comparison, records: Sequence[RunRecord], path: Path, figures: Path | None = None) -> None:
    """Write the report to ``path``, replacing what is there, and its figures and tables into a folder.

    ``figures`` is the folder ``figures`` beside the report unless it is named. Each file is put in place whole.
    Raises UserError where the place cannot be written to, RunFailed when the disk refuses.
    """
    folder = path.parent / "figures" if figures is None else figures
    if path.is_dir():
        raise UserError(f"{path} is a folder; name a file such as {path / 'report.html'}")
    for place in (path.parent, folder):
        _ready(place)
    for drawing in _all(draw(comparison, Detail(Fineness(WHOLE)))):
        _put(folder / f"{drawing.name}.svg", standalone(drawing, len(comparison.methods)))
        _put(folder / f"{drawing.name}.csv", as_csv(drawing.header, drawing.rows))
    for name, text in tables_as_csv(comparison, records).items():
        _put(folder / f"{name}.csv", text)
    sentences = ("The answer", *comparison.sentences, "", "Notes", *comparison.notes)
    _put(folder / "sentences.txt", "".join(f"{text}\n" for text in sentences))
    _put(path, html_report(comparison, records))


def html_report(comparison: Comparison, records: Sequence[RunRecord] = ()) -> str:
    """The page, with as much detail as fits into ``MOST_BYTES``."""
    for level in LEVELS:
        if level is not LEVELS[-1] and _size_of(comparison, level) > 1.4 * MOST_BYTES:
            continue
        document = page(comparison, records, draw(comparison, level), level)
        if len(document.encode()) < MOST_BYTES:
            break
    return document


def _size_of(comparison: Comparison, level: Detail) -> float:
    """About the bytes of the page, from its first environment; 0 where trying it out costs little."""
    if len(comparison.envs) < 4:
        return 0
    sizes = []
    for few in (0, 1):
        part = replace(comparison, envs=comparison.envs[:few])
        sizes.append(len(page(part, (), draw(part, level), level).encode()))
    return sizes[0] + (sizes[1] - sizes[0]) * len(comparison.envs)


def draw(comparison: Comparison, detail: Detail) -> Figures:
    """All figures of a comparison."""
    by_env: dict[str, dict[str, list[Drawing]]] = {}
    stems: set[str] = set()
    for env in comparison.envs:
        stem = base = slug(env.env)
        number = 1
        while stem in stems:
            number += 1
            stem = f"{base}-{number}"
        stems.add(stem)
        parts = _of_env(comparison, env, stem, detail)
        if detail.brief:
            parts = {
                name: [_briefly(d, keys=name in ("curves", "load", "lever_steps")) for d in drawn]
                for name, drawn in parts.items()
            }
        by_env[env.env] = parts
    return Figures(by_env, overall_figures(comparison, slots_of(comparison.methods)) if comparison.overall else [])


def _briefly(drawing: Drawing, *, keys: bool) -> Drawing:
    """Without a description and a long note; without a legend where the one of the curves stands for it."""
    note = drawing.note if len(drawing.note) < 120 else ""
    return replace(drawing, desc="", note=note, keys=drawing.keys if keys else ())


def _of_env(comparison: Comparison, env: EnvResult, stem: str, detail: Detail) -> dict[str, list[Drawing]]:
    slots, headline, fine = slots_of(comparison.methods), headline_target(env), detail.fine
    targets = [t for t in env.targets if detail.all_targets or (headline is not None and t == headline[0])]
    planes = [pareto(env, t, slots, stem, hints=not detail.brief) for t in targets]
    crossings = [crossover(env, c, slots, stem, fine) for c in env.crossovers if c.target in targets]
    load, crossed = load_figures(env, stem, hints=not detail.brief), [c for c in crossings if c is not None]
    return {
        "levers": lever_figures(env, stem),
        "lever_steps": _lever_steps(env, targets, stem, fine),
        "views": view_figures(env, slots, stem) if detail.views else [],
        "curves": learning_curves(env, slots, stem, fine),
        "reached": survivals(env, slots, stem, targets, fine),
        "load": load[:1] if detail.brief else load,
        "pareto": [p for p in planes if p is not None],
        "crossover": crossed[:1] if detail.brief else crossed,
    }


def _lever_steps(env: EnvResult, targets: Sequence[float], stem: str, fine: Fineness) -> list[Drawing]:
    found = () if env.levers is None else env.levers.targets
    drawn = [lever_steps(env, target, stem, fine) for target in found if target.target in targets]
    return [d for d in drawn if d is not None]


def _all(figures: Figures) -> list[Drawing]:
    return [d for parts in figures.by_env.values() for drawn in parts.values() for d in drawn] + figures.overall


def _ready(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be made ({error.strerror}); choose another place for the report") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"{folder} cannot be written to; choose another place for the report")


def _put(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(f".part-{path.name}")
    try:
        part.write_text(text, encoding="utf-8", newline="")
        os.replace(part, path)
    except OSError as error:
        raise RunFailed(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            part.unlink()
