"""What the tests of exploration rules share: a `View` from what matters, tie patterns, and the chi-square test."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

from frugalrl.math.explore import EXPLORERS, Choice, Knobs, Memory, View
from frugalrl.types import EnvSpec

TIE_PATTERNS = {
    "no ties": [0.1, 0.4, -0.3, 0.2],
    "two lowest": [-1.0, 2.0, -1.0, 0.5],
    "two highest": [2.0, -1.0, 2.0, 0.5],
    "both": [1.0, 0.0, 0.0, 1.0],
    "three lowest": [0.0, 0.0, 3.0, 0.0],
    "three highest": [3.0, 3.0, 0.0, 3.0],
    "all": [0.7, 0.7, 0.7, 0.7],
    "zeros of both signs": [0.0, -0.0, 1.0, 0.0],
    "one action": [0.3],
    "two actions": [0.3, 0.1],
}


def spec(num_actions: int = 4, num_indices: int | None = 5) -> EnvSpec:
    """An environment with index observations, or with vectors when ``num_indices`` is None."""
    index = num_indices is not None
    return EnvSpec(
        id="Some-v0",
        protocol="plain",
        obs_kind="index" if index else "vector",
        obs_shape=() if index else (3,),
        obs_dtype="int64" if index else "float32",
        num_actions=num_actions,
        num_indices=num_indices,
    )


def view_of(
    q: np.ndarray | None,
    eps: np.ndarray,
    u: np.ndarray,
    *,
    obs: np.ndarray | None = None,
    last: np.ndarray | None = None,
    temperature: float | np.ndarray | None = 1.0,
    num_actions: int = 4,
    **knobs: Any,
) -> View:
    rows = len(eps)
    if temperature is not None:
        temperature = np.broadcast_to(np.asarray(temperature, np.float64), rows)
    return View(
        q=q,
        obs=np.zeros(rows, np.int64) if obs is None else obs,
        last=np.zeros(rows, np.bool_) if last is None else last,
        eps=eps,
        temperature=temperature,
        u=u,
        num_actions=num_actions if q is None else q.shape[-1],
        knobs=Knobs(**knobs),
    )


def choose(
    name: str,
    q: np.ndarray | None,
    eps: np.ndarray,
    u: np.ndarray,
    share: float = 0.5,
    *,
    memory: Memory | None = None,
    **of_the_view: Any,
) -> Choice:
    """One step of a rule, from a fresh memory unless one is given."""
    view = view_of(q, eps, u, uniform_share=share, **of_the_view)
    explorer = EXPLORERS[name]
    return explorer.choose(view, explorer.start(spec(view.num_actions), len(eps)) if memory is None else memory)


def draws(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 3))


def chi_square(counts: np.ndarray, expected: np.ndarray) -> float:
    """p-value; outcomes of probability 0 must not occur at all."""
    assert counts[expected == 0].sum() == 0
    possible = expected > 0
    return 1.0 if possible.sum() == 1 else float(stats.chisquare(counts[possible], expected[possible]).pvalue)
