"""What network to build."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class NetConfig:
    """Torso and head of a network."""

    kind: Literal["torso"] = "torso"
    torso: Literal["auto", "mlp", "minatar", "nature", "impala-shallow", "impala-deep"] = "auto"
    """``auto``: ``nature`` for images of at least 36 pixels on each side, ``minatar`` for those of at least 3, else
    ``mlp``. Both torsos of IMPALA (Espeholt et al. 2018, figure 3) are for images, with one dense layer of 256 after
    them."""
    hidden_units: tuple[int, ...] = (64, 64)
    """Widths of the dense layers after the convolutions, or of the whole MLP."""
    dueling: bool = False
    """Separate value and advantage streams (Wang et al. 2016); each stream has its own last hidden layer."""

    noisy_sigma0: float | None = None
    """Noisy dense layers (Fortunato et al. 2018) whose deviations begin at ``noisy_sigma0 / sqrt(inputs)``; 0.5 in the
    paper, 0.1 in Dopamine's DER. None for ordinary layers."""

    init: Literal["torch", "orthogonal"] = "torch"
    """First weights: PyTorch's own, or for an actor-critic orthogonal ones, with a policy that begins near uniform."""

    lstm_units: int | None = None
    """Width of an LSTM after the dense layers, which also reads the last action and reward; None for none. For agents
    that learn from sequences (R2D2, V-trace, PPO)."""

    def __post_init__(self) -> None:
        if self.lstm_units is not None and self.lstm_units < 1:
            raise ValueError(f"net.lstm_units={self.lstm_units}: must be at least 1, or None for no LSTM")
        if self.noisy_sigma0 is not None and not self.noisy_sigma0 > 0:
            raise ValueError(f"net.noisy_sigma0={self.noisy_sigma0}: must be positive, or None for ordinary layers")
        if not self.hidden_units or min(self.hidden_units) < 1:
            raise ValueError(f"net.hidden_units={self.hidden_units}: give at least one width of at least 1")


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenNetConfig:
    """A causal language model: a small Llama with random weights, or a folder that holds a model."""

    kind: Literal["llama"] = "llama"
    layers: int = 2
    width: int = 64
    """Units of the residual stream."""
    heads: int = 4
    mlp_width: int = 172
    """Units inside of a block's gated MLP."""
    init_std: float = 0.02
    """Standard deviation of the initial weights."""
    checkpoint: str | None = None
    """Folder with ``config.json`` and ``*.safetensors`` as transformers writes them, whose tokens are those of the
    task; it sets all of the sizes above. None: random weights."""

    def __post_init__(self) -> None:
        for name in ("layers", "width", "heads", "mlp_width", "init_std"):
            if getattr(self, name) <= 0:
                raise ValueError(f"net.{name}={getattr(self, name)}: must be positive")
        if self.width % (2 * self.heads):
            raise ValueError(
                f"net.width={self.width}, heads={self.heads}: each head needs an even number of units, so make width a "
                f"multiple of {2 * self.heads}"
            )
