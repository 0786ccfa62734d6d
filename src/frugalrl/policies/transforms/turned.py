"""Dense layers whose weight is turned: [in, out] where `torch.nn.Linear` has [out, in]."""

from __future__ import annotations

from torch import nn


def is_turned(layer: nn.Module) -> bool:
    """Whether this is the dense layer of GPT-2 and its kin: ``Conv1D`` of transformers, which is no ``nn.Linear``."""
    return type(layer).__name__ == "Conv1D" and type(layer).__module__.startswith("transformers.")
