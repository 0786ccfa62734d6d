"""Arrays larger than the memory, filled a little."""

from __future__ import annotations

import sys

import numpy as np
import psutil
import pytest

from frugalrl.replay.lazy_memory import zeros_as_used


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux takes it")
def test_an_array_of_twice_the_memory_is_made_and_takes_what_is_written() -> None:
    before = psutil.Process().memory_info().rss
    rows = 2 * psutil.virtual_memory().total // 4096
    array = zeros_as_used((rows, 4096), np.uint8)
    array[rows // 2] = 7
    assert array[rows // 2].tolist() == [7] * 4096
    assert array[0, 0] == 0
    assert psutil.Process().memory_info().rss - before < 50e6


def test_a_small_one_is_zeros() -> None:
    assert zeros_as_used((3, 2), np.int64).tolist() == [[0, 0]] * 3
