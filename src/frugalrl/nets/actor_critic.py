"""Networks of actor-critics: logits of the policy and the value of the state from one torso, [..., A + 1]."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from frugalrl.nets.config import NetConfig
from frugalrl.nets.heads import PolicyValue
from frugalrl.nets.initial import orthogonal
from frugalrl.nets.q_network import ValueNetwork, torso_layers
from frugalrl.nets.recurrent import LSTMCore
from frugalrl.nets.sequence import State
from frugalrl.nets.torsos import Hidden, Images
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


class RecurrentActorCritic(nn.Module):
    """Torso and dense layers, an LSTM that also reads the last action and reward, logits and value.

    The network of IMPALA and SEED on DMLab, with ``impala-deep``, one dense layer of 256 and an LSTM of 256; they clip
    the reward that the LSTM reads to [-1, 1], here it comes as the environment's protocol has it.
    """

    recurrent = True

    def __init__(self, body: nn.Module, core: LSTMCore, out: nn.Linear) -> None:
        super().__init__()
        self.body, self.core, self.out = body, core, out
        self.head = PolicyValue()

    def initial_state(self, rows: int) -> dict[str, Tensor]:
        """``h``, ``c``, ``action_tm1`` and ``reward_tm1`` before an episode's first observation, [rows, ...]."""
        return self.core.initial_state(rows)

    def forward(self, obs: Tensor) -> Tensor:
        """obs [B, *obs_shape] -> [B, A + 1] at the first step of an episode."""
        return self.step(obs, self.initial_state(len(obs)))[0]

    def step(self, obs: Tensor, state: State) -> tuple[Tensor, dict[str, Tensor]]:
        """obs [B, *obs_shape] and the state before it -> [B, A + 1] and the state after it."""
        y, after = self.core.step(self.body(obs), state)
        out: Tensor = self.out(y)
        return out, after

    def unroll(self, obs: Tensor, action: Tensor, reward: Tensor, reset: Tensor, state: State) -> Tensor:
        """T+1 steps -> [T+1, B, A + 1]; torso and dense layers see all of them as one batch."""
        x = self.body(obs.flatten(0, 1)).view(*obs.shape[:2], -1)
        out: Tensor = self.out(self.core.unroll(x, action, reward, reset, state))
        return out


ActorCriticNetwork = ActorCritic | RecurrentActorCritic


def prepared_unroll(net: ActorCriticNetwork, obs: Tensor, room: Tensor | None = None) -> Tensor:
    """Observations [T+1, B, *obs_shape] as the first layer makes them, for a network that learns from them as they are.

    ``room``: what this returned before, to be written over (`Images.prepared`).
    """
    first = (net if isinstance(net, ActorCritic) else cast(nn.Sequential, net.body))[0]
    if not isinstance(first, Images):
        return obs
    flat = first.prepared(obs.flatten(0, 1), None if room is None else room.flatten(0, 1), gradient=True)
    return flat.view(*obs.shape[:2], *flat.shape[1:])


def build_actor_critic(spec: EnvSpec, config: NetConfig) -> ActorCriticNetwork:
    """Torso, dense layers, an LSTM where ``lstm_units`` says so, policy and value, initialised as ``config.init`` says.

    Raises UserError where the observation does not fit, and for fields that only networks of Q-values have.
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
    network: ActorCriticNetwork
    if config.lstm_units is None:
        out = nn.Linear(features, spec.num_actions + 1)
        network = ActorCritic(*layers, out)
    else:
        core = LSTMCore(features, spec.num_actions, config.lstm_units)
        out = nn.Linear(config.lstm_units, spec.num_actions + 1)
        network = RecurrentActorCritic(nn.Sequential(*layers), core, out)
    if config.init == "orthogonal":
        orthogonal(network, out)
    # as in build_q_network: half the cost of a convolution's training step on a CPU
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
