"""The two torsos of IMPALA (Espeholt et al. 2018, figure 3), up to the features that its dense layer of 256 reads."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from frugalrl.nets.torsos import FlattenLast, Images, ScaledConv2d, pixel_scale
from frugalrl.types import EnvSpec

DEEP_CHANNELS = (16, 32, 32)
"""Channels of the three sections of the deep torso."""


class Residual(nn.Module):
    """``x + conv(relu(conv(relu(x))))``, both convolutions 3x3 with as many channels as ``x`` [B, C, H, W]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        inner: Tensor = self.second(F.relu(self.first(F.relu(x)), inplace=True))
        return inner.add_(x)


def impala_shallow(spec: EnvSpec) -> nn.Sequential:
    """Two convolutions: 16 of 8x8 with stride 4, 32 of 4x4 with stride 2. Images [B, C, H, W] of at least 20 pixels."""
    return nn.Sequential(
        Images(to_cells=True),
        ScaledConv2d(spec.obs_shape[0], 16, 8, 4, scale=pixel_scale(spec)),
        nn.ReLU(inplace=True),
        nn.Conv2d(16, 32, 4, 2),
        nn.ReLU(inplace=True),
        FlattenLast(),
    )


def impala_deep(spec: EnvSpec) -> nn.Sequential:
    """Three sections of a 3x3 convolution, max-pooling 3x3 with stride 2 and two residual blocks; then ReLU.

    Images [B, C, H, W] of any size. The pooling has one pixel of padding on each side, as in TorchBeast; TensorFlow
    pads only the far sides of an even image.
    """
    layers: list[nn.Module] = [Images()]
    channels_in = spec.obs_shape[0]
    for channels in DEEP_CHANNELS:
        if len(layers) == 1:
            layers.append(ScaledConv2d(channels_in, channels, 3, 1, scale=pixel_scale(spec), padding=1))
        else:
            layers.append(nn.Conv2d(channels_in, channels, 3, padding=1))
        layers += [nn.MaxPool2d(3, 2, 1), Residual(channels), Residual(channels)]
        channels_in = channels
    return nn.Sequential(*layers, nn.ReLU(inplace=True), FlattenLast())
