"""Between two status lines: means stay means, and a largest value stays the largest."""

from __future__ import annotations

import pytest

from frugalrl.cost.ledger import Ledger
from frugalrl.run.loop import Event
from frugalrl.run.window import Window
from frugalrl.types import Updated


def event(*metrics: dict[str, float]) -> Event:
    return Event(None, tuple(Updated(metrics=m, priorities=None, costs={}) for m in metrics), ())


def test_extremes_are_not_averaged_and_do_not_outlive_their_line() -> None:
    window, ledger = Window(), Ledger(whole_process=False)
    window.add(event({"loss": 1.0, "diff_max": 0.5, "ratio_min": 0.2}))
    window.add(
        event({"loss": 3.0, "diff_max": 0.1, "ratio_min": 0.9}, {"loss": 5.0, "diff_max": 0.3, "ratio_min": 0.4})
    )
    assert window.close(ledger)[1] == {"loss": 3.0, "diff_max": 0.5, "ratio_min": 0.2}
    window.add(event({"loss": 2.0, "diff_max": 0.1, "ratio_min": 0.9}))
    means = window.close(ledger)[1]
    assert means == pytest.approx({"loss": 2.0, "diff_max": 0.1, "ratio_min": 0.9})
