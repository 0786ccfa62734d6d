"""A network in bfloat16: weights, activations and arithmetic."""

from __future__ import annotations

import torch
from torch import nn

_FREQUENCIES = "inv_freq"
"""How the buffers of rotary embeddings end. A position times a frequency of 8 bits is an angle that is wrong by as much
as the position is large; engines, and transformers itself, keep them in float32 and round sines and cosines."""


def to_bf16(module: nn.Module) -> nn.Module:
    """Round parameters and buffers in place, but for the frequencies of rotary embeddings; returns the module, which
    answers in bfloat16."""
    kept = [
        (part, name, buffer)
        for part in module.modules()
        for name, buffer in part.named_buffers(recurse=False)
        if name.endswith(_FREQUENCIES)
    ]
    module.to(torch.bfloat16)
    for part, name, buffer in kept:
        setattr(part, name, buffer)
    return module


def nothing(module: nn.Module) -> None:
    """Parameters that are copied into a module in bfloat16 are rounded on the way."""
