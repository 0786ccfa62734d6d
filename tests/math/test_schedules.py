"""Schedules against hand-computed values."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from frugalrl.math.schedules import Kind, Schedule, of_rows, smallest_and_largest, value_at
from frugalrl.types import UserError


def test_constant_stays() -> None:
    schedule = Schedule(kind="constant", start=0.15)
    assert {value_at(schedule, step) for step in (0, 1, 10**9)} == {0.15}


def test_line_meets_both_ends_exactly() -> None:
    schedule = Schedule(kind="linear", start=1.0, end=0.1, start_step=100, steps=900)
    assert [value_at(schedule, s) for s in (0, 100)] == [1.0, 1.0]
    assert value_at(schedule, 101) < 1.0
    assert value_at(schedule, 550) == pytest.approx(0.55)
    assert [value_at(schedule, s) for s in (1000, 1001, 10**9)] == [0.1, 0.1, 0.1]


def test_line_may_rise() -> None:
    schedule = Schedule(kind="linear", start=0.4, end=1.0, steps=10)
    assert [value_at(schedule, s) for s in (0, 5, 10)] == pytest.approx([0.4, 0.7, 1.0])


def test_the_distance_of_an_exponential_halves() -> None:
    schedule = Schedule(kind="exponential", start=1.0, end=0.2, start_step=100, half_life_steps=50)
    assert [value_at(schedule, s) for s in (0, 100)] == [1.0, 1.0]
    assert [value_at(schedule, s) for s in (150, 200, 250)] == pytest.approx([0.6, 0.4, 0.3])
    assert value_at(schedule, 125) == pytest.approx(0.2 + 0.8 / 2**0.5)
    assert value_at(schedule, 10**9) == 0.2


def test_an_exponential_is_a_product_of_equal_steps() -> None:
    """Slow definition: every step multiplies the distance by the same factor."""
    schedule = Schedule(kind="exponential", start=0.3, end=0.9, start_step=7, half_life_steps=13)
    value, factor = 0.3, 0.5 ** (1 / 13)
    for step in range(7, 100):
        assert value_at(schedule, step) == pytest.approx(value, rel=1e-12)
        value = 0.9 + (value - 0.9) * factor
    line = Schedule(kind="linear", start=0.3, end=0.9, start_step=7, steps=26)
    assert abs(value_at(schedule, 20) - value_at(line, 20)) < 1e-12, "they meet half-way"
    assert abs(value_at(schedule, 33) - value_at(line, 33)) > 0.1


@pytest.mark.parametrize("kind", get_args(Kind))
@pytest.mark.parametrize(("start", "end"), [(1.0, 0.1), (0.2, 0.8)])
def test_bounds_hold_at_every_step_and_row(kind: Kind, start: float, end: float) -> None:
    schedule = Schedule(kind=kind, start=start, end=end, start_step=5, steps=30, half_life_steps=4, ladder_alpha=3.0)
    values = np.concatenate([of_rows(schedule, step, 3) for step in range(400)])
    assert (values.min(), values.max()) == pytest.approx(smallest_and_largest(schedule))


def test_ladder_is_the_one_of_ape_x() -> None:
    """eps_i = 0.4 ** (1 + 7 i / (N - 1))."""
    schedule = Schedule(kind="ladder", start=0.4)
    np.testing.assert_allclose(of_rows(schedule, 123, 3), [0.4, 0.4**4.5, 0.4**8], rtol=1e-12)
    np.testing.assert_allclose(of_rows(schedule, 123, 1), [0.4])
    assert value_at(schedule, 5, row=2, num_rows=3) == pytest.approx(0.4**8)
    steeper = Schedule(kind="ladder", start=0.4, ladder_alpha=3.0)
    np.testing.assert_allclose(of_rows(steeper, 0, 2), [0.4, 0.4**4])


def test_there_is_one_value_per_row() -> None:
    for kind in get_args(Kind):
        values = of_rows(Schedule(kind=kind, start=0.5, end=0.1, steps=10, half_life_steps=3), 5, 4)
        assert values.shape == (4,)
        assert values.dtype == np.float64
        assert ((values >= 0) & (values <= 1)).all()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"kind": "liner"}, "did you mean 'linear'"),
        ({"kind": "zzz"}, "constant, linear, exponential, ladder"),
        ({"kind": "exponential"}, "half_life_steps .* is None; set"),
        ({"kind": "exponential", "half_life_steps": 0}, "half_life_steps .* is 0"),
        ({"start": float("nan")}, "start .* finite"),
        ({"end": float("inf")}, "end .* finite"),
        ({"steps": 0}, "steps=0"),
        ({"start_step": -1}, "start_step=-1"),
        ({"kind": "ladder", "start": 1.5}, "start=1.5"),
        ({"kind": "ladder", "start": 0.4, "ladder_alpha": -1.0}, "ladder_alpha=-1.0"),
    ],
)
def test_bad_values_are_refused(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Schedule(**wrong)
