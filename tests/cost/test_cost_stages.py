"""Which stage limits a central run: against a simulation, and on numbers; its rows on the bill."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from frugalrl.cost import Ledger, Machine, Tables, bill_from_json, make_bill, render, to_json
from frugalrl.cost.bottleneck import bound, gains, lanes_of, limit_sentence, limiting, waits
from frugalrl.cost.stages import Lane, Stages, stage_rows
from oracles.tandem import Played, play

NAMES = ("environments", "engine", "learner")


def stages(**changes: Any) -> Stages:
    """100 s on 4 cores: the learner is busy 95 s, the engine stood at the full queue 71 s."""
    known: dict[str, Any] = {
        "covers": None,
        "wall_s": 100.0,
        "other_s": 0.0,
        "cpu_s": 140.0,
        "cores": 4,
        "gpu": False,
        "env_steps": 100_000,
        "environments": Lane(work_cpu_s=20.0, width=2),
        "engine": Lane(work_cpu_s=20.0, transport_cpu_s=5.0, network_cpu_s=15.0),
        "learner": Lane(work_cpu_s=94.0, transport_cpu_s=1.0, network_cpu_s=90.0),
        "blocked_s": 71.0,
        "starved_s": 2.0,
        "learner_waited_s": 3.0,
        "batches": 5_000,
        "batch_rows": 12.0,
        "batch_fill": 0.75,
        "by_rule": {"full": 3_000, "share": 2_000, "deadline": 0},
        "queue_ms": (0.5, 2.0, 4.0),
        "forward_ms": (0.1, 0.2, 0.3),
        "rows": 16,
        "live_rows": 15,
        "restarts": 1,
        "dropped_steps": 7,
        "repeated": 0,
        "lag_min": 0.0,
        "lag_mean": 1.5,
        "lag_max": 4.0,
    }
    return Stages(**{**known, **changes})


def simulated(seconds: list[float], widths: list[int], cores: int, items: int = 400) -> tuple[Stages, Played]:
    """A simulated run as the record of a real one."""
    played = play(seconds, widths, cores=cores, items=items)
    lanes = {name: Lane(work_cpu_s=s * items, width=w) for name, s, w in zip(NAMES, seconds, widths, strict=True)}
    found = stages(
        wall_s=played.wall_s, cpu_s=sum(seconds) * items, cores=cores, env_steps=items, blocked_s=played.blocked_s,
        starved_s=played.starved_s, learner_waited_s=played.waited_s, **lanes,
    )  # fmt: skip
    return found, played


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0.2, 5.0), min_size=3, max_size=3),
    st.lists(st.integers(1, 3), min_size=3, max_size=3),
    st.integers(1, 6),
)
def test_no_simulated_run_is_faster_than_the_bound_and_most_come_near(
    seconds: list[float], widths: list[int], cores: int
) -> None:
    found, played = simulated(seconds, widths, cores)
    allowed = bound(lanes_of(found), cores=cores, env_steps=found.env_steps)
    assert allowed is not None
    assert 0.6 * allowed <= played.per_s <= allowed * (1 + 1e-9)


def test_a_bound_that_forgets_the_cores_or_adds_the_stages_up_is_wrong() -> None:
    found, played = simulated([1.0, 1.0, 1.0], [1, 1, 1], cores=1)
    assert bound(lanes_of(found), cores=10**9, env_steps=400) > 2 * played.per_s  # type: ignore[operator]
    found, played = simulated([1.0, 1.0, 1.0], [1, 1, 1], cores=3)
    assert played.per_s > 2 * 400 / sum(lane.cpu_s for lane in lanes_of(found).values())


@pytest.mark.parametrize(
    ("seconds", "cores", "expected"),
    [([4, 1, 1], 4, "environments"), ([1, 4, 1], 4, "engine"), ([1, 1, 4], 4, "learner"), ([1, 1, 1], 1, "cores")],
)
def test_waiting_times_name_the_slow_stage(seconds: list[float], cores: int, expected: str) -> None:
    found, _ = simulated(seconds, [1, 1, 1], cores)
    assert limiting(found) == expected


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2), st.floats(2.5, 5.0), st.lists(st.floats(0.3, 1.0), min_size=3, max_size=3))
def test_whichever_stage_is_slowest_is_named(slow: int, times: float, seconds: list[float]) -> None:
    seconds[slow] = times
    found, _ = simulated(seconds, [1, 1, 1], cores=4)
    assert limiting(found) == NAMES[slow]


def test_an_engine_that_starves_between_two_full_queues_blames_nobody_but_the_learner() -> None:
    measured = stages(blocked_s=23.0, starved_s=16.0, learner_waited_s=2.0, other_s=8.0)  # seen on Pong
    assert limiting(measured) == "learner"


@pytest.mark.parametrize(
    ("seconds", "changed"),
    [([4.0, 1.0, 1.0], 0), ([1.0, 4.0, 1.0], 1), ([1.0, 1.0, 4.0], 2), ([2.0, 1.0, 3.0], 2), ([1.0, 1.0, 1.0], 0)],
)
@pytest.mark.parametrize("cores", [1, 2, 4])
def test_the_modelled_gain_is_what_the_simulation_gains(seconds: list[float], changed: int, cores: int) -> None:
    found, before = simulated(seconds, [1, 1, 1], cores)
    faster = [s / 2 if i == changed else s for i, s in enumerate(seconds)]
    after = play(faster, [1, 1, 1], cores=cores, items=400)
    assert gains(found)[NAMES[changed]] == pytest.approx(after.per_s / before.per_s, rel=0.1)


def test_numbers() -> None:
    found = stages()
    # per step: environments 200 us on 2 threads, engine 250 us, learner 950 us; all together 1,400 us on 4 cores
    assert bound(lanes_of(found), cores=4, env_steps=100_000) == pytest.approx(1 / 950e-6)
    assert limiting(found) == "learner"
    gain = gains(found)
    assert gain["learner"] == pytest.approx(2.0)
    assert gain["engine"] == gain["environments"] == gain["core"] == 1.0
    assert gain["gpu"] == pytest.approx(950 / 100)  # environments 100 us per thread are next; learner 50, engine 100
    assert limit_sentence(found) == (
        "Limit: the learner: the engine stood at the full queue 71 % of the time, the learner waited for unrolls 3 %; "
        "one more core would change nothing; "
        "a learner twice as fast would give up to x2.0 steps/s; a GPU that takes all network passes would give up to "
        "x9.5 steps/s (modelled from CPU-seconds per step by stage)."
    )


def test_full_cores_are_the_limit_and_one_more_helps() -> None:
    found = stages(cores=1, cpu_s=95.0, wall_s=100.0)
    assert limiting(found) == "cores"
    assert gains(found)["core"] == pytest.approx(140 / 95)  # then the learner's own thread is the limit
    assert "0.9 of 1 cores were busy" in str(limit_sentence(found))


def test_one_more_core_is_one_more_worker() -> None:
    slow = stages(environments=Lane(work_cpu_s=200.0, width=2), blocked_s=0.0, starved_s=80.0, learner_waited_s=85.0)
    assert limiting(slow) == "environments"
    assert gains(slow)["core"] == pytest.approx(100 / max(200 / 3, 95.0, 320 / 5))


def test_a_pace_that_cpu_seconds_do_not_explain_is_said() -> None:
    assert "measured were" not in str(limit_sentence(stages()))  # 1,000 of 1,053 steps/s
    slow = str(limit_sentence(stages(wall_s=200.0, blocked_s=171.0)))
    assert "measured were 500 steps/s, the CPU-seconds alone allow 1,053: " in slow


def test_an_evaluation_is_not_the_fault_of_the_learner() -> None:
    busy = stages(other_s=60.0, blocked_s=60.0, starved_s=30.0, learner_waited_s=32.0, cpu_s=100.0)
    found = waits(busy)
    assert found is not None
    assert (found.blocked, found.starved, found.learner) == pytest.approx((0.0, 0.75, 0.8))
    assert limiting(busy) == "environments"
    assert limiting(replace(busy, other_s=0.0)) == "learner"  # without the correction the wrong stage is named


def test_nobody_waited_and_nothing_measured() -> None:
    idle = stages(blocked_s=1.0, starved_s=2.0, learner_waited_s=3.0)
    assert limiting(idle) is None
    assert "no single stage" in str(limit_sentence(idle))
    assert limit_sentence(stages(wall_s=0.0)) is limit_sentence(stages(env_steps=0)) is None
    empty = {name: Lane(work_cpu_s=0.0) for name in NAMES}
    assert gains(stages(**empty)) == {}
    assert bound({}, cores=2, env_steps=5) is None
    assert "not modelled" in str(limit_sentence(stages(gpu=True)))


def test_rows(tables: Tables, machine: Callable[..., Machine]) -> None:
    ledger = Ledger(whole_process=False)
    ledger.count(agent_steps=1_000, frames=4_000)
    bill = make_bill(ledger, machine(), tables, stages=stages())
    assert bill.find("engine_blocked_s").value == 71.0
    assert "71 % of 100 s" in bill.find("engine_blocked_s").source
    assert bill.find("transport_cpu_s").value == 6.0
    assert bill.find("batch_fill").value == 75.0
    assert [bill.find(f"queue_{q}").value for q in ("p50", "p95", "p99")] == [0.5, 2.0, 4.0]
    assert bill.limit.startswith("Limit: the learner:")
    assert bill.find("steps_per_s").value == 1_000.0
    assert bill.find("steps_per_s_bound").value == pytest.approx(1 / 950e-6)
    assert bill.find("steps_per_s_bound").how == "modelled"
    used = bill.find("cpu_s").value
    assert used is not None
    assert bill.find("cpu_h_per_1e9_frames").value == pytest.approx(used / 3600 / 4_000 * 1e9)
    paid = bill.find("on_demand_eur").value
    assert paid is not None
    assert bill.find("eur_per_1e9_frames").value == pytest.approx(paid / 4_000 * 1e9)
    assert bill_from_json(to_json(bill)) == bill
    for width in (80, 120):
        console = Console(file=io.StringIO(), width=width)
        render(bill, console)
        text = console.file.getvalue()  # type: ignore[attr-defined]
        assert "engine: queue full" in text
        assert max(map(len, text.splitlines())) <= width


def test_what_was_not_measured_is_none_and_never_zero(tables: Tables, machine: Callable[..., Machine]) -> None:
    nothing = stages(queue_ms=None, forward_ms=None, batch_rows=None, batch_fill=None, lag_min=None, lag_mean=None)
    rows = {row.name: row.value for row in stage_rows(nothing)}
    assert all(rows[name] is None for name in ("queue_p50", "forward_p99", "batch_rows", "batch_fill", "lag_mean"))
    bill = make_bill(Ledger(whole_process=False), machine(), tables)
    assert not [row for row in bill.rows if row.section == "stages"]
    assert bill.find("cpu_h_per_1e9_frames").value is bill.find("eur_per_1e9_frames").value is None


def test_a_bill_from_before_the_stages_is_still_read_and_printed(
    tables: Tables, machine: Callable[..., Machine]
) -> None:
    document = to_json(make_bill(Ledger(whole_process=False), machine(), tables))
    document["rows"] = [row for row in document["rows"] if "1e9" not in row["name"]]
    console = Console(file=io.StringIO(), width=80)
    render(bill_from_json(document), console)
    assert "stages" not in console.file.getvalue()  # type: ignore[attr-defined]
