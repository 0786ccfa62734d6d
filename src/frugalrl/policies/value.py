"""The policy of value-based agents: one definition, used by the sampler and by the evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from frugalrl.math.draws import counted_rng
from frugalrl.nets.noisy import has_noise, set_noise
from frugalrl.nets.q_network import ValueNetwork
from frugalrl.policies.network import NetworkPolicy
from frugalrl.policies.small import numpy_forward

_ACTING = 0
"""Purpose of the policy's noise; see `counted_rng`."""


class ValuePolicy(NetworkPolicy[ValueNetwork]):
    """Q-values of a network whose parameters come from snapshots."""

    def __init__(
        self,
        build: Callable[[], ValueNetwork],
        device: torch.device,
        precision: str = "fp32",
        *,
        noise_seed: int | None = None,
        share: bool = True,
    ) -> None:
        """``noise_seed``: noisy layers act with noise from this seed, new for each ``draw``; None: with their means."""
        super().__init__(build(), device, precision, share=share)
        self._net.train(noise_seed is not None)
        self._noise_seed = noise_seed if has_noise(self._net) else None
        self._plain = device.type == "cpu" and precision != "bf16"
        self._small = numpy_forward(self._net) if self._plain else None

    def _moved(self) -> None:
        if self._small is not None:
            self._small = numpy_forward(self._net)

    def q_values(self, obs: np.ndarray[Any, Any], draw: int = 0) -> np.ndarray[Any, Any]:
        """obs [B, *obs_shape] -> float32 [B, A] on the host, float64 in fp64. ``draw``: running number of the noise."""
        if self._small is not None:
            return self._small(obs)
        if self._noise_seed is not None:
            set_noise(self._net, counted_rng(self._noise_seed, _ACTING, draw))
        with torch.inference_mode():
            x = torch.from_numpy(obs)
            if self._plain:
                return self._net.q_values(x).numpy()
            if self._device.type != "cpu":
                x = x.to(self._device, non_blocking=True)
            return self._net.q_values(x).to(self._acts_in).cpu().numpy()

    def initial_state(self, rows: int) -> dict[str, np.ndarray[Any, Any]]:
        """It remembers nothing; see `frugalrl.policies.acting.ActingPolicy`."""
        return {}

    def values(
        self, obs: np.ndarray[Any, Any], state: Mapping[str, np.ndarray[Any, Any]], draw: int = 0
    ) -> tuple[np.ndarray[Any, Any], Mapping[str, np.ndarray[Any, Any]]]:
        """`q_values`, in the form that samplers of all policies use."""
        return self.q_values(obs, draw), state
