"""Is the exported policy the one that was trained? Compared on observations of the real environment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frugalrl.envs import RowEnv
from frugalrl.export.file_player import FilePlayer
from frugalrl.export.formats import Played
from frugalrl.math.explore import epsilon_greedy
from frugalrl.policies.acting import Player
from frugalrl.sampling.row_policy import row_policy
from frugalrl.sampling.streams import RowStreams

Array = NDArray[Any]
Preferences = Callable[[Array], Array]
"""Q-values or logits [B, A] of observations."""
TOLERANCE = 1e-4
"""Allowed difference of a Q-value or logit, times the largest magnitude where that is above 1: sums in another order,
no more."""
_RANDOM = 0.5


@dataclass(frozen=True, slots=True)
class Checked:
    """How far the two policies are apart."""

    observations: int
    max_abs_difference: float
    """Of a Q-value or logit."""
    allowed: float
    equal_actions: float
    """Share of observations with the same action of both; equal preferences may part them within the tolerance."""
    episodes: int | None = None
    """Ends of episodes on the way, after which both began anew; None for a policy that remembers nothing."""

    @property
    def agrees(self) -> bool:
        """False for NaN, too."""
        return self.max_abs_difference <= self.allowed


class _Gap:
    """Gathers how far two policies are apart."""

    def __init__(self) -> None:
        self._differences: list[float] = []
        self._largest, self._equal, self._seen = 1.0, 0, 0

    def add(self, ours: Array, theirs: Array, action: Array) -> None:
        """Preferences [B, A] of both, and the file's actions [B]. Raises ValueError for other shapes."""
        if theirs.shape != ours.shape or action.shape != ours.shape[:1]:
            raise ValueError(f"the file answers with shapes {theirs.shape} and {action.shape} instead of {ours.shape}")
        self._differences.append(float(np.abs(ours - theirs).max()))
        self._largest = max(self._largest, float(np.abs(ours).max()))
        self._equal += int((action == ours.argmax(-1)).sum())
        self._seen += len(ours)

    def checked(self, episodes: int | None = None) -> Checked:
        most = float(np.max(self._differences))
        return Checked(self._seen, most, TOLERANCE * self._largest, self._equal / self._seen, episodes)


def collect(env: RowEnv, preferences: Preferences, steps: int, seed: int) -> Array:
    """Observations [steps * B, *obs_shape] on the way of a policy that acts at random in every second step or so."""
    streams, eps = RowStreams(seed, env.num_rows), np.full(env.num_rows, _RANDOM)
    now = env.reset()
    seen = []
    for _ in range(steps):
        seen.append(np.array(now.obs))
        now = env.step(epsilon_greedy(preferences(now.obs), eps, streams.next()).action)
    return np.concatenate(seen)


def compare(obs: Array, ours: Preferences, theirs: Played) -> Checked:
    """Both policies on the same observations, in batches of 1, 2 and all the rest. Needs at least four of them."""
    gap = _Gap()
    for start, stop in pairwise((0, 1, 3, len(obs))):
        part = obs[start:stop]
        gap.add(ours(part), *theirs(part))
    return gap.checked()


def compare_episodes(
    env: RowEnv,
    ours: Player,
    theirs: FilePlayer,
    seed: int,
    *,
    least: int,
    after: int,
    most: int,
    clip_reward: bool = False,
) -> Checked:
    """Two policies with memory on the same episodes, each with its own state from the first observation on.

    Actions are ours, at random in every second step or so. Played are at least ``least`` steps, and ``after`` steps
    more than the first end of an episode needs, so that beginning anew is compared too; ``most`` steps at most.
    ``clip_reward``: of the protocol, see `row_policy`.
    """
    rows = env.num_rows
    mine, its = (row_policy(player, rows, clip_reward=clip_reward) for player in (ours, theirs))
    streams, eps, gap = RowStreams(seed, rows), np.full(rows, _RANDOM), _Gap()
    now, episodes, stop = env.reset(), 0, most
    step = 0
    while step < stop:
        mine.arrive(now)
        its.arrive(now)
        preferences = mine.values(now.obs)
        gap.add(preferences, its.values(now.obs), theirs.action)
        action = epsilon_greedy(preferences, eps, streams.next()).action
        mine.acted(action)
        its.acted(action)
        now = env.step(action)
        step += 1
        if now.episodes and not episodes:
            stop = min(most, max(least, step + after))
        episodes += len(now.episodes)
    return gap.checked(episodes)
