"""What learners of an actor-critic on unrolls share: the network, its optimiser, and what is saved of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Generic, Literal, Protocol, TypeVar

import torch
from torch import Tensor

from frugalrl.algos.adam import Adam
from frugalrl.cost.meters import LapTimer
from frugalrl.nets.actor_critic import ActorCriticNetwork
from frugalrl.nets.gpu import settle
from frugalrl.nets.heads import PolicyValue
from frugalrl.nets.precision import autocast
from frugalrl.types import PolicySnapshot, StateDict


class UnrollSizes:
    """Of a configuration with ``unroll_steps`` and ``batch_unrolls``: the names by which samplers and queues ask."""

    __slots__ = ()
    unroll_steps: int
    batch_unrolls: int

    @property
    def length(self) -> int:
        """Transitions of an unroll."""
        return self.unroll_steps

    @property
    def overlap(self) -> int:
        """Transitions that neighbouring unrolls share."""
        return 0

    @property
    def batch_size(self) -> int:
        """Entries of one batch: unrolls."""
        return self.batch_unrolls

    def head(self) -> PolicyValue:
        """What the network's outputs mean."""
        return PolicyValue()


class ActorCriticConfig(Protocol):
    """What the shared part reads of a configuration."""

    @property
    def learning_rate(self) -> float: ...
    @property
    def adam_eps(self) -> float: ...
    @property
    def precision(self) -> Literal["fp32", "tf32", "bf16", "fp64"]: ...
    def head(self) -> PolicyValue: ...


C = TypeVar("C", bound=ActorCriticConfig)


class ActorCriticLearner(Generic[C]):
    """Holds the network and the optimiser."""

    def __init__(
        self,
        config: C,
        build: Callable[[], ActorCriticNetwork],
        *,
        device: torch.device,
        seed: int,
        timer: LapTimer,
        adam_beta1: float = 0.9,
    ) -> None:
        """``timer`` is the loop thread's: the learner marks its laps in it."""
        self.config = config
        self.version = 0
        """Batches learned from: a policy is published after each."""
        self._device = device
        if device.type == "cuda":
            settle(config.precision)
        self._dtype = torch.float64 if config.precision == "fp64" else torch.float32
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._net = build().to(device, self._dtype)
        self._head = config.head()
        self._parameters = dict(self._net.named_parameters())
        self._optimizer = Adam(self._parameters, lr=config.learning_rate, eps=config.adam_eps, beta1=adam_beta1)
        self._autocast = partial(autocast, config.precision, device)
        self._timer = timer

    def snapshot(self) -> PolicySnapshot:
        """The live parameters, always in the same mapping: the next update changes them in place."""
        return PolicySnapshot(version=self.version, parameters=self._parameters)

    def state_dict(self) -> StateDict:
        """Everything that the next update depends on."""
        return {
            "version": self.version,
            "online": dict(self._net.state_dict()),
            "optimizer": self._optimizer.state_dict(),
        }

    def load_state_dict(self, state: StateDict) -> None:
        """The inverse."""
        self.version = state["version"]
        self._net.load_state_dict({k: torch.as_tensor(v) for k, v in state["online"].items()})
        self._optimizer.load_state_dict(state["optimizer"])

    def _copies(self) -> StateDict:
        """What a gradient step changes."""
        return {
            "parameters": [p.detach().clone() for p in self._parameters.values()],
            "optimizer": {name: x.clone() for name, x in self._optimizer.state_dict().items()},
        }

    @torch.no_grad()
    def _put_back(self, before: StateDict) -> None:
        for parameter, kept in zip(self._parameters.values(), before["parameters"], strict=True):
            parameter.copy_(kept)
        self._optimizer.load_state_dict(before["optimizer"])

    def weights(self) -> dict[str, Tensor]:
        """The network's parameters, detached."""
        return {name: p.detach() for name, p in self._parameters.items()}

    def _tensor(self, x: Any) -> Tensor:
        return torch.as_tensor(x).to(self._device, non_blocking=True)

    def _number(self, x: Any) -> Tensor:
        return torch.as_tensor(x).to(self._device, self._dtype, non_blocking=True)
