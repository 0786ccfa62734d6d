from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import fields

import pytest
from cost_loads import burn
from hypothesis import given, settings
from hypothesis import strategies as st

from frugalrl.cost import LapTimer, Ledger
from frugalrl.cost.ledger import Counts, with_remainders
from frugalrl.cost.meters import Usage
from frugalrl.types import Cost

INTS = ("calls", "env_steps", "frames", "updates")
values = st.none() | st.integers(0, 2**40)
cost_values = st.fixed_dictionaries({f.name: values for f in fields(Cost)})


@settings(max_examples=50, deadline=None)
@given(st.lists(cost_values, max_size=6))
def test_the_ledger_adds_as_costs_add(parts: list[dict[str, int | None]]) -> None:
    ledger, expected = Ledger(whole_process=False), Cost()
    for part in parts:
        ledger.charge("learner", Cost(**part))
        expected += Cost(**part)
    assert ledger.charged().get("learner", Cost()) == expected
    for name in (f.name for f in fields(Cost)):
        known = [part[name] for part in parts if part[name] is not None]
        assert getattr(expected, name) == (sum(known) if known else None)


@given(st.permutations([Cost(cpu_s=1.0), Cost(), Cost(cpu_s=2.0, calls=3), Cost(flop=5.0)]))
def test_none_neither_wipes_nor_becomes_zero(parts: list[Cost]) -> None:
    total = Cost()
    for part in parts:
        total += part
    assert total == Cost(cpu_s=3.0, calls=3, flop=5.0)
    assert total.energy_j is None


def test_unknown_roles_are_refused_with_a_hint() -> None:
    ledger = Ledger(whole_process=False)
    with pytest.raises(ValueError, match="did you mean 'learner'"):
        ledger.charge("lerner", Cost(cpu_s=1.0))
    with pytest.raises(ValueError, match="what remains"):
        ledger.charge("unassigned", Cost(cpu_s=1.0))
    with pytest.raises(ValueError, match="lanes"):
        Ledger(lanes=0)


def test_remainders() -> None:
    charged = {
        "learner": Cost(cpu_s=6.0, busy_s=6.5),
        "environment": Cost(cpu_s=3.0, busy_s=2.0),
        "waiting": Cost(busy_s=0.5),
    }
    totals = with_remainders(charged, Usage(cpu_s=9.25, wall_s=10.0), wall_s=10.0)
    assert totals["waiting"] == Cost(busy_s=1.5)
    assert totals["unassigned"] == Cost(cpu_s=0.25)
    assert totals["learner"] == charged["learner"]
    twice = with_remainders(charged, Usage(cpu_s=8.0, wall_s=10.0), wall_s=10.0)
    assert twice["unassigned"].cpu_s == -1.0, "what was charged twice must show"


def test_start_up_is_charged_and_the_whole_process_adds_up() -> None:
    """In a process of its own: start-up, a known load, and the sum against os.times."""
    code = """
import json, os, time
from frugalrl.cost import LapTimer, Ledger
end = time.process_time() + 0.3
while time.process_time() < end: pass
ledger, timer = Ledger(), LapTimer()
timer.start(); ledger.follow(timer)
end = time.thread_time() + 0.5
while time.thread_time() < end: pass
timer.lap("learner")
ledger.settle()
totals = ledger.totals()
print(json.dumps([{k: v.cpu_s for k, v in totals.items()}, sum(os.times()[:2]), ledger.wall_s()]))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    cpu, spent, wall_s = json.loads(done.stdout)
    assert cpu["startup"] > 0.3
    assert cpu["learner"] == pytest.approx(0.5, rel=0.1)
    assert sum(v for v in cpu.values() if v is not None) == pytest.approx(spent, rel=0.03, abs=0.02)
    assert abs(cpu["unassigned"]) < 0.03 * spent
    assert wall_s > 0.5


def test_start_up_may_be_left_out() -> None:
    burn(0.05)
    ledger = Ledger(whole_process=False)
    assert "startup" not in ledger.charged()
    assert ledger.usage().cpu_s < 0.04


def test_state_is_json_and_a_resumed_run_adds_up() -> None:
    first, timer = Ledger(whole_process=False), LapTimer()
    first.follow(timer)
    timer.start()
    burn(0.1)
    timer.lap("learner")
    first.charge("learner", Cost(calls=10, updates=10, flop=1e9))
    first.count(agent_steps=40, frames=160, updates=10, episodes=1, invalid_rows=1)
    state = json.loads(json.dumps(first.state_dict(), allow_nan=False))

    second = Ledger(whole_process=False)
    second.load_state_dict(state)
    second.charge("learner", Cost(calls=5, updates=5, cpu_s=0.0))
    second.count(agent_steps=20, frames=80, updates=5)
    assert second.counts == Counts(agent_steps=60, frames=240, updates=15, episodes=1, invalid_rows=1)
    learner = second.charged()["learner"]
    assert (learner.calls, learner.updates, learner.flop) == (15, 15, 1e9)
    assert learner.cpu_s == pytest.approx(0.1, rel=0.1)
    assert len(second.sessions) == 2
    assert second.usage().cpu_s >= state["sessions"]["0"]["cpu_s"] >= 0.1
    assert second.wall_s() > state["sessions"]["0"]["wall_s"]
    third = Ledger(whole_process=False)
    third.load_state_dict(second.state_dict())
    assert len(third.sessions) == 3
    with pytest.raises(ValueError, match="twice"):
        third.load_state_dict(state)
    with pytest.raises(ValueError, match="schema"):
        Ledger(whole_process=False).load_state_dict({"schema": "frugalrl.ledger/99"})


def test_lost_work_stands_on_its_own_line() -> None:
    first = Ledger(whole_process=False)
    first.charge("learner", Cost(cpu_s=1.0, flop=100.0, updates=10))
    first.count(agent_steps=40, updates=10)
    checkpoint = first.state_dict()
    first.charge("learner", Cost(cpu_s=0.5, flop=50.0, updates=5))
    first.charge("environment", Cost(cpu_s=0.25, busy_s=0.25))
    first.count(agent_steps=20, updates=5)
    last_words = first.state_dict()

    second = Ledger(whole_process=False)
    second.load_state_dict(checkpoint)
    lost = second.book_lost(last_words)
    assert lost == Cost(cpu_s=0.75, busy_s=0.25, flop=50.0, env_steps=20, frames=0, updates=5)
    assert second.counts.agent_steps == 40
    assert second.charged()["learner"].cpu_s == 1.0
    assert second.charged()["redone"] == lost
    assert len(second.sessions) == 2

    # and again: the second process dies before its first checkpoint
    second.charge("learner", Cost(cpu_s=0.125, updates=1))
    second.count(agent_steps=4, updates=1)
    third = Ledger(whole_process=False)
    third.load_state_dict(checkpoint)
    third.book_lost(second.state_dict())
    redone = third.charged()["redone"]
    assert redone.cpu_s == pytest.approx(0.875)
    assert (redone.env_steps, redone.updates) == (24, 6)
    assert len(third.sessions) == 3


def test_lost_work_needs_the_checkpoint_first_and_a_later_state() -> None:
    first = Ledger(whole_process=False)
    early = first.state_dict()
    first.charge("learner", Cost(cpu_s=1.0))
    late = first.state_dict()
    second = Ledger(whole_process=False)
    with pytest.raises(ValueError, match="load_state_dict"):
        second.book_lost(late)
    second.load_state_dict(late)
    with pytest.raises(ValueError, match="older"):
        second.book_lost(early)


def test_energy_of_sessions_is_kept() -> None:
    class Fake:
        def joules(self) -> tuple[float | None, float | None]:
            return 12.0, None

    session = Ledger(whole_process=False, energy=Fake()).sessions[0]
    assert (session.cpu_j, session.gpu_j) == (12.0, None)


def test_counters_that_go_round_are_read_at_every_status() -> None:
    """RAPL counters go round after 20 minutes at 200 W; checkpoints may lie further apart."""

    class Wrapping:
        """Every reading adds what a counter of 262 J shows of the 200 J since the one before."""

        total, seen, true = 0.0, 0.0, 0.0

        def joules(self) -> tuple[float | None, float | None]:
            self.total += (self.true - self.seen) % 262.0
            self.seen = self.true
            return self.total, None

    energy = Wrapping()
    ledger = Ledger(whole_process=False, energy=energy)
    for _ in range(5):
        energy.true += 200.0
        ledger.settle()
    assert ledger.sessions[0].cpu_j == 1_000.0


def test_os_times_is_the_same_clock() -> None:
    ledger = Ledger(whole_process=False)
    before = sum(os.times()[:2])
    burn(0.4)
    assert ledger.usage().cpu_s == pytest.approx(sum(os.times()[:2]) - before, rel=0.03, abs=0.02)
