"""Weights rounded to K bits, row by row; what computes with them stays in floating point.

Source: symmetric per-channel quantisation, Krishnamoorthi, "Quantizing deep convolutional networks for efficient
inference", 2018 (section 2.2, equations 5 to 7, one range per output channel).
"""

from __future__ import annotations

import torch
from torch import Tensor


def levels(bits: int) -> int:
    """The largest whole number q of ``bits`` bits, with its negative: 2^(bits-1) - 1."""
    if not 2 <= bits <= 8:
        raise ValueError(f"bits={bits}: must lie between 2 and 8")
    return int(2 ** (bits - 1)) - 1


def row_scales(weight: Tensor, bits: int) -> Tensor:
    """weight [rows, ...] -> s [rows, 1, ...], the largest absolute value of each row over q; 1 for a row of zeros."""
    largest = weight.abs().amax(tuple(range(1, weight.dim())), keepdim=True)
    return torch.where(largest > 0, largest / levels(bits), torch.ones_like(largest))


def round_rows(weight: Tensor, bits: int) -> Tensor:
    """weight [rows, ...] -> the same shape, each value the nearest of the 2q + 1 multiples of its row's scale."""
    scale = row_scales(weight, bits)
    return torch.round(weight / scale).mul_(scale)
