"""DQN (Mnih et al. 2015) with double Q-learning (van Hasselt et al. 2016) as a field.

Dueling is a field of the network, n-step returns and prioritised replay are fields of the replay.
CoAct TD (Korkmaz 2025) changes none of this: it is an explorer.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from frugalrl.algos.adam import Adam
from frugalrl.algos.augment import Augment
from frugalrl.algos.gpu_update import Found, GpuUpdate
from frugalrl.algos.update_cost import cost_of_update
from frugalrl.cost.meters import LapTimer
from frugalrl.math.draws import counted_rng
from frugalrl.math.td import q_loss
from frugalrl.nets.gpu import settle
from frugalrl.nets.heads import Head, Scalar
from frugalrl.nets.noisy import has_noise, set_noise
from frugalrl.nets.precision import Computing
from frugalrl.nets.q_network import ValueNetwork, prepared
from frugalrl.types import Costs, EnvSpec, NonFiniteLoss, PolicySnapshot, Replayed, Seen, StateDict, Updated

_ONLINE, _TARGET = 1, 2
"""Purposes of the learner's noise; see `counted_rng`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ValueConfig:
    """What all agents with a value network share: target, optimiser, augmentation."""

    gamma: float = 0.99
    """Discount per agent step."""
    double: bool = True
    """The online network selects the bootstrap action, the target network values it."""
    batch_size: int = 32
    learning_rate: float = 1e-4
    adam_eps: float = 1.5e-4
    max_grad_norm: float | None = None
    """Clip the global gradient norm; None for no clipping."""
    target_period_updates: int = 1000
    """Updates between copies of the online network into the target network."""
    precision: Literal["fp32", "tf32", "bf16", "fp64"] = "fp32"
    """``bf16`` runs forward and backward under autocast; weights and optimiser stay fp32. ``tf32``: products
    with 10 bits of mantissa on a CUDA device, fp32 elsewhere. ``fp64`` is for checks: it tells rounding from error."""
    shift_pixels: int = 0
    """Move each replayed image by up to so many pixels (DrQ, Yarats et al. 2021); 0 for none."""
    intensity_scale: float = 0.0
    """Multiply each replayed image by ``1 + scale * clip(N(0, 1), -2, 2)`` (DrQ); 0 for none."""

    def __post_init__(self) -> None:
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"agent.gamma={self.gamma}: must lie in [0, 1]")
        for name in ("batch_size", "target_period_updates", "learning_rate", "adam_eps"):
            if getattr(self, name) <= 0:
                raise ValueError(f"agent.{name}={getattr(self, name)}: must be positive")
        for name in ("shift_pixels", "intensity_scale"):
            if getattr(self, name) < 0:
                raise ValueError(f"agent.{name}={getattr(self, name)}: must be at least 0")
        if self.max_grad_norm is not None and self.max_grad_norm <= 0:
            raise ValueError(f"agent.max_grad_norm={self.max_grad_norm}: must be positive, or None")

    def head(self) -> Head:
        """What the network's outputs mean."""
        return Scalar()


@dataclass(frozen=True, kw_only=True, slots=True)
class DQNConfig(ValueConfig):
    """The learner: target, loss and optimiser."""

    kind: Literal["dqn"] = "dqn"
    huber_delta: float | None = 1.0
    """Where the loss turns linear; None for the squared loss."""

    def __post_init__(self) -> None:
        ValueConfig.__post_init__(self)
        if self.huber_delta is not None and self.huber_delta <= 0:
            raise ValueError(f"agent.huber_delta={self.huber_delta}: must be positive, or None")


class Target(NamedTuple):
    """What a loss sees of a batch besides the network's outputs, as tensors."""

    a_tm1: Tensor
    """[B] int64"""
    r_t: Tensor
    discount_t: Tensor
    q_select_t: Tensor
    """[B, A] values that choose the bootstrap action."""
    weight: Tensor


class Loss(NamedTuple):
    """What a learner's loss answers."""

    loss: Tensor
    """Scalar, with its graph."""
    td: Tensor
    """[B] signed TD errors of the Q-values, detached."""
    priority: Tensor | None = None
    """[B] priorities, at least 0; None: the absolute TD errors."""
    metrics: Mapping[str, Tensor] = {}


class DQNLearner:
    """Holds the online and the target network and the optimiser; each update is one gradient step.

    Agents with another head override ``loss``.
    """

    config: ValueConfig

    def __init__(
        self,
        config: ValueConfig,
        spec: EnvSpec,
        build: Callable[[], ValueNetwork],
        *,
        device: torch.device,
        seed: int,
        timer: LapTimer,
    ) -> None:
        """``timer`` is the loop thread's: the learner marks its laps in it."""
        self.config = config
        self.version = 0
        self._seed = seed
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._online = build()
        self._dtype = torch.float64 if config.precision == "fp64" else torch.float32
        self._online = self._online.to(device, self._dtype)
        self._target = build().to(device, self._dtype).requires_grad_(False)
        self._target.load_state_dict(self._online.state_dict())
        # the target's forward runs on a rounded copy, made once per target period instead of once per update
        self._target_net = (
            copy.deepcopy(self._target).to(torch.bfloat16) if config.precision == "bf16" else self._target
        )
        self._noisy = has_noise(self._online)
        self._augment = Augment(spec, config.shift_pixels, config.intensity_scale, seed)
        self._parameters = dict(self._online.named_parameters())
        self._optimizer = Adam(self._parameters, lr=config.learning_rate, eps=config.adam_eps)
        self._computing = Computing(self._online, config.precision, device, noisy=self._noisy)
        self._timer = timer
        self._costs = cost_of_update(self._online, spec, size=config.batch_size, double=config.double)
        self._gpu: GpuUpdate | None = None
        if device.type == "cuda":
            settle(config.precision)
            net = self._online, self._dtype, self._computing.autocast
            self._gpu = GpuUpdate(net, self._bootstrap, self.loss, Target, self._optimizer, config.max_grad_norm)

    def loss(self, out_tm1: Tensor, out_t: Tensor, target: Target) -> Loss:
        """The loss of the network's outputs at the start (with gradient) and the target network's at the end."""
        assert isinstance(self.config, DQNConfig)
        a_tm1, r_t, discount_t, q_select_t, weight = target
        delta = self.config.huber_delta
        return Loss(*q_loss(out_tm1, a_tm1, r_t, discount_t, out_t, q_select_t, weight=weight, huber_delta=delta))

    def update(self, replayed: Replayed) -> Updated:
        """One gradient step on a batch of numpy transitions."""
        timer, batch = self._timer, replayed.batch
        images = self._augment(batch.obs_tm1, batch.obs_t, self.version)
        arrays = (*images, batch.a_tm1, batch.r_t, batch.discount_t, replayed.weight)
        if self._noisy:
            self._set_noise()
        found = self._step(arrays, replayed) if self._gpu is None else self._gpu(arrays, timer)
        self._refuse("loss", found.loss, replayed)
        self._refuse("gradient norm", found.norm or 0.0, replayed)
        self.version += 1
        td_abs = np.abs(found.td)
        metrics = {
            "loss": found.loss,
            "td_mean": float(found.td.mean()),
            "td_abs": float(td_abs.mean()),
            "q_mean": float(found.q.mean()),
            **found.metrics,
        }
        timer.lap("learner")
        if self.version % self.config.target_period_updates == 0:
            self._set_target(self._online.state_dict())
            timer.lap("target")
        priorities = td_abs if found.priority is None else found.priority
        seen = Seen(found.q, found.td, batch.explored_tm1, replayed.keys)
        costs = self._costs if self._gpu is None else self._gpu.costs(self._costs)
        return Updated(metrics=metrics, priorities=priorities, costs=costs, seen=seen)

    def _step(self, arrays: Sequence[Any], replayed: Replayed) -> Found:
        """The gradient step on a CPU."""
        timer, optimizer, computing = self._timer, self._optimizer, self._computing
        obs_tm1, obs_t, a_tm1, r_t, discount_t, weight = (torch.from_numpy(x) for x in arrays)
        timer.lap("learner")
        with computing.autocast():
            with torch.no_grad():
                out_t, q_select_t = self._bootstrap(obs_t)
            timer.lap("target")
            out_tm1 = computing.net(obs_tm1).to(self._dtype)
        loss, td, priority, extra = self.loss(out_tm1, out_t, Target(a_tm1, r_t, discount_t, q_select_t, weight))
        loss_value = loss.item()
        self._refuse("loss", loss_value, replayed)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        computing.hand_over()
        most = self.config.max_grad_norm
        norm = None if most is None else optimizer.clip(most)
        self._refuse("gradient norm", norm or 0.0, replayed)
        optimizer.step()
        computing.stepped()
        q = self._online.head.to_q(out_tm1.detach()).numpy()
        metrics = {name: float(value) for name, value in extra.items()}
        return Found(loss_value, norm, td.numpy(), q, None if priority is None else priority.numpy(), metrics)

    def _bootstrap(self, obs_t: Tensor) -> tuple[Tensor, Tensor]:
        """What the target network gives at the end, and the Q-values that choose the action there."""
        online = self._computing.net
        if self.config.double:  # both networks read it: its layout is made once
            obs_t = prepared(online, obs_t)
        out_t = self._target_net(obs_t).to(self._dtype)
        return out_t, online.head.to_q(online(obs_t).to(self._dtype) if self.config.double else out_t)

    def _refuse(self, what: str, value: float, replayed: Replayed) -> None:
        if not math.isfinite(value):
            raise NonFiniteLoss(f"the {what} of update {self.version + 1} is {value}", replayed)

    def lend(self) -> tuple[ValueNetwork, ValueNetwork, Adam, Costs, Augment, Callable[[], None]]:
        """Networks, optimiser, costs of an update, augmentation and what renews the noise: to train several at once."""
        return self._online, self._target, self._optimizer, self._costs, self._augment, self._set_noise

    def moved(self) -> None:
        """The parameters lie elsewhere now: whoever shares them must look again."""
        self._parameters = dict(self._online.named_parameters())

    def snapshot(self) -> PolicySnapshot:
        """The live parameters, in the same mapping until they move: the next update changes them in place."""
        return PolicySnapshot(self.version, self._parameters, rounded=self._computing.rounded)

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
        self._computing.stepped()
        self._set_target({k: torch.as_tensor(v) for k, v in state["target"].items()})
        self._optimizer.load_state_dict(state["optimizer"])

    def weights(self) -> dict[str, Tensor]:
        """The online network's parameters, detached."""
        return {name: p.detach() for name, p in self._parameters.items()}

    def _set_noise(self) -> None:
        """New noise for this update; online and target network have their own (Fortunato et al. 2018, section 3.1)."""
        set_noise(self._online, counted_rng(self._seed, _ONLINE, self.version))
        set_noise(self._target_net, counted_rng(self._seed, _TARGET, self.version))

    def _set_target(self, state: Mapping[str, Tensor]) -> None:
        for net in {self._target, self._target_net}:
            net.load_state_dict(state)
