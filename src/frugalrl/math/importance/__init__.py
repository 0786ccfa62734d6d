"""Importance correction of a sampler that differs from the learner, on numpy arrays or torch tensors."""

from __future__ import annotations

from frugalrl.math.importance.correction import NAMES, Correction
from frugalrl.math.importance.diagnostics import Mismatch, measure
from frugalrl.math.importance.findings import Finding, find
from frugalrl.math.importance.rejection import Rejection
from frugalrl.math.importance.weights import Corrected, apply, correct

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
