"""Which parameters of a module are weights, and a plan applied to them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from frugalrl.math.draws import counted_rng
from frugalrl.policies.transforms.table import Plan

_NOISE = 1
"""Purpose of the noise; see `counted_rng`."""


def weight_names(module: nn.Module) -> tuple[str, ...]:
    """Parameters that are matrices or filters of dense, convolution and recurrent layers, in the module's order.

    A tensor that two layers share has one name, so it is changed once, for both.
    """
    layers = [p for p, m in module.named_modules() if isinstance(m, nn.Linear | _ConvNd | nn.RNNBase)]
    mine = {f"{path}." if path else "" for path in layers}

    def is_weight(name: str, parameter: Tensor) -> bool:
        prefix, _, last = name.rpartition(".")
        return last.startswith("weight") and parameter.dim() >= 2 and (f"{prefix}." if prefix else "") in mine

    shared = {id(p) for n, p in module.named_parameters(remove_duplicate=False) if is_weight(n, p)}
    return tuple(n for n, p in module.named_parameters() if id(p) in shared)


@torch.no_grad()
def changed_weights(
    plan: Plan, parameters: Mapping[str, Tensor], weights: tuple[str, ...], *, seed: int, version: int
) -> dict[str, Tensor]:
    """The parameters with all changes of ``plan``; those that are not in ``weights`` are the given tensors.

    Noise is a function of ``seed`` and ``version``, so a resumed run has the same.
    """
    out = dict(parameters)
    rng = counted_rng(seed, _NOISE, version)
    for name in weights if plan.changes else ():
        weight = parameters[name].detach()
        for change in plan.changes:
            weight = change(weight, rng)
        out[name] = weight
    return out
