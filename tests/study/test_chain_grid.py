"""The grid: what is asked for, what is refused, and processes that change nothing."""

from __future__ import annotations

import multiprocessing

import numpy as np
import pytest

from frugalrl.study.chain import learn, randomness
from frugalrl.study.chain_grid import (
    BONUSES,
    GREEDY,
    METHODS,
    MIXTURES,
    Setting,
    learners_of,
    run_grid,
    settings_of,
)
from frugalrl.types import RunFailed, UserError

SMALL = settings_of([0.9], [0.5, 0.9], [0.15, 0.25])


def test_every_method_in_every_setting_once() -> None:
    settings = settings_of([0.9, 0.9], [0.5], [0.15, 0.25, 0.15])
    assert settings == (Setting(0.9, 0.5, 0.15), Setting(0.9, 0.5, 0.25))
    learners = learners_of(settings)
    assert len(set(learners)) == len(learners) == 2 * len(MIXTURES) + 1 + len(BONUSES)
    assert {x.method for x in learners} == set(METHODS)
    (greedy,) = (x for x in learners if x.method == GREEDY)
    assert greedy.eps == 0.0


def test_processes_change_nothing_and_each_learner_keeps_its_place() -> None:
    told: list[tuple[int, int]] = []
    one = run_grid(SMALL, 12, iterations=3, on_batch=lambda done, total: told.append((done, total)))
    two = run_grid(SMALL, 12, iterations=3, processes=2)
    np.testing.assert_array_equal(one.returns, two.returns)
    np.testing.assert_array_equal(one.td, two.td)
    assert told == [(n, told[0][1]) for n in range(1, told[0][1] + 1)]
    for setting in SMALL:
        for method in METHODS:
            place = one.at(setting, method)
            alone = learn([one.learners[place]], *randomness(range(12), 3))
            np.testing.assert_array_equal(one.returns[:, place], alone.returns[:, 0])
            np.testing.assert_array_equal(one.td[:, place], alone.td[:, 0].astype(np.float32))
    with pytest.raises(ValueError, match=r"no greedy under gamma 0\.8"):
        one.at(Setting(0.8, 0.5, 0.15), GREEDY)


def test_a_process_that_dies_is_a_sentence() -> None:
    def kill(done: int, total: int) -> None:
        for child in multiprocessing.active_children():
            child.kill()

    with pytest.raises(RunFailed, match=r"a process of the study died \(exit code -9\)"):
        run_grid(SMALL, 300, iterations=30, processes=2, on_batch=kill)
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (([1.0], [0.5], [0.1]), "gamma 1 is outside"),
        (([0.9], [0.0], [0.1]), "alpha 0 is outside"),
        (([0.9], [1.5], [0.1]), "alpha 1.5 is outside"),
        (([0.9], [0.5], [0.0]), "eps 0 is outside"),
        (([0.9], [0.5], [float("nan")]), "eps nan is outside"),
        (([0.9], [], [0.1]), "alpha has no value"),
    ],
)
def test_values_out_of_range_are_named(values: tuple[list[float], ...], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        settings_of(*values)


def test_too_few_and_too_many_seeds_are_refused() -> None:
    with pytest.raises(UserError, match="9 seeds are too few"):
        run_grid(SMALL, 9)
    with pytest.raises(UserError, match=r"need 84\.0 GB of memory"):
        run_grid(SMALL, 1_000_000)
