"""A checkpoint in a folder that vLLM can load: weights as they are, in bfloat16, or as 8-bit integers.

The 8-bit form is compressed-tensors' ``int-quantized`` with W8A8: weights symmetric per output channel, activations
symmetric per token at run time; the output layer stays as it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from frugalrl.types import UserError

PRECISIONS = ("fp32", "bf16", "int8")
_DTYPE = {"fp32": torch.float32, "bf16": torch.bfloat16, "int8": torch.bfloat16}
_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_SCHEME = {
    "quant_method": "compressed-tensors",
    "format": "int-quantized",
    "quantization_status": "compressed",
    "ignore": ["lm_head"],
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel", "dynamic": False},
            "input_activations": {
                "num_bits": 8,
                "type": "int",
                "symmetric": True,
                "strategy": "token",
                "dynamic": True,
            },
        }
    },
}


def dtype_of(precision: str) -> torch.dtype:
    """What the engine computes in (for ``int8``: around its integer products)."""
    return _DTYPE[precision]


def quantized(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Symmetric 8-bit integers per output channel.

    Args:
        weight: [out, in], finite.

    Returns:
        int8 [out, in] in [-127, 127] and float32 scales [out, 1]; their product is the weight to half a scale.
    """
    weight = weight.float()
    scale = (weight.abs().amax(dim=1, keepdim=True) / 127).clamp_min(torch.finfo(torch.float32).tiny)
    return (weight / scale).round().clamp(-127, 127).to(torch.int8), scale


def for_engine(weights: Mapping[str, torch.Tensor], precision: str) -> dict[str, torch.Tensor]:
    """The tensors of the engine's checkpoint, on the CPU, each in memory of its own.

    Args:
        weights: a causal language model's parameters, with Hugging Face's names.
        precision: one of ``PRECISIONS``.
    """
    dtype, ready = dtype_of(precision), {}
    for name, weight in weights.items():
        weight = weight.detach().cpu()
        if precision == "int8" and name.rpartition(".")[0].endswith(_LINEAR) and name.endswith(".weight"):
            ready[name], ready[f"{name}_scale"] = quantized(weight)
        else:
            ready[name] = weight.to(dtype, copy=True).contiguous()
    return ready


def write_checkpoint(
    folder: Path, config: Mapping[str, Any], weights: Mapping[str, torch.Tensor], precision: str
) -> int:
    """Write ``config.json`` and ``model.safetensors``; the bytes of the tensors.

    Raises:
        UserError: a model without any layer that could be quantised.
    """
    ready = for_engine(weights, precision)
    dtype = str(dtype_of(precision)).removeprefix("torch.")
    written = {**config, "dtype": dtype}
    if precision == "int8":
        if not any(name.endswith(".weight_scale") for name in ready):
            raise UserError(f"int8 knows layers named {', '.join(_LINEAR)}, and this model has none of them.")
        written["quantization_config"] = _SCHEME
    (folder / "config.json").write_text(json.dumps(written, indent=1), encoding="utf-8")
    save_file(ready, folder / "model.safetensors", metadata={"format": "pt"})
    return sum(tensor.nbytes for tensor in ready.values())
