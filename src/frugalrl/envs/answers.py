"""What the rewards and ends of a step must be: numbers, and True or False. ``ValueError`` says what came instead.

Without it numpy would make True of "False", 1.5 of "1.5" and NaN of None, and ``~`` would make -2 of the end 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Answers = tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]

_FLOAT, _BOOL = np.dtype(np.float64), np.dtype(np.bool_)


def answers_of(rewards: Any, terminated: Any, truncated: Any, num_rows: int) -> Answers:
    """Of all rows -> three arrays [B]: float64, bool, bool; passed through where they are that already."""
    gain, term, trunc = np.asarray(rewards), np.asarray(terminated), np.asarray(truncated)
    if not gain.shape == term.shape == trunc.shape == (num_rows,):
        for name, array in (("the reward", gain), ("terminated", term), ("truncated", trunc)):
            if array.shape != (num_rows,):
                raise ValueError(f"{name} has shape {array.shape}, but must be one value per row, ({num_rows},)")
    if gain.dtype != _FLOAT:
        if gain.dtype.kind not in "biuf":
            raise ValueError(f"the reward must be a number in each row, not {_say(rewards)}")
        gain = gain.astype(_FLOAT)
    if term.dtype != _BOOL or trunc.dtype != _BOOL:
        term, trunc = _ends("terminated", term, terminated), _ends("truncated", trunc, truncated)
    return gain, term, trunc


def _ends(name: str, array: NDArray[Any], given: Any) -> NDArray[np.bool_]:
    if array.dtype.kind not in "biuf" or ((array != 0) & (array != 1)).any():
        raise ValueError(f"{name} must be True or False in each row, not {_say(given)}")
    return array.astype(_BOOL)


def reward_of(given: Any) -> float:
    """The reward of one row."""
    if isinstance(given, (float, int, np.floating, np.integer)):  # of images, at every step: no array is made
        return float(given)
    array = np.asarray(_single("the reward", given))
    if array.dtype.kind not in "biuf":
        raise ValueError(f"the reward is {_say(given)}, but must be a number")
    return float(given)


def end_of(name: str, given: Any) -> bool:
    """``terminated`` or ``truncated`` of one row; a number may be 0 or 1."""
    if isinstance(given, (bool, np.bool_)):
        return bool(given)
    array = np.asarray(_single(name, given))
    if array.dtype.kind not in "biuf" or array not in (0, 1):
        raise ValueError(f"{name} is {_say(given)}, but must be True or False")
    return bool(array)


def _single(name: str, given: Any) -> Any:
    shape = np.shape(given)
    if shape:
        raise ValueError(f"{name} has shape {shape}, but must be a single value")
    return given


def _say(given: Any) -> str:
    text = " ".join(repr(given).split())
    return text if len(text) <= 80 else f"{text[:77]}..."
