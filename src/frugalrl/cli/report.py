"""``frugal report``: the comparison of runs that are there, as one HTML file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from frugalrl.cli import arguments, environment
from frugalrl.cli.errors import OK
from frugalrl.cli.found import find
from frugalrl.cli.output import console_for

SEED = 0
"""Of the bootstrap, so that the same runs make the same report."""


def report(args: arguments.Report, words: Sequence[str]) -> int:
    """Compare the runs and write the report. Raises UserError."""
    environment.prepare()
    import numpy as np

    from frugalrl.cli.prices import COMPARISON, prices_of_runs
    from frugalrl.cost.tables import load_tables
    from frugalrl.report.anchors import read_anchors
    from frugalrl.report.comparison import compare
    from frugalrl.report.comparison_io import one_line
    from frugalrl.report.write import write_report

    found = find("report", args.runs)
    rng = np.random.default_rng(SEED)
    comparison = compare(
        found.records,
        baseline=args.baseline or found.baseline,
        targets={r.env: args.target for r in found.records} if args.target else found.targets or None,
        tables=load_tables(prices_of_runs(args.prices, [r.price_file for r in found.records if r.machine], COMPARISON)),
        rng=rng,
        anchors=() if args.against is None else read_anchors(args.against, rng=rng),
        command=("frugal", *words),
    )
    out = args.out or (args.runs[0] if len(args.runs) == 1 else Path()) / "report.html"
    write_report(comparison, found.records, out)
    if args.json:
        print(one_line(comparison))
    console = console_for(sys.stderr if args.json else sys.stdout)
    texts = [*comparison.sentences, *(f"note: {note}" for note in comparison.notes)]
    for text in (*texts, "", f"report  {out}", f"files   {out.parent / 'figures'}"):
        console.print(text, highlight=False, markup=False, soft_wrap=True)
    return OK
