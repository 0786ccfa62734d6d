"""The tables of the page."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

from frugalrl.report.figures.show import sign
from frugalrl.report.figures.svg import Key, text_of
from frugalrl.report.numbers import Scale, digits, plain, scale_for
from frugalrl.report.page.table import Cell, Column, Origins, figure_cell, number, table, words
from frugalrl.report.results import QUANTITIES, Comparison, EnvResult, Figure, MethodResult, Quantity, ToTarget
from frugalrl.report.titles import amount_words, cost_scale, view_title

RETURN = Scale(1.0, "return")
SHARE = Scale(1.0, "normalised")


class Tables:
    """Makes tables; remembers where their numbers come from and the place of each method."""

    def __init__(self, comparison: Comparison, slots: dict[str, int]) -> None:
        self.comparison = comparison
        self.slots = slots
        self.origins = Origins()

    def target(self, env: EnvResult, target: float, name: str) -> tuple[str, tuple[Quantity, ...]]:
        """What one target costs with each method, and the quantities that nobody measured."""
        found = [(m, t) for m in env.methods for t in m.targets if t.target == target]
        known, missing = _known([t.expected for _, t in found])
        scales = {q: cost_scale(env, target, q) for q in known}
        columns = [Column("method", numeric=False), Column("reached", "runs"), Column("samples, median", "steps")]
        columns += [Column(QUANTITIES[q][0], scales[q].unit) for q in known]
        rows = []
        for method, to in found:
            row = [self._method(method.method), self._reached(to), self._median(method, to)]
            for q in known:
                used = method.used.get(q)
                row.append(
                    figure_cell(
                        to.expected.get(q),
                        scales[q],
                        self.origins,
                        f"{QUANTITIES[q][0]} to target",
                        ratio=to.ratio.get(q),
                        bound=used.value if used else None,
                    )
                )
            rows.append(row)
        caption = f"Cost to reach a mean return of {plain(target)} on {env.env}"
        return table(name, caption, columns, rows), missing

    def _reached(self, to: ToTarget) -> Cell:
        cell = figure_cell(to.share_reached, Scale(1.0, ""), self.origins, "reached")
        return Cell(f"{to.reached} of {to.runs}", to.share_reached.value, cell.ref, to.runs)

    def _median(self, method: MethodResult, to: ToTarget) -> Cell:
        used = method.used.get("env_steps")
        bound = used.value if used else None
        return figure_cell(to.median_steps, Scale(1.0, "steps"), self.origins, "samples, median", bound=bound)

    def _method(self, name: str) -> Cell:
        drawn = sign(Key(name, "line", self.slots[name]))
        base = ' <span class="base">baseline</span>' if name == self.comparison.baseline else ""
        return Cell(f'<span class="m">{drawn}<span>{text_of(name)}{base}</span></span>', name)

    def budget(self, env: EnvResult, name: str) -> tuple[str, tuple[Quantity, ...]]:
        """Final scores and all that was used, and the quantities that nobody measured."""
        known, missing = _known([m.used for m in env.methods])
        scales = {q: _scale(q, [m.used.get(q) for m in env.methods]) for q in known}
        memory = _scale_of("B", [m.peak_memory for m in env.methods])
        normal = any(m.final_normalized is not None for m in env.methods)
        columns = [
            Column("method", numeric=False),
            Column("seeds"),
            Column("final score", "mean"),
            Column("final score", "IQM"),
            *([Column("normalised")] if normal else []),
            Column("worst run", "return"),
        ]
        columns += [*(Column(QUANTITIES[q][0], scales[q].unit) for q in known), Column("peak memory", memory.unit)]
        rows = []
        for m in env.methods:
            row = [
                self._method(m.method),
                _seeds(m),
                figure_cell(m.final_mean, RETURN, self.origins, "final score, mean"),
                figure_cell(m.final_iqm, RETURN, self.origins, "final score, IQM"),
            ]
            if normal:
                row.append(figure_cell(m.final_normalized, SHARE, self.origins, "normalised", refused="no reference"))
            row.append(figure_cell(m.tolerance, RETURN, self.origins, "worst run"))
            row += [figure_cell(m.used.get(q), scales[q], self.origins, f"{QUANTITIES[q][0]} used") for q in known]
            row.append(figure_cell(m.peak_memory, memory, self.origins, "peak memory"))
            rows.append(row)
        return table(name, f"Scores and use at the end of the budget on {env.env}", columns, rows), missing

    def views(self, env: EnvResult, name: str) -> str:
        """The score of each method at the same amount of samples, FLOPs and money."""
        columns = [Column("method", numeric=False)]
        for view in env.views:
            columns += [
                Column(view_title(view), amount_words(view)),
                Column("difference", "to the baseline"),
                Column("verdict", numeric=False),
            ]
        rows = []
        for method in (m.method for m in env.methods):
            row = [self._method(method)]
            for view in env.views:
                found = next((r for r in view.rows if r.method == method), None)
                if found is None:
                    row += [words("not known"), words(""), words("")]
                    continue
                title = f"score at {view_title(view)}"
                row.append(figure_cell(found.score, RETURN, self.origins, title))
                row.append(
                    figure_cell(found.difference, RETURN, self.origins, f"{title}, difference", refused="–")
                    if found.difference is not None
                    else Cell("–")
                )
                row.append(Cell(f'<span class="v-{found.verdict.split()[0]}">{found.verdict}</span>', found.verdict))
            rows.append(row)
        return table(name, f"Score at the same use of one resource on {env.env}", columns, rows)

    def overall(self, name: str) -> str:
        """Normalised scores over all environments."""
        parts = ("iqm", "mean", "median", "optimality_gap")
        titles = ("IQM", "mean", "median", "optimality gap")
        columns = [
            Column("method", numeric=False),
            *(Column(t) for t in titles),
            Column("better than the baseline", "probability"),
        ]
        rows = []
        for row in self.comparison.overall:
            cells = [
                figure_cell(getattr(row, p), SHARE, self.origins, f"overall {t}")
                for p, t in zip(parts, titles, strict=True)
            ]
            better = (
                Cell("–")
                if row.improvement is None
                else figure_cell(row.improvement, SHARE, self.origins, "probability of improvement")
            )
            rows.append([self._method(row.method), *cells, better])
        return table(name, "Normalised scores over all environments", columns, rows)

    def runs(self, name: str) -> str:
        """One line per run."""
        runs = self.comparison.runs
        common = _common_folder([r.name for r in runs])
        cpu, wall = scale_for("CPU-s", [r.cpu_s for r in runs]), scale_for("s", [r.wall_s for r in runs])
        columns = [
            Column("run", numeric=False),
            Column("method", numeric=False),
            Column("environment", numeric=False),
            Column("seed"),
            Column("outcome", numeric=False),
            Column("final score"),
            Column("samples", "steps"),
            Column("CPU time", cpu.unit),
            Column("wall time", wall.unit),
            Column("why it ended", numeric=False),
        ]
        rows = []
        for r in runs:
            outcome = Cell(
                f'<span class="bad">{text_of(r.outcome)}</span>' if r.outcome != "completed" else r.outcome, r.outcome
            )
            steps = number(None if r.env_steps is None else float(r.env_steps))
            rows.append(
                [
                    words(r.name.removeprefix(common)),
                    words(r.method),
                    words(r.env),
                    Cell(str(r.seed), r.seed),
                    outcome,
                    number(r.final),
                    steps,
                    number(r.cpu_s, cpu),
                    number(r.wall_s, wall),
                    words(r.reason),
                ]
            )
        return table(name, f"Every run{f' in {common}' if common else ''}", columns, rows, " dense")

    def anchors(self, env_results: Sequence[EnvResult], name: str) -> str:
        """Scores from elsewhere."""
        columns = [
            Column("name", numeric=False),
            Column("environment", numeric=False),
            Column("score", "return"),
            Column("samples", "steps"),
            Column("source", numeric=False),
        ]
        rows = []
        for anchor in (a for env in env_results for a in env.anchors):
            low_high = (
                f"<small>[{digits(anchor.interval[0])}, {digits(anchor.interval[1])}]</small>"
                if anchor.interval
                else ""
            )
            steps = Cell("not stated") if anchor.env_steps is None else number(float(anchor.env_steps))
            score = Cell(digits(anchor.score) + low_high, anchor.score)
            rows.append([words(anchor.name), words(anchor.env), score, steps, words(anchor.source)])
        return table(name, "Scores from elsewhere, not measured here, under their own protocols", columns, rows)


def _seeds(method: MethodResult) -> Cell:
    failed = f"<small>{len(method.failed)} incomplete</small>" if method.failed else ""
    return Cell(f"{len(method.seeds)}{failed}", len(method.seeds))


def _common_folder(names: Sequence[str]) -> str:
    """The part of paths that all share, up to a slash."""
    if len(names) < 2 or len({name.startswith("/") for name in names}) > 1:
        return ""
    shared = os.path.commonpath([os.path.dirname(name) for name in names])
    return f"{shared.rstrip('/')}/" if shared else ""


def _known(parts: Sequence[object]) -> tuple[tuple[Quantity, ...], tuple[Quantity, ...]]:
    known: list[Quantity] = []
    for quantity in QUANTITIES:
        figures = [part.get(quantity) for part in parts]  # type: ignore[attr-defined]
        if any(f is not None and f.value is not None for f in figures):
            known.append(quantity)
    return tuple(known), tuple(q for q in QUANTITIES if q not in known)


def _scale(quantity: Quantity, *groups: Sequence[Figure | None]) -> Scale:
    return _scale_of(QUANTITIES[quantity][1], [f for group in groups for f in group])


def _scale_of(unit: str, figures: Sequence[Figure | None]) -> Scale:
    values = [f.value for f in figures if f is not None and f.value is not None and math.isfinite(f.value)]
    return scale_for(unit, values)
