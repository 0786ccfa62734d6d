"""A tiny Llama in fp32, its log-probabilities by one full forward pass, and how far a sampler's are from them."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch


def tiny_llama(*, vocab: int, seed: int, layers: int = 3, width: int = 128, init: float = 0.06) -> torch.nn.Module:
    """Random weights; a few 100k parameters."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocab,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=2048,
        initializer_range=init,
        bos_token_id=None,
        eos_token_id=None,
        tie_word_embeddings=False,
    )
    torch.manual_seed(seed)
    return LlamaForCausalLM(config).eval()


def moved(model: torch.nn.Module, *, seed: int, by: float = 0.2) -> torch.nn.Module:
    """Other weights of the same shape."""
    other, generator = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in other.parameters():
            weight += by * weight.std().nan_to_num() * torch.randn(weight.shape, generator=generator)
    return other


def log_probs(model: torch.nn.Module, prompts: np.ndarray, tokens: np.ndarray, temperature: float) -> np.ndarray:
    """[B, N]: log-probability of each completion's tokens after its prompt [B, P], logits over temperature."""
    both = torch.from_numpy(np.concatenate([prompts, tokens], axis=1))
    with torch.no_grad():
        logits = model(both).logits[:, prompts.shape[1] - 1 : -1].double() / temperature
    picked = torch.log_softmax(logits, -1).gather(-1, torch.from_numpy(tokens)[..., None])
    return picked[..., 0].numpy()


@dataclass(frozen=True)
class Mismatch:
    """Of a sampler against the learner, over all tokens."""

    max_prob: float
    mean_prob: float
    k1: float
    k3: float
    ratio_min: float
    ratio_max: float


def mismatch(log_pi: np.ndarray, log_mu: np.ndarray) -> Mismatch:
    """Section by section as defined: |p - q|, mean(-d), mean(exp d - 1 - d), exp d, with d = log pi - log mu."""
    d = log_pi - log_mu.astype(np.float64)
    p = np.abs(np.exp(log_pi) - np.exp(log_mu.astype(np.float64)))
    ratio = np.exp(d)
    return Mismatch(
        float(p.max()), float(p.mean()), float(-d.mean()), float((ratio - 1 - d).mean()), float(ratio.min()),
        float(ratio.max()),
    )  # fmt: skip
