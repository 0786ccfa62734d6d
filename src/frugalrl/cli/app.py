"""``frugal``: reads argv, runs one command, answers with an exit code."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import Any

from frugalrl.cli import errors


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns 0 when done, 1 when the run failed or was interrupted, 2 for wrong usage."""
    words = list(sys.argv[1:] if argv is None else argv)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us (>&-)
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - stays open until the end
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a sign must not end a run
    context = errors.Context(whole_process=argv is None)
    return errors.guarded(lambda: _run(words, context), context)


def _run(words: list[str], context: errors.Context) -> int:
    from frugalrl.cli.parse import parse

    found = parse(words)
    return errors.OK if found is None else _dispatch(found, words, context)


def _dispatch(found: Any, words: list[str], context: errors.Context) -> int:
    from frugalrl.cli import arguments

    if isinstance(found, arguments.Train):
        from frugalrl.cli.train import train

        return train(found, words, context)
    if isinstance(found, arguments.Resume):
        from frugalrl.cli.train import resume

        return resume(found, words, context)
    if isinstance(found, arguments.Compare):
        from frugalrl.cli.compare import compare

        return compare(found, words, context)
    if isinstance(found, arguments.Eval):
        from frugalrl.cli.inspect import evaluate

        return evaluate(found, context)
    if isinstance(found, arguments.Watch):
        from frugalrl.cli.take_out import watch

        return watch(found)
    if isinstance(found, arguments.Export):
        from frugalrl.cli.take_out import export

        return export(found)
    if isinstance(found, arguments.BillOf):
        from frugalrl.cli.inspect import bill

        return bill(found)
    if isinstance(found, arguments.Reprice):
        from frugalrl.cli.reprice import reprice

        return reprice(found, words)
    if isinstance(found, arguments.Report):
        from frugalrl.cli.report import report

        return report(found, words)
    if isinstance(found, arguments.MismatchOf):
        from frugalrl.cli.mismatch import mismatch

        return mismatch(found)
    if isinstance(found, arguments.List):
        from frugalrl.cli.listing import show_list

        return show_list(found)
    if isinstance(found, arguments.Reproduce):
        from frugalrl.cli.reproduce import reproduce

        return reproduce(found)
    from frugalrl.cli.doctor import doctor

    return doctor(found)
