"""Everything that a checkpoint holds, except the rows of the replay."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch

from frugalrl.cost.ledger import Ledger
from frugalrl.run.assemble import Parts
from frugalrl.run.evaluator import Evaluator
from frugalrl.run.loop import Counters
from frugalrl.run.theory import NoMeters, TheoryMeters
from frugalrl.sampling.tokens import TokenSampler
from frugalrl.types import PolicySnapshot, StateDict


@dataclass(frozen=True, slots=True)
class RunState:
    """What changes while a run goes on."""

    parts: Parts
    counters: Counters
    evaluator: Evaluator
    ledger: Ledger
    theory: TheoryMeters | NoMeters

    def state_dict(self) -> StateDict:
        """Call it between two events of the loop, when nothing is in flight."""
        parts = self.parts
        state: StateDict = {
            "learner": parts.learner.state_dict(),
            "sampler": parts.sampler.state_dict(),
            "replay": parts.replay.state_dict(),
            "counters": asdict(self.counters),
            "evaluator": self.evaluator.state_dict(),
            "ledger": self.ledger.state_dict(),
            "theory": self.theory.state_dict(),
        }
        if self.counters.learner_ahead:  # else the newest weights act next
            assert not isinstance(parts.sampler, TokenSampler)  # its loop is serial
            acting = parts.sampler.acting()
            state["acting"] = {"version": acting.version, "parameters": dict(acting.parameters)}
        return state

    def load_state_dict(self, state: StateDict) -> tuple[int, ...]:
        """Put the parts back; returns the environment rows that could not be.

        Raises KeyError, TypeError, ValueError or RuntimeError when the state does not fit the parts.
        """
        parts, counters = self.parts, state["counters"]
        parts.replay.load_state_dict(state["replay"])
        parts.learner.load_state_dict(state["learner"])
        self.evaluator.load_state_dict(state["evaluator"])
        self.counters.env_steps, self.counters.updates = counters["env_steps"], counters["updates"]
        self.counters.learner_ahead = counters.get("learner_ahead", False)
        if self.counters.learner_ahead:
            acting = state["acting"]
            parameters = {name: torch.as_tensor(value) for name, value in acting["parameters"].items()}
            parts.sampler.load(PolicySnapshot(version=acting["version"], parameters=parameters))
        self.ledger.load_state_dict(state["ledger"])
        if "theory" in state:  # absent in checkpoints older than the meters
            self.theory.load_state_dict(state["theory"])
        return parts.sampler.load_state_dict(state["sampler"])
