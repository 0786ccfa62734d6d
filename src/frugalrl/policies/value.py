"""The policy of value-based agents: one definition, used by the sampler and by the evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from frugalrl.policies.small import numpy_forward
from frugalrl.types import PolicySnapshot


class ValuePolicy:
    """Q-values of a network whose parameters come from snapshots.

    In fp32, parameters that already live on the policy's device are shared, not copied: a serial loop publishes for
    free. In bf16 the policy keeps a rounded copy, made once per snapshot instead of once per forward pass.
    """

    def __init__(self, build: Callable[[], nn.Module], device: torch.device, precision: str = "fp32") -> None:
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self._net = build().to(device, dtype).requires_grad_(False)
        self._device = device
        self._plain = device.type == "cpu" and dtype == torch.float32
        self._shared: Mapping[str, Any] | None = None
        self._small = numpy_forward(self._net) if self._plain else None
        self.version = 0

    def load(self, snapshot: PolicySnapshot) -> int:
        """Take over a snapshot; returns the bytes that were moved.

        Raises ValueError when a parameter is missing or has another shape.
        """
        self.version = snapshot.version
        if snapshot.parameters is self._shared:  # a serial learner changes the same tensors in place
            return 0
        moved = 0
        with torch.no_grad():
            for name, parameter in self._net.named_parameters():
                new = snapshot.parameters.get(name)
                if new is None:
                    raise ValueError(f"the snapshot has no parameter {name}")
                if new.shape != parameter.shape:
                    raise ValueError(f"snapshot {name} has shape {tuple(new.shape)}, expected {tuple(parameter.shape)}")
                if new.dtype != parameter.dtype:
                    parameter.copy_(new)
                    moved += new.nbytes + parameter.nbytes
                elif new.data_ptr() != parameter.data_ptr():
                    moved += 0 if new.device == self._device else new.nbytes
                    parameter.data = new.detach().to(self._device)
        self._shared = snapshot.parameters if self._is_shared(snapshot) else None
        if self._small is not None:  # the parameters may lie elsewhere now
            self._small = numpy_forward(self._net)
        return moved

    def _is_shared(self, snapshot: PolicySnapshot) -> bool:
        return all(p.data_ptr() == snapshot.parameters[n].data_ptr() for n, p in self._net.named_parameters())

    @property
    def network(self) -> nn.Module:
        """obs [B, *obs_shape] in the environment's dtype -> Q-values [B, A]; the one that acts, not a copy."""
        return self._net

    def q_values(self, obs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """obs [B, *obs_shape] -> float32 [B, A] on the host."""
        if self._small is not None:
            return self._small(obs)
        with torch.inference_mode():
            x = torch.from_numpy(obs)
            if self._plain:
                return self._net(x).numpy()  # type: ignore[no-any-return]
            if self._device.type != "cpu":
                x = x.to(self._device, non_blocking=True)
            return self._net(x).float().cpu().numpy()  # type: ignore[no-any-return]
