"""GRPO and RLOO: policy gradients on groups of completions, with an importance correction of the sampler.

Shao et al. 2024, "DeepSeekMath", equation 3 without its outcome-free parts; Ahmadian et al. 2024, "Back to Basics";
weight of the sampler's mismatch as in Yao, Liu et al. 2025. Three policies may differ: mu generated, ``old`` is the
learner when the round came in, pi is the learner now. What deviates from the papers is in `docs/language-models.md`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from frugalrl.algos.adam import Adam
from frugalrl.algos.grpo_config import GRPOConfig
from frugalrl.algos.grpo_cost import costs_of_round
from frugalrl.cost.meters import LapTimer
from frugalrl.math.importance import Corrected, Correction, apply
from frugalrl.math.importance.weights import check_values
from frugalrl.math.surrogate import (
    Surrogate,
    group_advantages,
    leave_one_out_advantages,
    mean_loss,
    ppo_loss,
)
from frugalrl.nets.token_model import TokenModel
from frugalrl.policies.tokens import log_policy, log_probs
from frugalrl.types import BadBatch, Cost, NonFiniteLoss, PolicySnapshot, ReplayedTokens, StateDict, Tokens, Updated


@dataclass(frozen=True, slots=True)
class _Round:
    """One round's completions as tensors, and what is frozen while they are used."""

    tokens: Tokens
    prompt: Tensor
    response: Tensor
    mask: Tensor
    log_mu: Tensor
    advantage: Tensor
    """[N, R], the same for all tokens of a completion."""
    log_old: Tensor | None
    """[N, R]; None while the learner has not said it: then the first forward pass of the loss does."""
    corrected: Corrected | None
    log_reference: Tensor | None
    metrics: dict[str, float]

    def of(self, rows: Tensor) -> tuple[Tensor, ...]:
        return self.prompt[rows], self.response[rows], self.mask[rows], self.log_mu[rows], self.advantage[rows]


class GRPOLearner:
    """Holds the model and the optimiser; a round of completions becomes one or more gradient steps."""

    def __init__(
        self,
        config: GRPOConfig,
        build: Callable[[], TokenModel],
        *,
        prompt_tokens: int,
        response_tokens: int,
        device: torch.device,
        seed: int,
        timer: LapTimer,
    ) -> None:
        """``timer`` is the loop thread's: the learner marks its laps in it."""
        self.config = config
        self.version = 0
        self._device, self._seed, self._timer = device, seed, timer
        self._dtype = torch.float64 if config.precision == "fp64" else torch.float32
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = build().to(device, self._dtype)
        self._parameters = dict(self.model.named_parameters())
        self._optimizer = Adam(self._parameters, lr=config.learning_rate, eps=config.adam_eps)
        self._correction = Correction.parse(config.correction)
        self._reference = build().to(device, self._dtype) if config.kl_cost else None
        self.imitated = 0
        """Supervised steps made."""
        warm = Adam(self._parameters, lr=config.warm_start_learning_rate, eps=config.adam_eps)
        self._imitation = warm if config.warm_start_steps else None
        if not self.imitating:
            self.begin()
        self._costs = costs_of_round(
            self.model, config, prompt_tokens=prompt_tokens, response_tokens=response_tokens,
            old=self._needs_old, reference=self._reference is not None,
        )  # fmt: skip

    @property
    def _needs_old(self) -> bool:
        """Whether log pi_old takes a forward pass of its own: with one gradient step the loss knows it, and where mu
        stands below the line nobody asks."""
        return self.config.steps_per_round > 1 and self._correction.denominator == "old"

    @torch.no_grad()
    def begin(self) -> None:
        """RL starts from the weights of now: the reference of the KL term is a copy of them."""
        self._imitation = None
        if self._reference is not None:
            self._reference.load_state_dict(self.model.state_dict())

    def updates(self, tokens: Tokens) -> Iterator[Updated]:
        """The gradient steps on one round, one after the other.

        Raises BadBatch, with the whole round, for log-probabilities that no sampler can have meant, and NonFiniteLoss
        for a loss that is not finite; the weights are then those of the step before.
        """
        try:
            batch = self._round(tokens)
        except ValueError as error:
            raise BadBatch(str(error), _whole(tokens)) from error
        rows, config = len(tokens.reward), self.config
        for epoch in range(config.epochs):
            shuffled = np.random.default_rng((self._seed, self.version)).permutation(rows)
            for i, part in enumerate(np.split(shuffled, config.minibatches)):
                yield self._step(batch, np.sort(part), first=epoch == 0 and i == 0)

    def _round(self, tokens: Tokens) -> _Round:
        config = self.config
        prompt, response, mask = (self._tensor(x) for x in (tokens.prompt, tokens.response, tokens.mask))
        log_mu = self._tensor(tokens.log_mu).to(self._dtype)
        if not bool(torch.isfinite(log_mu[mask]).all()):
            raise ValueError("the sampler recorded log-probabilities that are not finite")
        check_values(torch, torch.zeros_like(log_mu), log_mu, mask)
        grouped = self._tensor(tokens.reward).to(self._dtype).reshape(-1, config.samples)
        if config.advantage == "rloo":
            advantage = leave_one_out_advantages(grouped)
        else:
            advantage = group_advantages(grouped, scaled=config.advantage == "grpo")
        advantage = advantage.reshape(-1, 1).expand(mask.shape)
        self._timer.lap("learner")
        log_old = corrected = log_reference = None
        if self._needs_old:
            log_old = self._forward(self.model, prompt, response)
            corrected = apply(self._correction, log_old, log_mu, mask, check=False)
            self._timer.lap("correction")
        if self._reference is not None:
            log_reference = self._forward(self._reference, prompt, response)
            self._timer.lap("target")
        metrics = self._of_round(tokens)
        return _Round(tokens, prompt, response, mask, log_mu, advantage, log_old, corrected, log_reference, metrics)

    @torch.no_grad()
    def _forward(self, model: TokenModel, prompt: Tensor, response: Tensor) -> Tensor:
        """[N, R], in pieces of a mini-batch, so that memory is that of a gradient step."""
        size = self.config.batch_size
        pieces = [
            log_probs(log_policy(model, p, r, self.config.temperature), r)
            for p, r in zip(torch.split(prompt, size), torch.split(response, size), strict=True)
        ]
        return torch.cat(pieces)

    def _step(self, batch: _Round, part: NDArray[np.int64], *, first: bool) -> Updated:
        config, rows = self.config, torch.as_tensor(part, device=self._device)
        prompt, response, mask, log_mu, advantage = batch.of(rows)
        log_pi_all = log_policy(self.model, prompt, response, config.temperature)
        log_pi = log_probs(log_pi_all, response)
        corrected = batch.corrected
        if corrected is None:  # the weights are still those that the round came in with, or mu is below the line
            weighed = apply(self._correction, log_pi.detach(), log_mu, mask, check=False)
            weight, log_below = weighed.weight, log_mu if self._correction.denominator == "mu" else log_pi.detach()
        else:
            assert batch.log_old is not None
            weighed = corrected
            weight, log_below = corrected.weight[rows], batch.log_old[rows]
        found = ppo_loss(
            log_pi, log_below, advantage, weight, mask,
            clip_low=config.clip_low, clip_high=config.clip_high, dual_clip=config.dual_clip,
        )  # fmt: skip
        loss = mean_loss(found.loss, mask, config.loss_mean, constant=mask.shape[1])
        metrics = self._metrics(found, log_pi_all.detach(), mask)
        if batch.log_reference is not None:
            kl = _k3(batch.log_reference[rows], log_pi, mask)
            mean_kl = mean_loss(kl, mask, config.loss_mean, constant=mask.shape[1])
            metrics["reference_kl"] = mean_kl.item()
            loss = loss + config.kl_cost * mean_kl
        metrics["loss"] = loss.item()
        if not math.isfinite(metrics["loss"]):
            sentence = f"the loss of update {self.version + 1} is {metrics['loss']}"
            raise NonFiniteLoss(sentence, _whole(batch.tokens))
        metrics["grad_norm"] = self._descend(loss, batch.tokens)
        if first:
            batch.metrics.update(weighed.metrics)
        metrics |= batch.metrics  # the same for all steps of a round, so that means over steps are means over rounds
        self.version += 1
        self._timer.lap("learner")
        return Updated(metrics=metrics, priorities=None, costs=self._costs.of(first=first))

    def _descend(self, loss: Tensor, tokens: Tokens) -> float:
        """Backward, clip, Adam; returns the gradient norm before the clip."""
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        most = self.config.max_grad_norm
        norm = self._optimizer.clip(math.inf if most is None else most)
        if not math.isfinite(norm):
            raise NonFiniteLoss(f"the gradient norm of update {self.version + 1} is {norm}", _whole(tokens))
        self._optimizer.step()
        return norm

    @property
    def imitating(self) -> bool:
        """The warm start is not over."""
        return self._imitation is not None

    def imitate(self, prompt: NDArray[np.int64], answer: NDArray[np.int64]) -> float:
        """One supervised step on right answers, [N, P] and [N, R]; returns the loss in nats per token.

        Raises FloatingPointError when it is not finite. The version stays: no update of RL was made.
        """
        assert self._imitation is not None
        asked, right = self._tensor(prompt), self._tensor(answer)
        loss = -log_probs(log_policy(self.model, asked, right, 1.0), right).mean()
        value = loss.item()
        if not math.isfinite(value):
            raise FloatingPointError(f"the loss of the warm start is {value}")
        self._imitation.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._imitation.step()
        self.imitated += 1
        return value

    def imitation_cost(self) -> Cost:
        """FLOPs and bytes of one supervised step."""
        return self._costs.imitation

    def _metrics(self, found: Surrogate, log_pi_all: Tensor, mask: Tensor) -> dict[str, float]:
        """Of one gradient step: what the clip did, and the entropy in nats per token."""
        entropy = -(log_pi_all.exp() * log_pi_all).sum(-1)
        ratio = found.ratio[mask]
        values = (found.clipped[mask].to(self._dtype).mean(), entropy[mask].mean(), ratio.max())
        names = ("clipped_share", "entropy", "ppo_ratio_max")
        return dict(zip(names, torch.stack([v.to(self._dtype) for v in values]).tolist(), strict=True))

    def _of_round(self, tokens: Tokens) -> dict[str, float]:
        """Of the completions: rewards under mu, lengths, and how many updates old the weights were."""
        reward, lag = np.asarray(tokens.reward), self.version - np.asarray(tokens.version)
        groups = reward.reshape(-1, self.config.samples)
        return {
            "reward_mean": float(reward.mean()),
            "response_length": float(np.asarray(tokens.mask).sum(-1).mean()),
            "flat_group_share": float((groups == groups[:, :1]).all(-1).mean()),
            "lag_mean": float(lag.mean()),
            "lag_max": float(lag.max()),
        }

    def snapshot(self) -> PolicySnapshot:
        """The live parameters, always in the same mapping: the next update changes them in place."""
        return PolicySnapshot(version=self.version, parameters=self._parameters)

    def state_dict(self) -> StateDict:
        """Everything that the next update depends on."""
        state: StateDict = {
            "version": self.version,
            "online": dict(self._parameters),
            "optimizer": self._optimizer.state_dict(),
            "imitated": self.imitated,
        }
        if self._imitation is not None:
            state["imitation"] = self._imitation.state_dict()
        if self._reference is not None:
            state["reference"] = dict(self._reference.named_parameters())
        return state

    def load_state_dict(self, state: StateDict) -> None:
        """The inverse. Raises KeyError or RuntimeError when it does not fit."""
        self.version = state["version"]
        _copy(self.model, state["online"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.imitated = state["imitated"]
        if self._imitation is not None and "imitation" in state:
            self._imitation.load_state_dict(state["imitation"])
        else:
            self._imitation = None
        if self._reference is not None:
            _copy(self._reference, state["reference"])

    def _tensor(self, x: Any) -> Tensor:
        return torch.as_tensor(x).to(self._device)


def _whole(tokens: Tokens) -> ReplayedTokens:
    rows = len(tokens.reward)
    return ReplayedTokens(tokens, np.arange(rows), np.ones(rows, np.float32))


def _k3(log_reference: Tensor, log_pi: Tensor, mask: Tensor) -> Tensor:
    """exp(d) - 1 - d with d = log reference - log pi, per token: an estimate of KL(pi, reference) that is never
    negative (Schulman 2020). It is not weighted by the correction."""
    d = torch.where(mask, log_reference - log_pi, 0.0)
    return d.clamp(-20.0, 20.0).exp() - 1.0 - d


@torch.no_grad()
def _copy(model: TokenModel, parameters: StateDict) -> None:
    for name, parameter in model.named_parameters():
        parameter.copy_(torch.as_tensor(parameters[name]))
