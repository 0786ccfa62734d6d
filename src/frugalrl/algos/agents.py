"""The agents by the ``kind`` of their configuration."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from frugalrl.algos.dqn import DQNConfig, DQNLearner
from frugalrl.algos.grpo import GRPOLearner
from frugalrl.algos.grpo_config import GRPOConfig
from frugalrl.algos.impala import ImpalaConfig, ImpalaLearner
from frugalrl.algos.ppo import PPOConfig, PPOLearner
from frugalrl.algos.qrdqn import QRDQNConfig, QRDQNLearner
from frugalrl.algos.r2d2 import R2D2Config, R2D2Learner
from frugalrl.algos.rainbow import C51Config, C51Learner
from frugalrl.algos.tabular import TabularConfig, TabularLearner
from frugalrl.math.explore import EXPLORERS, POLICY_EXPLORERS, Explorer
from frugalrl.types import UserError

AgentConfig = DQNConfig | QRDQNConfig | C51Config | TabularConfig | ImpalaConfig | R2D2Config | PPOConfig | GRPOConfig
"""``kind`` says which; without it, the first."""

PolicyConfig = ImpalaConfig | PPOConfig
"""Actor-critics: they learn a policy from unrolls, each used for one update."""

SequenceConfig = PolicyConfig | R2D2Config
"""Agents that learn from unrolls of consecutive steps instead of transitions."""

TokenConfig = GRPOConfig
"""Agents that are language models and learn from completions."""

Learner = DQNLearner | TabularLearner | ImpalaLearner | R2D2Learner | PPOLearner | GRPOLearner


def explorers_of(agent: AgentConfig) -> dict[str, Explorer]:
    """The exploration rules for what this agent's network answers: Q-values, or the logits of a policy."""
    if isinstance(agent, TokenConfig):
        return {"policy": POLICY_EXPLORERS["policy"]}
    return POLICY_EXPLORERS if isinstance(agent, PolicyConfig) else EXPLORERS


def explorer_of(agent: AgentConfig, name: str) -> Explorer:
    """The rule of that name. Raises UserError for one that is not there."""
    known = explorers_of(agent)
    if name not in known:
        near = get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
        raise UserError(f"unknown explorer {name!r} for agent.kind={agent.kind}; {hint}")
    return known[name]


ALWAYS_SAMPLED = "answers are always sampled, at temperature 1"


def check_sampled(agent: AgentConfig) -> None:
    """Raises ValueError for an agent from which an evaluation cannot draw, or draws anyway."""
    if isinstance(agent, PolicyConfig):
        return
    why = ALWAYS_SAMPLED if isinstance(agent, TokenConfig) else "it has Q-values and no policy"
    raise ValueError(f"evaluation.actions=sampled is for actor-critics; agent.kind={agent.kind}: {why}. Leave it out.")


def correction_setting(agent: AgentConfig, name: str) -> str:
    """``agent.correction=NAME``. Raises UserError for an agent that corrects nothing."""
    if not hasattr(agent, "correction"):
        raise UserError(
            f"correction {name!r}: agent.kind={agent.kind} has none, as its values are learned from whatever acted; "
            f"leave it out, or take a learner of policies such as --recipe ppo"
        )
    return f"agent.correction={name}"


LEARNERS: dict[type[Any], Callable[..., Learner]] = {
    DQNConfig: DQNLearner,
    QRDQNConfig: QRDQNLearner,
    C51Config: C51Learner,
    TabularConfig: TabularLearner,
    ImpalaConfig: ImpalaLearner,
    R2D2Config: R2D2Learner,
    PPOConfig: PPOLearner,
}
