"""The policies of several seeds as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frugalrl.nets.heads import Head
from frugalrl.nets.stacked import StackedMLP
from frugalrl.policies.value import ValuePolicy

Array = NDArray[Any]


class StackedPolicy:
    """Q-values of several networks at once, or of some of them through their own policies: the same numbers."""

    def __init__(self, nets: StackedMLP, head: Head, policies: Sequence[ValuePolicy]) -> None:
        """``policies``: of the seeds in the stack, in its order, loaded with the parameters in ``nets``."""
        self._nets, self._head, self._policies = nets, head, list(policies)

    def q_values(self, obs: Array, places: Sequence[int]) -> Array:
        """obs [K, B, *obs_shape] of the seeds at these places of the stack, in rising order -> Q-values [K, B, A]."""
        seeds = len(self._policies)
        if 3 * len(places) < seeds:
            return np.stack([self._policies[place].q_values(o) for place, o in zip(places, obs, strict=True)])
        if len(places) < seeds:  # one product with rows that nobody asked for costs less than several
            whole = np.zeros((seeds, *obs.shape[1:]), obs.dtype)
            whole[places] = obs
        else:
            whole = obs
        out = self._nets.forward_few(whole)
        q: Array = self._head.to_q(out.flatten(0, 1)).numpy().reshape(*whole.shape[:2], -1)
        return q if whole is obs else q[places]
