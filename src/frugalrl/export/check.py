"""Is the exported policy the one that was trained? Compared on observations of the real environment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frugalrl.envs import RowEnv
from frugalrl.export.formats import Played
from frugalrl.math.explore import epsilon_greedy
from frugalrl.sampling.streams import RowStreams

QValues = Callable[[NDArray[Any]], NDArray[Any]]
TOLERANCE = 1e-4
"""Allowed difference of a Q-value, times the largest |Q| where that is above 1: sums in another order, no more."""
_RANDOM = 0.5


@dataclass(frozen=True, slots=True)
class Checked:
    """How far the two policies are apart."""

    observations: int
    max_abs_difference: float
    """Of a Q-value."""
    allowed: float
    equal_actions: float
    """Share of observations in which both take the same action; equal Q-values may part them within the tolerance."""

    @property
    def agrees(self) -> bool:
        """False for NaN, too."""
        return self.max_abs_difference <= self.allowed


def collect(env: RowEnv, q_values: QValues, steps: int, seed: int) -> NDArray[Any]:
    """Observations [steps * B, *obs_shape] on the way of a policy that acts at random in every second step or so."""
    streams, eps = RowStreams(seed, env.num_rows), np.full(env.num_rows, _RANDOM)
    now = env.reset()
    seen = []
    for _ in range(steps):
        seen.append(np.array(now.obs))
        now = env.step(epsilon_greedy(q_values(now.obs), eps, streams.next()).action)
    return np.concatenate(seen)


def compare(obs: NDArray[Any], ours: QValues, theirs: Played) -> Checked:
    """Both policies on the same observations, in batches of 1, 2 and all the rest. Needs at least four of them."""
    cuts = (0, 1, 3, len(obs))
    differences, equal, largest = [], 0, 1.0
    for start, stop in pairwise(cuts):
        part = obs[start:stop]
        q, (q_theirs, action) = ours(part), theirs(part)
        if q_theirs.shape != q.shape or action.shape != q.shape[:1]:
            raise ValueError(f"the file answers with shapes {q_theirs.shape} and {action.shape} instead of {q.shape}")
        differences.append(float(np.abs(q - q_theirs).max()))
        largest = max(largest, float(np.abs(q).max()))
        equal += int((action == q.argmax(-1)).sum())
    return Checked(len(obs), float(np.max(differences)), TOLERANCE * largest, equal / len(obs))
