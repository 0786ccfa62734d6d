"""Settings that mean nothing to a language model, each with what to do instead."""

from __future__ import annotations

from frugalrl.algos.agents import TokenConfig
from frugalrl.envs.lm import is_task
from frugalrl.envs.protocols import EXACT_MATCH
from frugalrl.run.config import RunConfig
from frugalrl.types import UserError


def check_pair(config: RunConfig) -> None:
    """Raises UserError when environment and agent are of different worlds."""
    learns, asks = isinstance(config.agent, TokenConfig), is_task(config.env.id)
    if asks and not learns:
        raise UserError(
            f"{config.env.id} is a task for language models, and agent.kind={config.agent.kind} is none (recipe "
            f"{config.recipe}); use --recipe grpo-tiny or rloo-tiny"
        )
    sampler = config.sampler
    if not learns and (sampler.engine == "vllm" or any(part.endswith("@vllm") for part in sampler.mix)):
        raise UserError(
            f"sampler.engine=vllm samples from language models, and {config.env.id} is no lm: task; leave it out"
        )
    if learns and not asks:
        raise UserError(
            f"agent.kind={config.agent.kind} trains language models on lm: tasks (see 'frugal list envs'), not "
            f"{config.env.id}; choose another recipe"
        )


def check_language(config: RunConfig) -> None:
    """Raises UserError for the first setting that a language model has no use for."""
    sampler, schedule = config.sampler, config.schedule
    refused = (
        (
            config.env.protocol != EXACT_MATCH,
            f"env.protocol={config.env.protocol}: lm: tasks are scored under {EXACT_MATCH} only; leave --protocol out",
        ),
        (
            config.env.rows != 1,
            f"env.rows={config.env.rows}: an lm: task has no environments side by side; set agent.prompts and "
            f"agent.samples, whose product is a batch",
        ),
        (
            sampler.kind != "inline" or sampler.workers > 0,
            f"sampler.kind={sampler.kind}, workers={sampler.workers}: completions are generated in one batch per round "
            f"already; use --sampler inline",
        ),
        (
            sampler.engine not in ("torch", "vllm"),
            f"sampler.engine={sampler.engine} computes control policies; language models are sampled by torch or vllm",
        ),
        (
            bool(sampler.mix),
            f"sampler.mix={sampler.mix}: completions of a round come from one sampler; use sampler.transform",
        ),
        (
            schedule.lag_blocks != 0,
            f"schedule.lag_blocks={schedule.lag_blocks}: the loop of language models is serial; for a sampler that is "
            f"behind the learner set sampler.transform=stale:K",
        ),
        (
            config.evaluation.probe_rows != 0,
            f"evaluation.probe_rows={config.evaluation.probe_rows}: the probe tries argmin Q, and a language model has "
            f"no Q-values; leave --probe-envs out",
        ),
    )
    for is_set, sentence in refused:
        if is_set:
            raise UserError(sentence)
