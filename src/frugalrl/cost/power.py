"""Joules: counters where the machine has them, else a model that says so.

NVML's total-energy counter (Volta and newer, millijoules, refreshed every 20 to 100 ms) and the RAPL counters of
the processor packages in sysfs (microjoules, often readable by root only, absent in virtual machines). Both count
the whole device, whoever used it. On A100 and H100 the power sensor sees only about a quarter of the time (Yang et
al., SC24, arXiv 2312.02741), so short windows are uncertain.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from frugalrl.cost.tables import MachineProfile
from frugalrl.types import How

POWERCAP = Path("/sys/class/powercap")


@contextmanager
def _nvml() -> Iterator[Any]:
    """The NVML module, initialised; ``None`` without nvidia-ml-py, a driver or a GPU."""
    try:
        import pynvml
    except ImportError:
        yield None
        return
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield None
        return
    try:
        yield pynvml
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def nvml_names() -> tuple[str, ...]:
    """Names of the GPUs that NVML sees."""
    with _nvml() as nvml:
        if nvml is None:
            return ()
        with suppress(nvml.NVMLError):
            handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
            names = [nvml.nvmlDeviceGetName(h) for h in handles]
            return tuple(n.decode() if isinstance(n, bytes) else str(n) for n in names)
        return ()


def nvml_joules() -> tuple[float, ...] | None:
    """Total joules of each GPU since its driver was loaded; ``None`` if one of them cannot be read."""
    with _nvml() as nvml:
        if nvml is None:
            return None
        try:
            count = nvml.nvmlDeviceGetCount()
            handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(count)]
            return tuple(nvml.nvmlDeviceGetTotalEnergyConsumption(h) / 1e3 for h in handles) or None
        except nvml.NVMLError:
            return None


@dataclass(frozen=True, slots=True)
class RaplDomain:
    """One processor package."""

    name: str
    path: Path
    max_uj: int
    """The counter starts again at 0 after this value."""


def rapl_domains(root: Path = POWERCAP) -> tuple[RaplDomain, ...]:
    """Processor packages whose counter can be read; sub-domains (cores, DRAM) are part of their package."""
    domains = []
    for path in sorted(root.glob("intel-rapl:*")):
        if path.name.count(":") != 1:
            continue
        with suppress(OSError, ValueError):
            int((path / "energy_uj").read_text(encoding="ascii"))
            name = (path / "name").read_text(encoding="ascii").strip()
            if name.startswith("package"):
                limit = int((path / "max_energy_range_uj").read_text(encoding="ascii"))
                domains.append(RaplDomain(name, path / "energy_uj", limit))
    return tuple(domains)


def rapl_state(root: Path = POWERCAP) -> str:
    """In words: whether the processor's joules can be measured here."""
    if not root.is_dir():
        return "no RAPL on this machine (usual in a virtual machine)"
    if rapl_domains(root):
        return "RAPL can be read"
    if any(root.glob("intel-rapl:*")):
        return "RAPL exists and may be read by root only"
    return "no RAPL counter in sysfs"


class EnergyCounters:
    """Joules since this object was made, for :class:`frugalrl.cost.ledger.Ledger`.

    A RAPL counter wraps round after minutes to hours of load, so ``joules`` must be called more often than that;
    each ``settle`` of the ledger does, at every status. ``gpus`` picks the devices of the run; ``None`` means all that
    exist.
    """

    def __init__(self, *, gpus: tuple[int, ...] | None = None, root: Path = POWERCAP) -> None:
        self._domains = rapl_domains(root)
        self._marks = {d.path: _read_uj(d.path) for d in self._domains}
        self._cpu_uj = 0
        self._gpus = gpus
        self._gpu_0 = self._gpu_now()

    def joules(self) -> tuple[float | None, float | None]:
        """(processor, GPU) joules so far; ``None`` where there is no counter."""
        cpu = self._cpu_now()
        gpu = self._gpu_now()
        return cpu, None if gpu is None or self._gpu_0 is None else gpu - self._gpu_0

    def _gpu_now(self) -> float | None:
        now = nvml_joules()
        if now is None:
            return None
        chosen = range(len(now)) if self._gpus is None else self._gpus
        return sum(now[i] for i in chosen if i < len(now))

    def _cpu_now(self) -> float | None:
        if not self._domains:
            return None
        for domain in self._domains:
            before, now = self._marks[domain.path], _read_uj(domain.path)
            if before is None or now is None:
                return None
            self._cpu_uj += now - before if now >= before else now - before + domain.max_uj
            self._marks[domain.path] = now
        return self._cpu_uj / 1e6


def _read_uj(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


@dataclass(frozen=True, kw_only=True, slots=True)
class Joules:
    """A figure in joules, how it was obtained and from what."""

    value: float | None
    how: How
    source: str


def cpu_joules(measured: float | None, cpu_s: float, profile: MachineProfile) -> Joules:
    """Processor: the counter's figure, else CPU-seconds x watts of a busy core."""
    if measured is not None:
        return Joules(value=measured, how="measured", source="RAPL package counters, whole processor")
    watts = profile.watts_per_busy_core
    return Joules(
        value=cpu_s * watts,
        how="modelled",
        source=f"{cpu_s:.4g} CPU-s x {watts:g} W per busy core ({profile.name}: {profile.how}, {profile.source})",
    )


def gpu_joules(
    measured: float | None, gpu_s: float | None, wall_s: float, profile: MachineProfile, *, has_gpu: bool
) -> Joules:
    """GPUs: the counter's figure; 0 without a GPU; else busy and idle seconds x watts, if busy seconds are known."""
    if measured is not None:
        return Joules(value=measured, how="measured", source="NVML total energy, whole device")
    if not has_gpu:
        return Joules(value=0.0, how="counted", source="no GPU")
    if gpu_s is None:
        return Joules(value=None, how="modelled", source="busy seconds of the GPU were not measured")
    idle_s = max(0.0, wall_s * max(profile.gpus, 1) - gpu_s)
    return Joules(
        value=gpu_s * profile.gpu_busy_watts + idle_s * profile.gpu_idle_watts,
        how="modelled",
        source=(
            f"{gpu_s:.4g} s busy x {profile.gpu_busy_watts:g} W + {idle_s:.4g} s idle x {profile.gpu_idle_watts:g} W "
            f"({profile.name}: {profile.how}, {profile.source})"
        ),
    )


def idle_joules(wall_s: float, profile: MachineProfile, *, cores_counted: bool = False) -> Joules:
    """The machine when nothing runs (board, memory, disks, supply, idle cores): wall seconds x watts.

    ``cores_counted``: a counter has the idle cores already, which no profile tells apart; the source then says so.
    """
    twice = "; an upper bound: the idle processor is in RAPL's figure as well" if cores_counted else ""
    return Joules(
        value=wall_s * profile.idle_watts,
        how="modelled",
        source=f"{wall_s:.4g} s x {profile.idle_watts:g} W{twice} ({profile.name}: {profile.how}, {profile.source})",
    )
