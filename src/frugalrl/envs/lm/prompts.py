"""Prompts by number: a stream to train on and a fixed set that is never trained on.

Which side a prompt is on depends on its tokens alone: a hash puts one in eight aside. So both sides are disjoint for
every seed, without a list of either.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from frugalrl.envs.lm.task import Ids, Task
from frugalrl.types import UserError

_BLOCK = 64
"""Prompts drawn from one generator: making a generator costs more than drawing a prompt."""
_MOST_TRIES = 200
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def held_out(prompt: Ids) -> NDArray[np.bool_]:
    """[n, P] -> [n]: whether a prompt belongs to the set that is never trained on."""
    mixed = np.full(len(prompt), 0x243F6A8885A308D3, np.uint64)
    for column in prompt.T:  # splitmix-like: multiply, then fold the high bits onto the low ones
        mixed = (mixed ^ column.astype(np.uint64)) * _MULTIPLIER
        mixed ^= mixed >> np.uint64(29)
    aside: NDArray[np.bool_] = (mixed >> np.uint64(61)) == 0
    return aside


def train_prompts(task: Task, seed: int, first: int, n: int) -> Ids:
    """Prompts ``first`` to ``first + n - 1`` of the stream of a seed, [n, P]. Each depends on its number alone."""
    blocks = range(first // _BLOCK, (first + n - 1) // _BLOCK + 1)
    drawn = np.concatenate([_draw(task, (seed, 0, block), _BLOCK, want=False) for block in blocks])
    return drawn[first % _BLOCK :][:n]


def eval_prompts(task: Task, seed: int, n: int) -> Ids:
    """``n`` held-out prompts, [n, P], the same for every call; a small task has fewer different ones than that.

    Raises UserError for a task so small that it has none.
    """
    return _draw(task, (seed, 1), n, want=True)


def check_sides(task: Task) -> None:
    """Raises UserError for a task so small that one of its sides is empty: said before anything is trained."""
    train_prompts(task, 0, 0, 1)
    eval_prompts(task, 0, 1)


def _draw(task: Task, key: tuple[int, ...], n: int, *, want: bool) -> Ids:
    rng = np.random.default_rng(np.random.SeedSequence(key))
    found = np.empty((0, task.prompt_tokens), np.int64)
    for _ in range(_MOST_TRIES):
        drawn = task.draw(rng, 10 * n if want else 2 * n)
        found = np.concatenate((found, drawn[held_out(drawn) == want]))
        if len(found) >= n:
            return found[:n]
    side = "to hold out" if want else "to train on"
    raise UserError(f"{task.id} has too few prompts {side}; give a larger length with --env-kwargs length=N")
