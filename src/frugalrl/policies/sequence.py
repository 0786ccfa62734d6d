"""The policy of agents that learn from sequences, feed-forward or recurrent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from frugalrl.nets.heads import Head
from frugalrl.policies.network import NetworkPolicy
from frugalrl.policies.small import numpy_forward

Memory = dict[str, NDArray[Any]]


class SequencePolicy(NetworkPolicy[nn.Module]):
    """Preferences of a `SequenceNetwork` (Q-values or logits) and what it remembers, on the host."""

    def __init__(
        self,
        build: Callable[[], Any],
        head: Head,
        device: torch.device,
        precision: str = "fp32",
        *,
        share: bool = True,
    ) -> None:
        """``build`` makes the network, ``head`` says what its outputs mean."""
        super().__init__(build().eval(), device, precision, share=share)
        self._head = head
        self._plain = device.type == "cpu" and precision != "bf16"
        self._small = numpy_forward(self._net) if self._plain else None

    def _moved(self) -> None:
        if self._small is not None:
            self._small = numpy_forward(self._net)

    def initial_state(self, rows: int) -> Memory:
        """What it remembers before an episode, [rows, ...] each; empty when feed-forward."""
        network: Any = self._net
        return {name: x.cpu().numpy() for name, x in network.initial_state(rows).items()}

    def values(
        self, obs: NDArray[Any], state: Mapping[str, NDArray[Any]], draw: int = 0
    ) -> tuple[NDArray[Any], Mapping[str, NDArray[Any]]]:
        """obs [B, *obs_shape] and the state before it -> preferences float [B, A] and the state after it, on the host.

        ``action_tm1`` and ``reward_tm1``, where the state has them, are for the caller to replace. ``draw`` is not
        used: these networks have no noise.
        """
        if self._small is not None:
            return self._small(obs), state
        network: Any = self._net
        with torch.inference_mode():
            before = {name: torch.from_numpy(np.ascontiguousarray(x)).to(self._device) for name, x in state.items()}
            out, after = network.step(torch.from_numpy(obs).to(self._device), before)
            preferences = self._head.to_q(out).to(self._acts_in).cpu().numpy()
            return preferences, {name: x.cpu().numpy() for name, x in after.items()}
