from __future__ import annotations

import copy
from typing import Any

from frugalrl.cost.ledger import Ledger
from frugalrl.run.record import Done
from frugalrl.run.redone import lost_work


def saved(sessions: int, *, cpu_s: float = 10.0, steps: int = 400, updates: int = 100) -> dict[str, Any]:
    ledger = Ledger(whole_process=False).state_dict()
    ledger["sessions"] = {str(i): {"cpu_s": cpu_s, "wall_s": 2 * cpu_s} for i in range(sessions)}
    ledger["counts"] = {**ledger["counts"], "agent_steps": steps, "frames": 4 * steps, "updates": updates}
    return ledger


def booked(ledger: dict[str, Any], records: list[Done], *, steps: int = 400, updates: int = 100) -> Any:
    lost = lost_work(ledger, records, env_steps=steps, updates=updates, frames_per_step=4)
    if lost is None:
        return None
    mine = Ledger(whole_process=False)
    mine.load_state_dict(copy.deepcopy(ledger))
    mine.book_lost(lost.ledger)
    assert mine.counts.agent_steps == steps, "work done again is not counted twice"
    return lost, mine.charged()["redone"], mine.sessions


def test_nothing_is_lost_when_the_last_thing_was_the_checkpoint() -> None:
    assert booked(saved(1), [Done(0, 0, 0, 1.0, 1.0), Done(0, 400, 100, 10.0, 20.0)]) is None
    assert booked(saved(1), []) is None


def test_the_process_that_saved_lost_what_came_after() -> None:
    lost, redone, sessions = booked(saved(1), [Done(0, 0, 0, 1.0, 1.0), Done(0, 460, 115, 13.0, 25.0)])
    assert (lost.env_steps, lost.died_at) == (60, 460)
    assert (redone.env_steps, redone.frames, redone.updates) == (60, 240, 15)
    assert (redone.cpu_s, redone.busy_s) == (3.0, 5.0)
    assert [s.cpu_s for s in sessions[:-1]] == [13.0]


def test_joules_of_lost_work_are_those_of_its_process_per_second() -> None:
    ledger = saved(1)
    ledger["sessions"]["0"] |= {"cpu_j": 200.0, "gpu_j": None}
    records = [Done(0, 0, 0, 1.0, 1.0), Done(0, 460, 115, 13.0, 25.0), Done(1, 400, 100, 2.0, 2.0)]
    _, _, (first, second, _) = booked(ledger, records)
    assert (first.wall_s, first.cpu_j, first.gpu_j) == (25.0, 250.0, None)
    assert (second.wall_s, second.cpu_j) == (2.0, None)


def test_a_process_that_died_before_its_first_checkpoint_does_not_hide_the_one_before() -> None:
    records = [
        Done(0, 0, 0, 1.0, 1.0),
        Done(0, 460, 115, 13.0, 25.0),
        Done(1, 400, 100, 2.0, 2.0),
        Done(1, 430, 107, 4.0, 5.0),
        Done(2, 400, 100, 2.5, 3.0),
    ]
    lost, redone, sessions = booked(saved(1), records)
    assert (lost.env_steps, lost.died_at) == (90, 460)
    assert (redone.env_steps, redone.updates) == (90, 22)
    assert redone.cpu_s == 3.0 + 4.0 + 2.5
    assert [s.cpu_s for s in sessions[:-1]] == [13.0, 4.0, 2.5]


def test_sessions_that_the_checkpoint_knows_are_not_booked_again() -> None:
    records = [Done(0, 0, 0, 1.0, 1.0), Done(0, 460, 115, 99.0, 99.0), Done(1, 400, 100, 1.0, 1.0)]
    assert booked(saved(2), [*records, Done(1, 400, 100, 10.0, 20.0)]) is None
    lost, redone, _ = booked(saved(2), [*records, Done(1, 402, 100, 10.5, 20.0)])
    assert (lost.env_steps, redone.cpu_s) == (2, 0.5)


def test_falling_back_to_an_older_checkpoint_loses_what_later_processes_did() -> None:
    # process 0 saved at 400 and at 600, died at 700; process 1 went on from 600, and only the first is usable now
    records = [
        Done(0, 0, 0, 1.0, 1.0),
        Done(0, 700, 175, 15.0, 30.0),
        Done(1, 600, 150, 1.0, 1.0),
        Done(1, 900, 225, 8.0, 9.0),
    ]
    lost, redone, _ = booked(saved(1), records)
    assert lost.env_steps == 300 + 300
    assert redone.updates == 75 + 75


def test_the_saved_ledger_is_left_alone() -> None:
    ledger = saved(1)
    before = copy.deepcopy(ledger)
    lost_work(ledger, [Done(0, 460, 115, 13.0, 25.0)], env_steps=400, updates=100, frames_per_step=1)
    assert ledger == before
