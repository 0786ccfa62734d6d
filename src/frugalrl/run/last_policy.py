"""The policy of a run's last checkpoint, to be played, drawn or exported; the run's folder is only read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from frugalrl.algos.agents import TokenConfig
from frugalrl.envs import Protocol, RowEnv, make_env, named_protocol
from frugalrl.envs.lm import find_task
from frugalrl.policies.sequence import SequencePolicy
from frugalrl.policies.value import ValuePolicy
from frugalrl.run.assemble import acting_policy, network_builder, pick_device
from frugalrl.run.checkpoint import Checkpoints
from frugalrl.run.config import RunConfig
from frugalrl.run.language.world import PromptWorld
from frugalrl.run.record import RunFolder
from frugalrl.types import EnvSpec, PolicySnapshot, RunFailed, UserError


@dataclass(frozen=True, slots=True)
class LastPolicy:
    """A snapshot and what it needs to be played."""

    config: RunConfig
    protocol: Protocol
    snapshot: PolicySnapshot
    step: int
    """Agent step of the checkpoint."""
    damaged: tuple[str, ...]
    """One sentence per newer checkpoint that could not be used."""

    def env(self, *, rows: int, seed: int, training: bool = False) -> RowEnv:
        """The run's environment under its protocol. Raises UserError for a language model, which has none."""
        env = self.config.env
        if isinstance(self.config.agent, TokenConfig):
            raise UserError(
                f"{env.id} is a task for language models: its policy can be trained and evaluated, but not drawn or "
                f"exported; docs/language-models.md says how to take its weights out"
            )
        return make_env(
            env.id, protocol=self.protocol, num_rows=rows, seed=seed, env_kwargs=env.kwargs, training=training
        )

    def spec(self) -> EnvSpec:
        """What the rest needs to know of the environment."""
        if isinstance(self.config.agent, TokenConfig):
            return PromptWorld(find_task(self.config.env.id, self.config.env.kwargs), self.config).spec
        env = self.env(rows=1, seed=0)
        env.close()
        return env.spec

    def policy(
        self, spec: EnvSpec, *, device: torch.device | None = None, precision: str | None = None
    ) -> ValuePolicy | SequencePolicy:
        """The policy with the snapshot's parameters, by default on the run's device and in its precision.

        Raises RunFailed when the parameters do not fit the configured network.
        """
        config = self.config
        build = network_builder(config, spec)
        policy = acting_policy(config, build, device or pick_device(config.device), precision=precision)
        try:
            policy.load(self.snapshot)
        except ValueError as error:
            raise RunFailed(
                f"the policy of step {self.step:,} does not fit config.json: {error}; "
                f"put that file back as the run wrote it"
            ) from error
        return policy


def last_policy(folder: Path) -> LastPolicy:
    """Read the newest whole checkpoint of a run.

    Raises UserError for a folder that is no run and RunFailed when no checkpoint can be used.
    """
    record = RunFolder.open(folder)
    config = record.config()
    loaded = Checkpoints(record.checkpoints).load(None)
    state = loaded.state["learner"]
    parameters = {name: torch.as_tensor(value) for name, value in state["online"].items()}
    snapshot = PolicySnapshot(version=state["version"], parameters=parameters)
    return LastPolicy(config, named_protocol(config.env.protocol), snapshot, loaded.step, loaded.damaged)
