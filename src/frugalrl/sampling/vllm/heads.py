"""The same model with wider attention heads, for kernels that do not have its own.

A head of d units becomes one of D > d units of which D - d are zero. Three things keep it the same function: rotary
embeddings turn unit j together with unit j + d/2, so the halves are placed apart; their frequencies theta^(-2j/d) are
those of the wider head for theta^(D/d); and queries are scaled by sqrt(D/d), because scores are divided by sqrt(D).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from frugalrl.types import UserError

WIDTHS = (32, 64, 80, 96, 112, 128, 160, 192, 224, 256, 512)
"""What vLLM 0.32.0's attention on CPUs has kernels for (``v1/attention/backends/cpu_attn.py``)."""


class Heads:
    """A model's configuration and weights with heads of a width in ``WIDTHS``; as they are, if they have one."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """``config``: what ``config.json`` holds. Raises UserError for a model that cannot be widened."""
        self._heads = int(config["num_attention_heads"])
        self._groups = int(config.get("num_key_value_heads") or self._heads)
        self._width = int(config.get("head_dim") or int(config["hidden_size"]) // self._heads)
        self._wide = next((width for width in WIDTHS if width >= self._width), self._width)
        self.config: Mapping[str, Any] = config
        """What goes with ``widened`` weights."""
        if self._width in WIDTHS:
            return
        rope = dict(config.get("rope_parameters") or {"rope_theta": config.get("rope_theta")})
        plain = rope.get("rope_type", "default") == "default" and rope.get("rope_theta") is not None
        if (
            config.get("model_type") != "llama"
            or not plain
            or self._wide == self._width
            or config.get("attention_bias")
        ):
            raise UserError(
                f"vLLM on a CPU computes attention heads of {', '.join(map(str, WIDTHS))} units; this model "
                f"({config.get('model_type')}) has heads of {self._width}, and only a plain Llama's can be widened; "
                f"use sampler.engine=torch."
            )
        rope["rope_theta"] = float(rope["rope_theta"]) ** (self._wide / self._width)
        self.config = {**config, "head_dim": self._wide, "rope_parameters": rope, "rope_theta": rope["rope_theta"]}

    def widened(self, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The weights of the same function with wider heads, by Hugging Face's names."""
        wide = dict(weights)
        if self._wide == self._width:
            return wide
        for name, weight in weights.items():
            kind = name.removesuffix(".weight").rpartition(".")[2]
            if kind == "q_proj":
                wide[name] = self._rows(weight, self._heads) * math.sqrt(self._wide / self._width)
            elif kind in ("k_proj", "v_proj"):
                wide[name] = self._rows(weight, self._groups)
            elif kind == "o_proj":
                wide[name] = self._rows(weight.T, self._heads).T.contiguous()
        return wide

    def _rows(self, weight: torch.Tensor, heads: int) -> torch.Tensor:
        """[heads * d, units] -> [heads * D, units]"""
        units, half = weight.shape[1], self._width // 2
        narrow, wide = weight.reshape(heads, self._width, units), weight.new_zeros((heads, self._wide, units))
        wide[:, :half] = narrow[:, :half]
        wide[:, self._wide // 2 : self._wide // 2 + half] = narrow[:, half:]
        return wide.reshape(-1, units)
