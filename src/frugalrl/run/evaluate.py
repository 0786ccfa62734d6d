"""The score: the evaluated policy on separate environments, full episodes, raw reward."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from frugalrl.cost.meters import NativeThreads
from frugalrl.envs import Protocol, make_env
from frugalrl.math.explore import Actions, evaluated
from frugalrl.policies.sequence import SequencePolicy
from frugalrl.sampling.row_policy import QValues, row_policy
from frugalrl.sampling.streams import RowStreams
from frugalrl.types import Cost


@dataclass(frozen=True, slots=True)
class Score:
    """The outcome of an evaluation."""

    mean_return: float
    interval: tuple[float, float] | None
    """95 % percentile-bootstrap interval of the mean over episodes; None for a single episode. Of shares of right
    answers: Wilson's."""
    returns: tuple[float, ...]
    lengths: tuple[int, ...]
    epsilon: float
    """Share of random actions; 0 where actions are sampled."""
    protocol: str
    cpu_s: float | None = None
    actions: Actions = "greedy"

    @property
    def episodes(self) -> int:
        return len(self.returns)


def evaluate(
    policy: QValues | SequencePolicy,
    env_id: str,
    protocol: Protocol,
    *,
    episodes: int,
    rows: int,
    seed: int,
    threads: int = 1,
    env_kwargs: Mapping[str, Any] | None = None,
    actions: Actions = "greedy",
    stop: Callable[[], bool] = lambda: False,
) -> tuple[Score | None, Cost]:
    """Play ``episodes`` full episodes, greedy but for the protocol's evaluation epsilon, or by sampling from a policy.

    Each row plays a fixed share of the episodes, so that short episodes are not over-represented. Returns the score,
    None when ``stop`` said so before the end, and the cost apart from the calling thread's own time.
    """
    rows = min(rows, episodes)
    env = make_env(
        env_id, protocol=protocol, num_rows=rows, seed=seed, threads=threads, env_kwargs=env_kwargs, training=False
    )
    quota = [episodes // rows + (row < episodes % rows) for row in range(rows)]
    done: list[list[tuple[float, int]]] = [[] for _ in range(rows)]
    streams = RowStreams(seed, rows)
    eps = np.full(rows, protocol.eval_epsilon)
    threads_clock = NativeThreads("evaluation", env.thread_ids)
    calls = steps = 0
    try:
        step = env.reset()
        player = row_policy(policy, rows, clip_reward=protocol.clip_reward)
        player.arrive(step)
        missing = episodes
        while missing and not stop():
            action = evaluated(actions, player.values(step.obs), eps, streams.next()).action
            player.acted(action)
            step = env.step(action)
            player.arrive(step)
            calls += 1
            steps += int(np.count_nonzero(step.valid))
            for episode in step.episodes:
                if len(done[episode.row]) < quota[episode.row]:
                    done[episode.row].append((episode.raw_return, episode.length))
                    missing -= 1
        frames = steps * env.spec.frames_per_step
        cost = Cost(calls=calls, env_steps=steps, frames=frames) + threads_clock.take()
    finally:
        env.close()
    if missing:
        return None, cost
    return _score([e for row in done for e in row], protocol, seed, actions), cost


def _score(played: Sequence[tuple[float, int]], protocol: Protocol, seed: int, actions: Actions) -> Score:
    """Of (return, length) of each episode."""
    returns = tuple(r for r, _ in played)
    return Score(
        mean_return=math.fsum(returns) / len(returns),
        interval=bootstrap_mean(np.array(returns), np.random.default_rng(seed)),
        returns=returns,
        lengths=tuple(n for _, n in played),
        epsilon=protocol.eval_epsilon if actions == "greedy" else 0.0,
        protocol=protocol.name,
        actions=actions,
    )


def bootstrap_mean(
    values: np.ndarray[Any, Any], rng: np.random.Generator, reps: int = 2_000, level: float = 0.95
) -> tuple[float, float] | None:
    """Percentile-bootstrap interval of the mean; None when there are fewer than two values."""
    if len(values) < 2:
        return None
    means = values[rng.integers(len(values), size=(reps, len(values)))].mean(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
