"""Facts for ``frugal doctor``: what can be measured on this machine, and what will be modelled."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frugalrl.cost.machine import Machine, detect_machine
from frugalrl.cost.meters import per_thread_clocks_work
from frugalrl.cost.power import nvml_joules, nvml_names, rapl_domains, rapl_state
from frugalrl.cost.tables import Tables
from frugalrl.cost.threads import choose_threads, openmp_environment, openmp_trap

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One fact."""

    topic: str
    name: str
    ok: bool | None
    """Whether it is as good as it can be; ``None`` when it is neither good nor bad."""
    value: str
    note: str = ""


OPTIONAL: tuple[tuple[str, str, str], ...] = (
    ("ale_py", "atari", "Atari games"),
    ("minatar", "minatar", "MinAtar games"),
    ("pynvml", "gpu", "joules of NVIDIA GPUs"),
    ("onnxruntime", "onnx", "ONNX Runtime as a sampler, exported policies"),
    ("imageio_ffmpeg", "video", "videos as .mp4, where no ffmpeg is on the path"),
    ("tensorboard", "tensorboard", "curves for TensorBoard"),
    ("transformers", "lm", "language models"),
    ("trl", "trl", "the hook for TRL"),
    ("pytest", "dev", "the tests"),
)
"""(module, extra that installs it, what it is for)"""


def examine(tables: Tables, *, environment: Mapping[str, str], machine_name: str | None = None) -> tuple[Finding, ...]:
    """All findings. ``environment``: the process's environment variables, which only the command line reads."""
    machine = detect_machine(tables, machine_name)
    return (
        *_machine_findings(machine),
        *_meter_findings(machine),
        *_thread_findings(machine.facts.cores, environment),
        *_price_findings(machine, tables),
        *_package_findings(),
    )


def findings_to_json(findings: tuple[Finding, ...]) -> dict[str, Any]:
    """For ``frugal doctor --json``."""
    return {"schema": "frugalrl.doctor/1", "findings": [asdict(finding) for finding in findings]}


def render_doctor(findings: tuple[Finding, ...], console: Console) -> None:
    """Prints the findings, one table per topic."""
    from frugalrl.cost.show import render_findings

    marks = {True: "yes: ", False: "no: ", None: ""}
    render_findings(((f.topic, f.name, marks[f.ok] + f.value, f.note) for f in findings), console)


def _machine_findings(machine: Machine) -> list[Finding]:
    facts = machine.facts
    memory = "unknown" if facts.memory_bytes is None else f"{facts.memory_bytes / 1e9:.1f} GB"
    listed = [
        ("processor", f"{facts.cpu}, {facts.cores} usable core{'s' if facts.cores > 1 else ''}"),
        ("memory", memory),
        ("GPU", ", ".join(facts.gpus) or "none found"),
        ("system", f"{facts.os}, Python {facts.python}"),
        ("packages", ", ".join(f"{name} {version}" for name, version in facts.versions.items()) or "none"),
    ]
    found = [Finding(topic="Machine", name=name, ok=None, value=value) for name, value in listed]
    profile = f"{machine.profile.name}, because {machine.chosen_because}"
    note = "name another one with --machine"
    return [*found, Finding(topic="Machine", name="profile", ok=None, value=profile, note=note)]


def _meter_findings(machine: Machine) -> list[Finding]:
    clocks = per_thread_clocks_work()
    rapl, nvml = bool(rapl_domains()), nvml_joules() is not None
    model = f"{machine.profile.watts_per_busy_core:g} W per busy core"
    no_gpu = not machine.facts.gpus and not nvml_names()
    counters = _perf_works()
    return [
        Finding(
            topic="What is measured",
            name="CPU-s per thread",
            ok=clocks,
            value="measured" if clocks else "not measured",
            note="" if clocks else "native threads fall into unassigned on this system",
        ),
        Finding(
            topic="What is measured",
            name="processor joules",
            ok=rapl,
            value="measured" if rapl else "modelled",
            note=rapl_state() + ("" if rapl else f"; CPU-seconds x {model}"),
        ),
        Finding(
            topic="What is measured",
            name="GPU joules",
            ok=None if no_gpu else nvml,
            value="no GPU" if no_gpu else "measured" if nvml else "modelled",
            note="" if no_gpu or nvml else "busy seconds x watts; the extra 'gpu' reads the counter of NVIDIA GPUs",
        ),
        Finding(
            topic="What is measured",
            name="instructions",
            ok=counters is None,
            value="perf can count" if counters is None else "not available",
            note="not used for the bill" if counters is None else f"{counters}; not used for the bill",
        ),
        Finding(
            topic="What is measured",
            name="bytes moved",
            ok=None,
            value="modelled",
            note="lower bound from weights, inputs and outputs",
        ),
    ]


def _perf_works() -> str | None:
    """``None`` when perf counts instructions here, else why not."""
    path = shutil.which("perf")
    if path is None:
        return "perf is not installed"
    command = [path, "stat", "-x,", "-e", "instructions:u", "true"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "perf does not run"
    if done.returncode != 0:
        level = Path("/proc/sys/kernel/perf_event_paranoid")
        return (
            f"perf may not count (perf_event_paranoid {level.read_text().strip()})" if level.exists() else "perf fails"
        )
    first = done.stderr.strip().partition(",")[0]
    return None if first.isdigit() else "this processor shows no counters (usual in a virtual machine)"


def _thread_findings(cores: int, environment: Mapping[str, str]) -> list[Finding]:
    plan = choose_threads(cores)
    value = f"{plan.torch_threads} torch, {plan.interop} inter-op, {plan.env_threads} environment"
    found = [Finding(topic="Threads", name="threads", ok=None, value=value)]
    found += [Finding(topic="Threads", name="why", ok=None, value=reason) for reason in plan.reasons]
    for name, wanted in openmp_environment(plan).items():
        seen = environment.get(name)
        note = (
            "" if seen == wanted else f"{wanted} unless you set it" if seen is None else f"set by you; default {wanted}"
        )
        found.append(Finding(topic="Threads", name=name, ok=None, value=seen or "not set", note=note))
    asked = environment.get("OMP_NUM_THREADS", "")
    trap = openmp_trap(environment, int(asked) if asked.isdigit() else plan.torch_threads)
    if trap is not None:
        found.append(Finding(topic="Threads", name="trap", ok=False, value="active waiting", note=trap))
    return found


def _price_findings(machine: Machine, tables: Tables) -> list[Finding]:
    price, tariff = machine.price, tables.electricity
    found = []
    offers = (
        {}
        if price is None
        else {
            "on demand": price.eur_per_hour_on_demand,
            "spot": price.eur_per_hour_spot,
            "owned": price.eur_per_hour_owned,
        }
    )
    for name, value in offers.items():
        if price is not None and value is not None:
            note = f"{price.how} {price.date}: {price.source}"
            found.append(Finding(topic="Prices", name=name, ok=None, value=f"{value:.4g} EUR/h", note=note))
    note = f"{tariff.how} {tariff.date}: {tariff.source}"
    value_text = f"{tariff.eur_per_kwh:g} EUR/kWh"
    found.append(Finding(topic="Prices", name="electricity", ok=None, value=value_text, note=note))
    return found


def _package_findings() -> list[Finding]:
    found = []
    for module, extra, purpose in OPTIONAL:
        there = find_spec(module) is not None
        value = "installed" if there else "not installed"
        note = purpose if there else f"{purpose}: pip install 'frugalrl[{extra}]'"
        found.append(Finding(topic="Optional packages", name=module, ok=there, value=value, note=note))
    return found
