"""A copy of the learner as TRL's sampler: another precision, the log-probability of each token recorded."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from frugalrl.integrations.hooks import as_transform, copy_buffers
from frugalrl.policies.transforms import Transformer
from frugalrl.types import PolicySnapshot, UserError


class SamplerCopy:
    """A ``rollout_func`` for GRPOTrainer: a changed copy of the learner generates, with transformers.

    TRL asks for one completion per prompt it hands over, and repeats a prompt ``num_generations`` times. Text only, no
    adapters (PEFT). An age counts optimizer steps within one call of ``train``. Memory: two or three copies of the
    model, and the scores of all new tokens, batch x new tokens x vocabulary in float32.
    """

    def __init__(self, change: str | Callable[[nn.Module], nn.Module], *, seed: int = 0) -> None:
        """``change`` is a transform's name (``frugal list transforms``: bf16, int8, int4, stale:8, ...), or a function
        from a model, which it may change in place, to a module, called at each generation. ``seed``: of ``noise``.

        Raises UserError for a name that is not known, and for what is neither.
        """
        if not callable(change):
            as_transform(change, "SamplerCopy")
        self._change, self._seed = change, seed
        self._twin: nn.Module | None = None
        self._transformer: Transformer | None = None
        self._training: list[Any] = []
        """Weak references to what the copy is of."""

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
        # steps count anew in another training, which has a state of its own, and a step that is known is not copied
        training = [trainer, learner, trainer.state]
        if self._twin is None or any(of() is not now for of, now in zip(self._training, training, strict=True)):
            self._training = [weakref.ref(x) for x in training]
            self._twin = self._transformer = None  # free before another model is made
            self._twin = twin_of(learner).to(trainer.accelerator.device)
        if isinstance(self._change, str):
            if self._transformer is None:
                self._transformer = Transformer(self._twin, self._change, seed=self._seed)
            parameters = dict(learner.named_parameters())
            self._transformer.load(PolicySnapshot(version=trainer.state.global_step, parameters=parameters))
            copy_buffers(learner, self._transformer.module)
            sampler: Any = self._transformer.module
        else:
            self._twin.load_state_dict(learner.state_dict())
            copy_buffers(learner, self._twin)  # those that a state_dict leaves out
            sampler = self._change(copy.deepcopy(self._twin)).eval()
        # else generate mixes the trainer's settings with the defaults of the model
        sampler.generation_config = trainer.generation_config
        return sampler


def twin_of(learner: Any) -> Any:
    """A model of the same architecture with other weights. Raises UserError for a model with adapters.

    Not a deep copy: TRL replaces ``forward`` by a closure, which would go on calling the learner.
    """
    if hasattr(learner, "peft_config"):
        raise UserError(
            "SamplerCopy copies whole models, and this one has adapters (PEFT); write a rollout_func for it"
        )
    with torch.random.fork_rng([]):
        return type(learner)(learner.config).eval()


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
