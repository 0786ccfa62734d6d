"""Weights with Gaussian noise: a sampler that is wrong by a known amount."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def add_noise(weight: Tensor, sigma: float, rng: np.random.Generator) -> Tensor:
    """weight of any shape plus noise whose deviation is ``sigma`` times that of the tensor's own values."""
    noise = torch.from_numpy(rng.standard_normal(tuple(weight.shape), dtype=np.float32))
    scale = sigma * weight.std(correction=0)
    return weight + scale * noise.to(weight.device, weight.dtype)
