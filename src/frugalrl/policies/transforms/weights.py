"""Which parameters of a module are weights, and a plan applied to them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from frugalrl.math.draws import counted_rng
from frugalrl.policies.transforms.table import Plan
from frugalrl.policies.transforms.turned import is_turned

_NOISE = 1
"""Purpose of the noise; see `counted_rng`."""


def weight_names(module: nn.Module) -> dict[str, bool]:
    """Parameters that are matrices or filters of dense, convolution and recurrent layers, in the module's order, and
    whether each is turned: [in, out] where others are [out, in].

    A tensor that two layers share has one name, so it is changed once, for both.
    """
    turned = {f"{path}.weight" for path, m in module.named_modules() if is_turned(m)}
    layers = [p for p, m in module.named_modules() if isinstance(m, nn.Linear | _ConvNd | nn.RNNBase) or is_turned(m)]
    mine = {f"{path}." if path else "" for path in layers}

    def is_weight(name: str, parameter: Tensor) -> bool:
        prefix, _, last = name.rpartition(".")
        return last.startswith("weight") and parameter.dim() >= 2 and (f"{prefix}." if prefix else "") in mine

    shared = {id(p) for n, p in module.named_parameters(remove_duplicate=False) if is_weight(n, p)}
    return {n: n in turned for n, p in module.named_parameters() if id(p) in shared}


@torch.no_grad()
def changed_weights(
    plan: Plan, parameters: Mapping[str, Tensor], weights: Mapping[str, bool], *, seed: int, version: int
) -> dict[str, Tensor]:
    """The parameters with all changes of ``plan``; those that are not in ``weights`` (`weight_names`) are the given
    tensors.

    Noise is a function of ``seed`` and ``version``, so a resumed run has the same.
    """
    out = dict(parameters)
    rng = counted_rng(seed, _NOISE, version)
    for name, turned in weights.items() if plan.changes else ():
        weight = parameters[name].detach()
        weight = weight.T if turned else weight  # a change is by rows, one for each output
        for change in plan.changes:
            weight = change(weight, rng)
        out[name] = weight.T if turned else weight
    return out
