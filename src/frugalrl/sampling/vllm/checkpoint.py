"""A checkpoint in a folder that vLLM can load: weights as they are, in bfloat16, or as 8-bit integers.

The 8-bit form is compressed-tensors' ``int-quantized`` with W8A8: weights symmetric per output channel, activations
symmetric per token at run time; the output layer stays as it is.

An x86 processor without VNNI adds two products of 8 bits in 16 bits that saturate, which makes far larger errors than
the rounding. There the weights get 7 bits, as torch's ``reduce_range`` does: ``weight_levels``.
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
_VNNI = frozenset(("avx512_vnni", "avx_vnni", "amx_int8"))
HEAD_WIDTHS = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)
"""What vLLM 0.32.0's attention on CPUs has kernels for (``v1/attention/backends/cpu_attn.py``)."""
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


def weight_levels(cpuinfo: str | None = None) -> int:
    """Largest integer of a quantised weight: 63 where sums of products saturate at 16 bits, else 127.

    Args:
        cpuinfo: what ``/proc/cpuinfo`` says; None reads it. 127 where nothing can be read or it is no x86.
    """
    if cpuinfo is None:
        try:
            cpuinfo = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
        except OSError:
            return 127
    flags = next((line.split() for line in cpuinfo.splitlines() if line.startswith("flags")), None)
    return 127 if flags is None or not _VNNI.isdisjoint(flags) else 63


def quantized(weight: torch.Tensor, levels: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Symmetric integers per output channel.

    Args:
        weight: [out, in], finite.
        levels: the largest integer, at most 127.

    Returns:
        int8 [out, in] in [-levels, levels] and float32 scales [out, 1]; their product is the weight to half a scale.
    """
    weight = weight.float()
    scale = (weight.abs().amax(dim=1, keepdim=True) / levels).clamp_min(torch.finfo(torch.float32).tiny)
    return (weight / scale).round().clamp(-levels, levels).to(torch.int8), scale


def for_engine(weights: Mapping[str, torch.Tensor], precision: str, levels: int = 127) -> dict[str, torch.Tensor]:
    """The tensors of the engine's checkpoint, on the CPU, each in memory of its own.

    Args:
        weights: a causal language model's parameters, with Hugging Face's names.
        precision: one of ``PRECISIONS``.
        levels: of ``quantized``, for ``int8``.
    """
    dtype, ready = dtype_of(precision), {}
    for name, weight in weights.items():
        weight = weight.detach().cpu()
        if precision == "int8" and name.rpartition(".")[0].endswith(_LINEAR) and name.endswith(".weight"):
            ready[name], ready[f"{name}_scale"] = quantized(weight, levels)
        else:
            ready[name] = weight.to(dtype, copy=True).contiguous()
    return ready


def check_heads(config: Mapping[str, Any]) -> None:
    """Raises UserError for a model whose attention heads have a width that vLLM cannot compute on a CPU."""
    units, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
    width = int(config.get("head_dim") or units // heads)
    if width not in HEAD_WIDTHS:
        fits = next((units // w for w in HEAD_WIDTHS if units % w == 0), None)
        hint = f"; with net.width={units} set net.heads={fits}" if fits else "; change net.width or net.heads"
        raise UserError(
            f"vLLM on a CPU computes attention heads of {', '.join(map(str, HEAD_WIDTHS))} units, and this model's "
            f"have {width} (net.width={units}, net.heads={heads}){hint}."
        )


def write_checkpoint(
    folder: Path, config: Mapping[str, Any], weights: Mapping[str, torch.Tensor], precision: str, levels: int = 127
) -> int:
    """Write ``config.json`` and ``model.safetensors``; the bytes of the tensors.

    Raises:
        UserError: a model without any layer that could be quantised.
    """
    ready = for_engine(weights, precision, levels)
    dtype = str(dtype_of(precision)).removeprefix("torch.")
    written = {**config, "dtype": dtype}
    if precision == "int8":
        if not any(name.endswith(".weight_scale") for name in ready):
            raise UserError(f"int8 knows layers named {', '.join(_LINEAR)}, and this model has none of them.")
        written["quantization_config"] = _SCHEME
    (folder / "config.json").write_text(json.dumps(written, indent=1), encoding="utf-8")
    save_file(ready, folder / "model.safetensors", metadata={"format": "pt"})
    return sum(tensor.nbytes for tensor in ready.values())
