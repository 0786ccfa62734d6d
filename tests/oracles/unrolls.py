"""Unrolls by the definition: one Python list per environment row, cut into windows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def windows(steps: Sequence[Any], *, length: int, overlap: int) -> list[Sequence[Any]]:
    """Windows of ``length + 1`` rows, each beginning ``length - overlap`` rows after the one before."""
    found, start = [], 0
    while start + length + 1 <= len(steps):
        found.append(steps[start : start + length + 1])
        start += length - overlap
    return found
