"""One process, several runs: their parts add up to it."""

from __future__ import annotations

import time

import pytest

from frugalrl.cost.ledger import Ledger
from frugalrl.cost.meters import ProcessClock
from frugalrl.cost.share import Share, SharedClocks


class Counter:
    """Joules that grow by 8 with each reading, and no GPU."""

    def __init__(self) -> None:
        self.read = 0.0

    def joules(self) -> tuple[float | None, float | None]:
        self.read += 8.0
        return self.read, None


def work(seconds: float = 0.02) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def ledgers(clocks: SharedClocks, number: int) -> tuple[list[Share], list[Ledger]]:
    shares = [Share(clocks) for _ in range(number)]
    made = [Ledger(whole_process=False, clock=share, energy=share) for share in shares]
    for ledger, share in zip(made, shares, strict=True):
        ledger.follow(share)
    return shares, made


def test_the_parts_add_up_and_one_that_has_left_pays_no_more() -> None:
    clocks = SharedClocks(2, whole_process=False)
    started, began = time.process_time(), time.perf_counter()
    shares, made = ledgers(clocks, 2)
    work()
    clocks.timer.lap("learner")
    made[0].settle()
    half = made[0].charged()["learner"].cpu_s
    assert half == pytest.approx(0.01, rel=0.5)
    made[0].settle()
    assert made[0].charged()["learner"].cpu_s == half, "a lap is charged once"
    shares[0].close()
    left = made[0].usage()
    work()
    clocks.timer.lap("learner")
    for ledger in made:
        ledger.settle()
    assert made[0].charged()["learner"].cpu_s == half
    assert made[0].usage() == left
    assert made[0].wall_s() == left.wall_s
    assert made[1].charged()["learner"].cpu_s == pytest.approx(half + 0.02, rel=0.3)
    whole = sum(ledger.usage().cpu_s for ledger in made)
    assert whole == pytest.approx(time.process_time() - started, rel=0.2)
    assert sum(ledger.wall_s() for ledger in made) == pytest.approx(time.perf_counter() - began, rel=0.2)
    assert made[1].usage().peak_rss_bytes == pytest.approx(left.peak_rss_bytes, rel=0.1), "memory is not divided"


def test_joules_are_divided_and_no_counter_is_no_zero() -> None:
    clocks = SharedClocks(4, whole_process=False, energy=Counter())
    _, made = ledgers(clocks, 4)
    session = made[0].sessions[-1]
    assert session.cpu_j is not None
    assert session.cpu_j % 2.0 == 0.0
    assert session.cpu_j > 0.0
    assert session.gpu_j is None
    _, none = ledgers(SharedClocks(4, whole_process=False), 4)
    assert none[0].sessions[-1].cpu_j is None


def test_the_start_of_the_process_is_divided_too() -> None:
    clocks = SharedClocks(4, whole_process=True)
    assert clocks.startup.cpu_s is not None
    # children that other tests waited for are on the process's clock too
    assert 4 * clocks.startup.cpu_s == pytest.approx(ProcessClock(whole_process=True).cpu_s(), rel=0.05)
    assert SharedClocks(4, whole_process=False).startup.cpu_s is None
