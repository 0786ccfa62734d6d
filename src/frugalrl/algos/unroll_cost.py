"""What one update of a network on unrolls costs."""

from __future__ import annotations

import torch
from torch import nn

from frugalrl.cost.flops import bytes_min_update, count_flops
from frugalrl.types import Cost, EnvSpec


def cost_of_unroll_update(net: nn.Module, spec: EnvSpec, *, steps: int, rows: int) -> dict[str, Cost]:
    """FLOPs and lower-bound bytes of one update on unrolls of ``steps`` transitions in ``rows`` environment rows.

    The update sees ``steps + 1`` observations of each row, forward and backward. ``net(obs [B, *obs_shape])`` is one
    step of the network; the FLOPs of one observation are counted and multiplied, since they grow with their number.
    """
    parameter = next(net.parameters())
    dtype = getattr(torch, spec.obs_dtype)
    size = (steps + 1) * rows
    one = count_flops(net, torch.zeros((1, *spec.obs_shape), dtype=dtype, device=parameter.device), backward=True)
    # shapes without memory: only their sizes are read
    obs = torch.empty((size, *spec.obs_shape), dtype=dtype, device="meta")
    out = torch.empty((size, spec.num_actions + 1), dtype=parameter.dtype, device="meta")
    moved = float(bytes_min_update(net, (obs,), out))
    return {"learner": Cost(calls=1, updates=1, flop=size * one.total, bytes_min=moved)}
