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
from frugalrl.policies.small import numpy_forward
from frugalrl.types import PolicySnapshot

_ACTING = 0
"""Purpose of the policy's noise; see `counted_rng`."""


class ValuePolicy:
    """Q-values of a network whose parameters come from snapshots.

    Except in bf16, parameters that already live on the policy's device are shared, not copied: a serial loop publishes
    for free. In bf16 the policy keeps a rounded copy, made once per snapshot instead of once per forward pass.
    """

    def __init__(
        self,
        build: Callable[[], ValueNetwork],
        device: torch.device,
        precision: str = "fp32",
        *,
        noise_seed: int | None = None,
        share: bool = True,
    ) -> None:
        """``noise_seed``: noisy layers act with noise from this seed, new for each ``draw``; None: with their means.

        ``share=False`` always copies: what the learner does after ``load`` is not seen before the next ``load``.
        """
        dtype = {"bf16": torch.bfloat16, "fp64": torch.float64}.get(precision, torch.float32)
        self._net = build().to(device, dtype).requires_grad_(False).train(noise_seed is not None)
        self._noise_seed = noise_seed if has_noise(self._net) else None
        self._device = next(self._net.parameters()).device  # with its number
        self._acts_in = torch.float32 if precision == "bf16" else dtype
        self._may_share = share
        self._shared: Mapping[str, Any] | None = None
        self._copied: tuple[Mapping[str, Any], list[Tensor], list[Tensor], int] | None = None
        """After a copy: the mapping it came from, this policy's tensors, those of the mapping, bytes moved."""
        plain = device.type == "cpu" and precision != "bf16"
        self._small = numpy_forward(self._net) if plain else None
        # a policy that acts while the learner works has a queue of its own on the device
        self._gpu: GpuForward | None = None
        if device.type == "cuda":
            settle(precision)
            self._gpu = GpuForward(device, self._forward, own_queue=not share)
        self.version = 0

    def load(self, snapshot: PolicySnapshot) -> int:
        """Take over a snapshot; returns the bytes that were moved.

        Raises ValueError when a parameter is missing or has another shape.
        """
        self.version = snapshot.version
        if snapshot.parameters is self._shared:  # a serial learner changes the same tensors in place
            return 0
        if self._copied is not None and snapshot.parameters is self._copied[0]:
            _, mine, theirs, moved = self._copied
            with torch.no_grad():
                torch._foreach_copy_(mine, theirs)
            self._take_over()
            return moved
        moved = 0
        with torch.no_grad():
            for name, parameter in self._net.named_parameters():
                new = snapshot.parameters.get(name)
                if new is None:
                    raise ValueError(f"the snapshot has no parameter {name}")
                if new.shape != parameter.shape:
                    raise ValueError(f"snapshot {name} has shape {tuple(new.shape)}, expected {tuple(parameter.shape)}")
                if new.dtype != parameter.dtype or not self._may_share:
                    parameter.copy_(new)
                    moved += new.nbytes + parameter.nbytes
                elif new.data_ptr() != parameter.data_ptr():
                    moved += 0 if new.device == self._device else new.nbytes
                    parameter.data = new.detach().to(self._device)
                    if self._gpu is not None:
                        self._gpu.forget()
        self._take_over()
        self._shared = snapshot.parameters if self._is_shared(snapshot) else None
        if not self._may_share:
            own = dict(self._net.named_parameters())
            self._copied = snapshot.parameters, list(own.values()), [snapshot.parameters[n] for n in own], moved
        if self._small is not None:  # the parameters may lie elsewhere now
            self._small = numpy_forward(self._net)
        return moved

    def _take_over(self) -> None:
        if self._gpu is not None:
            self._gpu.wait_for_parameters()

    def snapshot(self) -> PolicySnapshot:
        """What it acts with, bf16 in float32: loading it gives the same policy."""
        parameters = {n: p.to(self._acts_in) for n, p in self._net.named_parameters()}
        return PolicySnapshot(version=self.version, parameters=parameters)

    def _is_shared(self, snapshot: PolicySnapshot) -> bool:
        return all(p.data_ptr() == snapshot.parameters[n].data_ptr() for n, p in self._net.named_parameters())

    @property
    def network(self) -> ValueNetwork:
        """obs [B, *obs_shape] in the environment's dtype -> the head's outputs; the one that acts, not a copy."""
        return self._net

    def q_values(self, obs: np.ndarray[Any, Any], draw: int = 0) -> np.ndarray[Any, Any]:
        """obs [B, *obs_shape] -> float32 [B, A] on the host, float64 in fp64. ``draw``: running number of the noise."""
        if self._small is not None:
            return self._small(obs)
        with nullcontext() if self._gpu is None else self._gpu.queue():
            if self._noise_seed is not None:
                set_noise(self._net, counted_rng(self._noise_seed, _ACTING, draw))
            if self._gpu is not None:
                return self._gpu(obs)
        with torch.inference_mode():
            return self._forward(torch.from_numpy(obs)).numpy()

    @property
    def gpu_s(self) -> float | None:
        """Seconds that a CUDA device has worked for ``q_values``; None on a CPU and until the first was timed."""
        return None if self._gpu is None else self._gpu.seconds

    def _forward(self, obs: Tensor) -> Tensor:
        return self._net.q_values(obs).to(self._acts_in)
