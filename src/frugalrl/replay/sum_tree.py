"""A sum tree with 64 children per node: draws in proportion to mass and changes masses, both vectorised.

Every node is the sum of its children, always computed anew from all of them, so nothing drifts and the tree is a
function of its leaves alone. For 1,000,000 leaves it has 4 levels where a binary tree has 20: few numpy calls, each
on a small block.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FANOUT_LOG2 = 6
FANOUT = 1 << FANOUT_LOG2

Masses = NDArray[np.float64]


class SumTree:
    """``num_leaves`` non-negative masses, all 0 at first."""

    def __init__(self, num_leaves: int) -> None:
        if num_leaves < 1:
            raise ValueError(f"a sum tree needs at least 1 leaf, but num_leaves is {num_leaves}")
        self._levels: list[Masses] = []
        width = num_leaves
        while not self._levels or width > 1:
            blocks = -(-width // FANOUT)
            self._levels.append(np.zeros(blocks * FANOUT))
            width = blocks
        self._blocks = [level.reshape(-1, FANOUT) for level in self._levels]
        self.leaves = self._levels[0][:num_leaves]
        """[num_leaves] float64; read it, but change it only through `set`, `set_span` or `set_all`."""

    @property
    def total(self) -> float:
        """The sum of all masses."""
        return float(self._levels[-1].sum())

    @property
    def nbytes(self) -> int:
        """Bytes of all levels."""
        return sum(level.nbytes for level in self._levels)

    def set(self, leaf: NDArray[np.int64], mass: Masses) -> None:
        """Sets the masses of leaves [N]; where a leaf is named more than once the last mass counts."""
        self.leaves[leaf] = mass
        node = leaf
        for blocks, parent in zip(self._blocks, self._levels[1:], strict=False):
            node = node >> FANOUT_LOG2
            parent[node] = blocks[node].sum(axis=1)

    def set_span(self, start: int, mass: Masses) -> None:
        """Sets neighbouring leaves ``start, start + 1, ...`` to ``mass`` [N]."""
        first, last = start, start + len(mass) - 1
        self.leaves[first : last + 1] = mass
        for blocks, parent in zip(self._blocks, self._levels[1:], strict=False):
            first, last = first >> FANOUT_LOG2, last >> FANOUT_LOG2
            parent[first : last + 1] = blocks[first : last + 1].sum(axis=1)

    def set_all(self, mass: Masses) -> None:
        """Sets every leaf."""
        self.set_span(0, mass)

    def find(self, point: Masses) -> NDArray[np.int64]:
        """The leaf [N] in which each point [N] of [0, total) lies when the masses stand side by side.

        Never a leaf without mass, whatever rounding does to a point at the border of two leaves.
        """
        top = np.cumsum(self._levels[-1])
        inside = np.minimum(point, np.nextafter(top[-1], 0.0))
        node: NDArray[np.int64] = top.searchsorted(inside, side="right")
        left = inside - np.where(node > 0, top[node - 1], 0.0)
        at = np.arange(len(point))
        for blocks in reversed(self._blocks[:-1]):
            sums = blocks[node].cumsum(axis=1)
            left = np.minimum(left, np.nextafter(sums[:, -1], 0.0))
            child = (sums <= left[:, None]).sum(axis=1)
            left = left - np.where(child > 0, sums[at, child - 1], 0.0)
            node = node * FANOUT + child
        return node
