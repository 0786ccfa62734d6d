"""A network of images for a few rows on a CPU: each convolution as one matrix product.

oneDNN's convolutions, and what PyTorch does around each of its calls, are made for batches: for one image they take
three times as long as the arithmetic. Here the patches become the rows of a matrix, copied in pieces of a filter's
width, and one product gives the same numbers up to rounding (``benchmarks/few_rows.py``).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from frugalrl.nets.torsos import FlattenLast, Hidden, Images, ScaledConv2d

MOST_ROWS = 16
"""With more rows, copying the patches costs what the products save, however small the images are."""
MOST_PIXELS = 2 * 84 * 84
"""Of all rows, in one channel: the same for large images."""
Step = Callable[[Tensor], Tensor]


def few_rows_forward(net: nn.Module) -> Step | None:
    """The same function of images [B, C, H, W], for so few rows as `pays`; None for other networks.

    It reads the parameters' own memory: what changes them in place is seen at once. To be called without gradients.
    """
    first, *layers = net if isinstance(net, nn.Sequential) else [net]
    if not isinstance(first, Images) or not any(_is_plain(layer) for layer in layers):
        return None
    steps: list[Step] = [_images(first)]
    deep = True  # whether the steps so far give [B, H, W, C]
    while layers:
        layer = layers.pop(0)
        relu = bool(layers) and isinstance(layers[0], nn.ReLU)
        if deep and isinstance(layer, nn.Conv2d) and _is_plain(layer):
            steps.append(_convolution(layer, relu=relu))
            layers = layers[1:] if relu else layers
        elif deep and isinstance(layer, FlattenLast):
            steps.append(_flat)
            deep = False
        elif not deep and type(layer) in (nn.Linear, Hidden):
            steps.append(_dense(layer))
        else:  # as it is, in its own layout
            steps += [_channels_first, layer] if deep else [layer]
            deep = False

    def forward(obs: Tensor) -> Tensor:
        x = obs
        for step in steps:
            x = step(x)
        return x

    return forward


def pays(obs: Tensor) -> bool:
    """Whether images [B, C, H, W] are few enough."""
    rows = obs.shape[0]
    return rows <= MOST_ROWS and rows * obs.shape[-1] * obs.shape[-2] <= MOST_PIXELS


def _is_plain(layer: nn.Module) -> bool:
    """A convolution with square filters and nothing else to it."""
    if not isinstance(layer, nn.Conv2d) or len({*layer.kernel_size}) > 1 or len({*layer.stride}) > 1:
        return False
    return (layer.padding, layer.groups, layer.dilation) == ((0, 0), 1, (1, 1))


def _images(layer: Images) -> Step:
    dtype: torch.dtype = layer._like.dtype  # type: ignore[assignment]

    def images(obs: Tensor) -> Tensor:
        # bytes are moved rather than floats
        return obs.contiguous(memory_format=torch.channels_last).to(dtype).permute(0, 2, 3, 1)

    return images


def _convolution(layer: nn.Conv2d, *, relu: bool) -> Step:
    """x [B, H, W, C] -> [B, H', W', F]."""
    filters, channels, k, _ = layer.weight.shape
    stride = layer.stride[0]
    weight = layer.weight.detach().permute(0, 2, 3, 1)
    bias = None if layer.bias is None else layer.bias.detach()
    scale = layer.scale if isinstance(layer, ScaledConv2d) else 1.0

    def convolution(x: Tensor) -> Tensor:
        images, height, width, _ = x.shape
        up, across = (height - k) // stride + 1, (width - k) // stride + 1
        rows = patches(x, k, stride, up, across)
        # here, so that a weight in another layout is copied as it is now; in channels-last nothing is
        matrix = (weight if scale == 1.0 else weight * scale).reshape(filters, k * k * channels).t()
        out = rows @ matrix if bias is None else torch.addmm(bias, rows, matrix)
        return (out.relu_() if relu else out).view(images, up, across, filters)

    return convolution


def patches(x: Tensor, k: int, stride: int, up: int, across: int) -> Tensor:
    """What each of ``up`` times ``across`` filters sees of x [B, H, W, C], contiguous: [B * up * across, k * k * C]."""
    images, height, width, channels = x.shape
    row = width * channels
    size = images, up, across, k, k * channels
    seen = x.as_strided(size, (height * row, stride * row, stride * channels, row, 1))
    return seen.reshape(images * up * across, k * k * channels)


def _dense(layer: nn.Module) -> Step:
    """The layer without PyTorch's call around it, which is a tenth of a pass of the MinAtar network."""
    assert isinstance(layer, nn.Linear)
    weight, bias, relu = layer.weight.detach(), layer.bias.detach(), isinstance(layer, Hidden)

    def dense(x: Tensor) -> Tensor:
        out = torch.nn.functional.linear(x, weight, bias)
        return out.relu_() if relu else out

    return dense


def _flat(x: Tensor) -> Tensor:
    return x.flatten(1)


def _channels_first(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2)
