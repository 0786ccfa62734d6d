"""What one update of an actor-critic on unrolls costs."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from frugalrl.cost.flops import bytes_min_update, count_flops
from frugalrl.nets.actor_critic import ActorCriticNetwork
from frugalrl.types import Cost, EnvSpec


class _Unrolled(nn.Module):
    """An unroll of one row as a function of its observations [T+1, 1, *obs_shape]."""

    def __init__(self, net: ActorCriticNetwork) -> None:
        super().__init__()
        self.net = net

    def forward(self, obs: Tensor) -> Tensor:
        action = torch.zeros((len(obs) - 1, 1), dtype=torch.int64)
        reset = torch.zeros((len(obs), 1), dtype=torch.bool)
        return self.net.unroll(obs, action, action.double(), reset, self.net.initial_state(1))


def cost_of_unroll_update(net: ActorCriticNetwork, spec: EnvSpec, *, steps: int, rows: int) -> dict[str, Cost]:
    """FLOPs and lower-bound bytes of one update on unrolls of ``steps`` transitions in ``rows`` environment rows.

    All ``steps + 1`` observations of a row go forward and backward, the last one only to bootstrap.
    """
    # on a CPU in double precision no fused recurrent layer hides its products from the counter. All work is in
    # proportion to rows, and in proportion to steps but for the first, which sends no gradient to its past.
    twin = _Unrolled(copy.deepcopy(net).cpu().double())
    obs = torch.zeros((3, 1, *spec.obs_shape), dtype=getattr(torch, spec.obs_dtype))
    two, three = (count_flops(twin, obs[:n], backward=True).total for n in (2, 3))
    flop = rows * (two + (steps - 1) * (three - two))
    # shapes without memory: only their sizes are read
    seen = torch.empty(((steps + 1) * rows, *spec.obs_shape), dtype=obs.dtype, device="meta")
    out = torch.empty(((steps + 1) * rows, spec.num_actions + 1), device="meta")
    return {"learner": Cost(calls=1, updates=1, flop=flop, bytes_min=float(bytes_min_update(net, (seen,), out)))}


def flop_of_unroll_forward(net: ActorCriticNetwork, spec: EnvSpec, *, steps: int, rows: int) -> float:
    """FLOPs of a forward pass over the ``steps + 1`` observations of ``rows`` unrolls, without gradients."""
    twin = _Unrolled(copy.deepcopy(net).cpu().double())
    obs = torch.zeros((3, 1, *spec.obs_shape), dtype=getattr(torch, spec.obs_dtype))
    two, three = (count_flops(twin, obs[:n]).forward for n in (2, 3))
    return (steps + 1) * rows * (three - two)
