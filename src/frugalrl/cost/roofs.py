"""Roofs of a machine: how fast one core multiplies and how fast it moves bytes, and its GPU. Measured or tabulated.

Two micro-benchmarks in fp32 on one thread: a matrix product of 1024 x 1024, and the triad ``a = b + s c`` (McCalpin's
STREAM) on arrays far beyond the caches. The best of several repetitions counts: a roof is what the machine can do.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from frugalrl.cost.tables import MachineProfile
from frugalrl.types import How

_SIDE = 1024
_TRIAD_FLOATS = 1 << 24
"""64 MiB per array."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Roofs:
    """Peaks in fp32."""

    gflop_per_s_core: float
    """10^9 FLOP per second of one core, matrix product."""
    gb_per_s: float
    """10^9 bytes per second that one core reads and writes."""
    gpu_gflop_per_s: float | None = None
    """None: no GPU."""
    gpu_gb_per_s: float | None = None
    how: How
    source: str

    def in_words(self) -> str:
        """The figures and how they were obtained."""
        gpu = ""
        if self.gpu_gflop_per_s is not None and self.gpu_gb_per_s is not None:
            gpu = f", GPU {self.gpu_gflop_per_s:.3g} GFLOP/s and {self.gpu_gb_per_s:.3g} GB/s"
        return (
            f"{self.gflop_per_s_core:.3g} GFLOP/s and {self.gb_per_s:.3g} GB/s per core{gpu}, {self.how}, {self.source}"
        )


def tabulated(profile: MachineProfile) -> Roofs | None:
    """The roofs in a machine's profile; None where it has none."""
    if profile.gflop_per_s_core is None or profile.gb_per_s is None:
        return None
    gpu = profile.gpus > 0 and profile.gpu_tflop_per_s is not None
    return Roofs(
        gflop_per_s_core=profile.gflop_per_s_core,
        gb_per_s=profile.gb_per_s,
        gpu_gflop_per_s=1e3 * profile.gpu_tflop_per_s if gpu and profile.gpu_tflop_per_s is not None else None,
        gpu_gb_per_s=profile.gpu_gb_per_s if gpu else None,
        how=profile.how,
        source=f"{profile.date}: {profile.source}",
    )


def measure_roofs(*, budget_s: float = 1.0) -> Roofs:
    """Roofs of one core of this machine, within about ``budget_s`` seconds; its GPU is not measured."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            a, b, c = (torch.ones(_SIDE, _SIDE) for _ in range(3))
            matmul_s = _best_s(lambda: torch.mm(a, b, out=c), budget_s / 2)
            x, y, z = (torch.ones(_TRIAD_FLOATS) for _ in range(3))
            triad_s = _best_s(lambda: torch.add(x, y, alpha=2.0, out=z), budget_s / 2)
    finally:
        torch.set_num_threads(threads)
    return Roofs(
        gflop_per_s_core=2 * _SIDE**3 / matmul_s / 1e9,
        gb_per_s=3 * 4 * _TRIAD_FLOATS / triad_s / 1e9,
        how="measured",
        source="fp32 matrix product and triad on one thread of this machine",
    )


def _best_s(work: Callable[[], object], budget_s: float) -> float:
    """Shortest of at least three repetitions, after one that warms up."""
    work()
    best, spent, count = float("inf"), 0.0, 0
    while count < 3 or spent < budget_s:
        begun = time.perf_counter()
        work()
        took = time.perf_counter() - begun
        best, spent, count = min(best, took), spent + took, count + 1
    return best
