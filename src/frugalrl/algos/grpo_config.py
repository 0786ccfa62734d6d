"""What GRPO and RLOO can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from frugalrl.math.importance import Correction
from frugalrl.math.surrogate import Mean, check_clips


@dataclass(frozen=True, kw_only=True, slots=True)
class GRPOConfig:
    """The learner of language models: groups of completions, correction, loss and optimiser."""

    kind: Literal["grpo"] = "grpo"
    advantage: Literal["grpo", "grpo-unscaled", "rloo"] = "grpo"
    """``grpo``: the reward minus the mean of its group, over the group's standard deviation (Shao et al. 2024);
    ``grpo-unscaled``: not divided (Liu et al. 2025); ``rloo``: minus the mean of the others (Ahmadian et al. 2024)."""
    prompts: int = 32
    """Prompts of one round."""
    samples: int = 8
    """Completions of each prompt: the size of a group."""
    temperature: float = 1.0
    """Logits are divided by it, by the sampler and by the learner."""
    epochs: int = 1
    """How often a round's completions are used."""
    minibatches: int = 2
    """Gradient steps per epoch, on disjoint parts of the round."""
    learning_rate: float = 3e-4
    adam_eps: float = 1e-8
    max_grad_norm: float | None = 1.0
    """Clip the global gradient norm; None for no clipping."""
    clip_low: float = 0.2
    """How far the ratio pi/pi_old may fall below 1 before its gradient is cut."""
    clip_high: float = 0.2
    """How far it may rise above 1."""
    dual_clip: float | None = None
    """The loss of a negative advantage is at most this times its size (Ye et al. 2020); more than ``1 + clip_high``, or
    such advantages have no gradient from the start. None: no such bound."""
    correction: str = "none"
    """Importance correction of the sampler: ``none``, ``token-tis:2``, ``sequence-mask:0.5,2``, ``ppo-denominator``
    and more (docs/importance.md)."""
    loss_mean: Mean = "token"
    """``token``: over all tokens of a mini-batch (DAPO). ``sequence``: over the tokens of each completion, then over
    completions (GRPO). ``constant``: divided by completions times the longest response (Dr. GRPO)."""
    kl_cost: float = 0.0
    """Weight of the KL divergence from the policy that RL began with, in nats per token (the k3 estimate)."""
    warm_start_steps: int = 0
    """At most so many supervised steps on right answers before RL begins; 0 for none."""
    warm_start_until: float | None = None
    """End the warm start once this share of sampled completions is right; None: after all its steps."""
    warm_start_batch: int = 64
    """Prompts of one supervised step."""
    warm_start_learning_rate: float = 1e-3
    precision: Literal["fp32", "fp64"] = "fp32"
    """Of the learner; ``fp64`` for checks."""

    def __post_init__(self) -> None:
        for name in ("prompts", "samples", "temperature", "epochs", "minibatches", "learning_rate", "adam_eps",
                     "warm_start_batch", "warm_start_learning_rate"):  # fmt: skip
            if not getattr(self, name) > 0:
                raise ValueError(f"agent.{name}={getattr(self, name)}: must be positive")
        for name in ("max_grad_norm", "dual_clip"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"agent.{name}={value}: must be positive, or None")
        for name in ("clip_low", "clip_high", "kl_cost", "warm_start_steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"agent.{name}={getattr(self, name)}: must be at least 0")
        check_clips(self.clip_low, self.clip_high, self.dual_clip)
        if self.samples < 2:
            raise ValueError(f"agent.samples={self.samples}: an advantage within a group needs at least 2 completions")
        if self.prompts * self.samples % self.minibatches:
            raise ValueError(
                f"agent.minibatches={self.minibatches} does not divide the {self.prompts * self.samples} completions "
                f"of a round (agent.prompts={self.prompts}, samples={self.samples})"
            )
        if self.warm_start_until is not None and not 0 < self.warm_start_until <= 1:
            raise ValueError(f"agent.warm_start_until={self.warm_start_until}: must lie in (0, 1], or None")
        try:
            Correction.parse(self.correction)
        except ValueError as error:
            raise ValueError(f"agent.correction: {error}") from None

    @property
    def batch_size(self) -> int:
        """Completions of one gradient step."""
        return self.prompts * self.samples // self.minibatches

    @property
    def steps_per_round(self) -> int:
        """Gradient steps made of one round's completions."""
        return self.epochs * self.minibatches

    @property
    def gamma(self) -> float:
        """A completion has one reward, at its end, and is not discounted."""
        return 1.0
