"""Importance correction for any framework: ``from frugalrl.importance import correct``. numpy in, numpy out."""

from __future__ import annotations

from frugalrl.math.importance import NAMES, Corrected, Correction, apply, correct

__all__ = ["NAMES", "Corrected", "Correction", "apply", "correct"]
