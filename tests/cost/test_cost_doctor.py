from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest
from rich.console import Console

from frugalrl.cost import (
    Tables,
    choose_threads,
    examine,
    findings_to_json,
    openmp_environment,
    openmp_trap,
    render_doctor,
)
from frugalrl.types import UserError


def test_doctor_tells_what_is_measured_and_what_is_modelled(tables: Tables) -> None:
    findings = examine(tables, environment={}, machine_name="cloud-2vcpu")
    by_name = {finding.name: finding for finding in findings}
    assert by_name["profile"].value == "cloud-2vcpu, because named by the user"
    for name in ("CPU-s per thread", "processor joules", "GPU joules", "bytes moved", "instructions"):
        assert by_name[name].topic == "What is measured"
    assert by_name["bytes moved"].value == "modelled"
    assert by_name["OMP_WAIT_POLICY"].value == "not set"
    assert "set your own" in by_name["electricity"].note
    assert by_name["pytest"].ok
    assert json.loads(json.dumps(findings_to_json(findings)))["schema"] == "frugalrl.doctor/1"
    console = Console(width=80, file=io.StringIO(), color_system=None)
    render_doctor(findings, console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "no hypervisor" not in text
    with pytest.raises(UserError, match="unknown machine"):
        examine(tables, environment={}, machine_name="nothing")


def test_doctor_names_the_extra_that_is_missing(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frugalrl.cost.doctor.find_spec", lambda name: None)
    notes = {f.name: f.note for f in examine(tables, environment={}) if f.topic == "Optional packages"}
    assert "pip install 'frugalrl[atari]'" in notes["ale_py"]
    assert "pip install 'frugalrl[gpu]'" in notes["pynvml"]


def test_doctor_sees_the_openmp_trap(tables: Tables) -> None:
    findings = examine(tables, environment={"OMP_NUM_THREADS": "2"})
    assert [f.ok for f in findings if f.name == "trap"] == [False]
    safe = examine(tables, environment={"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"})
    assert not [f for f in safe if f.name == "trap"]
    assert openmp_trap({}, 1) is None
    assert "OMP_WAIT_POLICY=passive" in (openmp_trap({"OMP_WAIT_POLICY": "active"}, 4) or "")


def test_thread_plan() -> None:
    plan = choose_threads(8, num_rows=3)
    assert (plan.torch_threads, plan.interop, plan.env_threads, plan.omp_wait_policy) == (1, 1, 3, "passive")
    assert choose_threads(2, num_rows=10).env_threads == 2
    assert len(plan.reasons) == 3
    with pytest.raises(ValueError, match="at least 1"):
        choose_threads(0)


def test_openmp_environment_reaches_torch() -> None:
    settings = openmp_environment()
    assert settings["OMP_WAIT_POLICY"] == "passive"
    assert settings["KMP_BLOCKTIME"] == "0"
    code = f"""
import os
os.environ.update({settings!r})
import torch
from frugalrl.cost import unclaimed_threads
assert torch.get_num_threads() == 1
torch.ones(2_000_000).sin().sum()
assert unclaimed_threads() == (), unclaimed_threads()
"""
    subprocess.run([sys.executable, "-c", code], check=True)
