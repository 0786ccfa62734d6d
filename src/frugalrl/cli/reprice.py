"""``frugal reprice``: what runs would have cost on another machine, or with another simulator."""

from __future__ import annotations

import sys

from frugalrl.cli import arguments, environment
from frugalrl.cli.errors import OK
from frugalrl.cli.found import find
from frugalrl.cli.output import console_for
from frugalrl.types import UserError

_DAY_MS = 86_400_000
SEED = 0
"""Of the bootstrap, so that the same runs print the same intervals."""


def reprice(args: arguments.Reprice, words: list[str]) -> int:
    """Compare modelled runs and print what is known of them. Raises UserError."""
    environment.prepare()
    import numpy as np

    from frugalrl.cli.prices import COMPARISON, prices_of_runs
    from frugalrl.cost.machine import find_facts
    from frugalrl.cost.roofs import measure_roofs
    from frugalrl.cost.tables import load_tables
    from frugalrl.report.check import evaluated
    from frugalrl.report.comparison import compare
    from frugalrl.report.comparison_io import one_line
    from frugalrl.report.table import render

    found = find("reprice", args.runs)
    if args.on is None and args.env_step_ms is None:
        raise UserError("frugal reprice needs --on MACHINE, --env-step-ms X, or both")
    if args.env_step_ms is not None and args.env_step_ms > _DAY_MS:
        raise UserError(
            f"--env-step-ms {args.env_step_ms:g}: that is more than a day for one step; it is in milliseconds"
        )
    tables = load_tables(prices_of_runs(args.prices, [r.price_file for r in found.records if r.machine], COMPARISON))
    machine = None if args.on is None else tables.machine(args.on)
    facts, made_on = find_facts(), evaluated(found.records)[0].machine
    made_here = (facts.cpu, facts.cores) == (made_on.get("cpu"), made_on.get("cores"))
    another = machine is not None and machine.name != made_on.get("profile")
    comparison = compare(
        found.records,
        baseline=args.baseline or found.baseline,
        targets={record.env: args.target for record in found.records} if args.target else found.targets or None,
        tables=tables,
        rng=np.random.default_rng(SEED),
        machine=machine,
        step_ms=args.env_step_ms,
        here=measure_roofs() if made_here and another and not made_on.get("gpus") else None,
        command=("frugal", *words),
    )
    if args.json:
        print(one_line(comparison))
        return OK
    render(comparison, console_for(sys.stdout))
    return OK
