"""The policy of a sampler that differs from the learner."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from frugalrl.algos.agents import TokenConfig
from frugalrl.policies.engines.onnx_runtime import OnnxRuntime
from frugalrl.policies.engines.policy import EnginePolicy
from frugalrl.policies.sampler_policy import Member, SamplerPolicy
from frugalrl.run.config import RunConfig
from frugalrl.sampling.mix import Part
from frugalrl.types import EnvSpec, UserError


def sampler_policy(
    config: RunConfig,
    build: Callable[[], Any],
    spec: EnvSpec,
    make: Callable[[str | None], Any],
    *,
    device: str,
    seed: int,
) -> SamplerPolicy:
    """What acts as ``config.sampler`` says.

    Args:
        build: makes the network.
        make: makes a policy of its own copies in a precision, by default the learner's.
        device: of the learner.
        seed: of the weights' noise.

    Raises UserError for a transform or engine that this network, agent or device does not have.
    """
    try:
        parts = config.sampler.parts(config.env.rows)
    except ValueError as error:
        raise UserError(str(error)) from error
    every = config.sampler.sync_every_updates
    members = []
    for number, part in enumerate(parts):
        policy = _engine_policy(config, part, build, spec, device) or make(part.plan.compute_name or None)
        members.append(
            Member(part.plan, policy, build(), seed=seed + number, engine=part.engine, sync_every_updates=every)
        )
    return SamplerPolicy(members, [part.rows for part in parts])


def _engine_policy(
    config: RunConfig, part: Part, build: Callable[[], Any], spec: EnvSpec, device: str
) -> EnginePolicy | None:
    if part.engine == "torch":
        return None
    if part.plan.compute_name:
        raise UserError(
            f"sampler.transform={part.plan.name!r}: {part.plan.compute_name} is arithmetic of PyTorch, and "
            f"sampler.engine={part.engine} has its own; use sampler.engine=torch, or sampler.transform=none"
        )
    if device != "cpu":
        raise UserError(
            f"sampler.engine={part.engine} computes on the CPU, but this run is on {device}; use --device cpu, or "
            f"sampler.engine=torch"
        )
    assert not isinstance(config.agent, TokenConfig)  # language models have a sampler of their own
    net = build().eval()
    return EnginePolicy(OnnxRuntime(net, spec, int8=part.engine == "onnx-int8"), config.agent.head())
