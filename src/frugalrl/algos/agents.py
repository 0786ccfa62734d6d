"""The value-based agents by the ``kind`` of their configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from frugalrl.algos.dqn import DQNConfig, DQNLearner
from frugalrl.algos.qrdqn import QRDQNConfig, QRDQNLearner
from frugalrl.algos.rainbow import C51Config, C51Learner
from frugalrl.algos.tabular import TabularConfig, TabularLearner

AgentConfig = DQNConfig | QRDQNConfig | C51Config | TabularConfig
"""``kind`` says which; without it, the first."""

Learner = DQNLearner | TabularLearner

LEARNERS: dict[type[Any], Callable[..., Learner]] = {
    DQNConfig: DQNLearner,
    QRDQNConfig: QRDQNLearner,
    C51Config: C51Learner,
    TabularConfig: TabularLearner,
}
