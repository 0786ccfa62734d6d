"""Space to depth: the first convolution of stacked frames as one with stride 1 over cells of 4 x 4 pixels.

A convolution of 8 x 8 with stride 4 over C channels equals one of 2 x 2 with stride 1 over 16 C channels of an image
whose 4 x 4 pixels have become channels: the same products in another order, so the same numbers up to rounding. oneDNN
has better kernels for 64 channels than for 4, and four pixels side by side are moved as one word
(``benchmarks/first_convolution.py``).
"""

from __future__ import annotations

import torch
from torch import Tensor

CELL = 4
"""Pixels on each side of a cell: the stride of the convolution, and the bytes of a word."""
_LEAST_ROWS = 8
"""Below this, rearranging the kernel costs as much as it saves."""
_AMX = bool(getattr(torch.cpu, "_is_amx_tile_supported", bool)())


def pays(obs: Tensor, dtype: torch.dtype, *, gradient: bool) -> bool:
    """Whether images of bytes [B, C, H, W] in the memory of a CPU are better computed so.

    Without a ``gradient`` of the filters everywhere; with one only in bfloat16 on a processor with AMX: elsewhere
    oneDNN's gradient of the filters takes longer in depth than the forward pass saves.
    """
    fits = obs.shape[-1] % CELL == 0 and obs.shape[-2] % CELL == 0 and obs.is_contiguous()
    if not fits or len(obs) < _LEAST_ROWS or obs.storage_offset() % CELL:
        return False
    return not gradient or (_AMX and dtype == torch.bfloat16)


def cells(obs: Tensor) -> Tensor:
    """uint8 [B, C, H, W] -> uint8 [B, 16 C, H / 4, W / 4] in channels-last layout; `pays` says what fits."""
    images, channels, height, width = obs.shape
    words = obs.view(torch.int32).view(images, channels, height // CELL, CELL, width // CELL)
    deep = torch.empty((images, height // CELL, width // CELL, CELL, channels), dtype=torch.int32)
    for channel in range(channels):  # at once, the copy would go through memory in a worse order
        deep[..., channel] = words[:, channel].transpose(2, 3)
    return deep.view(torch.uint8).flatten(3).permute(0, 3, 1, 2)


def kernel(weight: Tensor) -> Tensor:
    """The filters [F, C, 4 m, 4 m] of a convolution with stride 4 -> [F, 16 C, m, m] for `cells` with stride 1."""
    filters, channels, side, _ = weight.shape
    m = side // CELL
    parts = weight.reshape(filters, channels, m, CELL, m, CELL).permute(0, 2, 4, 3, 1, 5)
    return parts.reshape(filters, m, m, channels * CELL * CELL).permute(0, 3, 1, 2)
