"""How a value-based sampler explores: rule, schedule and prefill are three separate knobs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from frugalrl.math.schedules import Schedule, smallest_and_largest


@dataclass(frozen=True, kw_only=True, slots=True)
class ExploreConfig:
    """Behaviour policy while collecting."""

    name: str = "epsilon-greedy"
    """The exploration rule; ``frugal list explorers`` names them."""
    epsilon: Schedule = field(default_factory=lambda: Schedule(kind="constant", start=0.1))
    """Probability of an exploratory action, over agent steps; ``boltzmann`` and ``ucb`` have none."""
    temperature: Schedule = field(default_factory=lambda: Schedule(kind="constant", start=1.0))
    """``softmin`` and ``boltzmann``: how evenly actions are drawn, in the units of Q, over agent steps. 0 is the limit:
    only the best action."""
    uniform_share: float = 0.5
    """``counteractive-mixed`` only: share of the exploratory actions that are uniform instead of argmin."""
    ez_mu: float = 2.0
    """``epsilon-z-greedy`` only: exponent of the length of a repetition, P(n) ~ n ** -ez_mu."""
    ez_max_steps: int = 10_000
    """``epsilon-z-greedy`` only: longest repetition, agent steps; 1 is epsilon-greedy."""
    ucb_c: float = 2.0
    """``ucb`` only: weight of the bonus sqrt(log t / N(s, a)), in the units of Q."""
    prefill: Literal["uniform", "counteractive"] = "uniform"
    """Who acts before the first update. ``counteractive`` plays argmin of one untrained network: nearly
    deterministic, so off by default."""

    def __post_init__(self) -> None:
        if not 0 <= self.uniform_share <= 1:
            raise ValueError(f"explore.uniform_share={self.uniform_share}: must lie in [0, 1]")
        low, high = smallest_and_largest(self.epsilon)
        if low < 0 or high > 1:
            raise ValueError(f"explore.epsilon goes from {low:g} to {high:g}: a probability must lie in [0, 1]")
        low, _ = smallest_and_largest(self.temperature)
        if low < 0:
            raise ValueError(f"explore.temperature falls to {low:g}: must be at least 0")
        if self.ez_mu < 0 or not 1 <= self.ez_max_steps <= 10_000_000:
            raise ValueError(
                f"explore.ez_mu={self.ez_mu}, ez_max_steps={self.ez_max_steps}: need ez_mu >= 0 and ez_max_steps "
                f"from 1 to 10,000,000"
            )
        if self.ucb_c < 0:
            raise ValueError(f"explore.ucb_c={self.ucb_c}: must be at least 0")
