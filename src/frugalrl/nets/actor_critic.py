"""Networks of actor-critics: logits of the policy and the value of the state from one torso, [..., A + 1]."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from frugalrl.nets.config import NetConfig
from frugalrl.nets.heads import PolicyValue
from frugalrl.nets.q_network import ValueNetwork, torso_layers
from frugalrl.nets.sequence import State
from frugalrl.nets.torsos import Hidden
from frugalrl.types import EnvSpec, UserError


class ActorCritic(ValueNetwork):
    """Feed-forward. One dense layer gives logits and value: a small network feels each call.

    Who knows value networks can act with it: its Q-values are the logits.
    """

    recurrent = False

    def __init__(self, *layers: Any) -> None:
        super().__init__(*layers, head=PolicyValue())

    def initial_state(self, rows: int) -> dict[str, Tensor]:
        """Nothing to remember."""
        return {}

    def step(self, obs: Tensor, state: State) -> tuple[Tensor, dict[str, Tensor]]:
        """obs [B, *obs_shape] -> [B, A + 1]; there is no state."""
        return self(obs), {}

    def unroll(self, obs: Tensor, action: Tensor, reward: Tensor, reset: Tensor, state: State) -> Tensor:
        """obs [T+1, B, *obs_shape] -> [T+1, B, A + 1] in one batch; the rest is not read."""
        out: Tensor = self(obs.flatten(0, 1))
        return out.view(*obs.shape[:2], -1)


def build_actor_critic(spec: EnvSpec, config: NetConfig) -> ActorCritic:
    """Torso, dense layers, policy and value, with PyTorch's default initialisation.

    Raises UserError where the observation does not fit, and for fields that only value networks have.
    """
    for name in ("dueling", "noisy_sigma0"):
        if getattr(config, name):
            raise UserError(
                f"net.{name}={getattr(config, name)}: only networks of Q-values have it, and this agent learns a "
                f"policy; leave it out"
            )
    layers, features = torso_layers(spec, config)
    for width in config.hidden_units:
        layers.append(Hidden(features, width))
        features = width
    network = ActorCritic(*layers, nn.Linear(features, spec.num_actions + 1))
    # as in build_q_network: half the cost of a convolution's training step on a CPU
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


ActorCriticNetwork = ActorCritic
