"""A copy of the learner as TRL's sampler: another precision, the log-probability of each token recorded."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from frugalrl.types import UserError

_NAMED: dict[str, Callable[[nn.Module], nn.Module]] = {"fp32": nn.Module.float, "bf16": nn.Module.bfloat16}


class SamplerCopy:
    """A ``rollout_func`` for GRPOTrainer: a changed copy of the learner generates, with transformers.

    The copy is made anew from the learner's weights at each generation. TRL asks for one completion per prompt it
    hands over, and repeats a prompt ``num_generations`` times. Text only. Memory: two copies of the model, and the
    scores of all new tokens, batch x new tokens x vocabulary in float32.
    """

    def __init__(self, change: str | Callable[[nn.Module], nn.Module]) -> None:
        """``change`` is ``bf16``, ``fp32`` or a function from a model, which it may change in place, to a module.

        Raises UserError for another name.
        """
        if isinstance(change, str) and change not in _NAMED:
            raise UserError(f"SamplerCopy({change!r}): known are {', '.join(_NAMED)}, or pass a function of a model")
        self._change = _NAMED[change] if isinstance(change, str) else change
        self._twin: nn.Module | None = None

    def __call__(self, prompts: list[Any], trainer: Any) -> dict[str, Any]:
        """TRL's protocol: token ids of prompts and completions, and the log-probabilities of the latter."""
        ids, images, _ = trainer._tokenize_prompts(prompts)
        if images is not None:
            raise UserError("SamplerCopy generates from text alone, and these prompts have images")
        sampler = self._sampler(trainer)
        tokens, log_mu = sample(
            sampler, ids, trainer.generation_config, trainer.eos_token_ids, trainer._tokenizer.pad_token_id,
            trainer.accelerator.device,
        )  # fmt: skip
        return {"prompt_ids": ids, "completion_ids": tokens, "logprobs": log_mu}

    def _sampler(self, trainer: Any) -> Any:
        learner = trainer.accelerator.unwrap_model(trainer.model)
        if self._twin is None:
            # not a deep copy: TRL replaces forward by a closure, which would go on calling the learner
            with torch.random.fork_rng([]):
                self._twin = type(learner)(learner.config)
            self._twin.to(trainer.accelerator.device)
        self._twin.load_state_dict(learner.state_dict())
        changed = self._change(copy.deepcopy(self._twin).eval())
        # else generate mixes the trainer's settings with the defaults of the model
        changed.generation_config = trainer.generation_config
        return changed


@torch.no_grad()
def sample(
    model: Any, prompts: list[list[int]], config: Any, ends: list[int], pad: int, device: torch.device
) -> tuple[list[list[int]], list[list[float]]]:
    """Completions up to and with the first end token, and the log-probability of each token as it was drawn.

    That is under the scores from which ``generate`` draws: after temperature, top-k, top-p and whatever else.
    """
    longest = max(len(p) for p in prompts)
    rows = torch.tensor([[pad] * (longest - len(p)) + list(p) for p in prompts], device=device)
    attention = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=device)
    config = copy.deepcopy(config)
    config.output_scores = config.return_dict_in_generate = True
    out = model.generate(input_ids=rows, attention_mask=attention, generation_config=config)
    drawn = out.sequences[:, longest:]
    log_mu = torch.stack([s.float().log_softmax(-1) for s in out.scores], 1).gather(-1, drawn[..., None])[..., 0]
    ended = torch.isin(drawn, torch.tensor(ends, device=device))
    length = torch.where(ended.any(1), ended.int().argmax(1) + 1, drawn.shape[1]).tolist()
    tokens = [row[:n] for row, n in zip(drawn.tolist(), length, strict=True)]
    return tokens, [row[:n] for row, n in zip(log_mu.tolist(), length, strict=True)]
