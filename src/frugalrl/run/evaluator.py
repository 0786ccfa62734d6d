"""Evaluation at a fixed cadence, with its own bill line and a warning when it costs too much."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import torch

from frugalrl.cost.meters import LapTimer
from frugalrl.envs import named_protocol
from frugalrl.nets.gpu import grown
from frugalrl.run.assemble import Build, acting_policy, forward_cost, plays_with
from frugalrl.run.config import RunConfig
from frugalrl.run.evaluate import Score, evaluate
from frugalrl.types import Cost, EnvSpec, PolicySnapshot, StateDict


class Evaluator:
    """Scores snapshots; remembers when the next score is due."""

    def __init__(self, config: RunConfig, spec: EnvSpec, build: Build, device: torch.device) -> None:
        self._begin(config)
        self._policy = acting_policy(config, build, device)
        self._forward = forward_cost(
            build().eval(), spec, self._policy.weight_bytes, min(config.evaluation.rows, self.episodes)
        )

    def _begin(self, config: RunConfig) -> None:
        self._config = config
        self._protocol = named_protocol(config.env.protocol)
        self.next_step = config.evaluation.every_env_steps
        self.last: Score | None = None
        self.last_step: int | None = None

    @property
    def episodes(self) -> int:
        """Episodes of one evaluation while training."""
        return self._config.evaluation.episodes or self._protocol.eval_episodes

    def due(self, env_steps: int) -> bool:
        return env_steps >= self.next_step

    def run(
        self,
        snapshot: PolicySnapshot,
        env_steps: int,
        *,
        episodes: int | None = None,
        seed: int | None = None,
        stop: Callable[[], bool] = lambda: False,
        timer: LapTimer | None = None,
    ) -> tuple[Score | None, Cost]:
        """Score a snapshot; None when ``stop`` cut it short, so that it is done again later.

        The cost holds native threads and counts, not the calling thread's own time: that is a lap of its ``timer``.
        Without one, ``cpu_s`` of the score is what the whole process used meanwhile.
        """
        settings = self._config.evaluation
        before = time.process_time() if timer is None else timer.cpu_s("evaluation")
        score, cost = self._score(snapshot, episodes or self.episodes, settings.seed if seed is None else seed, stop)
        if timer is None:
            cpu_s = time.process_time() - before
        else:  # an engine may sample in a thread of its own meanwhile, which the clock of the process counts
            timer.lap("evaluation")
            cpu_s = timer.cpu_s("evaluation") - before + (cost.cpu_s or 0.0)
        if score is None:
            return None, cost
        self.last, self.last_step = replace(score, cpu_s=cpu_s), env_steps
        while self.next_step <= env_steps:
            self.next_step += settings.every_env_steps
        return self.last, cost

    def _score(
        self, snapshot: PolicySnapshot, episodes: int, seed: int, stop: Callable[[], bool]
    ) -> tuple[Score | None, Cost]:
        self._policy.load(snapshot)
        env, gpu_s = self._config.env, self._policy.gpu_s
        score, cost = evaluate(
            plays_with(self._policy),
            env.id,
            self._protocol,
            episodes=episodes,
            rows=self._config.evaluation.rows,
            seed=seed,
            threads=env.threads,
            env_kwargs=env.kwargs,
            actions=self._config.evaluation.actions,
            stop=stop,
        )
        calls = cost.calls or 0
        cost = replace(
            cost,
            flop=calls * (self._forward.flop or 0.0),
            bytes_min=calls * (self._forward.bytes_min or 0.0),
            gpu_s=grown(gpu_s, self._policy.gpu_s),
        )
        return score, cost

    def state_dict(self) -> StateDict:
        last = self.last
        return {
            "next_step": self.next_step,
            "last_step": self.last_step,
            "last": None if last is None else score_to_json(last),
        }

    def load_state_dict(self, state: StateDict) -> None:
        self.next_step, self.last_step = state["next_step"], state["last_step"]
        last = state["last"]
        self.last = None if last is None else score_from_json(last)


def score_to_json(score: Score) -> StateDict:
    """A score as JSON holds it."""
    return {
        "mean_return": score.mean_return,
        "interval": None if score.interval is None else list(score.interval),
        "episodes": score.episodes,
        "protocol": score.protocol,
        "epsilon": score.epsilon,
        "actions": score.actions,
        "returns": list(score.returns),
        "lengths": list(score.lengths),
        "cpu_s": score.cpu_s,
    }


def score_from_json(data: StateDict) -> Score:
    """The inverse of ``score_to_json``."""
    return Score(
        mean_return=data["mean_return"],
        interval=None if data["interval"] is None else (data["interval"][0], data["interval"][1]),
        returns=tuple(data["returns"]),
        lengths=tuple(data["lengths"]),
        epsilon=data["epsilon"],
        protocol=data["protocol"],
        cpu_s=data["cpu_s"],
        actions=data.get("actions", "greedy"),  # scores of earlier versions do not say
    )
