"""Dense layers that multiply in int8: weights rounded per row, activations per call (W8A8, dynamic).

These are the kernels of ``torch.ao.quantization.quantize_dynamic`` (FBGEMM), called without its deprecated module
swapping: subclasses of ``nn.Linear`` are covered, and new weights are packed in place. Convolutions, LSTMs and
the output layer of ``nn.MultiheadAttention`` stay as they are: there eager PyTorch calls no such kernel.

Activations use 7 of their 8 bits. A processor without VNNI adds pairs of products in 16 bits, which overflow with all
8: on AVX2 a row of 512 ones times ones then gives 259.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from frugalrl.nets.noisy import NoisyLinear
from frugalrl.nets.torsos import Hidden
from frugalrl.policies.transforms.rounding import row_scales
from frugalrl.policies.transforms.turned import is_turned
from frugalrl.types import UserError

_KNOWN = (nn.Linear, Hidden)


@cache
def _hush() -> None:
    """Torch says once per process that the tensor type is deprecated; the kernels that read it have no successor yet.

    Filters of warnings are the whole process's, so this is not done again where threads may be at work.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch._make_per_channel_quantized_tensor(
            torch.zeros((1, 1), dtype=torch.int8),
            torch.ones(1, dtype=torch.float64),
            torch.zeros(1, dtype=torch.int64),
            0,
        )


class Int8Linear(nn.Linear):
    """A dense layer that keeps its weights in floating point and computes with an int8 copy, made by ``pack``."""

    def __init__(self, layer: nn.Linear) -> None:
        """It takes over the parameters of ``layer``."""
        nn.Module.__init__(self)
        _hush()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight, self.bias = layer.weight, layer.bias
        self.relu = isinstance(layer, Hidden)
        self._packed: Any = None
        self.pack()

    def bytes_read(self, batch: int) -> int:
        """Of the weights, by one forward: a byte each; the scale of a row and its bias in four."""
        return self.weight.numel() + 4 * self.out_features * (1 if self.bias is None else 2)

    @torch.no_grad()
    def pack(self) -> None:
        """Round the weights as they are now. Values that are not finite are kept out of the kernel, see ``forward``."""
        weight = self.weight.detach()
        self._finite = bool(torch.isfinite(weight).all())
        if not self._finite:
            return
        scale = row_scales(weight, 8)
        whole = torch.round(weight / scale).to(torch.int8)
        rows = torch.zeros(len(weight), dtype=torch.int64)
        packable = torch._make_per_channel_quantized_tensor(whole, scale.flatten().double(), rows, 0)
        bias = None if self.bias is None else self.bias.detach().clone()
        self._packed = torch.ops.quantized.linear_prepack(packable, bias)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., in_features] float32 -> [..., out_features]; NaN where weights are not finite."""
        if not self._finite:
            return F.linear(x, self.weight, self.bias)
        y: Tensor = torch.ops.quantized.linear_dynamic(x, self._packed, True)
        return F.relu(y, inplace=True) if self.relu else y


def to_int8(module: nn.Module) -> nn.Module:
    """Replace the dense layers of ``module``, or itself if it is one, in place; returns the module.

    Raises UserError for a layer that the kernels do not know, and for a module that is not on a CPU in float32.
    """
    for parameter in module.parameters():
        if parameter.device.type != "cpu" or parameter.dtype != torch.float32:
            raise UserError(
                f"int8-dynamic multiplies on a CPU with float32 around it, but the network is {parameter.dtype} on "
                f"{parameter.device.type}; use --device cpu, or int8-weight"
            )
    if isinstance(module, nn.Linear):
        return _int8(module)
    if is_turned(module):
        raise UserError(f"int8-dynamic does not know the layer {type(module).__name__} of this model; use int8-weight")
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, _int8(child))
        else:
            to_int8(child)
    return module


def pack(module: nn.Module) -> None:
    """Round the weights of all its dense layers anew."""
    for layer in module.modules():
        if isinstance(layer, Int8Linear):
            layer.pack()


def _int8(layer: nn.Linear) -> nn.Linear:
    if isinstance(layer, NonDynamicallyQuantizableLinear):  # attention reads its weight and never calls it
        return layer
    if isinstance(layer, NoisyLinear):
        raise UserError("int8-dynamic knows no noisy layers: their noise is new in each forward pass; use int8-weight")
    if type(layer) not in _KNOWN:
        raise UserError(f"int8-dynamic does not know the layer {type(layer).__name__}; use int8-weight")
    return Int8Linear(layer)
