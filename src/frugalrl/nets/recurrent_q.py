"""Q-values of sequences: torso, dense layers, a recurrent core or none, and a head.

With ``hidden_units=(512, 512)``, dueling and a core of 512 it is the Atari network of SEED RL's R2D2 (Espeholt et al.
2020): Nature torso, dense layer, LSTM that also reads last action and reward, dueling streams.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from frugalrl.nets.config import NetConfig
from frugalrl.nets.dense import Dueling
from frugalrl.nets.q_network import torso_layers
from frugalrl.nets.recurrent import LSTMCore
from frugalrl.nets.sequence import State
from frugalrl.nets.torsos import Hidden
from frugalrl.types import EnvSpec, UserError


class UnbiasedDueling(Dueling):
    """Dueling streams, each with its own hidden layer, whose advantage has no bias."""

    def __init__(self, features: int, hidden: int, num_actions: int) -> None:
        super().__init__(features, hidden, num_actions)
        self.advantage = nn.Sequential(Hidden(features, hidden), nn.Linear(hidden, num_actions, bias=False))


class SequenceQ(nn.Module):
    """A `SequenceNetwork` whose outputs are Q-values [..., A]; without a core it remembers nothing."""

    def __init__(self, body: nn.Module, core: LSTMCore | None, head: nn.Module) -> None:
        super().__init__()
        self.body, self.core, self.head = body, core, head

    @property
    def recurrent(self) -> bool:
        """Whether there is a state."""
        return self.core is not None

    def initial_state(self, rows: int) -> dict[str, Tensor]:
        """What it remembers before an episode's first observation, [rows, ...]; empty without a core."""
        return {} if self.core is None else self.core.initial_state(rows)

    def forward(self, obs: Tensor) -> Tensor:
        """obs [B, *obs_shape] -> Q-values [B, A] at the first step of an episode."""
        return self.step(obs, self.initial_state(len(obs)))[0]

    def step(self, obs: Tensor, state: State) -> tuple[Tensor, dict[str, Tensor]]:
        """obs [B, *obs_shape] and the state before it -> Q-values [B, A] and the state after it."""
        x: Tensor = self.body(obs)
        after = dict(state)
        if self.core is not None:
            x, after = self.core.step(x, state)
        return self.head(x), after

    def unroll(self, obs: Tensor, action: Tensor, reward: Tensor, reset: Tensor, state: State) -> Tensor:
        """T+1 steps -> Q-values [T+1, B, A]; see `SequenceNetwork.unroll`."""
        x = self._features(obs)
        if self.core is not None:
            x = self.core.unroll(x, action, reward, reset, state)
        q: Tensor = self.head(x)
        return q

    def state_after(
        self, obs: Tensor, action: Tensor, reward: Tensor, reset: Tensor, state: State
    ) -> dict[str, Tensor]:
        """K steps, [K, B, ...] each and reset [K+1, B] -> the state before row K: the burn-in of R2D2."""
        if self.core is None:
            return {}
        return self.core.state_after(self._features(obs), action, reward, reset, state)

    def _features(self, obs: Tensor) -> Tensor:
        x: Tensor = self.body(obs.flatten(0, 1))
        return x.view(*obs.shape[:2], -1)


def build_sequence_q(spec: EnvSpec, config: NetConfig, lstm_units: int | None) -> SequenceQ:
    """The network for an environment, with PyTorch's default initialisation.

    ``config.hidden_units``: the dense layers between torso and core; with ``config.dueling`` the last of them is the
    hidden layer of each stream after the core. ``lstm_units``: width of the core; None: no core.
    Raises UserError where the observation does not fit, or for noisy layers, which sequences do not have.
    """
    if config.noisy_sigma0 is not None:
        raise UserError(
            f"net.noisy_sigma0={config.noisy_sigma0}: networks of sequences have no noisy layers; "
            f"set net.noisy_sigma0=None"
        )
    if lstm_units is not None and lstm_units < 1:
        raise UserError(f"a recurrent core needs at least 1 unit, but got {lstm_units}")
    layers, features = torso_layers(spec, config)
    for width in config.hidden_units[:-1] if config.dueling else config.hidden_units:
        layers.append(Hidden(features, width))
        features = width
    body = nn.Sequential(*layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    core = None if lstm_units is None else LSTMCore(features, spec.num_actions, lstm_units)
    width = features if lstm_units is None else lstm_units
    if config.dueling:
        return SequenceQ(body, core, UnbiasedDueling(width, config.hidden_units[-1], spec.num_actions))
    return SequenceQ(body, core, nn.Linear(width, spec.num_actions))
