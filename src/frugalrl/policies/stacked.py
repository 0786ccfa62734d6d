"""The policies of several seeds as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from frugalrl.nets.gpu import GpuForward, grown
from frugalrl.nets.heads import Head
from frugalrl.nets.stacked import StackedMLP
from frugalrl.nets.stacked_vmap import StackedNetworks
from frugalrl.policies.value import ValuePolicy

Array = NDArray[Any]


class StackedPolicy:
    """Q-values of several networks at once, or of some of them through their own policies: the same numbers."""

    def __init__(self, nets: StackedMLP, head: Head, policies: Sequence[ValuePolicy]) -> None:
        """``policies``: of the seeds in the stack, in its order, loaded with the parameters in ``nets``."""
        self._nets, self._head, self._policies = nets, head, list(policies)

    def q_values(self, obs: Array, places: Sequence[int], draws: Sequence[int]) -> Array:
        """obs [K, B, *obs_shape] of the seeds at these places of the stack, in rising order -> Q-values [K, B, A].
        ``draws``: running number of each seed's noise, as in `ValuePolicy.q_values`."""
        seeds = len(self._policies)
        if 3 * len(places) < seeds:
            return _one_by_one(self._policies, obs, places, draws)
        whole = _for_all(obs, places, seeds)
        out = self._nets.forward_few(whole)
        q: Array = self._head.to_q(out.flatten(0, 1)).numpy().reshape(*whole.shape[:2], -1)
        return q if whole is obs else q[places]


class StackedGpuPolicy:
    """The same on a CUDA device, for networks of any kind: one recorded graph for the whole stack."""

    def __init__(self, nets: StackedNetworks, head: Head, policies: Sequence[ValuePolicy]) -> None:
        """``nets``: those that learn; the policies have noise of their own."""
        self._policies = list(policies)
        self._nets = StackedNetworks([policy.network for policy in policies], nets.parameters)

        def forward(obs: Tensor) -> Tensor:
            self._nets.gather_noise()
            out = self._nets(self._nets.prepared(obs))
            return head.to_q(out.flatten(0, 1)).view(*out.shape[:2], -1)

        self._forward = GpuForward(nets.parameters[0].device, forward)

    def q_values(self, obs: Array, places: Sequence[int], draws: Sequence[int]) -> Array:
        """As `StackedPolicy.q_values`."""
        if len(places) == 1 < len(self._policies):
            return _one_by_one(self._policies, obs, places, draws)
        for place, draw in zip(places, draws, strict=True):
            self._policies[place].renew_noise(draw)
        before = self._forward.seconds
        whole = _for_all(obs, places, len(self._policies))
        q = self._forward(whole)
        worked = grown(before, self._forward.seconds)
        if worked is not None:
            for place in places:
                self._policies[place].charge(worked / len(places))
        return q if whole is obs else q[places]


def _one_by_one(policies: Sequence[ValuePolicy], obs: Array, places: Sequence[int], draws: Sequence[int]) -> Array:
    each = zip(places, obs, draws, strict=True)
    return np.stack([policies[place].q_values(o, draw) for place, o, draw in each])


def _for_all(obs: Array, places: Sequence[int], seeds: int) -> Array:
    """One call with rows that nobody asked for costs less than several calls."""
    if len(places) == seeds:
        return obs
    whole = np.zeros((seeds, *obs.shape[1:]), obs.dtype)
    whole[places] = obs
    return whole
