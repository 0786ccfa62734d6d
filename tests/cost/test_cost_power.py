from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from frugalrl.cost import EnergyCounters, Tables
from frugalrl.cost.power import cpu_joules, gpu_joules, idle_joules, nvml_joules, nvml_names, rapl_domains, rapl_state


def rapl(root: Path, *packages: int) -> None:
    for i, value in enumerate(packages):
        folder = root / f"intel-rapl:{i}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "name").write_text(f"package-{i}\n")
        (folder / "energy_uj").write_text(f"{value}\n")
        (folder / "max_energy_range_uj").write_text("1000000000\n")
        core = root / f"intel-rapl:{i}:0"
        core.mkdir(exist_ok=True)
        (core / "name").write_text("core\n")
        (core / "energy_uj").write_text("999\n")


def test_rapl_adds_packages_and_survives_a_wrap(tmp_path: Path) -> None:
    rapl(tmp_path, 999_000_000, 5_000_000)
    assert [d.name for d in rapl_domains(tmp_path)] == ["package-0", "package-1"]
    counters = EnergyCounters(root=tmp_path)
    rapl(tmp_path, 2_000_000, 6_000_000)  # the first went round: 3 J
    assert counters.joules()[0] == pytest.approx(4.0)
    rapl(tmp_path, 3_000_000, 6_000_000)
    assert counters.joules()[0] == pytest.approx(5.0)


def test_no_rapl_is_none_and_said(tmp_path: Path) -> None:
    assert EnergyCounters(root=tmp_path / "absent").joules()[0] is None
    assert "no RAPL on this machine" in rapl_state(tmp_path / "absent")
    assert rapl_state(tmp_path) == "no RAPL counter in sysfs"
    rapl(tmp_path, 1)
    assert rapl_state(tmp_path) == "RAPL can be read"
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("")
    assert "root only" in rapl_state(tmp_path)


class FakeNvml(SimpleNamespace):
    class NVMLError(Exception):
        pass


def fake_nvml(energies_mj: list[int]) -> FakeNvml:
    return FakeNvml(
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetCount=lambda: len(energies_mj),
        nvmlDeviceGetHandleByIndex=lambda i: i,
        nvmlDeviceGetName=lambda i: f"GPU {i}",
        nvmlDeviceGetTotalEnergyConsumption=lambda i: energies_mj[i],
    )


def test_nvml_counters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    energies = [5_000, 7_000]
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(energies))
    assert nvml_names() == ("GPU 0", "GPU 1")
    every, second = EnergyCounters(root=tmp_path), EnergyCounters(gpus=(1,), root=tmp_path)
    energies[:] = [6_000, 7_500]
    assert nvml_joules() == (6.0, 7.5)
    assert every.joules() == (None, 1.5)
    assert second.joules() == (None, 0.5)


def test_without_nvml_or_without_a_driver_there_is_no_figure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert nvml_joules() is None
    assert nvml_names() == ()
    broken = fake_nvml([1])

    def fail() -> None:
        raise FakeNvml.NVMLError("no driver")

    broken.nvmlInit = fail
    monkeypatch.setitem(sys.modules, "pynvml", broken)
    assert nvml_joules() is None
    assert EnergyCounters(root=tmp_path).joules() == (None, None)


def test_models_say_that_they_are_models(tables: Tables) -> None:
    profile = tables.machine("workstation-1gpu")
    cpu = cpu_joules(None, 100.0, profile)
    assert (cpu.value, cpu.how) == (1200.0, "modelled")
    assert "100 CPU-s x 12 W per busy core" in cpu.source
    assert "assumed" in cpu.source
    assert cpu_joules(7.0, 100.0, profile).how == "measured"
    gpu = gpu_joules(None, 10.0, 60.0, profile, has_gpu=True)
    assert (gpu.value, gpu.how) == (10 * 300 + 50 * 20, "modelled")
    assert gpu_joules(None, None, 60.0, profile, has_gpu=True).value is None
    assert gpu_joules(None, None, 60.0, profile, has_gpu=False).value == 0.0
    assert gpu_joules(9.0, None, 60.0, profile, has_gpu=True).how == "measured"
    assert idle_joules(60.0, profile).value == 3000.0
    assert "upper bound" not in idle_joules(60.0, profile).source
    assert "in RAPL's figure as well" in idle_joules(60.0, profile, cores_counted=True).source
    two = replace(profile, gpus=2)  # one may work while the other one idles
    assert gpu_joules(None, 10.0, 60.0, two, has_gpu=True).value == 10 * 300 + 110 * 20
