"""Importance correction of a sampler that differs from the learner, on numpy arrays or torch tensors."""

from __future__ import annotations

from frugalrl.math.importance.correction import NAMES, Correction
from frugalrl.math.importance.weights import Corrected, apply, correct

__all__ = ["NAMES", "Corrected", "Correction", "apply", "correct"]
