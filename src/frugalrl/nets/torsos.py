"""Torsos: from an observation in the environment's own dtype to features [B, D]."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from frugalrl.nets import in_depth
from frugalrl.types import EnvSpec


class Hidden(nn.Linear):
    """A dense layer with its ReLU: one module call instead of two, which a small network on a CPU feels."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(super().forward(x), inplace=True)


class ScaledConv2d(nn.Conv2d):
    """A convolution of ``scale * x``, with the scale multiplied into the small kernel instead of the large input.

    Where its stride is 4 and there is no padding, it takes the cells of `frugalrl.nets.in_depth` too.
    """

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, stride: int, *, scale: float, padding: int = 0
    ) -> None:
        super().__init__(channels_in, channels_out, kernel, stride, padding)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight * self.scale
        if x.shape[1] != self.in_channels:
            return F.conv2d(x, in_depth.kernel(weight), self.bias)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class Flat(nn.Module):
    """Vectors as they are, flattened; indices as one-hot. Returns [B, D] in the module's floating type."""

    def __init__(self, spec: EnvSpec) -> None:
        super().__init__()
        self.num_indices = spec.num_indices if spec.obs_kind == "index" else None
        size = 1
        for n in spec.obs_shape:
            size *= n
        self.features = self.num_indices if self.num_indices is not None else size
        # an empty buffer goes where the module goes, so that there is no second record of its type
        self.register_buffer("_like", torch.empty(0), persistent=False)

    def forward(self, obs: Tensor) -> Tensor:
        if self.num_indices is not None:
            return F.one_hot(obs, self.num_indices).to(self._like.dtype)  # type: ignore[arg-type]
        flat = obs if obs.dim() == 2 else obs.flatten(1)
        return flat.to(self._like.dtype)  # type: ignore[arg-type]


class Images(nn.Module):
    """Images [B, C, H, W] to a float tensor of the same shape in channels-last layout.

    The floating type is that of the module (``module.to(torch.bfloat16)``), or autocast's where it is on.
    ``to_cells``: what follows is a `ScaledConv2d` that takes [B, 16 C, H / 4, W / 4] too, and gets it where that pays.
    """

    def __init__(self, *, to_cells: bool = False) -> None:
        super().__init__()
        self.to_cells = to_cells
        self.register_buffer("_like", torch.empty(0), persistent=False)

    def forward(self, obs: Tensor) -> Tensor:
        return self.prepared(obs, None, gradient=torch.is_grad_enabled())

    def prepared(self, obs: Tensor, room: Tensor | None, *, gradient: bool) -> Tensor:
        """The same, in the memory of an answer of before with the same shape, where that can be used again.

        Who passes ``room`` needs that answer no more, also not for a backward pass. ``gradient``: whether the next
        layer learns from it.
        """
        device = obs.device.type
        like: Tensor = self._like  # type: ignore[assignment]
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else like.dtype
        # the views of bytes are tricks for this machine: ONNX has none, and a program may be loaded on another
        if obs.dtype == torch.uint8 and device == "cpu" and not torch.compiler.is_exporting():
            if self.to_cells and in_depth.pays(obs, dtype, gradient=gradient):
                return in_parts(in_depth.cells, obs, dtype, room)
            if obs.shape[1] == 4:
                return in_parts(interleave4, obs, dtype, room)
        return obs.to(dtype, memory_format=torch.channels_last)


class FlattenLast(nn.Module):
    """[B, C, H, W] to [B, H * W * C]: channels last, so that nothing is copied in that layout."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)


_AT_ONCE = 128
"""Images whose intermediate steps stay in memory that the allocator keeps: what is over 32 MB it fetches from the
system page by page at each call (`benchmarks/large_batches.py`)."""


def in_parts(
    arrange: Callable[[Tensor], Tensor], obs: Tensor, dtype: torch.dtype, room: Tensor | None = None
) -> Tensor:
    """``arrange(obs)`` of uint8 [B, C, H, W] as ``dtype``, channels last; in ``room`` if that fits."""
    if len(obs) <= _AT_ONCE:
        return arrange(obs).to(dtype)
    first = arrange(obs[:_AT_ONCE])
    images, (channels, height, width) = len(obs), first.shape[1:]
    if room is None or room.shape != (images, channels, height, width) or room.dtype != dtype:
        room = torch.empty((images, height, width, channels), dtype=dtype).permute(0, 3, 1, 2)
    room[:_AT_ONCE] = first
    for start in range(_AT_ONCE, images, _AT_ONCE):
        room[start : start + _AT_ONCE] = arrange(obs[start : start + _AT_ONCE])
    return room


def interleave4(obs: Tensor) -> Tensor:
    """uint8 [B, 4, H, W] to channels-last, four bytes at a time: a third of the cost of a strided copy on a CPU."""
    # byte k of the little-endian word is channel k; the sums read the bytes as they are, without a copy as int32
    first = obs[:, 0].to(torch.int32, memory_format=torch.contiguous_format)
    word = torch.add(first, obs[:, 1], alpha=1 << 8)
    word.add_(obs[:, 2], alpha=1 << 16)
    word.add_(obs[:, 3].view(torch.int8), alpha=1 << 24)  # this byte holds the sign bit
    return word.view(torch.uint8).view(*word.shape, 4).permute(0, 3, 1, 2)


def pixel_scale(spec: EnvSpec) -> float:
    """What makes pixels numbers from 0 to 1; those of a binary image are that already."""
    return 1 / 255 if spec.obs_dtype == "uint8" and not spec.binary else 1.0


def nature(spec: EnvSpec) -> nn.Sequential:
    """The three convolutions of Mnih et al. 2015 on stacked frames [B, C, H, W]; the 1/255 is in the first kernel."""
    channels = spec.obs_shape[0]
    return nn.Sequential(
        Images(to_cells=True),
        ScaledConv2d(channels, 32, 8, 4, scale=pixel_scale(spec)),
        nn.ReLU(inplace=True),
        nn.Conv2d(32, 64, 4, 2),
        nn.ReLU(inplace=True),
        nn.Conv2d(64, 64, 3),
        nn.ReLU(inplace=True),
        FlattenLast(),
    )


def minatar(spec: EnvSpec) -> nn.Sequential:
    """The one convolution of Young & Tian 2019 on binary feature planes [B, C, 10, 10]."""
    return nn.Sequential(Images(), nn.Conv2d(spec.obs_shape[0], 16, 3), nn.ReLU(inplace=True), FlattenLast())
