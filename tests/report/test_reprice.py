"""Other machines and other simulators, by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from frugalrl.cost.roofs import Roofs, measure_roofs, tabulated
from frugalrl.cost.tables import load_tables
from frugalrl.report.comparison import compare
from frugalrl.report.records import Point
from frugalrl.report.reprice import Repricing, repriced, scale
from frugalrl.report.use import rates_of, rates_on, used_at
from frugalrl.types import Cost, UserError
from report.records_made import MACHINE, line, point, record, two_methods

TABLES = load_tables()
HERE = Roofs(gflop_per_s_core=10, gb_per_s=1, how="measured", source="here")
FASTER = Roofs(gflop_per_s_core=40, gb_per_s=2, how="assumed", source="there")
GPU = Roofs(gflop_per_s_core=20, gb_per_s=1, gpu_gflop_per_s=1_000, gpu_gb_per_s=100, how="assumed", source="there")


@pytest.mark.parametrize(
    ("role", "cost", "there", "expected"),
    [
        # 100 GFLOP at 10 GFLOP/s take 10 s, 1 GB at 1 GB/s takes 1 s: the product is the limit
        ("learner", Cost(flop=100e9, bytes_min=1e9), FASTER, 2.5 / 10),
        # 10 GFLOP: 1 s; 5 GB: 5 s here, 2.5 s there: memory is the limit
        ("learner", Cost(flop=10e9, bytes_min=5e9), FASTER, 2.5 / 5),
        # the limit changes from product (3 s) to memory (1 s there against 0.75 s)
        ("target", Cost(flop=30e9, bytes_min=2e9), FASTER, 1 / 3),
        ("learner", Cost(flop=100e9, bytes_min=1e9), GPU, 0.1 / 10),
        ("environment", Cost(), FASTER, 10 / 40),
        ("replay", Cost(bytes_min=1e9), GPU, 10 / 20),
        # nothing was counted: the ratio of the cores
        ("inference", Cost(), FASTER, 10 / 40),
    ],
)
def test_scale_by_hand(role: str, cost: Cost, there: Roofs, expected: float) -> None:
    assert scale(role, cost, HERE, there) == pytest.approx(expected)


def test_a_run_on_another_machine_by_hand() -> None:
    # per 1,000 steps: environment 1 s, inference 1 s, learner 3 s; inference moves 10 B per step and multiplies 1 FLOP
    run = record("some", 0, [point(1_000, 1.0)])
    there = replace(TABLES.machine("cloud-16vcpu"), gflop_per_s_core=40.0, gb_per_s=2.0)
    ways = Repricing(machine=there, here=HERE, profiles=TABLES.machines)
    (found,) = repriced(run, ways).points
    assert found.costs is not None
    assert found.costs["environment"].cpu_s == pytest.approx(1 / 4)
    assert found.costs["inference"].cpu_s == pytest.approx(1 / 2)
    assert found.costs["learner"].cpu_s == pytest.approx(3 / 2)
    assert found.cpu_s == found.wall_s == pytest.approx(0.25 + 0.5 + 1.5)
    assert (found.env_steps, found.updates, found.flop()) == (1_000, 500, 2_000)
    (found,) = repriced(run, replace(ways, step_ms=7.0)).points
    assert found.cpu_s == pytest.approx(7 + 0.5 + 1.5)
    (found,) = repriced(run, Repricing(step_ms=7.0, profiles=TABLES.machines)).points
    assert found.cpu_s == pytest.approx(7 + 1 + 3)


def test_networks_move_to_a_gpu() -> None:
    run = record("some", 0, [point(1_000, 1.0)])
    there = TABLES.machine("cloud-h100")
    (found,) = repriced(run, Repricing(machine=there, here=HERE, profiles=TABLES.machines)).points
    assert found.costs is not None
    assert found.costs["learner"].gpu_s == pytest.approx(3 * 1 / 3_000)
    assert found.costs["environment"].gpu_s is None


def on_gpu(point: Point) -> Point:
    costs = {n: replace(c, gpu_s=0.01 if n == "learner" else None) for n, c in (point.costs or {}).items()}
    return replace(point, costs=costs)


def test_networks_move_from_a_gpu_to_a_core_at_the_roof_of_the_core() -> None:
    """The wrong way, seconds on the GPU times the ratio of the roofs, made 525 CPU-seconds of what took 5."""
    run = record("some", 0, [on_gpu(point(1_000, 1.0))])
    run = replace(run, machine={**MACHINE, "profile": "cloud-h100", "gpus": ["H100"]})
    there = replace(TABLES.machine("laptop-4c"), gflop_per_s_core=1e-6, gb_per_s=1e-6)  # 1,000 FLOP/s, 1,000 B/s
    ways = Repricing(machine=there, profiles=TABLES.machines)
    (found,) = repriced(run, ways).points
    assert found.costs is not None
    learner = (run.points[0].costs or {})["learner"]
    assert found.costs["learner"].cpu_s == pytest.approx(max(learner.flop or 0, learner.bytes_min or 0) / 1_000)
    assert found.costs["learner"].gpu_s is None
    assert "the least that they can take there" in ways.in_words(run)


def test_another_step_leaves_the_seconds_of_the_gpu_as_measured() -> None:
    """Those of the evaluations were lost, and with them their joules."""
    run = record(
        "some", 0, [point(1_000, 1.0, evaluation_s=2.0)], machine={**MACHINE, "profile": "cloud-h100", "gpus": ["H100"]}
    )
    costs = {
        n: replace(c, gpu_s={"learner": 0.5, "evaluation": 0.25}.get(n)) for n, c in (run.points[0].costs or {}).items()
    }
    run = replace(run, points=(replace(run.points[0], costs=costs),))
    found = repriced(run, Repricing(step_ms=7.0, profiles=TABLES.machines))
    rates = rates_of(run, TABLES)
    assert used_at(found.points[0], rates)["gpu_s"] == used_at(run.points[0], rates)["gpu_s"] == pytest.approx(0.75)


def test_a_run_on_the_core_of_a_machine_with_a_gpu_is_scaled_from_the_core() -> None:
    machine = {**MACHINE, "profile": "cloud-h100", "gpus": ["H100"]}
    run = replace(record("some", 0, [point(1_000, 1.0)]), machine=machine)
    there = replace(TABLES.machine("laptop-4c"), gflop_per_s_core=120.0, gb_per_s=20.0)
    (found,) = repriced(run, Repricing(machine=there, profiles=TABLES.machines)).points
    assert found.costs is not None
    assert found.costs["learner"].cpu_s == pytest.approx(3 / 2)


def test_a_repriced_comparison_says_so() -> None:
    targets = {"CartPole-v1": [100]}
    ways = {"targets": targets, "tables": TABLES, "draws": 100}
    there = TABLES.machine("cloud-16vcpu")
    found = compare(two_methods(), rng=np.random.default_rng(0), machine=there, here=HERE, step_ms=4.0, **ways)
    assert found.modelled is not None
    assert "samples x 4 ms" in found.modelled
    assert "10 GFLOP/s and 1 GB/s per core, measured, here" in found.modelled
    assert found.modelled in found.notes
    fast = found.envs[0].methods[1]
    # 10 -> 50 GFLOP/s and 1 -> 8 GB/s; both roles are limited by memory: (1 + 3) / 8 ms and 4 ms of the environment
    assert fast.used["cpu_s"].value == pytest.approx(4_000 * 4.5e-3)
    assert fast.used["cpu_s"].how == "modelled"
    assert fast.used["env_steps"].how == "counted"
    assert fast.used["eur"].value == pytest.approx(4_000 * 4.5e-3 / 3600 * 0.80 / 16)
    assert fast.used["joules"].value == pytest.approx(4_000 * 4.5e-3 * (5 + 30 / 16))
    on_gpu = compare(two_methods(), rng=np.random.default_rng(0), machine=TABLES.machine("cloud-h100"), **ways)
    used = on_gpu.envs[0].methods[1].used
    assert used["gpu_s"].value == pytest.approx(4_000 * (1e-3 * 8 / 3_000 + 3e-3 * 8 / 3_000))
    assert used["wall_s"].value is not None
    assert used["eur"].value == pytest.approx(used["wall_s"].value / 3600 * 4.0)
    assert "what it takes to start work on a GPU is left out" in str(on_gpu.modelled)


def test_the_same_machine_changes_prices_only() -> None:
    machine = TABLES.machine("cloud-2vcpu")
    found = compare(two_methods(), tables=TABLES, rng=np.random.default_rng(0), draws=100, machine=machine)
    assert found.envs[0].methods[1].used["cpu_s"].value == pytest.approx(20)
    assert "is the machine of the runs" in str(found.modelled)
    assert "wall time is their sum" not in str(found.modelled)
    gpu = TABLES.machine("workstation-1gpu")
    run = record("m", 0, [point(1_000, 1.0)], machine={**MACHINE, "profile": gpu.name, "gpus": ["a GPU"]})
    costs = {
        role: replace(cost, cpu_s=0.6 * cost.cpu_s, gpu_s=0.5 if role == "learner" else None)
        for role, cost in (run.points[0].costs or {}).items()
        if cost.cpu_s is not None
    }
    run = replace(run, points=(replace(run.points[0], costs=costs, cpu_s=3.0, wall_s=5.5),))
    again = repriced(run, Repricing(machine=gpu, profiles=TABLES.machines))
    assert used_at(again.points[0], rates_on(gpu, TABLES)) == used_at(run.points[0], rates_of(run, TABLES))


def test_what_cannot_be_repriced() -> None:
    bare = replace(TABLES.machine("cloud-16vcpu"), gflop_per_s_core=None)
    ways = {"tables": TABLES, "rng": np.random.default_rng(0), "draws": 100}
    with pytest.raises(UserError, match=r"roofs of machine 'cloud-16vcpu' are not known.*\[machine.cloud-16vcpu\]"):
        compare(two_methods(), machine=bare, **ways)
    strange = [replace(r, machine={**MACHINE, "profile": "mine"}) for r in two_methods()]
    with pytest.raises(UserError, match="roofs of machine 'mine' are not known"):
        compare(strange, machine=TABLES.machine("cloud-16vcpu"), **ways)
    old = [record("epsilon-greedy", 0, line([1.0], with_costs=False))]
    with pytest.raises(UserError, match="cannot be repriced: its evaluations hold no costs by role"):
        compare(old, step_ms=1.0, **ways)


def test_roofs() -> None:
    found = measure_roofs(budget_s=0.02)
    assert 1 < found.gflop_per_s_core < 2_000
    assert 0.2 < found.gb_per_s < 500
    assert found.how == "measured"
    assert all(tabulated(machine) is not None for machine in TABLES.machines.values())
    h100 = tabulated(TABLES.machine("cloud-h100"))
    assert h100 is not None
    assert (h100.gpu_gflop_per_s, h100.gpu_gb_per_s) == (60_000, 3_000)
