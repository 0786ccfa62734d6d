"""The tables as CSV, one line per number, with its interval, how it was obtained and from what.

A number that is not known is an empty field, one without end is ``inf``.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from frugalrl.report.cells import one_sided
from frugalrl.report.records import RunRecord
from frugalrl.report.results import Comparison, EnvResult, Figure

FIGURE = ("value", "low", "high", "unit", "how", "runs", "source")


def as_csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Rows as CSV text; floats with all their digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([["" if v is None else v for v in row] for row in rows])
    return text.getvalue()


def tables_as_csv(comparison: Comparison, records: Sequence[RunRecord]) -> dict[str, str]:
    """File name, without its ending, and text of each table that has rows."""
    where = ("env", "method")
    found: dict[str, tuple[tuple[str, ...], list[Sequence[Any]]]] = {
        "table-targets": ((*where, "target", "name", *FIGURE), list(_each(comparison, _targets))),
        "table-ratios": ((*where, "target", "name", *FIGURE), list(_each(comparison, _ratios))),
        "table-levers": (
            ("env", "target", "levers", "quantity", "cost", *FIGURE), list(_each(comparison, _levers)),
        ),
        "table-budget": ((*where, "name", *FIGURE), list(_each(comparison, _budget))),
        "table-views": ((*where, "equal", "amount", "verdict", "name", *FIGURE), list(_each(comparison, _views))),
        "table-overall": (("method", "name", *FIGURE), list(_overall(comparison))),
        "table-runs": (
            ("run", "method", "env", "seed", "outcome", "final", "env_steps", "cpu_s", "wall_s", "reason"),
            [(r.name, r.method, r.env, r.seed, r.outcome, r.final, r.env_steps, r.cpu_s, r.wall_s, r.reason)
             for r in comparison.runs],
        ),
        "table-evaluations": (
            ("run", "method", "env", "seed", "env_steps", "updates", "frames", "mean_return", "low", "high", "episodes",
             "cpu_s", "wall_s", "flop"),
            list(_evaluations(records)),
        ),
        "table-anchors": (
            ("name", "env", "score", "low", "high", "env_steps", "source"),
            [(a.name, a.env, a.score, *(a.interval or (None, None)), a.env_steps, a.source)
             for env in comparison.envs for a in env.anchors],
        ),
    }  # fmt: skip
    return {name: as_csv(header, rows) for name, (header, rows) in found.items() if rows}


def _each(comparison: Comparison, rows_of: Any) -> Iterator[Sequence[Any]]:
    for env in comparison.envs:
        for row in rows_of(env):
            yield (env.env, *row)


def _figure(figure: Figure | None) -> tuple[Any, ...]:
    if figure is None:
        return (None,) * len(FIGURE)
    low_high = figure.interval or (None, None)
    return (figure.value, *low_high, figure.unit, figure.how, figure.n, figure.source)


def _targets(env: EnvResult) -> Iterator[Sequence[Any]]:
    for m in env.methods:
        for t in m.targets:
            yield (m.method, t.target, "share_reached", *_figure(t.share_reached))
            yield (m.method, t.target, "median_env_steps", *_figure(t.median_steps))
            for quantity, figure in t.expected.items():
                yield (m.method, t.target, f"expected_{quantity}", *_figure(figure))


def _ratios(env: EnvResult) -> Iterator[Sequence[Any]]:
    for m in env.methods:
        for t in m.targets:
            for quantity, figure in t.ratio.items():
                sided = one_sided(figure, t.expected[quantity])
                if sided is not None:  # 0 and infinity are no amounts: only the bounds are known
                    source = f"{sided[0]}; {figure.source}"
                    figure = replace(figure, value=None, source=source)
                yield (m.method, t.target, quantity, *_figure(figure))


def _levers(env: EnvResult) -> Iterator[Sequence[Any]]:
    if env.levers is None:
        return
    for target in env.levers.targets:
        for e in target.effects:
            where = (target.target, " x ".join(e.levers), e.quantity)
            yield (*where, "expected", *_figure(e.effect))
            yield (*where, "restricted", *_figure(e.restricted))
    for e in env.levers.score:
        yield (None, " x ".join(e.levers), e.quantity, None, *_figure(e.effect))


def _budget(env: EnvResult) -> Iterator[Sequence[Any]]:
    for m in env.methods:
        for name in ("final_mean", "final_iqm", "final_normalized", "tolerance", "peak_memory"):
            yield (m.method, name, *_figure(getattr(m, name)))
        for quantity, figure in m.used.items():
            yield (m.method, quantity, *_figure(figure))


def _views(env: EnvResult) -> Iterator[Sequence[Any]]:
    for view in env.views:
        for row in view.rows:
            where = (row.method, view.axis, view.amount, row.verdict)
            yield (*where, "score", *_figure(row.score))
            if row.difference is not None:
                yield (*where, "difference", *_figure(row.difference))


def _overall(comparison: Comparison) -> Iterator[Sequence[Any]]:
    for row in comparison.overall:
        for name in ("iqm", "mean", "median", "optimality_gap", "improvement"):
            figure = getattr(row, name)
            if figure is not None:
                yield (row.method, name, *_figure(figure))


def _evaluations(records: Sequence[RunRecord]) -> Iterator[Sequence[Any]]:
    for r in records:
        for p in r.points:
            yield (r.name, r.method, r.env, r.seed, p.env_steps, p.updates, p.frames, p.mean_return,
                   *(p.interval or (None, None)), p.episodes, p.cpu_s, p.wall_s, p.flop())  # fmt: skip
