"""FLOPs and bytes of language models, the cache of keys and values included.

Counted on a twin whose attention is made of matrix products, because the fused kernel of the CPU has no formula; both
compute the same. The counter sees all keys of a causal row, as if nothing were masked.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from frugalrl.cost.flops import FlopCount, bytes_min_update, count_flops, count_flops_of, weight_bytes
from frugalrl.nets.token_model import TokenModel
from frugalrl.types import Cost

_GENERATION: dict[tuple[str, int, int], tuple[float, ...]] = {}
_SEQUENCE: dict[tuple[str, int, int], FlopCount] = {}


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

    def of_each(self, tokens: NDArray[np.int64]) -> Cost:
        """Rows of ``tokens`` [rows] each, where a row that has ended takes part in no further pass."""
        rows = [self.of(1, int(count)) for count in tokens]
        passes = int(tokens.max())
        kept = sum(cost.bytes_min or 0.0 for cost in rows) - self.weight_bytes * int(tokens.sum())
        flop = sum(cost.flop or 0.0 for cost in rows)
        return Cost(calls=passes, flop=flop, bytes_min=kept + passes * self.weight_bytes)


def generation_cost(
    model: TokenModel, prompt_tokens: int, response_tokens: int, acts: nn.Module | None = None
) -> GenerationCost:
    """Counted by generating once for one row; what is generated does not matter.

    ``acts``: what generates, if it is ``model`` in other arithmetic; its bytes are counted.
    """
    key = (_shape(model), prompt_tokens, response_tokens)
    if key not in _GENERATION:
        _GENERATION[key] = _generation_flops(_countable(model), prompt_tokens, response_tokens)
    config = model.lm.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    acts = model if acts is None else acts
    itemsize = next(acts.parameters()).element_size()
    cache_bytes = 2 * config.num_hidden_layers * heads * width * itemsize
    return GenerationCost(_GENERATION[key], cache_bytes, weight_bytes(acts, 1), prompt_tokens)


def _generation_flops(twin: TokenModel, prompt_tokens: int, response_tokens: int) -> tuple[float, ...]:
    cache = twin.empty_cache()
    ids = torch.zeros((1, prompt_tokens), dtype=torch.int64)
    flop = [0.0]
    with torch.no_grad():
        for _ in range(response_tokens):
            flop.append(flop[-1] + count_flops_of(partial(twin.extend, ids, cache)))
            ids = ids[:, :1]
    return tuple(flop)


def sequence_flops(model: TokenModel, tokens: int, keep: int) -> FlopCount:
    """Forward and backward of one row of ``tokens`` tokens with logits for the last ``keep``; in proportion to rows."""
    key = (_shape(model), tokens, keep)
    if key not in _SEQUENCE:
        ids = torch.zeros((1, tokens), dtype=torch.int64)
        _SEQUENCE[key] = count_flops(_Kept(_countable(model), keep), ids, backward=True)
    return _SEQUENCE[key]


def _shape(model: TokenModel) -> str:
    """All that FLOPs depend on; a run counts each only once, although several of its parts have a copy of the model."""
    shape: str = model.lm.config.to_json_string()
    return shape


class _Kept(nn.Module):
    """Logits of the last places as a function of tokens alone."""

    def __init__(self, model: TokenModel, keep: int) -> None:
        super().__init__()
        self.model, self.keep = model, keep

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(ids, self.keep)
        return logits


def update_bytes(model: TokenModel, rows: int, tokens: int, keep: int) -> float:
    """Lower bound of what one gradient step on ``rows`` rows moves."""
    ids = torch.empty((rows, tokens), dtype=torch.int64, device="meta")
    logits = torch.empty((rows, keep, model.vocabulary), device="meta")
    return float(bytes_min_update(model, (ids,), logits))


def _countable(model: TokenModel) -> TokenModel:
    twin = copy.deepcopy(model).cpu()
    twin.lm.set_attn_implementation("eager")
    return twin
