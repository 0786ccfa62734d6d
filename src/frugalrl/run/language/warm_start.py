"""Supervised steps before RL: from random weights no sampled answer is ever right, and nothing could be learned."""

from __future__ import annotations

import torch

from frugalrl.algos.grpo import GRPOLearner
from frugalrl.cost.meters import LapTimer
from frugalrl.envs.lm import Task, train_prompts
from frugalrl.run.assemble import stream_seed
from frugalrl.run.config import RunConfig
from frugalrl.run.language.assemble import WARM_START, token_policy
from frugalrl.run.loop import Event
from frugalrl.types import Cost, PolicySnapshot

_STEPS = 20
"""Supervised steps between two looks at what is sampled."""
_SAMPLES = 256
"""Completions of one look."""


class WarmStart:
    """Imitates right answers until a share of sampled completions is right, or the steps are used up.

    All of it is on the bill's line ``startup``, its tokens included. Prompts are of the training side; their stream is
    not that of RL.
    """

    def __init__(self, config: RunConfig, learner: GRPOLearner, task: Task, device: torch.device, timer: LapTimer):
        self._agent, self._learner, self._task, self._timer = learner.config, learner, task, timer
        self._seed = stream_seed(config.seed, WARM_START)
        self._policy = token_policy(config, task, device, temperature=1.0, seed=self._seed)

    def round(self) -> Event:
        """Some supervised steps, and a look at what the model would say."""
        agent, learner, task = self._agent, self._learner, self._task
        steps = min(_STEPS, agent.warm_start_steps - learner.imitated)
        cost, loss = Cost(), 0.0
        for _ in range(steps):
            first = learner.imitated * agent.warm_start_batch
            prompt = train_prompts(task, self._seed, first, agent.warm_start_batch)
            loss = learner.imitate(prompt, task.answer(prompt))
            cost += learner.imitation_cost() + Cost(env_steps=len(prompt) * task.answer_tokens)
        share, looked = self._look()
        if share >= (agent.warm_start_until or 2.0) or learner.imitated >= agent.warm_start_steps:
            learner.begin()
        self._timer.lap("startup")
        done = f"warm start: {learner.imitated:,} supervised steps"
        seen = f"{share:.1%} of {_SAMPLES} sampled completions of training prompts are right, loss {loss:.3f}"
        missed = "" if share >= (agent.warm_start_until or 0.0) else f"; less than {agent.warm_start_until:.1%}"
        notes = () if learner.imitating else (f"{done}, {seen}{missed}",)
        return Event(None, (), ({"startup": cost + looked},), notes=notes)

    def _look(self) -> tuple[float, Cost]:
        task, learner = self._task, self._learner
        # the learner's version does not grow in a warm start, and a policy looks at the version alone
        now = PolicySnapshot(version=learner.imitated, parameters=learner.snapshot().parameters)
        self._policy.load(now)
        prompt = train_prompts(task, self._seed + 1, 0, _SAMPLES)
        made = self._policy.generate(prompt, learner.imitated * _SAMPLES)
        share = float(task.reward(prompt, made.response).mean())
        return share, made.cost + Cost(env_steps=int(made.mask.sum()))
