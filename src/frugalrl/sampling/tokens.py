"""The sampler of language models: prompts in, completions with their log-probabilities and rewards out."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from frugalrl.cost.meters import LapTimer
from frugalrl.envs.lm import Task, train_prompts
from frugalrl.policies.tokens import Generated
from frugalrl.types import CollectedTokens, Cost, Costs, Episode, PolicySnapshot, StateDict, Tokens, merge_costs


class TokenEngine(Protocol):
    """What generates: `frugalrl.policies.tokens.TokenPolicy`, or an inference server behind the same calls."""

    @property
    def version(self) -> int:
        """Of the weights that act."""
        ...

    def load(self, snapshot: PolicySnapshot) -> int:
        """Act with these parameters from now on; returns the bytes that were moved."""

    def generate(self, prompt: NDArray[np.int64], first: int) -> Generated:
        """Responses to [N, P] prompts. Row i is completion ``first + i`` of the run: what is random in it depends on
        that number and the seed alone."""

    def keep_output(self, folder: Path) -> None:
        """Keep what a process of its own prints in a file there; called before the first ``load``."""

    def take_costs(self) -> Costs:
        """What it used since the last time beside the seconds of the calling thread and ``Generated.cost``."""

    def close(self) -> None:
        """Free what is open; harmless when called twice."""

    def state_dict(self) -> StateDict:
        """What a resumed run could not have from the learner's weights."""

    def load_state_dict(self, state: StateDict) -> None:
        """The inverse."""


class TokenSampler:
    """Draws prompts by number, completes each several times, and checks the answers."""

    def __init__(self, engine: TokenEngine, task: Task, *, samples: int, seed: int, timer: LapTimer) -> None:
        """``samples``: completions of each prompt. ``timer``: of the thread that calls ``collect``."""
        self._engine, self._task, self._samples, self._seed, self._timer = engine, task, samples, seed, timer
        self._loads = self._moved = 0
        self._loaded = -1
        self.prompts = 0
        """How many were drawn: the number of the next one."""

    def keep_output(self, folder: Path) -> None:
        """Keep what the engine prints, if it is another process, in a file there."""
        self._engine.keep_output(folder)

    def load(self, snapshot: PolicySnapshot) -> None:
        """Act with these parameters from now on."""
        moved = self._engine.load(snapshot)
        # a resumed process loads what was published before once more; of others the engine may take none
        if moved and snapshot.version != self._loaded:
            self._loads += 1
            self._moved += moved
        self._loaded = snapshot.version

    def collect(self, n: int) -> CollectedTokens:
        """Complete the next ``n`` prompts, ``samples`` times each."""
        task, timer, samples = self._task, self._timer, self._samples
        group = np.repeat(np.arange(self.prompts, self.prompts + n), samples)
        prompt = np.repeat(train_prompts(task, self._seed, self.prompts, n), samples, axis=0)
        timer.lap("environment")
        made = self._engine.generate(prompt, self.prompts * samples)
        timer.lap("inference")
        reward = task.reward(prompt, made.response)
        tokens = Tokens(
            prompt=prompt,
            response=made.response,
            mask=made.mask,
            log_mu=made.log_mu,
            group=group,
            version=np.full(len(prompt), self._engine.version),
            reward=reward,
        )
        lengths = made.mask.sum(-1)
        first = self.prompts * samples
        episodes = tuple(
            Episode(row=i, seed=first + i, raw_return=float(r), length=int(k), truncated=False)
            for i, (r, k) in enumerate(zip(reward, lengths, strict=True))
        )
        steps = int(lengths.sum())
        costs = {
            "environment": Cost(calls=1, env_steps=steps, frames=steps),
            "inference": made.cost,
            "transport": Cost(calls=self._loads, flop=0.0, bytes_min=float(self._moved)),
        }
        self._loads = self._moved = 0
        self.prompts += n
        timer.lap("environment")
        return CollectedTokens(tokens, episodes, steps, merge_costs([costs, self._engine.take_costs()]))

    def epsilon(self) -> float | None:
        """None: a language model samples from its own distribution."""
        return None

    def state_dict(self) -> StateDict:
        """Both streams are counted, so one number brings them back."""
        return {
            "prompts": self.prompts,
            "loaded": self._loaded,
            "loads": self._loads,
            "moved": self._moved,
            "engine": self._engine.state_dict(),
        }

    def load_state_dict(self, state: StateDict) -> tuple[int, ...]:
        """No row is ever lost: there are no environments to bring back."""
        self.prompts, self._loaded = state["prompts"], state["loaded"]
        self._loads, self._moved = state["loads"], state["moved"]
        self._engine.load_state_dict(state["engine"])
        return ()

    def close(self) -> None:
        """End the engine."""
        self._engine.close()
