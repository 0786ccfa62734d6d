"""``frugal compare``: a matrix of runs, then one table and one report."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from frugalrl.cli import arguments, environment
from frugalrl.cli.errors import FAILED, OK, Context
from frugalrl.cli.folders import claim, drop_empty
from frugalrl.types import UserError

if TYPE_CHECKING:
    from frugalrl.cost.tables import Tables
    from frugalrl.report.results import Anchor, Comparison
    from frugalrl.study.folder import StudyFolder
    from frugalrl.study.matrix import Study
    from frugalrl.study.runner import Listener

DEFAULT_ENV = "CartPole-v1"
DEFAULT_METHODS = ("epsilon-greedy", "counteractive", "counteractive-mixed")
DEFAULT_SEEDS, DEFAULT_STEPS, DEFAULT_EVALUATIONS = 10, 30_000, 10


def compare(args: arguments.Compare, words: Sequence[str], context: Context) -> int:
    """Run what is missing of the matrix, print the table, write the report. Raises UserError."""
    environment.prepare(1)
    from frugalrl.cost.machine import usable_cores
    from frugalrl.study.conclude import conclude
    from frugalrl.study.jobs import at_a_time, jobs_of
    from frugalrl.study.runner import Runner

    began = time.monotonic()
    command = ["frugal", *words]
    if args.retry_failed and not args.resume:
        raise UserError("--retry-failed runs again what failed in a study that is there; add --resume, or leave it out")
    prices, tables, anchors = _read_files(args)  # before hours of runs, not after them
    folder = _folder(args, command, tables)
    path = context.folder = folder.path
    lock = folder.lock()
    try:
        processes = args.processes or at_a_time(folder.cells, usable_cores())
        jobs = jobs_of(
            folder.to_do(retry_failed=args.retry_failed),
            processes=processes,
            stack=not args.no_stack,
            begun=folder.begun,
        )
        listener = _listener(args, folder)
        runner = Runner(
            folder,
            jobs,
            listener,
            processes=processes,
            environment=environment.seen(),
            prices=prices,
            command=command,
        )
        whole = runner.run()
    finally:
        lock.close()
    if not whole:
        with suppress(OSError):  # a terminal that is gone
            print(f"frugal: interrupted; go on with: frugal compare --out {quote(str(path))} --resume", file=sys.stderr)
        return FAILED
    comparison, report = conclude(folder, tables, command=command, anchors=anchors)
    return _show(args, folder, comparison, report, took_s=time.monotonic() - began)


def _folder(args: arguments.Compare, command: Sequence[str], tables: Tables) -> StudyFolder:
    """The folder of a new study, or of one to go on with; of one that cannot begin nothing is left."""
    from frugalrl.study.folder import StudyFolder
    from frugalrl.study.matrix import cells

    path = args.out or _default_folder(args)
    try:
        study = _study(args)
        for cell in () if study is None else cells(study):
            if cell.config.machine is not None:
                tables.machine(cell.config.machine)
        if args.resume:
            return StudyFolder.open(path, study, command)
        return StudyFolder.create(path, study or _from_flags(args), command)
    except BaseException:
        if args.out is None:
            drop_empty(path)
        raise


def _show(args: arguments.Compare, folder: StudyFolder, comparison: Comparison, report: Path, *, took_s: float) -> int:
    from frugalrl.cli.output import console_for
    from frugalrl.cli.words import duration, one_line
    from frugalrl.report.comparison_io import to_json
    from frugalrl.report.table import render

    failed = [f"{c.key}: {f.reason}" for c in folder.cells if (f := folder.failure(c)) is not None]
    for cell in folder.without_score():
        place = folder.path / cell.path
        failed.append(f"{cell.key}: it holds no evaluation; to run it again delete {place} and add --resume")
    if args.json:
        document = {
            "study": str(folder.path),
            "report": str(report),
            "failed": failed,
            "comparison": to_json(comparison),
        }
        print(one_line(document))
    else:
        console = console_for(sys.stdout)
        console.print()
        render(comparison, console)
        console.print()
        for what, value in (
            ("took", duration(took_s)),
            ("report", str(report)),
            ("more", f"frugal compare --out {quote(str(folder.path))} --resume, with more --seeds or --methods"),
        ):
            console.print(f"{what:<7} {value}", highlight=False, markup=False, soft_wrap=True)
    with suppress(OSError):
        for line in failed:
            print(f"frugal: failed: {line}", file=sys.stderr)
    return FAILED if failed else OK


def _read_files(args: arguments.Compare) -> tuple[Path | None, Tables, tuple[Anchor, ...]]:
    """Price file, tables and published scores. Raises UserError for a file that is missing or has a mistake."""
    import numpy as np

    from frugalrl.cli.prices import COMPARISON, prices_of_runs
    from frugalrl.cost.tables import load_tables
    from frugalrl.report.anchors import read_anchors
    from frugalrl.run.record import RunFolder

    begun = (args.out or _default_folder(args)).glob("runs/*/*/*/machine.json") if args.resume else ()
    prices = prices_of_runs(args.prices, [RunFolder(file.parent).price_file() for file in sorted(begun)], COMPARISON)
    anchors = () if args.against is None else read_anchors(args.against, rng=np.random.default_rng(0))
    return prices, load_tables(prices), anchors


# -- the matrix ------------------------------------------------------------------------------------------------------


def _study(args: arguments.Compare) -> Study | None:
    """The study that is asked for; None when only a folder is named to go on with."""
    from frugalrl.study.matrix import refuse_evaluations, refuse_unused_settings
    from frugalrl.study.study_file import read_study

    flags = _flags(args)
    if args.study is not None and flags:
        raise UserError(f"{args.study} says what is compared, so leave out {', '.join(flags)}, or the file")
    if args.study is None and args.resume and not flags:
        return None
    study = _from_flags(args) if args.study is None else read_study(args.study)
    refuse_unused_settings(study)
    if args.evaluations is not None:
        refuse_evaluations(study)
    return study


def _flags(args: arguments.Compare) -> list[str]:
    """Options that say what is compared."""
    given = {
        "--env": args.env,
        "--methods": args.methods,
        "--suite": args.suite,
        "--cheap-sampler": args.cheap_sampler,
        "--baseline": args.baseline,
        "--seeds": args.seeds,
        "--budget-steps": args.budget_steps,
        "--evaluations": args.evaluations,
        "--target": args.target,
        "--set": args.set,
    }
    return [name for name, value in given.items() if value]


def _suite(args: arguments.Compare, name: str) -> Study:
    from frugalrl.study.matrix import seeds_of
    from frugalrl.study.suites import suite_study, suite_words

    for flag, value in (("--methods", args.methods), ("--baseline", args.baseline)):
        if value:
            raise UserError(f"--suite {name} makes methods and baseline, so leave out {flag}, or --suite")
    study = suite_study(
        name,
        envs=args.env,
        cheap=args.cheap_sampler,
        seeds=seeds_of(args.seeds) if args.seeds else None,
        budget_steps=args.budget_steps,
        evaluations=args.evaluations,
        targets=args.target,
        settings=tuple(word for words in args.set for word in words),
    )
    if not args.quiet:
        told = suite_words(name, study, chosen=args.cheap_sampler is not None)
        print(told, file=sys.stderr if args.json else sys.stdout)
    return study


def _from_flags(args: arguments.Compare) -> Study:
    from frugalrl.study.matrix import Study, method_from_word, seeds_of

    if args.suite is not None:
        return _suite(args, args.suite)
    if args.cheap_sampler is not None:
        raise UserError("--cheap-sampler belongs to --suite levers; add that, or leave it out")
    envs = args.env or (DEFAULT_ENV,)
    methods = tuple(method_from_word(word) for word in args.methods or DEFAULT_METHODS)
    by_default = not args.env and args.budget_steps is None
    study = Study(
        envs=envs,
        methods=methods,
        seeds=seeds_of(args.seeds or (DEFAULT_SEEDS,)),
        baseline=args.baseline or methods[0].name,
        budget_steps=DEFAULT_STEPS if by_default else args.budget_steps,
        targets=dict.fromkeys(envs, args.target) if args.target else {},
        set=tuple(word for words in args.set for word in words),
    )
    evaluations = args.evaluations or (DEFAULT_EVALUATIONS if by_default else None)
    return study if evaluations is None else replace(study, evaluations=evaluations)


def _default_folder(args: arguments.Compare) -> Path:
    if args.study is not None:
        return Path("runs") / f"compare-{args.study.stem}"
    if args.resume:
        raise UserError("--resume needs the folder of the study: add --out DIR, or name the study file")
    return claim(Path("runs") / f"compare-{time.strftime('%Y%m%d-%H%M%S')}", "study")


# -- telling ---------------------------------------------------------------------------------------------------------


def _listener(args: arguments.Compare, folder: StudyFolder) -> Listener:
    from frugalrl.cli.compare_screen import Lines, MatrixScreen
    from frugalrl.cli.output import console_for

    stream = sys.stderr if args.json else sys.stdout
    console = console_for(stream)
    if args.quiet:
        return Lines(stream, folder, quiet=True)
    if console.is_terminal and not console.is_dumb_terminal and console.width >= 60:
        return MatrixScreen(console, folder)
    return Lines(stream, folder)
