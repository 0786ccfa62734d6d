"""The policy of agents that learn from sequences, feed-forward or recurrent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from frugalrl.nets.gpu import GpuForward, settle
from frugalrl.nets.heads import Head
from frugalrl.policies.few_rows import pays
from frugalrl.policies.network import NetworkPolicy

Memory = dict[str, NDArray[Any]]
_MOST_SHAPES = 16


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
        self._on_gpu = device.type == "cuda"
        self._own_queue = not share
        self._recorded: dict[int, GpuForward] = {}
        """By number of rows: what a CUDA device does is recorded for one shape."""
        if self._on_gpu:
            settle(precision)

    @property
    def head(self) -> Head:
        """What the network's outputs mean."""
        return self._head

    def _moved(self) -> None:
        for recorded in self._recorded.values():
            recorded.forget()

    def _loaded(self) -> None:
        for recorded in self._recorded.values():
            recorded.wait_for_parameters()

    @property
    def gpu_s(self) -> float | None:
        seconds = [r.seconds for r in self._recorded.values() if r.seconds is not None]
        return sum(seconds) if seconds else None

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
        if self._on_gpu and not state:
            return self._answer(obs), state
        network: Any = self._net
        with torch.inference_mode():
            if self._few is not None and pays(rows := torch.from_numpy(obs)):
                return self._head.to_q(self._few(rows)).to(self._acts_in).numpy(), state
            before = {name: torch.from_numpy(np.ascontiguousarray(x)).to(self._device) for name, x in state.items()}
            out, after = network.step(torch.from_numpy(obs).to(self._device), before)
            preferences = self._head.to_q(out).to(self._acts_in).cpu().numpy()
            return preferences, {name: x.cpu().numpy() for name, x in after.items()}

    def _answer(self, obs: NDArray[Any]) -> NDArray[Any]:
        """A recorded forward pass for this number of rows; after the first few, rows are filled up with zeros."""
        rows = len(obs)
        if rows not in self._recorded and len(self._recorded) >= _MOST_SHAPES:
            larger = [n for n in self._recorded if n > rows]
            if larger:
                filled = np.zeros((min(larger), *obs.shape[1:]), obs.dtype)
                filled[:rows] = obs
                return self._answer(filled)[:rows]
        if rows not in self._recorded:
            self._recorded[rows] = GpuForward(self._device, self._forward, own_queue=self._own_queue)
        recorded = self._recorded[rows]
        with recorded.queue():
            return recorded(obs)

    def _forward(self, obs: Tensor) -> Tensor:
        network: Any = self._net
        return self._head.to_q(network.step(obs, {})[0]).to(self._acts_in)
