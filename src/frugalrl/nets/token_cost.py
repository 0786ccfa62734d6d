"""FLOPs and bytes of language models, the cache of keys and values included.

Counted on a twin whose attention is made of matrix products, because the fused kernel of the CPU has no formula; both
compute the same. The counter sees all keys of a causal row, as if nothing were masked.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from frugalrl.cost.flops import FlopCount, bytes_min_update, count_flops, weight_bytes
from frugalrl.nets.token_model import TokenModel
from frugalrl.types import Cost


@dataclass(frozen=True, slots=True)
class GenerationCost:
    """What it costs to generate ``k`` tokens for a batch of prompts."""

    flop: tuple[float, ...]
    """Of one row, after 0, 1, ... tokens."""
    cache_bytes: int
    """Keys and values of one token of one row."""
    weight_bytes: int
    prompt_tokens: int

    def of(self, rows: int, tokens: int) -> Cost:
        """``tokens`` forward passes: the first over the prompts, then one token each, reading the cache."""
        # pass i writes what it adds and reads all that is there
        lengths = [self.prompt_tokens + i for i in range(tokens)]
        moved = tokens * self.weight_bytes + rows * self.cache_bytes * sum(lengths)
        return Cost(calls=tokens, flop=rows * self.flop[tokens], bytes_min=float(moved))


def generation_cost(model: TokenModel, prompt_tokens: int, response_tokens: int) -> GenerationCost:
    """Counted by generating once for one row; what is generated does not matter."""
    twin = _countable(model)
    cache = twin.empty_cache()
    ids = torch.zeros((1, prompt_tokens), dtype=torch.int64)
    flop = [0.0]
    with torch.no_grad():
        for _ in range(response_tokens):
            with FlopCounterMode(display=False) as counter:
                twin.extend(ids, cache)
            flop.append(flop[-1] + float(counter.get_total_flops()))
            ids = ids[:, :1]
    config = model.lm.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    itemsize = next(model.parameters()).element_size()
    cache_bytes = 2 * config.num_hidden_layers * heads * width * itemsize
    return GenerationCost(tuple(flop), cache_bytes, weight_bytes(model, 1), prompt_tokens)


def sequence_flops(model: TokenModel, tokens: int) -> FlopCount:
    """Forward and backward of one row of ``tokens`` tokens. Work is in proportion to rows."""
    return count_flops(_countable(model), torch.zeros((1, tokens), dtype=torch.int64), backward=True)


def update_bytes(model: TokenModel, rows: int, tokens: int) -> float:
    """Lower bound of what one gradient step moves."""
    ids = torch.empty((rows, tokens), dtype=torch.int64, device="meta")
    logits = torch.empty((rows, tokens, model.vocabulary), device="meta")
    return float(bytes_min_update(model, (ids,), logits))


def _countable(model: TokenModel) -> TokenModel:
    twin = copy.deepcopy(model).cpu()
    twin.lm.set_attn_implementation("eager")
    return twin
