"""The policy of value-based agents: one definition, used by the sampler and by the evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from frugalrl.math.draws import counted_rng
from frugalrl.nets.gpu import GpuForward, settle
from frugalrl.nets.noisy import has_noise, set_noise
from frugalrl.nets.q_network import ValueNetwork
from frugalrl.policies.few_rows import pays
from frugalrl.policies.network import NetworkPolicy

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
        self._gpu: GpuForward | None = None
        if device.type == "cuda":
            settle(precision)
            # a policy that acts while the learner works has a queue of its own on the device
            self._gpu = GpuForward(device, self._forward, own_queue=not share)

    def _moved(self) -> None:
        if self._gpu is not None:
            self._gpu.forget()

    def _loaded(self) -> None:
        if self._gpu is not None:
            self._gpu.wait_for_parameters()

    def q_values(self, obs: np.ndarray[Any, Any], draw: int = 0) -> np.ndarray[Any, Any]:
        """obs [B, *obs_shape] -> float32 [B, A] on the host, float64 in fp64. ``draw``: running number of the noise."""
        if self._small is not None:
            return self._small(obs)
        with nullcontext() if self._gpu is None else self._gpu.queue():
            self.renew_noise(draw)
            if self._gpu is not None:
                return self._gpu(obs)
        with torch.inference_mode():
            return self._forward(torch.from_numpy(obs)).numpy()

    def renew_noise(self, draw: int) -> None:
        """The noise that ``q_values`` acts with at this draw, for who computes them instead."""
        if self._noise_seed is not None:
            set_noise(self._net, counted_rng(self._noise_seed, _ACTING, draw))

    def charge(self, gpu_s: float) -> None:
        """Seconds that a CUDA device has worked for this policy elsewhere."""
        if self._gpu is not None:
            self._gpu.seconds = (self._gpu.seconds or 0.0) + gpu_s

    def initial_state(self, rows: int) -> dict[str, np.ndarray[Any, Any]]:
        """It remembers nothing; see `frugalrl.policies.acting.ActingPolicy`."""
        return {}

    def values(
        self, obs: np.ndarray[Any, Any], state: Mapping[str, np.ndarray[Any, Any]], draw: int = 0
    ) -> tuple[np.ndarray[Any, Any], Mapping[str, np.ndarray[Any, Any]]]:
        """`q_values`, in the form that samplers of all policies use."""
        return self.q_values(obs, draw), state

    @property
    def gpu_s(self) -> float | None:
        """Seconds that a CUDA device has worked for ``q_values``; None on a CPU and until the first was timed."""
        return None if self._gpu is None else self._gpu.seconds

    def _forward(self, obs: Tensor) -> Tensor:
        # the mean of a distribution is taken in float32, as the learner does: in bf16 most of its actions tie
        out = self._net(obs) if self._few is None or not pays(obs) else self._few(obs)
        return self._net.head.to_q(out.to(self._acts_in))
