"""``frugal reproduce``: a published claim put to the test."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from frugalrl.cli import arguments, environment
from frugalrl.cli.errors import OK
from frugalrl.cli.folders import claim, drop_empty
from frugalrl.types import UserError

TOPICS = ("chain",)
SEEDS, QUICK_SEEDS = 200, 50
QUICK = {"gamma": (0.9, 0.99), "alpha": (0.3, 0.9), "eps": (0.15,)}


def reproduce(args: arguments.Reproduce) -> int:
    """Run one study. Raises UserError for an unknown topic."""
    if args.topic not in TOPICS:
        from frugalrl.cli.parse import near

        known = near(args.topic, list(TOPICS)) or f"; known: {', '.join(TOPICS)}"
        raise UserError(f"frugal reproduce has no topic {args.topic!r}{known}")
    return _chain(args)


def _chain(args: arguments.Reproduce) -> int:
    environment.prepare()
    from frugalrl.cli.words import duration, one_line
    from frugalrl.cost.machine import usable_cores
    from frugalrl.report.numbers import count
    from frugalrl.study import chain_files, chain_grid
    from frugalrl.study.chain_result import examine
    from frugalrl.study.chain_words import sentences, summary

    began, cpu = time.monotonic(), _cpu_s()
    whole = {"gamma": chain_grid.GAMMAS, "alpha": chain_grid.ALPHAS, "eps": chain_grid.EPSILONS}
    usual = QUICK if args.quick else whole
    settings = chain_grid.settings_of(
        args.gamma or usual["gamma"], args.alpha or usual["alpha"], args.eps or usual["eps"]
    )
    seeds = args.seeds or (QUICK_SEEDS if args.quick else SEEDS)
    processes = args.processes or usable_cores()
    folder = args.out if args.out is not None else free_folder(time.localtime())
    out = sys.stderr if args.json else sys.stdout
    header = (
        f"chain of ten states | {count(len(settings), 'setting')} | {len(chain_grid.METHODS)} methods | "
        f"{count(seeds, 'seed')} | {chain_grid.ITERATIONS} iterations | "
        f"{processes} process{'' if processes == 1 else 'es'} | folder {folder}"
    )
    try:
        with chain_files.claimed(folder, overwrite=args.overwrite):
            print(header, file=out, flush=True)
            results = chain_grid.run_grid(settings, seeds, processes=processes, on_batch=_tell)
            study = examine(results)
            document = chain_files.write(folder, results, study)
    finally:
        if args.out is None:
            drop_empty(folder)
    wall_s, cpu_s = time.monotonic() - began, None if cpu is None else (_cpu_s() or 0.0) - cpu
    used = "CPU time not measured" if cpu_s is None else f"{cpu_s:.0f} CPU-seconds"
    print("", *sentences(study), "", *summary(study), "", sep="\n", file=out)
    print(f"done in {duration(wall_s)}, {used}; figure, tables and sentences: {folder}", file=out, flush=True)
    if args.json:
        print(one_line({**document, "folder": str(folder), "wall_s": wall_s, "cpu_s": cpu_s}))
    return OK


def free_folder(now: time.struct_time) -> Path:
    """Makes ``runs/chain-DATE-TIME``, a name that was still free. Raises UserError."""
    return claim(Path("runs") / f"chain-{time.strftime('%Y%m%d-%H%M%S', now)}", "study")


def _cpu_s() -> float | None:
    """CPU-seconds of this process and of its children that ended; None where the system does not tell."""
    if os.name != "posix":
        return None
    times: Any = os.times()
    return float(times.user + times.system + times.children_user + times.children_system)


def _tell(done: int, total: int) -> None:
    """One line that is written over, on a terminal only."""
    if sys.stderr.isatty():
        text = "" if done == total else f"{done} of {total} batches"
        print(f"{text:<30}", end="\r", file=sys.stderr, flush=True)
