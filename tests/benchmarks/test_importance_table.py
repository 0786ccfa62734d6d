"""The table of docs/importance.md is what the command prints."""

from __future__ import annotations

import re
from pathlib import Path

import importance_table
import numpy as np
import pytest

PAGE = Path(__file__).parents[2] / "docs" / "importance.md"


def on_the_page(number: int) -> list[str]:
    return importance_table.between_markers(PAGE.read_text())[1].split("\n\n")[number].splitlines()


def same(printed: list[str], shown: list[str]) -> bool:
    """Equal but for the last digit, which another processor may round otherwise."""
    number = re.compile(r"\d+\.\d+")
    found = [[float(x) for x in number.findall("\n".join(lines))] for lines in (printed, shown)]
    words = [number.sub("x", "\n".join(lines)) for lines in (printed, shown)]
    return words[0] == words[1] and np.allclose(*found, rtol=1e-3, atol=0.011)


def test_the_page_has_what_the_command_prints_of_bandits() -> None:
    printed = list(importance_table.bandits())
    assert same(printed, on_the_page(0))
    assert not same(printed, [line.replace("0.2", "0.4") for line in on_the_page(0)]), "the comparison is not blind"


@pytest.mark.slow
def test_the_page_has_what_the_command_prints_of_trees() -> None:
    assert same(list(importance_table.trees()), on_the_page(1))


def test_markers_that_are_not_there_are_named() -> None:
    with pytest.raises(SystemExit, match="no markers"):
        importance_table.between_markers("# a page")
