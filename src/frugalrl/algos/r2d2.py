"""R2D2 (Kapturowski et al. 2019): double Q-learning on replayed sequences, with the recurrent state that was stored.

Dueling and the recurrent core are fields of the network; without a core the same learner trains a feed-forward one.
Values are those of SEED RL's Atari runs (Espeholt et al. 2020, appendix A.3.1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from frugalrl.algos.adam import Adam
from frugalrl.algos.sequence_cost import cost_of_sequence_update
from frugalrl.cost.meters import LapTimer
from frugalrl.math.rescale import rescale, unrescale
from frugalrl.math.returns import double_q_values, n_step_returns
from frugalrl.math.sequence_loss import sequence_priority, sequence_q_loss
from frugalrl.nets.gpu import settle
from frugalrl.nets.heads import Head, Scalar
from frugalrl.nets.precision import autocast
from frugalrl.nets.recurrent_q import SequenceQ
from frugalrl.types import EnvSpec, NonFiniteLoss, PolicySnapshot, ReplayedUnrolls, StateDict, Unroll, Updated


@dataclass(frozen=True, kw_only=True, slots=True)
class R2D2Config:
    """The learner: sequences, target, loss and optimiser."""

    kind: Literal["r2d2"] = "r2d2"
    gamma: float = 0.997
    """Discount per agent step."""
    n_step: int = 5
    """Steps of a return; fewer where the episode or the sequence ends."""
    unroll_steps: int = 80
    """Transitions of a sequence that are trained."""
    burn_in_steps: int = 40
    """Transitions before them that only bring the recurrent state up to date, without gradient."""
    overlap_steps: int | None = None
    """Transitions that a sequence shares with the one before it; None: ``burn_in_steps``, so that each transition is
    trained in one sequence. Fewer leave some untrained."""
    batch_size: int = 64
    """Sequences."""
    learning_rate: float = 1e-4
    adam_eps: float = 1e-3
    max_grad_norm: float | None = 80.0
    """Clip the global gradient norm; None for no clipping."""
    target_period_updates: int = 2500
    """Updates between copies of the online network into the target network."""
    rescale_eps: float | None = 1e-3
    """The network learns ``h(Q) = sign(Q) (sqrt(|Q| + 1) - 1) + eps Q``; None: Q itself."""
    priority_max_share: float = 0.9
    """Share of the largest TD error in a sequence's priority; the rest is that of the mean."""
    double: bool = True
    """The online network selects the bootstrap action, the target network values it."""
    precision: Literal["fp32", "tf32", "bf16", "fp64"] = "fp32"
    """``bf16`` runs all but the recurrent core under autocast; ``fp64`` is for checks."""

    def __post_init__(self) -> None:
        for name in ("gamma", "priority_max_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"agent.{name}={getattr(self, name)}: must lie in [0, 1]")
        positive = ("n_step", "unroll_steps", "batch_size", "target_period_updates", "learning_rate", "adam_eps")
        for name in positive:
            if not getattr(self, name) > 0:
                raise ValueError(f"agent.{name}={getattr(self, name)}: must be positive")
        if self.burn_in_steps < 0:
            raise ValueError(f"agent.burn_in_steps={self.burn_in_steps}: must be at least 0")
        if not 0 <= self.overlap < self.length:
            raise ValueError(
                f"agent.overlap_steps={self.overlap_steps}: must be at least 0 and less than the {self.length} "
                f"transitions of a sequence (burn_in_steps + unroll_steps)"
            )
        for name in ("max_grad_norm", "rescale_eps"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"agent.{name}={value}: must be positive, or None")

    @property
    def length(self) -> int:
        """Transitions of a sequence."""
        return self.burn_in_steps + self.unroll_steps

    @property
    def overlap(self) -> int:
        """Transitions that neighbouring sequences share."""
        return self.burn_in_steps if self.overlap_steps is None else self.overlap_steps

    def head(self) -> Head:
        """What the network's outputs mean."""
        return Scalar()


class R2D2Learner:
    """Turns replayed sequences into better weights. Deterministic given seed, machine, threads and precision."""

    def __init__(
        self,
        config: R2D2Config,
        spec: EnvSpec,
        build: Callable[[], SequenceQ],
        *,
        device: torch.device,
        seed: int,
        timer: LapTimer,
    ) -> None:
        """``build`` makes the network; ``timer``: of the thread that calls ``update``, which marks its laps in it."""
        self.config = config
        self.version = 0
        self._device = device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            online = build()
        if device.type == "cuda":
            settle(config.precision)
        self._dtype = torch.float64 if config.precision == "fp64" else torch.float32
        self._online = online.to(device, self._dtype)
        self._target = build().to(device, self._dtype).requires_grad_(False)
        self._target.load_state_dict(self._online.state_dict())
        self._parameters = dict(self._online.named_parameters())
        self._optimizer = Adam(self._parameters, lr=config.learning_rate, eps=config.adam_eps)
        self._autocast = partial(autocast, config.precision, device)
        self._timer = timer
        self._costs = cost_of_sequence_update(
            self._online, spec, burn_in=config.burn_in_steps, unroll=config.unroll_steps, rows=config.batch_size
        )

    def update(self, replayed: ReplayedUnrolls) -> Updated:
        """One gradient step on a batch of numpy sequences of ``burn_in_steps + unroll_steps`` transitions.

        Raises NonFiniteLoss, with the weights as they were; ValueError where the sequences have another length.
        """
        config, timer, batch = self.config, self._timer, replayed.batch
        if batch.num_steps != config.length:
            raise ValueError(
                f"the learner needs sequences of {config.length} transitions (burn_in_steps + unroll_steps), "
                f"but got {batch.num_steps}"
            )
        weight = self._tensor(replayed.weight)
        q, q_target, part = self._q_values(batch)
        with torch.no_grad():
            target = self._targets(q.detach(), q_target, part)
        timer.lap("target")
        loss, td = sequence_q_loss(q[:-1], part["action"], target, part["valid"], weight=weight)
        loss_value = loss.item()
        if not math.isfinite(loss_value):
            raise NonFiniteLoss(f"the loss of update {self.version + 1} is {loss_value}", replayed)
        metrics = {**self._step(loss, replayed), **_metrics(loss_value, td, q.detach(), part["valid"])}
        priority = sequence_priority(td, part["valid"], max_share=config.priority_max_share)
        priorities = priority.double().cpu().numpy()
        timer.lap("learner")
        if self.version % config.target_period_updates == 0:
            self._target.load_state_dict(self._online.state_dict())
            timer.lap("target")
        return Updated(metrics=metrics, priorities=priorities, costs=self._costs)

    def _q_values(self, batch: Unroll) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Q-values [T+1, B, A] of both networks over the trained part, the online ones with their graph, and the part.

        The stored state is that before the first burn-in step; both networks bring it up to date with their own
        weights.
        """
        cut = self.config.burn_in_steps
        obs, action, reward, discount, valid = (
            self._tensor(x) for x in (batch.obs, batch.action, batch.reward, batch.discount, batch.valid)
        )
        start = {name: self._tensor(x) for name, x in batch.state_at_start.items()}
        reset = torch.cat([torch.zeros_like(valid[:1]), ~valid])
        head = obs[:cut], action[:cut], reward[:cut], reset[: cut + 1]
        tail = obs[cut:], action[cut:], reward[cut:], reset[cut:]
        self._timer.lap("learner")
        with self._autocast():
            with torch.no_grad():
                before = self._target.state_after(*head, start) if cut else start
                q_target = self._target.unroll(*tail, before).to(self._dtype)
                self._timer.lap("target")
                before = self._online.state_after(*head, start) if cut else start
            q = self._online.unroll(*tail, before).to(self._dtype)
        self._timer.lap("learner")
        part = {"action": action[cut:], "reward": reward[cut:], "discount": discount[cut:], "valid": valid[cut:]}
        return q, q_target, part

    def _targets(self, q: Tensor, q_target: Tensor, part: Mapping[str, Tensor]) -> Tensor:
        """[T, B] what the online network should say of the actions taken."""
        config, eps = self.config, self.config.rescale_eps
        value = double_q_values(q_target, q if config.double else q_target)
        value = value if eps is None else unrescale(value, eps)
        returns = n_step_returns(
            part["reward"], config.gamma * part["discount"], part["valid"], value, n_step=config.n_step
        )
        return returns if eps is None else rescale(returns, eps)

    def _step(self, loss: Tensor, replayed: ReplayedUnrolls) -> dict[str, float]:
        """Backward, clip, step; returns what there is to say of the gradient."""
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        metrics = {}
        if self.config.max_grad_norm is not None:
            norm = self._optimizer.clip(self.config.max_grad_norm)
            if not math.isfinite(norm):
                raise NonFiniteLoss(f"the gradient norm of update {self.version + 1} is {norm}", replayed)
            metrics["grad_norm"] = norm
        self._optimizer.step()
        self.version += 1
        return metrics

    def snapshot(self) -> PolicySnapshot:
        """The live parameters: the next update changes them in place."""
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
        self._target.load_state_dict({k: torch.as_tensor(v) for k, v in state["target"].items()})
        self._optimizer.load_state_dict(state["optimizer"])

    def weights(self) -> dict[str, Tensor]:
        """The online network's parameters, detached."""
        return {name: p.detach() for name, p in self._parameters.items()}

    def _tensor(self, x: Any) -> Tensor:
        t = torch.from_numpy(x).to(self._device, non_blocking=True)
        return t.to(self._dtype) if t.is_floating_point() else t


def _metrics(loss: float, td: Tensor, q: Tensor, valid: Tensor) -> dict[str, float]:
    """Means over the trained rows that are transitions; ``q_mean`` over actions, as the network says it (rescaled)."""
    count = int(valid.sum())
    rows = max(count, 1)
    return {
        "loss": loss,
        "td_mean": float(td.sum()) / rows,
        "td_abs": float(td.abs().sum()) / rows,
        "q_mean": float(q[:-1].mean(-1)[valid].sum()) / rows,
        "trained_transitions": float(count),
    }
