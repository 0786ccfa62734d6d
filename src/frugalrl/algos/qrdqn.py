"""QR-DQN (Dabney et al. 2018): DQN whose network gives quantiles of the return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from frugalrl.algos.dqn import DQNLearner, Loss, Target, ValueConfig
from frugalrl.math.quantile import quantile_loss
from frugalrl.nets.heads import Head, Quantiles


@dataclass(frozen=True, kw_only=True, slots=True)
class QRDQNConfig(ValueConfig):
    """The learner: target, quantile loss and optimiser."""

    kind: Literal["qrdqn"] = "qrdqn"
    quantiles: int = 200
    """Outputs per action."""
    kappa: float = 1.0
    """Error above which the quantile loss is linear; 0 gives the plain quantile loss."""

    def __post_init__(self) -> None:
        ValueConfig.__post_init__(self)
        if self.quantiles < 2 or self.kappa < 0:
            raise ValueError(
                f"agent.quantiles={self.quantiles}, agent.kappa={self.kappa}: need at least 2 quantiles and kappa >= 0"
            )

    def head(self) -> Head:
        """Quantiles; acting takes argmax, and counteractive exploration argmin, of their mean."""
        return Quantiles(self.quantiles)


class QRDQNLearner(DQNLearner):
    """Priorities are the losses of the entries, as in Dopamine."""

    def loss(self, out_tm1: Tensor, out_t: Tensor, target: Target) -> Loss:
        """Quantile Huber loss; outputs [B, A, N]."""
        assert isinstance(self.config, QRDQNConfig)
        a_tm1, r_t, discount_t, q_select_t, weight = target
        kappa = self.config.kappa
        loss, each, td, _ = quantile_loss(
            out_tm1, a_tm1, r_t, discount_t, out_t, q_select_t, weight=weight, kappa=kappa
        )
        return Loss(loss, td, each)
