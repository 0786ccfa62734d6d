"""What one update of a sequence learner costs."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from frugalrl.cost.flops import bytes_min_forward, bytes_min_update, count_flops
from frugalrl.nets.recurrent_q import SequenceQ
from frugalrl.types import Cost, EnvSpec


class _Unrolled(nn.Module):
    """An unroll as a function of its observations [T+1, B, *obs_shape]."""

    def __init__(self, net: SequenceQ) -> None:
        super().__init__()
        self.net = net

    def forward(self, obs: Tensor) -> Tensor:
        steps, rows = obs.shape[:2]
        nothing = torch.zeros((steps - 1, rows), dtype=torch.int64)
        reset = torch.zeros((steps, rows), dtype=torch.bool)
        return self.net.unroll(obs, nothing, nothing.float(), reset, self.net.initial_state(rows))


class _BurnedIn(nn.Module):
    """The burn-in as a function of its observations [K, B, *obs_shape]."""

    def __init__(self, net: SequenceQ) -> None:
        super().__init__()
        self.net = net

    def forward(self, obs: Tensor) -> dict[str, Tensor]:
        steps, rows = obs.shape[:2]
        nothing = torch.zeros((steps, rows), dtype=torch.int64)
        reset = torch.zeros((steps + 1, rows), dtype=torch.bool)
        return self.net.state_after(obs, nothing, nothing.float(), reset, self.net.initial_state(rows))


def cost_of_sequence_update(net: SequenceQ, spec: EnvSpec, *, burn_in: int, unroll: int, rows: int) -> dict[str, Cost]:
    """FLOPs and lower-bound bytes of one R2D2 update with ``rows`` sequences by role; its seconds are on the timer.

    The online network burns in and is trained on ``unroll + 1`` observations, whose values also choose the bootstrap
    actions; the target network burns in and reads the same. Burning in asks for no values, and a network without a
    memory skips it.
    """
    # a fused recurrent layer hides its products from the counter; in double precision there is none on a CPU. All work
    # is in proportion to rows, and in proportion to steps but for the first, which sends no gradient to its past.
    twin = _Unrolled(copy.deepcopy(net).double().cpu())
    obs = torch.zeros((3, 1, *spec.obs_shape), dtype=getattr(torch, spec.obs_dtype))
    two, three = (count_flops(twin, obs[:steps], backward=True) for steps in (2, 3))
    forward = rows * (three.forward - two.forward)
    backward = rows * (two.backward + (unroll - 1) * (three.backward - two.backward))
    trained = unroll + 1
    burned = rows * burn_in * count_flops(_BurnedIn(twin.net), obs[:1]).forward

    steps = trained + (burn_in if net.core is not None else 0)
    seen = torch.empty((steps * rows, *spec.obs_shape), dtype=obs.dtype, device="meta")
    q = torch.empty((trained * rows, spec.num_actions), device="meta")
    return {
        "learner": Cost(
            calls=1,
            updates=1,
            flop=burned + trained * forward + backward,
            bytes_min=float(bytes_min_update(net, (seen,), q)),
        ),
        "target": Cost(calls=1, flop=burned + trained * forward, bytes_min=float(bytes_min_forward(net, (seen,), q))),
    }
