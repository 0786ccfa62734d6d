"""A language model of some 10,000 parameters, its tokenizer and a task, made on the spot: nothing is fetched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import GRPOConfig

WORDS = ["<pad>", "<end>", *(str(i) for i in range(14))]


def tokenizer() -> PreTrainedTokenizerFast:
    """A word is a token: numbers from 0 to 13, an end and a padding."""
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<pad>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="<end>", padding_side="left", truncation_side="left"
    )


def model(seed: int = 0) -> LlamaForCausalLM:
    """Random weights, large enough that the policy is far from uniform."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(WORDS), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=64, pad_token_id=0, eos_token_id=1, bos_token_id=None,
        initializer_range=0.3, attn_implementation="eager",
    )  # fmt: skip
    return LlamaForCausalLM(config)


def prompts(n: int = 16) -> Dataset:
    """Prompts of two to four numbers."""
    return Dataset.from_dict({"prompt": [" ".join(str((i * k) % 14) for k in range(1, 3 + i % 3)) for i in range(n)]})


def reward(completions: list[str], **_: Any) -> list[float]:
    """The more even numbers, the better."""
    return [sum(int(w) % 2 == 0 for w in c.split()) / 8 for c in completions]


def config(folder: Path, **changed: Any) -> GRPOConfig:
    """Four prompts with four completions a step, on the CPU in float32."""
    settings: dict[str, Any] = {
        "output_dir": str(folder), "per_device_train_batch_size": 16, "num_generations": 4, "max_steps": 2,
        "max_completion_length": 8, "learning_rate": 1e-2, "logging_steps": 1, "report_to": "none", "use_cpu": True,
        "bf16": False, "save_strategy": "no", "disable_tqdm": True, "seed": 1,
        "lr_scheduler_type": "constant", "temperature": 1.0,
    }  # fmt: skip
    return GRPOConfig(**{**settings, **changed})


def made(kind: Any, folder: Path, *, settings: dict[str, Any] | None = None, **given: Any) -> Any:
    """A trainer of this model on this task; ``settings`` are those of GRPOConfig."""
    given = {"model": model(), **given}
    if (settings or {}).get("beta"):  # TRL loads the reference model from where the model was loaded
        given["model"].save_pretrained(folder / "model")
        given["model"] = str(folder / "model")
    return kind(
        reward_funcs=reward, args=config(folder, **(settings or {})), train_dataset=prompts(),
        processing_class=tokenizer(), **given,
    )  # fmt: skip


def batch_of(trainer: Any, n: int = 16) -> dict[str, Any]:
    """What the trainer generates and scores next."""
    trainer.model.train()
    rows = [trainer.train_dataset[i // 4] for i in range(n)]
    return trainer._generate_and_score_completions(rows)
