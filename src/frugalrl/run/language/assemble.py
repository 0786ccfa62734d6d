"""From a configuration to the parts of a run on language models."""

from __future__ import annotations

from collections.abc import Callable

import torch

from frugalrl.algos.grpo import GRPOLearner
from frugalrl.algos.grpo_config import GRPOConfig
from frugalrl.cost.meters import LapTimer
from frugalrl.envs.lm import Task, check_sides, find_task
from frugalrl.nets.config import TokenNetConfig
from frugalrl.nets.token_model import TokenModel, build_token_model
from frugalrl.policies.tokens import TokenPolicy
from frugalrl.run.assemble import Parts, pick_device, stream_seed, watch_tensor_threads
from frugalrl.run.config import RunConfig
from frugalrl.run.language.check import check_language
from frugalrl.run.language.world import NothingKept, PromptWorld
from frugalrl.run.worker import Worker
from frugalrl.sampling.tokens import TokenEngine, TokenSampler
from frugalrl.sampling.vllm.find import find_python
from frugalrl.sampling.vllm.tokens import VllmTokens

PROMPTS, DRAWS, NET, WARM_START = range(4)
"""Purposes of random numbers, each with a stream of its own."""


def assemble_language(config: RunConfig, timer: LapTimer) -> Parts:
    """Task, sampler and learner; all of them mark their laps in ``timer``.

    Raises UserError for what does not fit together.
    """
    check_language(config)
    agent = config.agent
    assert isinstance(agent, GRPOConfig)
    task = find_task(config.env.id, config.env.kwargs)
    check_sides(task)
    device = pick_device(config.device)
    torch.set_num_threads(config.threads)
    watch_tensor_threads(config.threads, timer)
    learner = GRPOLearner(
        agent,
        model_builder(config, task),
        prompt_tokens=task.prompt_tokens,
        response_tokens=task.answer_tokens,
        device=device,
        seed=stream_seed(config.seed, NET),
        timer=timer,
    )
    engine = token_engine(config, task, device, timer)
    sampler = TokenSampler(engine, task, samples=agent.samples, seed=stream_seed(config.seed, PROMPTS), timer=timer)
    return Parts(PromptWorld(task, config), sampler, NothingKept(), learner, device, timer, Worker("sampler"))


def token_engine(config: RunConfig, task: Task, device: torch.device, timer: LapTimer) -> TokenEngine:
    """What samples for the learner. Raises UserError: it is not there, or cannot compute this model."""
    agent, sampler, seed = config.agent, config.sampler, stream_seed(config.seed, DRAWS)
    assert isinstance(agent, GRPOConfig)
    if sampler.engine == "torch":
        return token_policy(
            config, task, device, temperature=agent.temperature, seed=seed, transform=sampler.transform,
            sync_every_updates=sampler.sync_every_updates,
        )  # fmt: skip
    return VllmTokens(
        model_builder(config, task),
        find_python(sampler.vllm_python),
        prompt_tokens=task.prompt_tokens,
        response_tokens=task.answer_tokens,
        end=task.end,
        temperature=agent.temperature,
        seed=seed,
        timer=timer,
        transform=sampler.transform,
        sync_every_updates=sampler.sync_every_updates,
    )


def model_builder(config: RunConfig, task: Task) -> Callable[[], TokenModel]:
    """Builds the configured model for a task."""
    net = config.net
    assert isinstance(net, TokenNetConfig)
    longest = task.prompt_tokens + task.answer_tokens
    return lambda: build_token_model(net, vocabulary=len(task.vocabulary), longest=longest)


def token_policy(
    config: RunConfig,
    task: Task,
    device: torch.device,
    *,
    temperature: float,
    seed: int,
    transform: str = "none",
    sync_every_updates: int = 1,
) -> TokenPolicy:
    """A policy in this process for the configured model."""
    return TokenPolicy(
        model_builder(config, task),
        device,
        prompt_tokens=task.prompt_tokens,
        response_tokens=task.answer_tokens,
        end=task.end,
        temperature=temperature,
        seed=seed,
        transform=transform,
        sync_every_updates=sync_every_updates,
    )
