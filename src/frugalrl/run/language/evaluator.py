"""The score of a language model: exact matches on held-out prompts, sampled at temperature 1 by the learner's weights.

Whatever the sampler does to its weights and whatever temperature it uses, the evaluation has neither.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from frugalrl.envs.lm import eval_prompts, find_task
from frugalrl.policies.tokens import TokenPolicy
from frugalrl.run.config import RunConfig
from frugalrl.run.evaluate import Score
from frugalrl.run.evaluator import Evaluator
from frugalrl.run.language.assemble import token_policy
from frugalrl.types import Cost, PolicySnapshot

_Z = 1.959963984540054
"""Of a normal distribution at 97.5 %."""


class TokenEvaluator(Evaluator):
    """Completes each held-out prompt once. Prompts and draws depend on the seed alone."""

    def __init__(self, config: RunConfig, device: torch.device) -> None:
        self._begin(config)
        self._device = device
        self._task = find_task(config.env.id, config.env.kwargs)
        self._policies: dict[int, TokenPolicy] = {}
        """By seed of the draws."""

    def _score(
        self, snapshot: PolicySnapshot, episodes: int, seed: int, stop: Callable[[], bool]
    ) -> tuple[Score | None, Cost]:
        task = self._task
        if seed not in self._policies:
            self._policies[seed] = token_policy(self._config, task, self._device, temperature=1.0, seed=seed)
        policy = self._policies[seed]
        policy.load(snapshot)
        prompt = eval_prompts(task, seed, episodes)
        returns: list[float] = []
        lengths: list[int] = []
        cost = Cost(calls=0, env_steps=0)
        rows = self._config.evaluation.rows
        for first in range(0, episodes, rows):
            if stop():
                return None, cost
            part = prompt[first : first + rows]
            made = policy.generate(part, first)
            tokens = made.mask.sum(-1)
            cost += made.cost + Cost(env_steps=int(tokens.sum()))
            returns += task.reward(part, made.response).tolist()
            lengths += tokens.tolist()
        mean = math.fsum(returns) / episodes
        score = Score(
            mean_return=mean,
            interval=wilson(mean, episodes),
            returns=tuple(returns),
            lengths=tuple(lengths),
            epsilon=self._protocol.eval_epsilon,
            protocol=self._protocol.name,
            actions="sampled",
        )
        return score, cost


def wilson(share: float, n: int) -> tuple[float, float]:
    """95 % interval of a probability of which ``n`` draws gave this share (Wilson 1927); never of width 0."""
    z2 = _Z * _Z
    middle = share + z2 / (2 * n)
    half = _Z * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, (middle - half) / (1 + z2 / n)), min(1.0, (middle + half) / (1 + z2 / n))
