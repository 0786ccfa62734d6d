"""What network to build."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class NetConfig:
    """Torso and head of a Q-network."""

    torso: Literal["auto", "mlp", "minatar", "nature"] = "auto"
    """``auto``: ``nature`` for images of 36 pixels and more, ``minatar`` for smaller ones, else ``mlp``."""
    hidden_units: tuple[int, ...] = (64, 64)
    """Widths of the dense layers after the convolutions, or of the whole MLP."""
    dueling: bool = False
    """Separate value and advantage streams (Wang et al. 2016); each stream has its own last hidden layer."""

    def __post_init__(self) -> None:
        if not self.hidden_units or min(self.hidden_units) < 1:
            raise ValueError(f"net.hidden_units={self.hidden_units}: give at least one width of at least 1")
