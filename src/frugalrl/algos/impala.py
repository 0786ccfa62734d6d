"""IMPALA's learner (Espeholt et al. 2018): an actor-critic on unrolls that others acted, corrected by V-trace.

SEED RL (Espeholt et al. 2020) has the same loss. Both, and ours, in `docs/vtrace.md`. Counteractive exploration changes
none of this: it is behaviour (`frugalrl.math.explore.policy`), whose exact log mu the ratios divide by.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from frugalrl.algos.actor_critic import ActorCriticLearner, UnrollSizes
from frugalrl.algos.unroll_cost import cost_of_unroll_update
from frugalrl.cost.meters import LapTimer
from frugalrl.math.policy_gradient import ActorCriticLoss, actor_critic_loss, log_probabilities
from frugalrl.math.ppo import normalised
from frugalrl.math.vtrace import VTrace, vtrace
from frugalrl.nets.actor_critic import ActorCriticNetwork, prepared_unroll
from frugalrl.types import EnvSpec, NonFiniteLoss, ReplayedUnrolls, Updated

_LARGEST_RATIO = 1e6
"""Of the metrics, whose squares would not be finite."""
_METRICS = (
    "loss", "policy_loss", "value_loss", "entropy", "ratio_mean", "value_mean", "target_mean", "reward_mean",
    "advantage_mean", "rho_clipped_share", "ess",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class ImpalaConfig(UnrollSizes):
    """The learner: unrolls, correction, loss and optimiser. The defaults are SEED's, where it has them."""

    kind: Literal["impala"] = "impala"
    gamma: float = 0.99
    """Discount per agent step."""
    unroll_steps: int = 20
    """Transitions T of one unroll."""
    batch_unrolls: int = 32
    """Unrolls B of one batch, which so holds T * B transitions."""
    passes: int = 1
    """How often each batch is gone through. From the second step on it is old by the steps before; V-trace corrects."""
    minibatches: int = 1
    """Each pass takes the unrolls of a batch in so many parts, with a gradient step on each."""
    learning_rate: float = 4.8e-4
    lr_decay_updates: int | None = None
    """The learning rate falls in a line to 0 at this update; None: it stays."""
    adam_beta1: float = 0.9
    """Decay of Adam's first moment; 0 in SEED's DMLab configuration."""
    adam_eps: float = 1e-7
    max_grad_norm: float | None = None
    """Clip the global gradient norm; None for no clipping."""
    baseline_cost: float = 0.5
    """Weight of the value loss."""
    normalise_advantages: bool = False
    """Advantages of the transitions of each gradient step get mean 0 and standard deviation 1 before their ratio
    multiplies them, as in Sample Factory's APPO (Petrenko et al. 2020): what the value is off by on average then moves
    no policy."""
    entropy_cost: float = 0.00025
    """Reward of the policy's entropy in nats."""
    rho_bar: float | None = 1.0
    """Largest importance ratio of the value's targets; None: not truncated."""
    c_bar: float | None = 1.0
    """Largest importance ratio of the trace; None: not truncated."""
    pg_rho_bar: float | None = 1.0
    """Largest importance ratio of the policy gradient; None: not truncated."""
    lambda_: float = 1.0
    """Multiplies the trace: 1 for targets over n steps, 0 over one."""
    reward_scale: float = 1.0
    """Multiplies rewards. Policy and value share a network, and errors of large values drown the policy's gradient."""
    max_abs_reward: float | None = None
    """Clip rewards, scaled, to this size, beyond what the protocol does; None: as they come."""
    correction: str = "vtrace"
    """``vtrace``: by the three truncated ratios. ``none``: a control without log mu, as if the learner had acted."""
    max_lag: int | None = None
    """Rows acted by weights older than so many updates take no part in the loss; None: all do."""
    precision: Literal["fp32", "tf32", "bf16", "fp64"] = "fp32"
    """``bf16`` runs forward and backward under autocast; weights, loss and optimiser are fp32. ``fp64``: for checks."""

    def __post_init__(self) -> None:
        for name in ("gamma", "lambda_"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"agent.{name}={getattr(self, name)}: must lie in [0, 1]")
        for name in (
            "unroll_steps",
            "batch_unrolls",
            "passes",
            "minibatches",
            "learning_rate",
            "adam_eps",
            "reward_scale",
        ):
            if getattr(self, name) <= 0:
                raise ValueError(f"agent.{name}={getattr(self, name)}: must be positive")
        for name in ("lr_decay_updates", "max_grad_norm", "rho_bar", "c_bar", "pg_rho_bar", "max_abs_reward"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"agent.{name}={value}: must be positive, or None")
        if self.batch_unrolls % self.minibatches:
            raise ValueError(
                f"agent.minibatches={self.minibatches}: must divide agent.batch_unrolls={self.batch_unrolls}"
            )
        for name in ("baseline_cost", "entropy_cost"):
            if getattr(self, name) < 0:
                raise ValueError(f"agent.{name}={getattr(self, name)}: must be at least 0")
        if not 0 <= self.adam_beta1 < 1:
            raise ValueError(f"agent.adam_beta1={self.adam_beta1}: must lie in [0, 1)")
        if self.max_lag is not None and self.max_lag < 0:
            raise ValueError(f"agent.max_lag={self.max_lag}: must be at least 0, or None")
        if self.correction not in ("vtrace", "none"):
            raise ValueError(
                f"agent.correction={self.correction!r}: V-trace corrects by its own truncated ratio, and a weight on "
                f"top would square it; set agent.pg_rho_bar (for token-tis:C it is C) and agent.rho_bar, or use "
                f"'vtrace' or 'none'"
            )
        if self.rho_bar is not None and (self.c_bar is None or self.c_bar > self.rho_bar):
            raise ValueError(
                f"agent.c_bar={self.c_bar} > agent.rho_bar={self.rho_bar}: V-trace converges for c_bar of at most "
                f"rho_bar (theorem 1 of the paper); lower c_bar"
            )


class _Inputs(NamedTuple):
    """The unrolls of one gradient step, on the learner's device."""

    seen: tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Tensor]]
    """What the network unrolls over: observations, actions, rewards as they came, resets and the state before."""
    action: Tensor
    log_mu: Tensor
    reward: Tensor
    """As the loss sees it: scaled and clipped."""
    discount: Tensor
    """With gamma in it."""
    weight: Tensor
    valid: Tensor
    usable: Tensor
    mask: NDArray[np.bool_]
    """``valid``, on the host."""


class ImpalaLearner(ActorCriticLearner[ImpalaConfig]):
    """Each update is one gradient step, or some, on a batch of unrolls."""

    def __init__(
        self,
        config: ImpalaConfig,
        spec: EnvSpec,
        build: Callable[[], ActorCriticNetwork],
        *,
        device: torch.device,
        seed: int,
        timer: LapTimer,
    ) -> None:
        """``timer`` is the loop thread's: the learner marks its laps in it."""
        super().__init__(config, build, device=device, seed=seed, timer=timer, adam_beta1=config.adam_beta1)
        self._rooms: list[Tensor | None] = [None] * config.minibatches
        """The observations of the update before, whose memory the next ones take."""
        size = {"steps": config.unroll_steps, "rows": config.batch_unrolls // config.minibatches}
        one = cost_of_unroll_update(self._net, spec, **size)["learner"]
        self._costs = {"learner": sum([one] * (config.passes * config.minibatches - 1), one)}

    def update(self, replayed: ReplayedUnrolls) -> Updated:
        """Gradient steps on a batch of unrolls; the ratios of each are to the policy as it is by then.

        When every row is too old the weights stay; the update counts all the same. Raises NonFiniteLoss; the learner
        is then as it was before.
        """
        config = self.config
        valid = np.asarray(replayed.batch.valid)
        lag = self.version - np.asarray(replayed.batch.version)
        usable = valid if config.max_lag is None else valid & (lag <= config.max_lag)
        every = config.minibatches
        parts = [self._inputs(replayed, valid, usable, slice(first, None, every)) for first in range(every)]
        before = self._copies() if config.passes * every > 1 else None
        told: list[dict[str, float]] = []
        try:
            for _ in range(config.passes):
                told += [self._step_on(part, replayed) for part in parts]
        except NonFiniteLoss:
            if before is not None:
                self._put_back(before)
            raise
        self._rooms = [part.seen[0] for part in parts] if self._device.type == "cpu" else [None] * every
        metrics = told[0] if len(told) == 1 else {name: fmean(one[name] for one in told) for name in told[0]}
        self.version += 1
        self._timer.lap("learner")
        return Updated(metrics=metrics | _ages(lag, valid, usable), priorities=None, costs=self._costs)

    def _inputs(
        self, replayed: ReplayedUnrolls, valid: NDArray[np.bool_], usable: NDArray[np.bool_], part: slice
    ) -> _Inputs:
        """These unrolls of a batch."""
        config, batch = self.config, replayed.batch
        valid, usable = valid[:, part], usable[:, part]
        fields = (batch.log_mu[:, part], batch.reward[:, part], batch.discount[:, part], replayed.weight[part])
        log_mu, reward, discount, weight = (self._number(x) for x in fields)
        reset = np.zeros((len(valid) + 1, *valid.shape[1:]), np.bool_)
        reset[1:] = ~valid
        obs, action, reset_t, valid_t, usable_t = (
            self._tensor(x) for x in (batch.obs[:, part], batch.action[:, part], reset, valid, usable)
        )
        with torch.no_grad(), self._autocast():
            obs = prepared_unroll(self._net, obs, self._rooms[part.start])
        state = {name: self._tensor(x[part]) for name, x in batch.state_at_start.items()}
        learned = reward if config.reward_scale == 1.0 else config.reward_scale * reward
        if config.max_abs_reward is not None:
            learned = learned.clamp(-config.max_abs_reward, config.max_abs_reward)
        seen = (obs, action, reward, reset_t, state)
        return _Inputs(seen, action, log_mu, learned, config.gamma * discount, weight, valid_t, usable_t, valid)

    def _step_on(self, inputs: _Inputs, replayed: ReplayedUnrolls) -> dict[str, float]:
        """One gradient step; its metrics."""
        config, timer = self.config, self._timer
        with self._autocast():
            out = self._net.unroll(*inputs.seen)
        out = out.to(self._dtype)
        timer.lap("learner")
        logits, values = self._head.to_q(out[:-1]), self._head.value(out)
        log_pi_all, log_pi = log_probabilities(logits, inputs.action, inputs.valid)
        bars = {"rho_bar": config.rho_bar, "c_bar": config.c_bar, "pg_rho_bar": config.pg_rho_bar}
        found = vtrace(
            log_pi,
            inputs.log_mu if config.correction == "vtrace" else log_pi,
            inputs.reward,
            inputs.discount,
            values.detach(),
            valid=inputs.valid,
            lambda_=config.lambda_,
            **bars,
        )
        if config.correction == "none":  # the metrics are of what the loss does not see
            ratio = torch.where(inputs.valid, (log_pi.detach() - inputs.log_mu).exp(), 1.0)
            found = found._replace(ratio=ratio)
        advantage = found.advantage
        if config.normalise_advantages:
            advantage = normalised(found.error, inputs.usable)
            if config.correction == "vtrace":
                bar = math.inf if config.pg_rho_bar is None else config.pg_rho_bar
                advantage = found.ratio.clamp(max=bar) * advantage
        timer.lap("correction")
        loss = actor_critic_loss(
            log_pi_all,
            log_pi,
            values[:-1],
            vs=found.vs,
            advantage=advantage,
            usable=inputs.usable,
            weight=inputs.weight,
            baseline_cost=config.baseline_cost,
            entropy_cost=config.entropy_cost,
        )
        metrics = self._metrics(loss, found, values[:-1].detach(), inputs.reward, inputs.mask)
        if not math.isfinite(metrics["loss"]):
            raise NonFiniteLoss(f"the loss of update {self.version + 1} is {metrics['loss']}", replayed)
        metrics["grad_norm"] = self._step(loss.loss, replayed) if inputs.usable.any() else 0.0
        return metrics

    def _step(self, loss: Tensor, replayed: ReplayedUnrolls) -> float:
        """Backward, clip, Adam; returns the gradient norm before the clip."""
        config = self.config
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = self._optimizer.clip(math.inf if config.max_grad_norm is None else config.max_grad_norm)
        if not math.isfinite(norm):
            raise NonFiniteLoss(f"the gradient norm of update {self.version + 1} is {norm}", replayed)
        rate = config.learning_rate
        if config.lr_decay_updates is not None:
            rate *= max(0.0, 1.0 - self.version / config.lr_decay_updates)
        self._optimizer.step(rate)
        return norm

    def _metrics(
        self, loss: ActorCriticLoss, found: VTrace, values: Tensor, reward: Tensor, valid: NDArray[np.bool_]
    ) -> dict[str, float]:
        """The loss, and means over all transitions, too old ones included; NaN where there is none."""
        parts = torch.stack((loss.loss.detach(), loss.policy, loss.value, loss.entropy)).tolist()
        if not valid.any():
            return dict.fromkeys(_METRICS, math.nan) | dict(zip(_METRICS, parts, strict=False))
        # to the host in one piece; numpy's calls cost less than torch's on so little
        rows = torch.stack((found.ratio, values, found.vs, reward, found.advantage)).cpu().numpy()[:, valid]
        ratio = rows[0] = rows[0].clip(max=_LARGEST_RATIO)
        bar = math.inf if self.config.rho_bar is None else self.config.rho_bar
        mean, *others = rows.mean(1, dtype=np.float64).tolist()
        clipped = np.count_nonzero(ratio > bar) / ratio.size
        ess = mean * mean * ratio.size / float(ratio @ ratio)
        return dict(zip(_METRICS, (*parts, mean, *others, clipped, ess), strict=True))


def _ages(lag: NDArray[np.int64], valid: NDArray[np.bool_], usable: NDArray[np.bool_]) -> dict[str, float]:
    """How many updates old the weights were that acted, over all transitions, and the share left out for that."""
    ages = lag[valid]
    if not len(ages):
        return dict.fromkeys(("lag_min", "lag_mean", "lag_max", "too_old_share"), math.nan)
    return {
        "lag_min": float(ages.min()),
        "lag_mean": float(ages.mean()),
        "lag_max": float(ages.max()),
        "too_old_share": 1.0 - float(np.count_nonzero(usable)) / len(ages),
    }
