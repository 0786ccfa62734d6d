"""Proportional prioritised replay: Schaul et al., "Prioritized Experience Replay", 2016, section 3.3.

A transition is drawn with probability ``P = (1 - uniform_share) * p / sum(p) + uniform_share / N``, where
``p = (|td| + priority_eps) ** alpha``, and gets the weight ``(N * P) ** -beta``, divided by the largest weight of its
batch. N is the number of transitions that can be drawn.

The largest weight of the batch, not of the whole replay: the maximum over the replay belongs to the least likely
transition, so one that is hardly ever drawn would scale every update; and it would need a second tree on the hot path.
OpenAI Baselines divides by the maximum over the replay, DQN Zoo by that of the batch. Both keep weights at most 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from frugalrl.math.schedules import Schedule, value_at
from frugalrl.replay.config import ReplayConfig
from frugalrl.replay.sum_tree import SumTree

Ints = NDArray[np.int64]


class Priorities:
    """The masses of the ``num_starts * num_rows`` newest possible starts; start (s, env) has one fixed leaf."""

    def __init__(self, config: ReplayConfig, num_starts: int, num_rows: int) -> None:
        self._config = config
        self._num_starts = num_starts
        self._num_rows = num_rows
        self._tree = SumTree(num_starts * num_rows)
        self._beta = Schedule(
            kind="linear", start=config.beta_start, end=config.beta_end, start_step=0, steps=config.beta_steps
        )
        self.max_priority = 1.0
        """The largest priority seen so far; new transitions get it, so that each is likely to be drawn once."""

    @property
    def nbytes(self) -> int:
        """Bytes of the tree."""
        return self._tree.nbytes

    @property
    def has_mass(self) -> bool:
        """False when every priority is 0 (possible only with priority_eps 0)."""
        return self._tree.total > 0.0

    @property
    def leaves(self) -> NDArray[np.float64]:
        """[num_starts * num_rows] the masses, which with ``max_priority`` are the whole state."""
        return self._tree.leaves

    def load(self, leaves: NDArray[np.float64], max_priority: float) -> None:
        """Puts the state back; ValueError if it is not one."""
        if leaves.shape != self.leaves.shape or not (np.isfinite(leaves).all() and (leaves >= 0.0).all()):
            raise ValueError(
                f"priorities to restore must be {self.leaves.shape} finite numbers of at least 0, "
                f"but are {leaves.shape} from {leaves.min()} to {leaves.max()}"
            )
        self._tree.set_all(leaves)
        self.max_priority = float(max_priority)

    def enter(self, start: int, eligible: NDArray[np.bool_]) -> None:
        """Gives row ``start`` the largest priority where eligible [B], and takes the mass of the start it replaces."""
        mass = (self.max_priority + self._config.priority_eps) ** self._config.alpha
        self._tree.set_span((start % self._num_starts) * self._num_rows, eligible * mass)

    def set(self, start: Ints, env: Ints, priority: NDArray[np.float64]) -> None:
        """Sets priorities, |td| [N], of starts that are still there; the last one counts where a start is repeated."""
        if len(priority):
            self.max_priority = max(self.max_priority, float(priority.max()))
        mass = (priority + self._config.priority_eps) ** self._config.alpha
        self._tree.set((start % self._num_starts) * self._num_rows + env, mass)

    def draw(self, count: int, low: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """``count`` starts (absolute row, environment), one from each of ``count`` equal parts of the total mass."""
        point = (np.arange(count) + rng.random(count)) / count * self._tree.total
        leaf = self._tree.find(point)
        slot, env = np.divmod(leaf, self._num_rows)
        return low + (slot - low) % self._num_starts, env

    def weight(self, start: Ints, env: Ints, size: int, env_step: int) -> NDArray[np.float32]:
        """Importance weights [N] of drawn starts at an environment step; the largest is 1."""
        share = self._config.uniform_share if self.has_mass else 1.0
        probability = np.full(len(start), share / size)
        if self.has_mass:
            mass = self._tree.leaves[(start % self._num_starts) * self._num_rows + env]
            probability += (1.0 - share) * mass / self._tree.total
        weight = (size * probability) ** -value_at(self._beta, env_step)
        scaled: NDArray[np.float32] = (weight / weight.max()).astype(np.float32)
        return scaled
