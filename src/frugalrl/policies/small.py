"""A small MLP computed by numpy: for a few rows, torch's calls cost several times the arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from frugalrl.nets.heads import PolicyValue
from frugalrl.nets.torsos import Flat, Hidden

Forward = Callable[[NDArray[Any]], NDArray[np.floating[Any]]]


def numpy_forward(net: nn.Module) -> Forward | None:
    """The same function as an MLP on the CPU, in its own floating type: obs [B, *obs_shape] -> Q-values [B, A].

    An actor-critic's are its logits; the value of the state is not computed. None for other networks. The arrays are
    the parameters' own memory: a learner that changes them in place is seen at once. Sums are added in another order
    than torch does, so the last bits differ.
    """
    flat, *rest = net if isinstance(net, nn.Sequential) else [net]
    linear = [m for m in rest if isinstance(m, nn.Linear) and type(m) in (nn.Linear, Hidden)]
    if not isinstance(flat, Flat) or not linear or len(linear) < len(rest):
        return None
    num_indices = flat.num_indices
    dtype = linear[0].weight.detach().numpy().dtype
    layers = [(m.weight.detach().numpy().T, m.bias.detach().numpy(), isinstance(m, Hidden)) for m in linear]

    if isinstance(getattr(net, "head", None), PolicyValue):
        weight, bias, relu = layers[-1]
        layers[-1] = weight[:, :-1], bias[:-1], relu

    def forward(obs: NDArray[Any]) -> NDArray[np.floating[Any]]:
        if num_indices is None:
            x = obs.reshape(len(obs), -1).astype(dtype, copy=False)
        else:
            x = np.zeros((len(obs), num_indices), dtype)
            x[np.arange(len(obs)), obs] = 1.0
        with np.errstate(over="ignore", invalid="ignore"):  # as torch does; who uses the values looks at them
            for weight, bias, relu in layers:
                x = x @ weight
                x += bias
                if relu:
                    np.maximum(x, 0.0, out=x)
        return x

    return forward
