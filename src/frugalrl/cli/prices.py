"""The user's price file: the one that is named now, else the one that the runs began with."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from frugalrl.cli import environment


def prices_of_runs(option: Path | None, begun_with: Iterable[Path | None], made: str) -> Path | None:
    """The option or the environment variable, else what the runs name in their machine.json, if that is one file.

    Args:
        begun_with: Of each run; None for one that began without.
        made: What is made with these prices, for the note where the file is gone or the runs do not agree.
    """
    named = environment.price_file(option)
    files = list(dict.fromkeys(begun_with))
    if named is not None or not any(files):
        return named
    rest = f"{made} is made with the package's prices, unless --prices names another"
    if len(files) > 1:
        each = ", ".join("none" if file is None else str(file) for file in files)
        print(f"note: the runs began with different price files ({each}): {rest}", file=sys.stderr)
        return None
    if files[0] is not None and not files[0].is_file():
        whose = "the run" if made == WHOLE_BILL else "the runs"
        print(f"note: {whose} began with the price file {files[0]}, which is gone: {rest}", file=sys.stderr)
        return None
    return files[0]


WHOLE_BILL, COMPARISON = "the whole bill", "this comparison"
