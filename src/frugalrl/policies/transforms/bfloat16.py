"""A network in bfloat16: weights, activations and arithmetic."""

from __future__ import annotations

import torch
from torch import nn


def to_bf16(module: nn.Module) -> nn.Module:
    """Round parameters and buffers in place; returns the module, which answers in bfloat16."""
    return module.to(torch.bfloat16)


def nothing(module: nn.Module) -> None:
    """Parameters that are copied into a module in bfloat16 are rounded on the way."""
