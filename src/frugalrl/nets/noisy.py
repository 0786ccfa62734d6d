"""Noisy dense layers with factorised Gaussian noise.

Source: Fortunato et al., "Noisy Networks for Exploration", 2018, section 3 (b) and 3.2: weights ``mu + sigma * noise``
with ``noise = f(e_out) f(e_in)^T`` and ``f(x) = sign(x) sqrt(|x|)``.

The noise is an argument: `set_noise` draws it from a generator that the caller owns. A layer whose noise was never set,
or whose module is in evaluation mode, computes with the means.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F


class NoisyLinear(nn.Linear):
    """A dense layer ``(mu + sigma * noise) x``: ``weight`` and ``bias`` are the means.

    The noisy part is ``e_out * (sigma (e_in * x))``, so the noisy weight is never built.
    """

    def __init__(self, features: int, outputs: int, sigma0: float) -> None:
        """``sigma0``: the deviations begin at ``sigma0 / sqrt(features)`` (0.5 in the paper, 0.1 in Dopamine's DER)."""
        super().__init__(features, outputs)
        start = sigma0 / features**0.5
        with torch.no_grad():
            bound = 1 / features**0.5
            self.weight.uniform_(-bound, bound)
            self.bias.uniform_(-bound, bound)
        self.weight_sigma = nn.Parameter(torch.full((outputs, features), start))
        self.bias_sigma = nn.Parameter(torch.full((outputs,), start))
        self.register_buffer("noise_in", torch.zeros(features), persistent=False)
        self.register_buffer("noise_out", torch.zeros(outputs), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        mean = F.linear(x, self.weight, self.bias)
        if not self.training:
            return mean
        noise_in: Tensor = self.noise_in  # type: ignore[assignment]
        noise_out: Tensor = self.noise_out  # type: ignore[assignment]
        return mean + noise_out * F.linear(x * noise_in, self.weight_sigma, self.bias_sigma)

    def bytes_read(self, batch: int) -> int:
        """Of the weights, by one forward: without noise only the means."""
        means = self.weight.nbytes + self.bias.nbytes
        if not self.training:
            return means
        noise: tuple[Tensor, Tensor] = (self.noise_in, self.noise_out)  # type: ignore[assignment]
        return means + self.weight_sigma.nbytes + self.bias_sigma.nbytes + sum(n.nbytes for n in noise)

    def set_noise(self, rng: np.random.Generator) -> None:
        """New noise, the same for a whole batch."""
        buffers: tuple[Tensor, Tensor] = (self.noise_in, self.noise_out)  # type: ignore[assignment]
        for buffer in buffers:
            e = rng.standard_normal(len(buffer), dtype=np.float32)
            buffer.copy_(torch.from_numpy(np.copysign(np.sqrt(np.abs(e)), e)))


class NoisyHidden(NoisyLinear):
    """A noisy dense layer with its ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(super().forward(x), inplace=True)


def has_noise(net: nn.Module) -> bool:
    """Whether a network has noisy layers."""
    return any(isinstance(m, NoisyLinear) for m in net.modules())


@torch.no_grad()
def set_noise(net: nn.Module, rng: np.random.Generator) -> None:
    """New noise for all noisy layers, in the order of the network."""
    for module in net.modules():
        if isinstance(module, NoisyLinear):
            module.set_noise(rng)
