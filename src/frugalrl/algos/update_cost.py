"""What one update of a value network costs."""

from __future__ import annotations

import torch

from frugalrl.cost.flops import bytes_min_forward, bytes_min_update, count_flops
from frugalrl.nets.q_network import ValueNetwork
from frugalrl.types import Cost, EnvSpec


def cost_of_update(net: ValueNetwork, spec: EnvSpec, *, size: int, double: bool) -> dict[str, Cost]:
    """FLOPs and lower-bound bytes of one update with ``size`` transitions by role; its seconds are on the timer.

    ``net``: the online network; the target network has the same shape.
    """
    device = next(net.parameters()).device
    obs = torch.zeros((size, *spec.obs_shape), dtype=getattr(torch, spec.obs_dtype), device=device)
    q = torch.zeros((size, spec.num_actions))
    flops = count_flops(net, obs, backward=True)
    forwards = 2 if double else 1
    return {
        "learner": Cost(
            calls=1,
            updates=1,
            flop=flops.forward + flops.backward,
            bytes_min=float(bytes_min_update(net, (obs,), q)),
        ),
        "target": Cost(
            calls=forwards,
            flop=forwards * flops.forward,
            bytes_min=float(forwards * bytes_min_forward(net, (obs,), q)),
        ),
    }
