"""How many threads, and how they wait."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class ThreadPlan:
    """Threads of a serial run, and why."""

    torch_threads: int
    """For ``torch.set_num_threads``."""
    interop: int
    """For ``torch.set_num_interop_threads``."""
    env_threads: int
    """For the thread pool of a native vector environment."""
    omp_wait_policy: str
    reasons: tuple[str, ...]


def choose_threads(cores: int, *, num_rows: int = 1) -> ThreadPlan:
    """Threads for a machine with ``cores`` usable cores and ``num_rows`` environment rows.

    One torch thread: the batches of the recipes are too small to win from more, and pool threads that wait
    actively collapse when another process wants the core (2.7 to 25 times slower with the default of two threads
    in the measurements behind this rule). Wall time of many rows falls with environment threads; CPU-seconds do not.
    """
    if cores < 1 or num_rows < 1:
        raise ValueError(f"cores and num_rows must be at least 1, not {cores} and {num_rows}")
    env_threads = min(cores, num_rows)
    return ThreadPlan(
        torch_threads=1,
        interop=1,
        env_threads=env_threads,
        omp_wait_policy="passive",
        reasons=(
            "1 torch thread: small batches gain little from more",
            "passive waiting: OpenMP threads that spin make a run 2.7 to 25 times slower beside a busy process",
            f"{env_threads} environment thread{'s' if env_threads > 1 else ''}: "
            f"{num_rows} row{'s' if num_rows > 1 else ''} on {cores} core{'s' if cores > 1 else ''}",
        ),
    )


def openmp_environment(plan: ThreadPlan | None = None) -> dict[str, str]:
    """Environment variables that must be set before torch or numpy is loaded; the user's own settings go first.

    Passive waiting for GNU and LLVM/Intel OpenMP, the number of OpenMP threads, and one OpenBLAS thread for numpy,
    whose pool would otherwise stand idle.
    """
    threads = 1 if plan is None else plan.torch_threads
    return {
        "OMP_WAIT_POLICY": "passive" if plan is None else plan.omp_wait_policy,
        "KMP_BLOCKTIME": "0",
        "OMP_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": "1",
    }


def openmp_trap(environment: Mapping[str, str], torch_threads: int) -> str | None:
    """One sentence when these settings run into active waiting; ``None`` when they are safe."""
    if torch_threads <= 1 or environment.get("OMP_WAIT_POLICY", "").lower() == "passive":
        return None
    return (
        f"torch uses {torch_threads} threads that wait actively; set OMP_WAIT_POLICY=passive before torch is loaded, "
        "or use one thread"
    )
