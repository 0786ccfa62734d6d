"""What comes after the torso: dense layers, dueling streams, several outputs per action."""

from __future__ import annotations

from torch import Tensor, nn

from frugalrl.nets.noisy import NoisyHidden, NoisyLinear
from frugalrl.nets.torsos import Hidden


class Dueling(nn.Module):
    """Q = V + A - mean A, each from its own hidden layer (Wang et al. 2016, equation 9).

    With several outputs per action, the same for each of them (Hessel et al. 2018: logits of the support).
    """

    def __init__(
        self, features: int, hidden: int, num_actions: int, outputs: int = 1, sigma0: float | None = None
    ) -> None:
        super().__init__()
        dense = Dense(sigma0)
        self.outputs = outputs
        self.value = nn.Sequential(dense.hidden(features, hidden), dense.linear(hidden, outputs))
        self.advantage = nn.Sequential(dense.hidden(features, hidden), dense.linear(hidden, num_actions * outputs))

    def forward(self, x: Tensor) -> Tensor:
        advantage: Tensor = self.advantage(x)
        value: Tensor = self.value(x)
        if self.outputs > 1:
            advantage, value = advantage.view(x.shape[0], -1, self.outputs), value.unsqueeze(1)
            return value + advantage - advantage.mean(1, keepdim=True)
        return value + advantage - advantage.mean(-1, keepdim=True)


class PerAction(nn.Module):
    """[B, A * N] -> [B, A, N]."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], -1, self.outputs)


class Dense:
    """Makes the dense layers: ordinary, or noisy where ``sigma0`` is given."""

    def __init__(self, sigma0: float | None) -> None:
        self._sigma0 = sigma0

    def hidden(self, features: int, units: int) -> nn.Linear:
        return Hidden(features, units) if self._sigma0 is None else NoisyHidden(features, units, self._sigma0)

    def linear(self, features: int, units: int) -> nn.Linear:
        return nn.Linear(features, units) if self._sigma0 is None else NoisyLinear(features, units, self._sigma0)
