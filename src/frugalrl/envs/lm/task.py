"""A task for a language model: prompts, the one right answer to each, and the vocabulary both are written in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
"""Tokens by their number in the vocabulary."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """Prompts of one length, answers of one length, and a reward of 1 for the whole answer and nothing else."""

    id: str
    """``lm:NAME``."""
    vocabulary: str
    """One character per token: token i is written ``vocabulary[i]``."""
    prompt_tokens: int
    """P, the separator at the end included."""
    answer_tokens: int
    """R, the end token included if there is one."""
    draw: Callable[[np.random.Generator, int], Ids]
    """(generator, n) -> [n, P] prompts, evenly over all there are."""
    answer: Callable[[Ids], Ids]
    """[n, P] prompts -> [n, R] answers."""
    end: int | None = None
    """The token that ends a response; None: a response ends at R tokens."""

    def reward(self, prompt: Ids, response: Ids) -> NDArray[np.float32]:
        """[n, P] and [n, R] -> [n]: 1 where the response is the answer to its last token, else 0."""
        right: NDArray[np.bool_] = (response == self.answer(prompt)).all(-1)
        return right.astype(np.float32)

    def text(self, ids: Ids) -> str:
        """One row of tokens as characters."""
        return "".join(self.vocabulary[i] for i in ids)


def digits_task(
    id: str,
    *,
    digits: int,
    answer_digits: int,
    solve: Callable[[Ids], Ids],
    end: bool,
    join: int | None = None,
) -> Task:
    """A task over ten digits: ``digits`` random ones and ``=``, answered by ``answer_digits`` digits.

    ``solve``: [n, digits] -> [n, answer_digits]. ``join``: a ``+`` stands after so many digits. ``end``: the answer
    ends with ``$``.
    """
    vocabulary = "0123456789=" + ("+" if join is not None else "") + ("$" if end else "")
    equals, last = 10, len(vocabulary) - 1
    width = digits + 1 + (join is not None)
    places = [i for i in range(width - 1) if i != join]

    def draw(rng: np.random.Generator, n: int) -> Ids:
        prompt = np.full((n, width), equals, np.int64)
        if join is not None:
            prompt[:, join] = equals + 1
        prompt[:, places] = rng.integers(10, size=(n, digits))
        return prompt

    def answer(prompt: Ids) -> Ids:
        solved = solve(prompt[:, places])
        return np.pad(solved, ((0, 0), (0, 1)), constant_values=last) if end else solved

    return Task(
        id=id,
        vocabulary=vocabulary,
        prompt_tokens=width,
        answer_tokens=answer_digits + end,
        draw=draw,
        answer=answer,
        end=last if end else None,
    )


def as_number(digits: Ids) -> NDArray[Any]:
    """[n, d] decimal digits, the highest first -> [n]."""
    number: NDArray[Any] = digits @ (10 ** np.arange(digits.shape[1] - 1, -1, -1, dtype=np.int64))
    return number


def as_digits(number: NDArray[Any], width: int) -> Ids:
    """[n] -> [n, width], the highest digit first, zeros in front."""
    digits: Ids = number[:, None] // (10 ** np.arange(width - 1, -1, -1, dtype=np.int64)) % 10
    return digits
