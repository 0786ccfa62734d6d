"""Torsos: from an observation in the environment's own dtype to features [B, D]."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from frugalrl.types import EnvSpec


class ScaledConv2d(nn.Conv2d):
    """A convolution of ``scale * x``, with the scale multiplied into the small kernel instead of the large input."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int, *, scale: float) -> None:
        super().__init__(channels_in, channels_out, kernel, stride)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.scale, self.bias, self.stride)


class Flat(nn.Module):
    """Vectors as they are, flattened; indices as one-hot. Returns float32 [B, D]."""

    def __init__(self, spec: EnvSpec) -> None:
        super().__init__()
        self.num_indices = spec.num_indices if spec.obs_kind == "index" else None
        size = 1
        for n in spec.obs_shape:
            size *= n
        self.features = self.num_indices if self.num_indices is not None else size

    def forward(self, obs: Tensor) -> Tensor:
        if self.num_indices is not None:
            return F.one_hot(obs, self.num_indices).to(torch.float32)
        return obs.flatten(1).to(torch.float32)


class Images(nn.Module):
    """uint8 images [B, C, H, W] to a float tensor in channels-last layout, in one pass."""

    def forward(self, obs: Tensor) -> Tensor:
        bf16 = torch.is_autocast_enabled(obs.device.type)
        return obs.to(torch.bfloat16 if bf16 else torch.float32, memory_format=torch.channels_last)


def nature(spec: EnvSpec) -> nn.Sequential:
    """The three convolutions of Mnih et al. 2015 on stacked frames [B, C, H, W]; the 1/255 is in the first kernel."""
    channels = spec.obs_shape[0]
    scale = 1 / 255 if spec.obs_dtype == "uint8" else 1.0
    return nn.Sequential(
        Images(),
        ScaledConv2d(channels, 32, 8, 4, scale=scale),
        nn.ReLU(),
        nn.Conv2d(32, 64, 4, 2),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3),
        nn.ReLU(),
        nn.Flatten(),
    )


def minatar(spec: EnvSpec) -> nn.Sequential:
    """The one convolution of Young & Tian 2019 on binary feature planes [B, C, 10, 10]."""
    return nn.Sequential(Images(), nn.Conv2d(spec.obs_shape[0], 16, 3), nn.ReLU(), nn.Flatten())
