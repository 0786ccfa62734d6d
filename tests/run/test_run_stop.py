from __future__ import annotations

import os
import signal
import threading

import pytest

from frugalrl.run.config import BudgetConfig
from frugalrl.run.stop import Used, in_words, interruptible, reason_to_stop, share_done


def used(env_steps: int = 0, wall_s: float = 0.0, eur: float | None = None, score: float | None = None) -> Used:
    return Used(env_steps=env_steps, wall_s=wall_s, eur=eur, score=score)


@pytest.mark.parametrize(
    ("budget", "before", "after", "says"),
    [
        (BudgetConfig(env_steps=10_000), used(9_999), used(10_000), "the budget of 10,000 steps is used"),
        (BudgetConfig(hours=1.5), used(wall_s=5_399.9), used(wall_s=5_400), "the budget of 1.5 hours is used"),
        (BudgetConfig(eur=0.2), used(eur=0.19), used(eur=0.2), "the budget of 0.2 EUR is used"),
        (BudgetConfig(target_score=21), used(score=20.9), used(score=21), "the target score of 21 is reached"),
        (BudgetConfig(target_score=-3), used(score=-4), used(score=0), "the target score of -3 is reached"),
    ],
)
def test_each_limit_ends_a_run(budget: BudgetConfig, before: Used, after: Used, says: str) -> None:
    assert reason_to_stop(budget, before) is None
    assert reason_to_stop(budget, after) == says


def test_without_a_limit_nothing_ends_a_run() -> None:
    assert reason_to_stop(BudgetConfig(), used(10**9, 10**9, 10**9, 10**9)) is None
    assert share_done(BudgetConfig(target_score=1), used(10**9)) is None
    assert in_words(BudgetConfig()) == "no limit"


def test_a_target_waits_for_a_score() -> None:
    assert reason_to_stop(BudgetConfig(target_score=-100), used(50)) is None


def test_the_first_limit_counts() -> None:
    budget = BudgetConfig(env_steps=100, hours=1, eur=2, target_score=5)
    assert in_words(budget) == "100 steps or 1 h or 2 EUR or score 5"
    assert reason_to_stop(budget, used(99, 10, 1.0, 4)) is None
    assert reason_to_stop(budget, used(99, 10, 2.5, 4)) == "the budget of 2 EUR is used"
    assert reason_to_stop(budget, used(100, 10, 1.0, 6)) == "the target score of 5 is reached", "what was wanted"
    assert share_done(budget, used(10, 1_800, 0.2)) == 0.5
    assert share_done(budget, used(1_000)) == 1.0


@pytest.mark.parametrize("name", ["env_steps", "hours", "eur"])
def test_limits_are_positive(name: str) -> None:
    with pytest.raises(ValueError, match=rf"budget.{name}=0"):
        BudgetConfig(**{name: 0})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_noted_and_the_handlers_are_put_back(number: signal.Signals) -> None:
    def mine(number: int, frame: object) -> None:
        """In the place of whatever the process that started the tests ignores, such as nohup's SIGHUP."""

    before = signal.signal(number, mine)
    try:
        with interruptible() as interrupt:
            assert not interrupt
            os.kill(os.getpid(), number)
            assert interrupt
            assert interrupt.name == number.name
            os.kill(os.getpid(), signal.SIGTERM)  # once more changes nothing
        assert signal.getsignal(number) is mine
    finally:
        signal.signal(number, before)


def test_under_nohup_a_closed_terminal_ends_nothing() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible() as interrupt:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not interrupt
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_ctrl_c_ends_it_the_hard_way() -> None:
    with interruptible():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_outside_of_the_main_thread_nothing_is_caught() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def work() -> None:
        with interruptible() as interrupt:
            seen.append((bool(interrupt), signal.getsignal(signal.SIGTERM) is before))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, True)]
