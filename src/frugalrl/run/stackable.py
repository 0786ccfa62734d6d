"""Which configurations can be trained as a stack of seeds, and why the others cannot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from frugalrl.algos.agents import SequenceConfig, TokenConfig
from frugalrl.algos.tabular import TabularConfig
from frugalrl.nets.config import NetConfig
from frugalrl.nets.q_network import torso_name
from frugalrl.run.assemble import pick_device
from frugalrl.run.config import RunConfig
from frugalrl.run.config_io import differences, to_dict
from frugalrl.sampling.config import SamplerConfig
from frugalrl.types import EnvSpec, UserError


def why_not_stacked(config: RunConfig, spec: EnvSpec) -> str | None:
    """One sentence that says why seeds of this configuration must be trained one by one; None when they can be stacked.

    ``spec``: the environment after its protocol.
    """
    agent, net, budget = config.agent, config.net, config.budget
    if isinstance(agent, TabularConfig):
        return "agent.kind=tabular has no network, so there is nothing to stack"
    if isinstance(agent, TokenConfig):
        return f"agent.kind={agent.kind} is a language model; only agents that learn from transitions are stacked"
    assert isinstance(net, NetConfig)
    if isinstance(agent, SequenceConfig):
        return f"agent.kind={agent.kind} learns from unrolls; only agents that learn from transitions are stacked"
    on_gpu = pick_device(config.device).type == "cuda"
    if torso_name(spec, net) != "mlp" and not on_gpu:
        return (
            f"{spec.id} needs a convolution (torso {torso_name(spec, net)!r}), which gains nothing when it is stacked "
            f"on a CPU; only MLPs for vector and index observations are"
        )
    plain = SamplerConfig()
    refused = {
        "net.noisy_sigma0": (
            net.noisy_sigma0 is not None and not on_gpu,
            "noisy layers have their own noise in each seed",
        ),
        "net.dueling": (net.dueling and not on_gpu, "the stacked network is a plain MLP without streams"),
        "agent.precision": (agent.precision == "bf16", "the stack computes in fp32, tf32 or fp64"),
        "sampler.kind": (config.sampler.kind != "inline", "the seeds of a stack step their own environments"),
        **{
            f"sampler.{name}": (
                not config.sampler.as_the_learner,
                "the seeds of a stack act with the learner's weights",
            )
            for name in ("transform", "engine", "sync_every_updates", "mix")
            if getattr(config.sampler, name) != getattr(plain, name)
        },
        "schedule.lag_blocks": (config.schedule.lag_blocks > 0, "the stacked loop is serial"),
        "evaluation.probe_rows": (config.evaluation.probe_rows > 0, "the probe is made for one run"),
        "budget.hours": (budget.hours is not None, "the seeds share one clock; give budget.env_steps"),
        "budget.eur": (budget.eur is not None, "the seeds share one clock; give budget.env_steps"),
        "budget.target_score": (budget.target_score is not None, "seeds that stop early leave the stack half empty"),
        "budget.env_steps": (budget.env_steps is None, "the seeds need a common end"),
    }
    for path, (refuses, why) in refused.items():
        if refuses:
            group, _, name = path.partition(".")
            return f"{path}={getattr(getattr(config, group), name)} cannot be stacked: {why}"
    return None


def check_same(configs: Sequence[RunConfig]) -> None:
    """Raises UserError unless these configurations differ in their seeds, and in nothing else."""
    if not configs:
        raise UserError("a stack needs at least one configuration, but got none")
    seeds = [config.seed for config in configs]
    twice = sorted({seed for seed in seeds if seeds.count(seed) > 1})
    if twice:
        raise UserError(f"seed {twice[0]} is there more than once; each seed of a stack must be another one")
    first = replace(configs[0], seed=0)
    for config in configs[1:]:
        other = replace(config, seed=0)
        if other != first:
            path, (here, there) = next(iter(differences(to_dict(first), to_dict(other)).items()))
            raise UserError(
                f"the seeds of a stack must have one configuration, but {path} is {here!r} for seed {seeds[0]} and "
                f"{there!r} for seed {config.seed}"
            )
