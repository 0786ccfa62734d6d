"""Schedules against hand-computed values."""

from __future__ import annotations

import numpy as np
import pytest

from frugalrl.math.schedules import Schedule, eps, value_at
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


def test_ladder_is_the_one_of_ape_x() -> None:
    """eps_i = 0.4 ** (1 + 7 i / (N - 1))."""
    schedule = Schedule(kind="ladder", start=0.4)
    np.testing.assert_allclose(eps(schedule, 123, 3), [0.4, 0.4**4.5, 0.4**8], rtol=1e-12)
    np.testing.assert_allclose(eps(schedule, 123, 1), [0.4])
    assert value_at(schedule, 5, row=2, num_rows=3) == pytest.approx(0.4**8)
    steeper = Schedule(kind="ladder", start=0.4, ladder_alpha=3.0)
    np.testing.assert_allclose(eps(steeper, 0, 2), [0.4, 0.4**4])


def test_eps_has_one_value_per_row() -> None:
    for kind in ("constant", "linear", "ladder"):
        values = eps(Schedule(kind=kind, start=0.5, end=0.1, steps=10), 5, 4)
        assert values.shape == (4,)
        assert values.dtype == np.float64
        assert ((values >= 0) & (values <= 1)).all()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"kind": "liner"}, "did you mean 'linear'"),
        ({"kind": "zzz"}, "constant, linear, ladder"),
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
