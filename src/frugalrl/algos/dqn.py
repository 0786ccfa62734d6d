"""DQN (Mnih et al. 2015) with double Q-learning (van Hasselt et al. 2016) as a field.

Dueling is a field of the network, n-step returns and prioritised replay are fields of the replay.
CoAct TD (Korkmaz 2025) changes none of this: it is an explorer.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from frugalrl.algos.adam import Adam
from frugalrl.cost.flops import bytes_min_forward, bytes_min_update, count_flops
from frugalrl.cost.meters import LapTimer
from frugalrl.math.td import q_loss
from frugalrl.types import Cost, EnvSpec, NonFiniteLoss, PolicySnapshot, Replayed, StateDict, Updated


@dataclass(frozen=True, kw_only=True, slots=True)
class DQNConfig:
    """The learner: target, loss and optimiser."""

    gamma: float = 0.99
    """Discount per agent step."""
    double: bool = True
    """The online network selects the bootstrap action, the target network values it."""
    batch_size: int = 32
    learning_rate: float = 1e-4
    adam_eps: float = 1.5e-4
    huber_delta: float | None = 1.0
    """Where the loss turns linear; None for the squared loss."""
    max_grad_norm: float | None = None
    """Clip the global gradient norm; None for no clipping."""
    target_period_updates: int = 1000
    """Updates between copies of the online network into the target network."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """``bf16`` runs forward and backward under autocast; weights and optimiser stay fp32."""

    def __post_init__(self) -> None:
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"agent.gamma={self.gamma}: must lie in [0, 1]")
        for name in ("batch_size", "target_period_updates", "learning_rate", "adam_eps"):
            if getattr(self, name) <= 0:
                raise ValueError(f"agent.{name}={getattr(self, name)}: must be positive")
        for name in ("huber_delta", "max_grad_norm"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"agent.{name}={value}: must be positive, or None")


class DQNLearner:
    """Holds the online and the target network and the optimiser; each update is one gradient step."""

    def __init__(
        self,
        config: DQNConfig,
        spec: EnvSpec,
        build: Callable[[], nn.Module],
        *,
        device: torch.device,
        seed: int,
        timer: LapTimer,
    ) -> None:
        """``timer`` is the loop thread's: the learner marks its laps in it."""
        self.config = config
        self.version = 0
        self._device = device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._online = build()
        self._online = self._online.to(device)
        self._target = build().to(device).requires_grad_(False)
        self._target.load_state_dict(self._online.state_dict())
        # the target's forward runs on a rounded copy, made once per target period instead of once per update
        bf16 = config.precision == "bf16"
        self._target_net = copy.deepcopy(self._target).to(torch.bfloat16) if bf16 else self._target
        self._parameters = dict(self._online.named_parameters())
        self._optimizer = Adam(self._parameters, lr=config.learning_rate, eps=config.adam_eps)
        self._autocast: Callable[[], AbstractContextManager[None]] = (
            partial(torch.autocast, device.type, torch.bfloat16) if config.precision == "bf16" else nullcontext
        )
        self._timer = timer
        self._costs = self._cost_of_update(spec)

    def update(self, replayed: Replayed) -> Updated:
        """One gradient step on a batch of numpy transitions."""
        timer = self._timer
        batch = replayed.batch
        obs_tm1, a_tm1, r_t, discount_t, obs_t, weight = (
            self._tensor(x)
            for x in (batch.obs_tm1, batch.a_tm1, batch.r_t, batch.discount_t, batch.obs_t, replayed.weight)
        )
        timer.lap("learner")
        with self._autocast():
            with torch.no_grad():
                q_t = self._target_net(obs_t).float()
                q_select_t = self._online(obs_t).float() if self.config.double else q_t
            timer.lap("target")
            q_tm1 = self._online(obs_tm1).float()
        loss, td = q_loss(
            q_tm1, a_tm1, r_t, discount_t, q_t, q_select_t, weight=weight, huber_delta=self.config.huber_delta
        )
        loss_value = loss.item()
        if not math.isfinite(loss_value):
            raise NonFiniteLoss(f"the loss of update {self.version + 1} is {loss_value}", replayed)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if self.config.max_grad_norm is not None:
            norm = self._optimizer.clip(self.config.max_grad_norm)
            if not math.isfinite(norm):
                raise NonFiniteLoss(f"the gradient norm of update {self.version + 1} is {norm}", replayed)
        self._optimizer.step()
        self.version += 1
        td_host, q_host = td.cpu().numpy(), q_tm1.detach().cpu().numpy()
        td_abs = np.abs(td_host)
        metrics = {
            "loss": loss_value,
            "td_mean": float(td_host.mean()),
            "td_abs": float(td_abs.mean()),
            "q_mean": float(q_host.mean()),
        }
        timer.lap("learner")
        if self.version % self.config.target_period_updates == 0:
            self._set_target(self._online.state_dict())
            timer.lap("target")
        return Updated(metrics=metrics, priorities=td_abs, costs=self._costs)

    def snapshot(self) -> PolicySnapshot:
        """The live parameters, always in the same mapping: the next update changes them in place."""
        return PolicySnapshot(version=self.version, parameters=self._parameters)

    def state_dict(self) -> StateDict:
        """Everything that the next update depends on."""
        return {
            "version": self.version,
            "online": dict(self._online.state_dict()),
            "target": dict(self._target.state_dict()),
            "optimizer": self._optimizer.state_dict(),
        }

    def load_state_dict(self, state: StateDict) -> None:
        self.version = state["version"]
        self._online.load_state_dict({k: torch.as_tensor(v) for k, v in state["online"].items()})
        self._set_target({k: torch.as_tensor(v) for k, v in state["target"].items()})
        self._optimizer.load_state_dict(state["optimizer"])

    def weights(self) -> dict[str, Tensor]:
        """The online network's parameters, detached."""
        return {name: p.detach() for name, p in self._parameters.items()}

    def _set_target(self, state: Mapping[str, Tensor]) -> None:
        self._target.load_state_dict(state)
        if self._target_net is not self._target:
            self._target_net.load_state_dict(state)

    def _tensor(self, x: Any) -> Tensor:
        t = torch.from_numpy(x)
        return t if self._device.type == "cpu" else t.to(self._device, non_blocking=True)

    def _cost_of_update(self, spec: EnvSpec) -> dict[str, Cost]:
        """FLOPs and lower-bound bytes of one update by role; its seconds are on the timer."""
        size = self.config.batch_size
        obs = torch.zeros((size, *spec.obs_shape), dtype=getattr(torch, spec.obs_dtype), device=self._device)
        q = torch.zeros((size, spec.num_actions))
        flops = count_flops(self._online, obs, backward=True)
        forwards = 2 if self.config.double else 1
        return {
            "learner": Cost(
                calls=1,
                updates=1,
                flop=flops.forward + flops.backward,
                bytes_min=float(bytes_min_update(self._online, (obs,), q)),
            ),
            "target": Cost(
                calls=forwards,
                flop=forwards * flops.forward,
                bytes_min=float(forwards * bytes_min_forward(self._target, (obs,), q)),
            ),
        }
