"""PPO (Schulman et al. 2017) on unrolls, with a correction for samplers that differ from the learner.

Three policies: mu acted, ``old`` is the learner when the batch came in, pi is the learner at each gradient step. The
clipped ratio is pi/old, the weight old/mu: `docs/ppo.md`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from frugalrl.algos.actor_critic import ActorCriticLearner, UnrollSizes
from frugalrl.algos.ppo_batch import Batch, Minibatch, check_sampler
from frugalrl.algos.ppo_cost import PPOCosts
from frugalrl.algos.ppo_metrics import ages, of_values
from frugalrl.cost.meters import LapTimer
from frugalrl.math.gae import gae
from frugalrl.math.importance import Corrected, Correction, apply, measure
from frugalrl.math.policy_gradient import log_probabilities
from frugalrl.math.ppo import Part, ppo_batch_loss
from frugalrl.math.surrogate import check_clips
from frugalrl.nets.actor_critic import ActorCriticNetwork
from frugalrl.types import (
    BadBatch,
    Cost,
    EnvSpec,
    NonFiniteLoss,
    ReplayedUnrolls,
    StateDict,
    Updated,
    UserError,
)

_PARTS = ("loss", "policy_loss", "value_loss", "entropy", "clipped_share", "approx_kl")
_POSITIVE = (
    "unroll_steps", "batch_unrolls", "epochs", "minibatches", "learning_rate", "adam_eps", "clip_low", "clip_high",
    "reward_scale",
)  # fmt: skip
_POSITIVE_OR_NONE = ("lr_decay_batches", "dual_clip", "value_clip", "max_grad_norm", "target_kl")


@dataclass(frozen=True, kw_only=True, slots=True)
class PPOConfig(UnrollSizes):
    """The learner: unrolls, epochs, clip, correction and optimiser. The defaults are CleanRL's for classic control."""

    kind: Literal["ppo"] = "ppo"
    gamma: float = 0.99
    """Discount per agent step."""
    gae_lambda: float = 0.95
    """Generalised advantage estimation: 1 for returns over the whole unroll, 0 for one step."""
    unroll_steps: int = 128
    """Transitions T of one unroll."""
    batch_unrolls: int = 4
    """Unrolls B of one batch, which so holds T * B transitions; as many as there are environments."""
    epochs: int = 4
    """Times that each transition of a batch is learned from."""
    minibatches: int = 4
    """Parts of a batch, one gradient step each: transitions, or whole unrolls of a recurrent network."""
    learning_rate: float = 2.5e-4
    lr_decay_batches: int | None = None
    """The learning rate falls in a line to 0 at this batch; None: it stays."""
    adam_eps: float = 1e-5
    clip_low: float = 0.2
    """How far the ratio pi/old may fall below 1 before its gradient is cut."""
    clip_high: float = 0.2
    """How far it may rise above 1."""
    dual_clip: float | None = None
    """Largest multiple of a negative advantage that a transition may cost; None: as much as the ratio says."""
    value_clip: float | None = None
    """How far V may move from what it was when the batch came in; None: as far as it likes."""
    entropy_cost: float = 0.01
    """Reward of the policy's entropy in nats."""
    baseline_cost: float = 0.5
    """Weight of the value loss."""
    normalise_advantages: bool = True
    """Give the advantages of each minibatch mean 0 and standard deviation 1."""
    max_grad_norm: float | None = 0.5
    """Clip the global gradient norm; None for no clipping."""
    target_kl: float | None = None
    """No further epoch on a batch once the KL of an epoch, mean ``approx_kl``, is larger; None: all epochs."""
    reward_scale: float = 1.0
    """Multiplies rewards. Policy and value share a network, and errors of large values drown the policy's gradient."""
    correction: str = "none"
    """For a sampler that differs from the learner: ``none``, ``token-tis:2``, ``token-mask:0.5,2``, ``vanilla``,
    ``ppo-denominator`` and others; see docs/ppo.md."""
    precision: Literal["fp32", "tf32", "bf16", "fp64"] = "fp32"
    """``bf16`` runs forward and backward under autocast; weights, loss and optimiser are fp32. ``fp64``: for checks."""

    def __post_init__(self) -> None:
        for name in ("gamma", "gae_lambda"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"agent.{name}={getattr(self, name)}: must lie in [0, 1]")
        for name in _POSITIVE:
            if getattr(self, name) <= 0:
                raise ValueError(f"agent.{name}={getattr(self, name)}: must be positive")
        for name in _POSITIVE_OR_NONE:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"agent.{name}={value}: must be positive, or None")
        for name in ("baseline_cost", "entropy_cost"):
            if getattr(self, name) < 0:
                raise ValueError(f"agent.{name}={getattr(self, name)}: must be at least 0")
        check_clips(self.clip_low, self.clip_high, self.dual_clip)
        if self.minibatches > self.unroll_steps * self.batch_unrolls:
            raise ValueError(
                f"agent.minibatches={self.minibatches}: a batch holds {self.unroll_steps * self.batch_unrolls} "
                f"transitions; lower it"
            )
        try:
            Correction.parse(self.correction)
        except ValueError as error:
            raise ValueError(f"agent.correction: {error}") from None


class PPOLearner(ActorCriticLearner[PPOConfig]):
    """Each update is ``epochs * minibatches`` gradient steps on one batch."""

    def __init__(
        self,
        config: PPOConfig,
        spec: EnvSpec,
        build: Callable[[], ActorCriticNetwork],
        *,
        device: torch.device,
        seed: int,
        timer: LapTimer,
    ) -> None:
        """``timer`` is the loop thread's: the learner marks its laps in it. Raises UserError."""
        super().__init__(config, build, device=device, seed=seed, timer=timer)
        self._correction = Correction.parse(config.correction)
        if self._net.recurrent and config.minibatches > config.batch_unrolls:
            raise UserError(
                f"agent.minibatches={config.minibatches} > agent.batch_unrolls={config.batch_unrolls}: a recurrent "
                f"network learns from whole unrolls; lower agent.minibatches"
            )
        self._rng = np.random.default_rng(seed)
        self._costs = PPOCosts(self._net, spec, steps=config.unroll_steps, rows=config.batch_unrolls)

    def update(self, replayed: ReplayedUnrolls) -> Updated:
        """Learn from a batch of unrolls, ``epochs`` times.

        Raises NonFiniteLoss or BadBatch; the learner is then as it was before.
        """
        self._timer.lap("learner")
        batch, told = self._began(replayed)
        before = self._copies()
        try:
            steps, read, sums = self._epochs(batch, replayed)
        except NonFiniteLoss:
            self._put_back(before)
            raise
        valid = np.asarray(replayed.batch.valid)
        metrics = sums | of_values(batch.part, valid) | told
        metrics |= ages(self.version, np.asarray(replayed.batch.version), valid)
        self.version += 1
        self._timer.lap("learner")
        learning, forward = self._costs.learning(steps, read), self._costs.forward()
        # the pass gives the values too; with a correction it is on its line, which so is an upper bound
        costs = (
            {"learner": learning, "correction": forward}
            if self._correction.weighs
            else {"learner": learning + Cost(flop=forward.flop, bytes_min=forward.bytes_min)}
        )
        return Updated(metrics=metrics, priorities=None, costs=costs)

    def _began(self, replayed: ReplayedUnrolls) -> tuple[Batch, dict[str, float]]:
        """The batch with what the learner thinks of it now, and metrics of how far the sampler was from it."""
        config, unroll = self.config, replayed.batch
        valid = np.asarray(unroll.valid)
        log_mu, reward, discount, weight = (
            self._number(x) for x in (unroll.log_mu, unroll.reward, unroll.discount, replayed.weight)
        )
        mask, action, obs = (self._tensor(x) for x in (valid, unroll.action, unroll.obs))
        reset = np.zeros((len(valid) + 1, *valid.shape[1:]), np.bool_)
        reset[1:] = ~valid
        state = {name: self._tensor(x) for name, x in unroll.state_at_start.items()}
        reset_t = self._tensor(reset)
        with torch.no_grad():
            out = self._own(lambda: self._net.unroll(obs, action, reward, reset_t, state))
            _, log_old = log_probabilities(self._head.to_q(out[:-1]), action, mask)
        values = self._head.value(out)
        self._timer.lap("correction" if self._correction.weighs else "learner")
        corrected = self._corrected(replayed, log_old, log_mu, mask)
        told = measure(corrected).metrics()
        self._timer.lap("correction")
        found = gae(
            config.reward_scale * reward, config.gamma * discount, values, valid=mask, lambda_=config.gae_lambda
        )
        below = log_mu if self._correction.denominator == "mu" else log_old
        scale = weight * corrected.weight.to(self._dtype)
        part = Part(log_old, below, scale, found.advantage, found.target, values[:-1], mask)
        return Batch(obs, action, reward, reset_t, state, part), told

    def _corrected(self, replayed: ReplayedUnrolls, log_old: Tensor, log_mu: Tensor, mask: Tensor) -> Corrected:
        """Weights old/mu, made once for a batch. One unroll of one environment is a sequence."""
        try:
            check_sampler(log_old.cpu().numpy(), log_mu.cpu().numpy(), np.asarray(replayed.batch.valid))
            return apply(self._correction, log_old, log_mu, mask, axis=0)
        except ValueError as error:
            raise BadBatch(f"the batch of update {self.version + 1} cannot be used: {error}", replayed) from None

    def _epochs(self, batch: Batch, replayed: ReplayedUnrolls) -> tuple[int, int, dict[str, float]]:
        """Gradient steps made, what they read, and metrics: means over the steps, of the KL over the last epoch."""
        config, whole = self.config, self._net.recurrent
        rows: list[list[float]] = []
        norms: list[float] = []
        divergences: list[float] = []
        read = 0
        while len(divergences) < config.epochs:
            begin = len(rows)
            for part in batch.minibatches(
                self._rng, config.minibatches, whole=whole, normalise=config.normalise_advantages
            ):
                found, norm = self._step(part, replayed)
                rows.append(found)
                norms.append(norm)
                read += part.size
            divergences.append(float(np.mean([row[-1] for row in rows[begin:]])))
            if config.target_kl is not None and divergences[-1] > config.target_kl:
                break
        means = dict(zip(_PARTS, np.mean(rows, 0).tolist(), strict=True))
        means |= {"approx_kl": divergences[-1], "grad_norm": float(np.mean(norms)), "epochs": float(len(divergences))}
        return len(rows), read, means

    def _step(self, minibatch: Minibatch, replayed: ReplayedUnrolls) -> tuple[list[float], float]:
        """One gradient step; its loss and parts, and the gradient norm before the clip."""
        config, part = self.config, minibatch.part
        out = self._own(lambda: minibatch.outputs(self._net))
        log_pi_all, log_pi = log_probabilities(self._head.to_q(out), minibatch.action(), part.mask)
        loss = ppo_batch_loss(
            log_pi_all,
            log_pi,
            self._head.value(out),
            part,
            clip_low=config.clip_low,
            clip_high=config.clip_high,
            dual_clip=config.dual_clip,
            value_clip=config.value_clip,
            baseline_cost=config.baseline_cost,
            entropy_cost=config.entropy_cost,
        )
        found: list[float] = torch.stack([x.detach() for x in loss]).tolist()
        if not math.isfinite(found[0]):
            raise NonFiniteLoss(f"the loss of update {self.version + 1} is {found[0]}", replayed)
        self._optimizer.zero_grad()
        loss.loss.backward()  # type: ignore[no-untyped-call]
        norm = self._optimizer.clip(math.inf if config.max_grad_norm is None else config.max_grad_norm)
        if not math.isfinite(norm):
            raise NonFiniteLoss(f"the gradient norm of update {self.version + 1} is {norm}", replayed)
        rate = config.learning_rate
        if config.lr_decay_batches is not None:
            rate *= max(0.0, 1.0 - self.version / config.lr_decay_batches)
        self._optimizer.step(rate)
        return found, norm

    def _copies(self) -> StateDict:
        return {**super()._copies(), "rng": self._rng.bit_generator.state}

    def _put_back(self, before: StateDict) -> None:
        super()._put_back(before)
        self._rng.bit_generator.state = before["rng"]

    def state_dict(self) -> StateDict:
        """Everything that the next update depends on."""
        return {**super().state_dict(), "rng": self._rng.bit_generator.state}

    def load_state_dict(self, state: StateDict) -> None:
        """The inverse."""
        super().load_state_dict(state)
        self._rng.bit_generator.state = state["rng"]

    def _own(self, outputs: Callable[[], Tensor]) -> Tensor:
        """Outputs of the network, computed as ``precision`` says, in the loss's type."""
        with self._autocast():
            out = outputs()
        return out.to(self._dtype)
