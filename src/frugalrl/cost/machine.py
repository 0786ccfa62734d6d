"""What this machine is, and which machine profile and price stand for it."""

from __future__ import annotations

import functools
import os
import platform
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from math import log
from pathlib import Path

from frugalrl.cost.tables import MachineProfile, Price, Tables

_VERSIONS = ("frugalrl", "torch", "numpy", "gymnasium", "ale-py")


@dataclass(frozen=True, kw_only=True, slots=True)
class MachineFacts:
    """What was found on this machine."""

    cpu: str
    cores: int
    """Cores this process may use: the affinity mask and the container's quota are respected."""
    memory_bytes: int | None
    gpus: tuple[str, ...]
    virtual: bool | None
    """A hypervisor is present; ``None`` when it cannot be told."""
    battery: bool
    os: str
    python: str
    versions: Mapping[str, str] = field(default_factory=dict)
    """Installed packages that matter, by name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """Facts, and the profile and price that were chosen for them."""

    facts: MachineFacts
    profile: MachineProfile
    price: Price | None
    chosen_because: str


def detect_machine(tables: Tables, name: str | None = None) -> Machine:
    """Facts of this machine and the profile that stands for it.

    Rule, first match wins: the name the user gave; a profile one of whose ``gpu_names`` is in the name of a GPU
    found here, of several the one whose number of GPUs is nearest; with a GPU, ``workstation-1gpu``; with a battery,
    ``laptop-4c``; under a hypervisor, the ``cloud-`` profile without a GPU whose number of cores is nearest in ratio;
    else ``generic``.
    Raises :class:`frugalrl.types.UserError` when ``name`` is unknown.
    """
    facts = find_facts()
    if name is not None:
        return _with(facts, tables.machine(name), tables, "named by the user")
    profile, why = _match(facts, tables)
    return _with(facts, profile, tables, why)


def _with(facts: MachineFacts, profile: MachineProfile, tables: Tables, why: str) -> Machine:
    return Machine(facts=facts, profile=profile, price=tables.price(profile.name), chosen_because=why)


def _match(facts: MachineFacts, tables: Tables) -> tuple[MachineProfile, str]:
    for gpu in facts.gpus:
        named = [m for m in tables.machines.values() if any(word.lower() in gpu.lower() for word in m.gpu_names)]
        if named:
            profile = min(named, key=lambda m: abs(m.gpus - len(facts.gpus)))
            why = f"the GPU is a {gpu}"
            if profile.gpus != len(facts.gpus):
                why += f"; {len(facts.gpus)} GPUs here, {profile.gpus} in the profile with its watts and prices"
            return profile, why
    if facts.gpus:
        return tables.machines["workstation-1gpu"], f"there is a GPU ({facts.gpus[0]}) without a profile of its own"
    if facts.battery:
        return tables.machines["laptop-4c"], "there is a battery"
    if facts.virtual:
        cloud = [m for m in tables.machines.values() if m.name.startswith("cloud-") and not m.gpus]
        nearest = min(cloud, key=lambda m: abs(log(m.cores / facts.cores)))
        return nearest, f"a virtual machine with {facts.cores} cores"
    return tables.machines["generic"], "no battery, no GPU and no hypervisor was found"


def find_facts() -> MachineFacts:
    """What this machine is; imports neither torch nor a GPU library unless they are loaded or installed."""
    return MachineFacts(
        cpu=_cpu_model(),
        cores=usable_cores(),
        memory_bytes=_memory_bytes(),
        gpus=_gpu_names(),
        virtual=_is_virtual(),
        battery=_has_battery(),
        os=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        versions={name: found for name in _VERSIONS if (found := _version(name)) is not None},
    )


def usable_cores() -> int:
    """Cores this process may use: the affinity mask, cut by the container's CPU quota, at least 1."""
    cores = os.cpu_count() or 1
    if sys.platform == "linux":
        cores = len(os.sched_getaffinity(0))
        with suppress(OSError, ValueError):
            quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
            if quota != "max":
                cores = min(cores, max(1, round(int(quota) / int(period))))
    return cores


@functools.cache
def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cpuinfo(key: str) -> str | None:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == key:
                return value.strip()
    return None


def _cpu_model() -> str:
    return _cpuinfo("model name") or platform.processor() or platform.machine() or "unknown"


def _is_virtual() -> bool | None:
    flags = _cpuinfo("flags")
    return None if flags is None else "hypervisor" in flags.split()


def _memory_bytes() -> int | None:
    import psutil

    found = int(psutil.virtual_memory().total)
    with suppress(OSError, ValueError):
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        if limit != "max":
            found = min(found, int(limit))
    return found


def _has_battery() -> bool:
    import psutil

    with suppress(Exception):  # psutil raises many kinds of errors on odd sysfs trees; no battery is the safe answer
        return psutil.sensors_battery() is not None
    return False


def _gpu_names() -> tuple[str, ...]:
    from frugalrl.cost.power import nvml_names

    found = nvml_names()
    if found:
        return found
    torch = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)
    if cuda is None or not cuda.is_available():
        return ()
    return tuple(str(cuda.get_device_name(i)) for i in range(cuda.device_count()))
