"""Importance correction for any framework: ``from frugalrl.importance import correct``. numpy in, numpy out."""

from __future__ import annotations

from frugalrl.math.importance import (
    NAMES,
    Corrected,
    Correction,
    Finding,
    Mismatch,
    Rejection,
    apply,
    correct,
    find,
    measure,
)  # fmt: skip

__all__ = [
    "NAMES",
    "Corrected",
    "Correction",
    "Finding",
    "Mismatch",
    "Rejection",
    "apply",
    "correct",
    "find",
    "measure",
]
