"""The grid of the chain study: every method in every setting, in as many processes as wanted."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frugalrl.study.chain import Learner, learn, randomness
from frugalrl.types import RunFailed, UserError

ITERATIONS = 100
GAMMAS = (0.9, 0.99)
ALPHAS = (0.1, 0.3, 0.5, 0.9)
EPSILONS = (0.05, 0.15, 0.25)
COACT, EPS_GREEDY = "counteractive", "epsilon-greedy"
MIXTURES = {COACT: 0.0, "mixed-0.25": 0.25, "mixed-0.5": 0.5, "mixed-0.75": 0.75, EPS_GREEDY: 1.0}
"""Uniform share of the exploration branch, by method."""
GREEDY = "greedy"
BONUSES = {"ucb-2": 2.0, "ucb-0.05": 0.05, "ucb-0": 0.0}
"""c of UCB, by method: as printed in the paper; scaled to action values of this size; each action once, then greedy."""
METHODS = (*MIXTURES, GREEDY, *BONUSES)

MIN_SEEDS = 10
MAX_BYTES = 4 * 10**9
_BYTES_PER_VALUE = 30  # 5 for the results, the rest while curves and files are made of them
_LEARNERS_AT_ONCE, _SEEDS_AT_ONCE = 15, 250  # their tables fit a core's cache, and a batch takes seconds


@dataclass(frozen=True, slots=True, order=True)
class Setting:
    """What the methods are compared under."""

    gamma: float
    alpha: float
    eps: float

    def __str__(self) -> str:
        return f"gamma {self.gamma:g}, alpha {self.alpha:g}, eps {self.eps:g}"


@dataclass(frozen=True, slots=True)
class Results:
    """Returns and TD errors of every learner."""

    settings: tuple[Setting, ...]
    learners: tuple[Learner, ...]
    returns: NDArray[np.uint8]
    """[iterations, L, N]: reward of the greedy policy in 100 steps."""
    td: NDArray[np.float32]
    """[iterations, L, N]: mean signed TD error of the 100 training steps."""

    @property
    def seeds(self) -> int:
        return int(self.returns.shape[2])

    def at(self, setting: Setting, method: str) -> int:
        """Place of a learner on the axis L; greedy and UCB do not depend on eps."""
        for place, x in enumerate(self.learners):
            if (x.method, x.gamma, x.alpha) == (method, setting.gamma, setting.alpha) and (
                method not in MIXTURES or x.eps == setting.eps
            ):
                return place
        raise ValueError(f"no {method} under {setting}")


def settings_of(gammas: Sequence[float], alphas: Sequence[float], epsilons: Sequence[float]) -> tuple[Setting, ...]:
    """All combinations, each value once. Raises UserError for a value out of range."""
    for name, values, one_fits, span in (
        ("gamma", gammas, False, "(0, 1): the task never ends, so gamma = 1 has no finite value"),
        ("alpha", alphas, True, "(0, 1]: it is the step size"),
        ("eps", epsilons, True, "(0, 1]: at 0 nothing explores, which is the method greedy"),
    ):
        if not values:
            raise UserError(f"{name} has no value; give at least one")
        for value in values:
            if not (0 < value < 1 or (one_fits and value == 1)):
                raise UserError(f"{name} {value:g} is outside {span}")
    return tuple(
        Setting(g, a, e) for g in dict.fromkeys(gammas) for a in dict.fromkeys(alphas) for e in dict.fromkeys(epsilons)
    )


def learners_of(settings: Sequence[Setting]) -> tuple[Learner, ...]:
    """Every method in every setting; those without eps once for each gamma and alpha."""
    found = [
        Learner(method=method, gamma=s.gamma, alpha=s.alpha, eps=s.eps, share=share)
        for s in settings
        for method, share in MIXTURES.items()
    ]
    for gamma, alpha in dict.fromkeys((s.gamma, s.alpha) for s in settings):
        found.append(Learner(method=GREEDY, gamma=gamma, alpha=alpha, eps=0.0, share=0.0))
        found += [Learner(method=m, gamma=gamma, alpha=alpha, bonus=c) for m, c in BONUSES.items()]
    return tuple(found)


def run_grid(
    settings: Sequence[Setting],
    seeds: int,
    *,
    processes: int = 1,
    iterations: int = ITERATIONS,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> Results:
    """Run every method in every setting with the seeds 0 to ``seeds - 1``; the number of processes changes nothing.

    Args:
        processes: with more than one, new processes are started, so the caller's program must be importable.
        on_batch: is told (batches done, batches in all).

    Raises:
        UserError: too few seeds for an interval, or more than the memory should hold.
        RunFailed: a process died.
    """
    learners = learners_of(settings)
    if seeds < MIN_SEEDS:
        raise UserError(f"{seeds} seeds are too few for an interval over seeds; use {MIN_SEEDS} or more")
    needed = iterations * len(learners) * seeds * _BYTES_PER_VALUE
    if needed > MAX_BYTES:
        raise UserError(
            f"{len(learners)} learners with {seeds:,} seeds need {needed / 1e9:.1f} GB of memory; "
            f"use fewer seeds or settings (the limit is {MAX_BYTES / 1e9:.0f} GB)"
        )
    returns = np.zeros((iterations, len(learners), seeds), np.uint8)
    td = np.zeros((iterations, len(learners), seeds), np.float32)
    todo = _batches(learners, seeds)
    tasks = [_Task([learners[i] for i in places], some, iterations) for places, some in todo]
    for done, (number, found) in enumerate(_results(tasks, min(processes, len(tasks))), start=1):
        places, some = todo[number]
        at = np.ix_(range(iterations), places, some)
        returns[at], td[at] = found
        on_batch(done, len(tasks))
    return Results(tuple(settings), learners, returns, td)


def _batches(learners: Sequence[Learner], seeds: int) -> list[tuple[list[int], range]]:
    """Places of learners of one kind, and seeds, that run together."""
    found = []
    for with_bonus in (False, True):
        places = [i for i, x in enumerate(learners) if (x.bonus is not None) == with_bonus]
        for i in range(0, len(places), _LEARNERS_AT_ONCE):
            found += [
                (places[i : i + _LEARNERS_AT_ONCE], range(first, min(first + _SEEDS_AT_ONCE, seeds)))
                for first in range(0, seeds, _SEEDS_AT_ONCE)
            ]
    return found


@dataclass(frozen=True, slots=True)
class _Task:
    learners: list[Learner]
    seeds: range
    iterations: int

    def run(self) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        curves = learn(self.learners, *randomness(self.seeds, self.iterations))
        return curves.returns.astype(np.uint8), curves.td.astype(np.float32)


def _results(tasks: Sequence[_Task], processes: int) -> Iterator[tuple[int, Any]]:
    """(number of the task, what it found), in any order."""
    if processes <= 1:
        yield from ((number, task.run()) for number, task in enumerate(tasks))
        return
    context = multiprocessing.get_context("spawn")
    workers: dict[Connection, Any] = {}
    try:
        for first in range(processes):
            ours, theirs = context.Pipe(duplex=False)
            part = list(enumerate(tasks))[first::processes]
            worker = context.Process(target=_work, args=(theirs, part), daemon=True)
            workers[ours] = worker
            with _interrupt_waits():
                worker.start()
            theirs.close()
        running = set(workers)
        while running:
            for pipe in wait(list(running)):
                assert isinstance(pipe, Connection)
                try:
                    yield pipe.recv()
                except EOFError:
                    running.remove(pipe)
                    workers[pipe].join()
                    if workers[pipe].exitcode:
                        raise RunFailed(
                            f"a process of the study died (exit code {workers[pipe].exitcode}); if memory was short, "
                            "fewer seeds or --processes 1 need less"
                        ) from None
    finally:
        for pipe, worker in workers.items():
            if worker.pid is not None:
                worker.terminate()
                worker.join()
            pipe.close()


def _work(pipe: Connection, tasks: Sequence[tuple[int, _Task]]) -> None:
    for number, task in tasks:
        try:
            pipe.send((number, task.run()))
        except BrokenPipeError:  # the parent was killed: nobody waits for the rest
            return
        except MemoryError:  # the parent says it in a sentence
            raise SystemExit(1) from None
    pipe.close()


@contextmanager
def _interrupt_waits() -> Iterator[None]:
    """Ctrl-C comes after this block; a child started in it never sees one, its parent ends it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # else the first child starts it, and it lets the signal through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
