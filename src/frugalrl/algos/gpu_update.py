"""An update of a value network on a CUDA device: two recorded pieces of work and one wait."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor

from frugalrl.algos.adam import Adam
from frugalrl.cost.meters import LapTimer
from frugalrl.nets.gpu import Fetch, GpuClock, Recorded, Staged
from frugalrl.nets.q_network import ValueNetwork
from frugalrl.types import Costs

Array = NDArray[Any]


class Found(NamedTuple):
    """What an update has found, on the host."""

    loss: float
    norm: float | None
    """Global gradient norm before clipping; None without clipping."""
    td: Array
    """[B]"""
    q: Array
    """[B, A]"""
    priority: Array | None
    """[B]; None: the absolute TD errors."""
    metrics: Mapping[str, float]


class GpuUpdate:
    """Runs updates. Weights and moments are changed only where loss and gradient norm are finite: the optimiser's own
    kernel looks at a flag on the device, so the host need not wait before the step."""

    def __init__(
        self,
        online: tuple[ValueNetwork, torch.dtype, Callable[[], AbstractContextManager[None]]],
        bootstrap: Callable[[Tensor], tuple[Tensor, Tensor]],
        loss: Callable[[Tensor, Tensor, Any], Any],
        target: Callable[..., Any],
        optimizer: Adam,
        max_grad_norm: float | None,
    ) -> None:
        """``online``: network, type of its outputs, autocast. ``bootstrap``: obs_t -> the target network's outputs and
        the Q-values that select the action there. ``loss``, ``target``: the learner's loss, which gives a
        `frugalrl.algos.dqn.Loss`, and what makes its last argument."""
        self._online, self._bootstrap, self._loss, self._target = online, bootstrap, loss, target
        self._optimizer, self._max_grad_norm = optimizer, max_grad_norm
        self._staged: Staged | None = None
        self._fetch, self._clock = Fetch(), GpuClock(2)

    def __call__(self, arrays: Sequence[Array], timer: LapTimer) -> Found:
        """One step on obs_tm1, obs_t, a_tm1, r_t, discount_t, weight; marks the laps ``learner`` and ``target``."""
        staged = self._staged
        if staged is None or not staged.fits(arrays):
            staged = self._prepare(arrays)
        staged.put(arrays)
        timer.lap("learner")
        self._clock.start(timed=self._step.is_recorded)
        self._targets()
        self._clock.mark(1)
        timer.lap("target")
        packed = self._step()
        self._clock.mark(2)
        found = self._unpack(self._fetch(packed), len(arrays[2]))
        self._clock.read()
        return found

    def costs(self, costs: Costs) -> Costs:
        """The costs of an update with the seconds of the device."""
        target, learner = self._clock.seconds
        return {
            **costs,
            "target": replace(costs["target"], gpu_s=target),
            "learner": replace(costs["learner"], gpu_s=learner),
        }

    def _prepare(self, arrays: Sequence[Array]) -> Staged:
        net, dtype, autocast = self._online
        self._staged = staged = Staged(arrays, self._optimizer.parameters[0].device)
        obs_tm1, obs_t, a_tm1, r_t, discount_t, weight = staged.tensors
        self._ends: tuple[Tensor, Tensor] | None = None

        def targets() -> tuple[Tensor, Tensor]:
            with torch.no_grad(), autocast():
                self._ends = self._bootstrap(obs_t)
            return self._ends

        def step() -> Tensor:
            assert self._ends is not None
            out_t, q_select_t = self._ends
            with autocast():
                out_tm1 = net(obs_tm1).to(dtype)
            loss = self._loss(out_tm1, out_t, self._target(a_tm1, r_t, discount_t, q_select_t, weight))
            norm = self._optimizer.guarded_step(loss.loss, self._max_grad_norm)
            self._names = tuple(loss.metrics)
            self._has_priority = loss.priority is not None
            q = net.head.to_q(out_tm1.detach())
            parts = [loss.loss, norm, *loss.metrics.values(), loss.td, *([loss.priority] if self._has_priority else [])]
            self._actions = q.shape[1]
            return torch.cat([p.detach().reshape(-1).to(q.dtype) for p in (*parts, q)])

        self._targets, self._step = Recorded(targets), Recorded(step)
        return staged

    def _unpack(self, packed: Array, size: int) -> Found:
        loss, norm = packed[:2].tolist()
        start = 2 + len(self._names)
        metrics = dict(zip(self._names, packed[2:start].tolist(), strict=True))
        td, rest = packed[start : start + size], packed[start + size :]
        priority = rest[:size] if self._has_priority else None
        q = rest[-size * self._actions :].reshape(size, self._actions)
        return Found(loss, None if self._max_grad_norm is None else norm, td, q, priority, metrics)
