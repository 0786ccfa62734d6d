"""Folders that a command names itself, where the user gave none."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from frugalrl.types import UserError


def claim(first: Path, what: str) -> Path:
    """Makes the folder ``first``, or ``first-2`` and so on: a name that was still free.

    It is made at once: commands that are started together must not meet in one folder. ``what``: it is the folder of.
    Raises UserError when it cannot be made.
    """
    path, number = first, 1
    while True:
        try:
            path.mkdir(parents=True)
            return path
        except OSError as error:
            if not os.path.lexists(path):
                raise UserError(
                    f"the {what} folder {path} cannot be made ({error.strerror}); choose another --out"
                ) from None
            number += 1
            path = first.with_name(f"{first.name}-{number}")


def drop_empty(path: Path) -> None:
    """Remove a claimed folder, and the one it is in, where nothing was put into them."""
    with suppress(OSError):
        path.rmdir()
        path.parent.rmdir()
