"""Torsos: from an observation in the environment's own dtype to features [B, D]."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from frugalrl.types import EnvSpec


class Hidden(nn.Linear):
    """A dense layer with its ReLU: one module call instead of two, which a small network on a CPU feels."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(super().forward(x), inplace=True)


class ScaledConv2d(nn.Conv2d):
    """A convolution of ``scale * x``, with the scale multiplied into the small kernel instead of the large input."""

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, stride: int, *, scale: float, padding: int = 0
    ) -> None:
        super().__init__(channels_in, channels_out, kernel, stride, padding)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.scale, self.bias, self.stride, self.padding)


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
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("_like", torch.empty(0), persistent=False)

    def forward(self, obs: Tensor) -> Tensor:
        return self.prepared(obs, None)

    def prepared(self, obs: Tensor, room: Tensor | None) -> Tensor:
        """The same, in the memory of an answer of before with the same shape, where that can be used again.

        Who passes it needs that answer no more, also not for a backward pass.
        """
        device = obs.device.type
        like: Tensor = self._like  # type: ignore[assignment]
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else like.dtype
        # its views of bytes are a trick for this machine: ONNX has none, and a program may be loaded on another
        if obs.dtype == torch.uint8 and obs.shape[1] == 4 and device == "cpu" and not torch.compiler.is_exporting():
            return interleaved(obs, dtype, room)
        return obs.to(dtype, memory_format=torch.channels_last)


class FlattenLast(nn.Module):
    """[B, C, H, W] to [B, H * W * C]: channels last, so that nothing is copied in that layout."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)


_AT_ONCE = 128
"""Images whose intermediate steps stay in memory that the allocator keeps: what is over 32 MB it fetches from the
system page by page at each call (`benchmarks/large_batches.py`)."""


def interleaved(obs: Tensor, dtype: torch.dtype, room: Tensor | None = None) -> Tensor:
    """uint8 [B, 4, H, W] to ``dtype`` in channels-last layout; in ``room`` if that has the shape and the type."""
    if len(obs) <= _AT_ONCE:
        return interleave4(obs).to(dtype)
    images, channels, height, width = obs.shape
    if room is None or room.shape != obs.shape or room.dtype != dtype:
        room = torch.empty((images, height, width, channels), dtype=dtype).permute(0, 3, 1, 2)
    for first in range(0, images, _AT_ONCE):
        room[first : first + _AT_ONCE] = interleave4(obs[first : first + _AT_ONCE])
    return room


def interleave4(obs: Tensor) -> Tensor:
    """uint8 [B, 4, H, W] to channels-last, four bytes at a time: a third of the cost of a strided copy on a CPU."""
    planes = obs.to(torch.int32)
    # byte k of the little-endian word is channel k; channel 3 holds the sign bit, so it is read as a signed byte
    word = torch.add(planes[:, 0], planes[:, 1], alpha=1 << 8)
    word.add_(planes[:, 2], alpha=1 << 16)
    word.add_(obs[:, 3].view(torch.int8).to(torch.int32), alpha=1 << 24)
    return word.view(torch.uint8).view(*word.shape, 4).permute(0, 3, 1, 2)


def pixel_scale(spec: EnvSpec) -> float:
    """What makes pixels numbers from 0 to 1; those of a binary image are that already."""
    return 1 / 255 if spec.obs_dtype == "uint8" and not spec.binary else 1.0


def nature(spec: EnvSpec) -> nn.Sequential:
    """The three convolutions of Mnih et al. 2015 on stacked frames [B, C, H, W]; the 1/255 is in the first kernel."""
    channels = spec.obs_shape[0]
    return nn.Sequential(
        Images(),
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
