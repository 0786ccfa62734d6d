"""C51 (Bellemare et al. 2017) and, with the fields of network and replay, Rainbow (Hessel et al. 2018).

Rainbow is C51 with double Q-learning (here), dueling and noisy layers (the network's), n-step returns and prioritised
replay (the replay's): a recipe, not another learner.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from frugalrl.algos.dqn import DQNLearner, Loss, Target, ValueConfig
from frugalrl.math.categorical import categorical_loss
from frugalrl.nets.heads import Categorical, Head


@dataclass(frozen=True, kw_only=True, slots=True)
class C51Config(ValueConfig):
    """The learner: target, cross-entropy to the projected target, optimiser."""

    kind: Literal["c51"] = "c51"
    atoms: int = 51
    """Points of the support."""
    v_min: float = -10.0
    """Lowest return that the support can express; returns below it count as this one."""
    v_max: float = 10.0
    """Highest return that the support can express."""

    def __post_init__(self) -> None:
        ValueConfig.__post_init__(self)
        if self.atoms < 2 or not self.v_min < self.v_max:
            raise ValueError(
                f"agent.atoms={self.atoms}, v_min={self.v_min}, v_max={self.v_max}: need at least 2 atoms and "
                f"v_min < v_max"
            )

    def head(self) -> Head:
        """Logits over the support."""
        return Categorical(self.atoms, self.v_min, self.v_max)


class C51Learner(DQNLearner):
    """Priorities are the KL divergences of the entries, as in Rainbow."""

    def loss(self, out_tm1: Tensor, out_t: Tensor, target: Target) -> Loss:
        """Cross-entropy; outputs [B, A, K] logits. ``support_clipped``: target probability beyond the support."""
        assert isinstance(self.config, C51Config)
        a_tm1, r_t, discount_t, q_select_t, weight = target
        ends = {"v_min": self.config.v_min, "v_max": self.config.v_max}
        loss, each, td, clipped = categorical_loss(
            out_tm1, a_tm1, r_t, discount_t, out_t, q_select_t, weight=weight, **ends
        )
        return Loss(loss, td, each, {"support_clipped": clipped})
