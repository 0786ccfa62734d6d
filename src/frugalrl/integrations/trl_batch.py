"""What the TRL hook does to a batch, as functions of dictionaries of tensors. TRL itself is not needed here.

Shapes: ``B`` completions, ``T`` tokens of the longest one; completions are padded on the right. The keys are those of
``GRPOTrainer._generate_and_score_completions`` (TRL 1.16).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from frugalrl.math.importance import Correction, apply
from frugalrl.types import RunFailed, UserError

Array = Any
"""A torch tensor."""
OLD = "frugalrl_old_logps"
"""[B, T] log-probabilities under the learner when the batch came in, also where TRL needs none."""
WEIGHT = "frugalrl_weight"
"""[B, T] the weight by which the advantages were multiplied."""


def loss_mask(batch: Mapping[str, Array]) -> Array:
    """[B, T] the tokens that TRL's loss counts: of the model, not of a tool, and of no completion that it masks."""
    mask = batch["completion_mask"]
    return mask * batch["tool_mask"] if "tool_mask" in batch else mask


def corrected(batch: Mapping[str, Array], correction: Correction, log_pi_old: Array) -> dict[str, Array]:
    """The batch with its advantages weighted.

    TRL multiplies the advantage by a ratio that is at least 0 and takes a minimum, so a weight of at least 0 on the
    advantage is the same weight on the loss of the token, outside of minimum and clip; KL to the reference and the
    denominators stay as they are. Weights are frozen with the batch, however often TRL goes over it.

    Args:
        batch: of TRL, with ``sampling_per_token_logps`` [B, T], NaN where the sampler gave none (weight 1 there).
        correction: the weight; ``ppo-denominator`` puts the sampler's policy below the line of PPO's ratio.
        log_pi_old: [B, T] under the learner when the batch came in.

    Returns:
        A new dictionary; ``advantages`` are [B, T] where there is a weight.

    Raises:
        RunFailed: log-probabilities that no sampler can have meant.
    """
    log_mu, mask = batch["sampling_per_token_logps"], loss_mask(batch)
    out = {**batch, OLD: log_pi_old}
    if correction.denominator == "mu":
        known = log_mu.isfinite()
        out["old_per_token_logps"] = log_mu.where(known, log_pi_old)
        return out
    if not correction.weighs or not bool(mask.any()):
        return out
    try:
        weight = apply(correction, log_pi_old, log_mu, mask).weight
    except ValueError as error:
        raise RunFailed(f"the correction {correction.name()} cannot be applied to this batch: {error}") from None
    advantages = batch["advantages"]
    out["advantages"] = (advantages[:, None] if advantages.ndim == 1 else advantages) * weight
    out[WEIGHT] = weight
    return out


def trl_correction(config: Any) -> Correction:
    """What TRL's own settings mean in our words; ``none`` where TRL corrects nothing (no vLLM, or switched off)."""
    if not (getattr(config, "use_vllm", False) and getattr(config, "vllm_importance_sampling_correction", False)):
        return Correction(level=None)
    level, _, mode = str(config.vllm_importance_sampling_mode).partition("_")
    low, high = config.vllm_importance_sampling_clip_min, config.vllm_importance_sampling_clip_max
    if low is None and high is None:
        return Correction(level=level, mode="vanilla")  # type: ignore[arg-type]
    if mode == "truncate" and low is not None:
        mode = "clamp"
    return Correction(level=level, mode=mode, low=low, high=high)  # type: ignore[arg-type]


def check_config(config: Any, correction: Correction) -> None:
    """Raises UserError when TRL would correct the same mismatch a second time."""
    if correction.name() == "none":
        return
    name = correction.name()
    if trl_correction(config).weighs:
        raise UserError(
            f"use_vllm=True comes with TRL's own correction ({trl_correction(config).name()} in our words), and "
            f"correction {name!r} would act on top of it: set vllm_importance_sampling_correction=False in GRPOConfig"
        )
    if getattr(config, "off_policy_mask_threshold", None) is not None:
        raise UserError(
            f"off_policy_mask_threshold={config.off_policy_mask_threshold:g} drops sequences for the same mismatch "
            f"that correction {name!r} weighs: set off_policy_mask_threshold=None in GRPOConfig, or correction='none'"
        )
    if getattr(config, "loss_type", None) == "vespo":
        raise UserError(
            f"loss_type='vespo' has a weight of its own made of the ratio to the sampler, and correction {name!r} "
            f"would act on top of it: choose another loss_type in GRPOConfig, or correction='none'"
        )


def checked_rollout(rollout: Callable[[Any, Any], Mapping[str, Any]]) -> Callable[[Any, Any], Mapping[str, Any]]:
    """The same ``rollout_func``; one log-probability per token, or the run ends.

    TRL pads a row that is too short with 0, which reads as a probability of 1 and spoils weights in silence.
    """

    def checked(prompts: Any, trainer: Any) -> Mapping[str, Any]:
        out = rollout(prompts, trainer)
        if not isinstance(out, Mapping):
            raise RunFailed(
                f"rollout_func returned {type(out).__name__}: it must return a dictionary of prompt_ids, "
                f"completion_ids and logprobs, one list for each prompt"
            )
        log_mu, tokens = out.get("logprobs"), out.get("completion_ids")
        if log_mu is None:
            raise RunFailed(
                "rollout_func returned no log-probabilities (logprobs=None): a correction needs, for each token, the "
                "log-probability with which it was sampled; return them, or use correction='none'"
            )
        for row, (values, ids) in enumerate(zip(log_mu, tokens or [], strict=False)):
            if len(values) != len(ids):
                raise RunFailed(
                    f"rollout_func returned {len(values)} log-probabilities for the {len(ids)} tokens of completion "
                    f"{row}: one for each token is needed, the end token and a tool's tokens included (any number "
                    f"where env_mask is 0)"
                )
        return out

    return checked
