"""What one update of PPO costs: a forward pass over the batch, then gradient steps on parts of it."""

from __future__ import annotations

import torch

from frugalrl.algos.unroll_cost import cost_of_unroll_update, flop_of_unroll_forward
from frugalrl.cost.flops import bytes_min_forward, bytes_min_update
from frugalrl.nets.actor_critic import ActorCriticNetwork
from frugalrl.types import Cost, EnvSpec


class PPOCosts:
    """FLOPs and lower-bound bytes, counted once for a network; the seconds are on the timer.

    Feed-forward networks learn from transitions, recurrent ones from whole unrolls; what a gradient step reads is
    counted in these.
    """

    def __init__(self, net: ActorCriticNetwork, spec: EnvSpec, *, steps: int, rows: int) -> None:
        """``steps``: transitions of an unroll; ``rows``: unrolls of a batch."""
        observations = (steps + 1) * rows
        self._forward = Cost(
            calls=1,
            flop=flop_of_unroll_forward(net, spec, steps=steps, rows=rows),
            bytes_min=float(bytes_min_forward(net, *_shapes(spec, observations))),
        )
        each = steps if net.recurrent else 1
        self._flop_of_one = _flop(cost_of_unroll_update(net, spec, steps=each - 1, rows=1))
        none, one = (float(bytes_min_update(net, *_shapes(spec, n))) for n in (0, each))
        self._bytes_of_step, self._bytes_of_one = none, one - none

    def forward(self) -> Cost:
        """The pass over all ``steps + 1`` observations of all unrolls, without gradients."""
        return self._forward

    def learning(self, gradient_steps: int, read: int) -> Cost:
        """Gradient steps that together read so many transitions, or unrolls of a recurrent network."""
        return Cost(
            calls=gradient_steps,
            updates=gradient_steps,
            flop=read * self._flop_of_one,
            bytes_min=gradient_steps * self._bytes_of_step + read * self._bytes_of_one,
        )


def _flop(costs: dict[str, Cost]) -> float:
    flop = costs["learner"].flop
    assert flop is not None
    return flop


def _shapes(spec: EnvSpec, observations: int) -> tuple[tuple[torch.Tensor], torch.Tensor]:
    """Inputs and outputs of a pass, without memory: only their sizes are read."""
    seen = torch.empty((observations, *spec.obs_shape), dtype=getattr(torch, spec.obs_dtype), device="meta")
    return (seen,), torch.empty((observations, spec.num_actions + 1), device="meta")
