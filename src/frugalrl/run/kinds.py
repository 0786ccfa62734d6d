"""The parts of a run by the kind of its agent: one that acts in environments, or a language model."""

from __future__ import annotations

import torch

from frugalrl.algos.agents import TokenConfig
from frugalrl.cost.meters import LapTimer
from frugalrl.envs.lm import find_task
from frugalrl.run.assemble import Build, Parts, assemble, network_builder
from frugalrl.run.config import RunConfig
from frugalrl.run.evaluator import Evaluator
from frugalrl.run.language.assemble import assemble_language, model_builder
from frugalrl.run.language.check import check_pair
from frugalrl.run.language.evaluator import TokenEvaluator
from frugalrl.types import EnvSpec


def assemble_run(config: RunConfig, timer: LapTimer) -> Parts:
    """Everything a loop needs. Raises UserError for what does not fit together."""
    check_pair(config)
    return assemble_language(config, timer) if isinstance(config.agent, TokenConfig) else assemble(config, timer)


def builder(config: RunConfig, spec: EnvSpec) -> Build:
    """Builds the configured network."""
    if isinstance(config.agent, TokenConfig):
        return model_builder(config, find_task(config.env.id, config.env.kwargs))
    return network_builder(config, spec)


def make_evaluator(config: RunConfig, spec: EnvSpec, build: Build, device: torch.device) -> Evaluator:
    """What scores the snapshots of this run."""
    if isinstance(config.agent, TokenConfig):
        return TokenEvaluator(config, device)
    return Evaluator(config, spec, build, device)
