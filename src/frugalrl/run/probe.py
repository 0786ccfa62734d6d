"""The probe: environments of its own in which argmin and uniform actions are tried, for the meters of the theory.

Under a rule that is no mixture of both, eta, delta and the slack of theorem 3.4 cannot be seen in the training data.
The probe explores in half of its steps, half of these uniformly and half with argmin, and is greedy in the rest.
Nothing of it enters the replay; what it costs is a line of its own in the bill.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from frugalrl.cost.meters import LapTimer, NativeThreads
from frugalrl.envs import make_env, named_protocol
from frugalrl.math.schedules import Schedule
from frugalrl.run.assemble import Build, acting_policy, forward_cost
from frugalrl.run.config import RunConfig
from frugalrl.run.theory import BranchMeter, Meters
from frugalrl.sampling.exploration import ExploreConfig
from frugalrl.sampling.inline import InlineSampler
from frugalrl.types import Cost, EnvSpec, PolicySnapshot

_RULE = ExploreConfig(
    name="counteractive-mixed", uniform_share=0.5, epsilon=Schedule(kind="constant", start=0.5), prefill="uniform"
)


def make_probe(config: RunConfig, spec: EnvSpec, build: Build, device: torch.device) -> Probe | None:
    """The probe that a configuration asks for, if any."""
    rows = config.evaluation.probe_rows
    return Probe(config, spec, build, device) if rows else None


class Probe:
    """Plays ``evaluation.probe_steps`` steps in each of ``evaluation.probe_rows`` environments."""

    def __init__(self, config: RunConfig, spec: EnvSpec, build: Build, device: torch.device) -> None:
        self._config = config
        self._policy = acting_policy(config, build, device)
        self._forward = forward_cost(build().eval(), spec, self._policy.weight_bytes, config.evaluation.probe_rows)

    def run(self, snapshot: PolicySnapshot) -> tuple[Meters, Cost]:
        """The meters under one snapshot, and what they cost apart from the calling thread's own time.

        Same episode seeds and draws each time, so that only the weights differ.
        """
        config, settings = self._config, self._config.evaluation
        env = make_env(
            config.env.id,
            protocol=named_protocol(config.env.protocol),
            num_rows=settings.probe_rows,
            seed=settings.seed,
            threads=config.env.threads,
            env_kwargs=config.env.kwargs,
            training=True,
        )
        own = LapTimer()
        own.start()
        sampler = InlineSampler(
            env, self._policy, _RULE, prefill_env_steps=0, seed=settings.seed, inference_cost=self._forward, timer=own
        )
        native = NativeThreads("probe", env.thread_ids)
        meter = BranchMeter(config.agent.gamma, _RULE.uniform_share)
        try:
            sampler.load(snapshot)
            collected = sampler.collect(settings.probe_rows * settings.probe_steps)
            meter.add(collected)
            counted = collected.costs["environment"] + replace(collected.costs["inference"], calls=None)
            cost = counted + native.take()
        finally:
            sampler.close()
        return meter.close(), cost
