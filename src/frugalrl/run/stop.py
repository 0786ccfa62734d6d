"""When a run ends: budgets, a target, a signal."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from frugalrl.run.config import BudgetConfig


@dataclass(frozen=True, slots=True)
class Used:
    """What a run has used so far, all sessions."""

    env_steps: int
    wall_s: float | None
    """None where no budget of hours asks."""
    eur: float | None
    score: float | None


def reason_to_stop(budget: BudgetConfig, used: Used) -> str | None:
    """The first limit that is reached, in words."""
    if budget.target_score is not None and used.score is not None and used.score >= budget.target_score:
        return f"the target score of {budget.target_score:g} is reached"
    if budget.env_steps is not None and used.env_steps >= budget.env_steps:
        return f"the budget of {budget.env_steps:,} steps is used"
    if budget.hours is not None and used.wall_s is not None and used.wall_s >= budget.hours * 3600:
        return f"the budget of {budget.hours:g} hours is used"
    if budget.eur is not None and used.eur is not None and used.eur >= budget.eur:
        return f"the budget of {budget.eur:g} EUR is used"
    return None


def share_done(budget: BudgetConfig, used: Used) -> float | None:
    """The largest used share of all limits that can be foreseen; None without one."""
    shares = []
    if budget.env_steps is not None:
        shares.append(used.env_steps / budget.env_steps)
    if budget.hours is not None and used.wall_s is not None:
        shares.append(used.wall_s / (budget.hours * 3600))
    if budget.eur is not None and used.eur is not None:
        shares.append(used.eur / budget.eur)
    return min(1.0, max(shares)) if shares else None


def in_words(budget: BudgetConfig) -> str:
    """The budget for a person."""
    parts = []
    if budget.env_steps is not None:
        parts.append(f"{budget.env_steps:,} steps")
    if budget.hours is not None:
        parts.append(f"{budget.hours:g} h")
    if budget.eur is not None:
        parts.append(f"{budget.eur:g} EUR")
    if budget.target_score is not None:
        parts.append(f"score {budget.target_score:g}")
    return " or ".join(parts) or "no limit"


class Interrupt:
    """Set by Ctrl-C, SIGTERM or a terminal that is closed; the loop ends after its block.

    A second Ctrl-C ends the process the hard way.
    """

    def __init__(self) -> None:
        self.name: str | None = None

    def __bool__(self) -> bool:
        return self.name is not None


@contextmanager
def interruptible() -> Iterator[Interrupt]:
    """Catch SIGINT, SIGTERM and SIGHUP inside the block; outside the main thread there is nothing to catch.

    A SIGHUP that is ignored (``nohup``) stays so.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    hangup = getattr(signal, "SIGHUP", None)  # not on Windows
    if hangup is not None and signal.getsignal(hangup) != signal.SIG_IGN:
        before[hangup] = signal.getsignal(hangup)

    def handle(number: int, frame: object) -> None:
        if interrupt and number == signal.SIGINT:
            raise KeyboardInterrupt
        interrupt.name = signal.Signals(number).name

    for s in before:
        signal.signal(s, handle)
    try:
        yield interrupt
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
