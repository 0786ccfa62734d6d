"""``frugal mismatch``: how far a sampler is from its learner, and what is probably wrong."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from frugalrl.cli import arguments
from frugalrl.cli.errors import FAILED, OK
from frugalrl.cli.output import console_for

if TYPE_CHECKING:
    from rich.console import Console

    from frugalrl.report.mismatch import MismatchReport


def mismatch(args: arguments.MismatchOf) -> int:
    """Print the report. Returns 1 with ``--strict`` when there is a warning. Raises UserError."""
    from frugalrl.report.mismatch import report_of

    found = report_of(args.place, args.correction)
    if args.json:
        from frugalrl.cli.words import one_line

        print(one_line({**asdict(found), "metrics": dict(found.metrics)}))
    else:
        show(found, console_for(sys.stdout))
    return FAILED if args.strict and found.findings else OK


def show(report: MismatchReport, console: Console) -> None:
    """A table of what is known, the warnings, and the sentence."""
    from rich.table import Table

    from frugalrl.cli.words import short
    from frugalrl.math.importance.diagnostics import PREFIX
    from frugalrl.report.mismatch import ROWS

    title = f"{report.source}: {report.about}, correction {report.correction}"
    console.print(title, highlight=False, markup=False, soft_wrap=True)
    table = Table()
    table.add_column("pi is the learner, mu the sampler")
    table.add_column("value", justify="right")
    table.add_column("healthy")
    for name, meaning, healthy in ROWS:
        value = report.metrics.get(PREFIX + name)
        if value is not None and value == value:
            table.add_row(meaning, short(value), healthy)
    console.print(table, highlight=False)
    texts = [f"warning: {finding}" for finding in report.findings]
    for text in (*texts, report.summary):
        console.print(text, highlight=False, markup=False, soft_wrap=True)
