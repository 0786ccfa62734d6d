"""Q-learning (Watkins and Dayan 1992) and double Q-learning (van Hasselt 2010) on a table.

The online algorithm is a replay that holds one transition and one update per step (the recipe ``tabular-q``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from frugalrl.cost.meters import LapTimer
from frugalrl.math.draws import counted_rng
from frugalrl.nets.heads import Head, Tabular
from frugalrl.nets.q_network import ValueNetwork
from frugalrl.types import Cost, EnvSpec, NonFiniteLoss, PolicySnapshot, Replayed, Seen, StateDict, Updated

_COIN = 4
"""Purpose of the coin of double Q-learning; see `counted_rng`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TabularConfig:
    """The learner: step size and target."""

    kind: Literal["tabular"] = "tabular"
    gamma: float = 0.99
    """Discount per agent step."""
    double: bool = False
    """Two tables: a coin says which one learns; it selects the bootstrap action, the other one values it."""
    batch_size: int = 1
    """Transitions per update; 1 with a replay of one transition is the online algorithm."""
    step_size: float = 0.5
    """Share of the TD error that is added, in (0, 1]."""
    init_std: float = 0.0
    """Standard deviation of the normal distribution that the table is drawn from; 0 for zeros."""
    precision: Literal["fp32"] = "fp32"

    def __post_init__(self) -> None:
        if not 0 <= self.gamma <= 1:
            raise ValueError(f"agent.gamma={self.gamma}: must lie in [0, 1]")
        if not 0 < self.step_size <= 1:
            raise ValueError(f"agent.step_size={self.step_size}: must lie in (0, 1]")
        if self.batch_size < 1 or self.init_std < 0:
            raise ValueError(
                f"agent.batch_size={self.batch_size}, init_std={self.init_std}: need at least 1, and at least 0"
            )

    def head(self) -> Head:
        """A table, or two."""
        return Tabular(2 if self.double else 1, self.init_std)


class TabularLearner:
    """Moves the visited entries of the table towards their targets, in place."""

    def __init__(
        self,
        config: TabularConfig,
        spec: EnvSpec,
        build: Callable[[], ValueNetwork],
        *,
        device: torch.device,
        seed: int,
        timer: LapTimer,
    ) -> None:
        """``timer`` is the loop thread's. The table stays on the CPU. Raises UserError without index observations."""
        self.config = config
        self.version = 0
        self._seed, self._timer = seed, timer
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = build()
        self._parameters = {name: p.detach() for name, p in net.named_parameters()}
        (table,) = self._parameters.values()
        self._q = table.numpy()
        """[tables, S, A]: the parameter's own memory."""

    def update(self, replayed: Replayed) -> Updated:
        """Adds ``step_size * weight * td`` to each entry; repeated entries add up."""
        batch, config = replayed.batch, self.config
        learns = int(counted_rng(self._seed, _COIN, self.version).integers(2)) if config.double else 0
        mine, other = self._q[learns], self._q[-1 - learns if config.double else 0]
        best_t = mine[batch.obs_t].argmax(1)
        td = batch.r_t + batch.discount_t * other[batch.obs_t, best_t] - mine[batch.obs_tm1, batch.a_tm1]
        if not np.isfinite(td).all():
            raise NonFiniteLoss(f"a TD error of update {self.version + 1} is not finite", replayed)
        q_tm1 = self._q[:, batch.obs_tm1].mean(0)  # as the policy sees them
        np.add.at(mine, (batch.obs_tm1, batch.a_tm1), config.step_size * replayed.weight * td)
        self.version += 1
        td_abs = np.abs(td)
        metrics = {
            "loss": float((replayed.weight * td * td / 2).mean()),
            "td_mean": float(td.mean()),
            "td_abs": float(td_abs.mean()),
            "q_mean": float(q_tm1.mean()),
        }
        self._timer.lap("learner")
        seen = Seen(q_tm1, td, batch.explored_tm1, replayed.keys)
        return Updated(metrics=metrics, priorities=td_abs, costs=_ONE, seen=seen)

    def snapshot(self) -> PolicySnapshot:
        """The live table: the next update changes it in place."""
        return PolicySnapshot(version=self.version, parameters=self._parameters)

    def state_dict(self) -> StateDict:
        """Version and table."""
        return {"version": self.version, "online": dict(self._parameters)}

    def load_state_dict(self, state: StateDict) -> None:
        """Raises KeyError or RuntimeError for a state that does not fit."""
        for name, parameter in self._parameters.items():
            parameter.copy_(torch.as_tensor(state["online"][name]))
        self.version = state["version"]

    def weights(self) -> dict[str, Tensor]:
        """The table, detached."""
        return dict(self._parameters)


_ONE: dict[str, Any] = {"learner": Cost(calls=1, updates=1, flop=0.0)}
"""No matrix product is made; see `Cost.flop`."""
