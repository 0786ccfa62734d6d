"""Recipes for language models on tasks with an answer that can be checked."""

from __future__ import annotations

from dataclasses import replace

from frugalrl.algos.grpo_config import GRPOConfig
from frugalrl.envs.lm import find_task, is_task
from frugalrl.nets.config import TokenNetConfig
from frugalrl.run.config import BudgetConfig, EnvConfig, EvaluationConfig, RunConfig
from frugalrl.sampling.exploration import ExploreConfig

_ROUNDS = 120


def grpo_tiny(env_id: str) -> RunConfig:
    """GRPO on a Llama of 100,000 parameters, after a supervised warm start, for lm: tasks on a laptop.

    Our own values, untuned: 120 rounds of 32 prompts x 8 completions, two gradient steps each, at the task's default
    length. The budget is counted in tokens, so shorter answers give more rounds.
    """
    agent = GRPOConfig(prompts=32, samples=8, warm_start_steps=1_000, warm_start_until=0.15)
    # the run refuses an id that is no task; here it has answers of one token
    answer = find_task(env_id).answer_tokens if is_task(env_id) else 1
    tokens = agent.prompts * agent.samples * answer
    return RunConfig(
        recipe="grpo-tiny",
        env=EnvConfig(id=env_id, protocol="lm-exact-match"),
        net=TokenNetConfig(),
        agent=agent,
        explore=ExploreConfig(name="policy"),
        evaluation=EvaluationConfig(every_env_steps=_ROUNDS // 10 * tokens, rows=512),
        budget=BudgetConfig(env_steps=_ROUNDS * tokens),
    )


def rloo_tiny(env_id: str) -> RunConfig:
    """RLOO in place of GRPO: leave-one-out baseline, one gradient step per round, else as grpo-tiny.

    With one step the ratio is 1 and the loss is REINFORCE. Our own values, untuned.
    """
    config = grpo_tiny(env_id)
    assert isinstance(config.agent, GRPOConfig)
    return replace(config, recipe="rloo-tiny", agent=replace(config.agent, advantage="rloo", minibatches=1))
