"""How a value-based sampler explores: rule, schedule and prefill are three separate knobs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from frugalrl.math.schedules import Schedule


@dataclass(frozen=True, kw_only=True, slots=True)
class ExploreConfig:
    """Behaviour policy while collecting."""

    name: str = "epsilon-greedy"
    """The exploration rule; ``frugal list explorers`` names them."""
    epsilon: Schedule = field(default_factory=lambda: Schedule(kind="constant", start=0.1))
    """Probability of an exploratory action, over agent steps."""
    uniform_share: float = 0.5
    """``counteractive-mixed`` only: share of the exploratory actions that are uniform instead of argmin."""
    prefill: Literal["uniform", "counteractive"] = "uniform"
    """Who acts before the first update. ``counteractive`` plays argmin of one untrained network: nearly
    deterministic, so off by default."""

    def __post_init__(self) -> None:
        if not 0 <= self.uniform_share <= 1:
            raise ValueError(f"explore.uniform_share={self.uniform_share}: must lie in [0, 1]")
