"""A policy that an engine outside of PyTorch computes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from frugalrl.nets.heads import Head
from frugalrl.policies.engines.onnx_runtime import OnnxRuntime
from frugalrl.types import PolicySnapshot


class EnginePolicy:
    """As `ValuePolicy` and `SequencePolicy`."""

    gpu_s: float | None = None

    def __init__(self, engine: OnnxRuntime, head: Head) -> None:
        """``head``: what the network's outputs mean."""
        self._engine, self._head = engine, head
        self._parameters: Mapping[str, Any] = {}
        self.version = 0

    def load(self, snapshot: PolicySnapshot) -> int:
        """Write these weights into the engine; returns the bytes moved."""
        self._engine.load(snapshot.parameters)
        self._parameters, self.version = snapshot.parameters, snapshot.version
        return self._engine.nbytes + sum(int(p.nbytes) for p in snapshot.parameters.values())

    def weight_bytes(self, rows: int) -> int:
        """See `ActingPolicy`."""
        return self._engine.weight_bytes

    def snapshot(self) -> PolicySnapshot:
        """What was loaded."""
        return PolicySnapshot(version=self.version, parameters=self._parameters)

    def initial_state(self, rows: int) -> dict[str, NDArray[Any]]:
        """What it remembers before an episode, [rows, ...] each; empty for a network without memory."""
        return self._engine.initial_state(rows)

    def values(
        self, obs: NDArray[Any], state: Mapping[str, NDArray[Any]], draw: int = 0
    ) -> tuple[NDArray[np.float32], Mapping[str, NDArray[Any]]]:
        """obs [B, *obs_shape] and the state before it -> Q-values or logits float32 [B, A], and the state after it.

        ``action_tm1`` and ``reward_tm1``, where the state has them, are for the caller to replace.
        """
        out, after = self._engine.step(obs, state)
        return self._head.to_q(torch.from_numpy(out)).numpy(), after
