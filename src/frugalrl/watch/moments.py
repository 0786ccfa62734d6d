"""Episodes of a policy, moment by moment: the same actions that an evaluation with one row takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frugalrl.envs import RowEnv, episode_seed
from frugalrl.math.explore import Actions, evaluated
from frugalrl.policies.sequence import SequencePolicy
from frugalrl.policies.value import ValuePolicy
from frugalrl.run.assemble import plays_with
from frugalrl.sampling.row_policy import row_policy
from frugalrl.sampling.streams import RowStreams
from frugalrl.types import RunFailed
from frugalrl.watch.readings import Reader
from frugalrl.watch.stages import Stage


@dataclass(frozen=True, slots=True)
class Moment:
    """What one frame shows."""

    picture: NDArray[np.uint8]
    """[H, W, 3]"""
    episode: int
    """From 0."""
    step: int
    """Agent steps taken in this episode before this moment."""
    return_so_far: float
    """Raw return of those steps."""
    bars: NDArray[Any] | None = None
    """[A], Q-values or probabilities at the observation in the picture; None when nothing is chosen any more."""
    point: float | None = None
    """Of the curve; None when nothing is chosen any more."""
    action: int | None = None
    explored: bool = False
    """The action is one of the protocol's random ones."""
    ended: str | None = None
    """``game over``, ``time limit`` or ``cut``; the last moment of an episode."""


def play(
    policy: ValuePolicy | SequencePolicy,
    reader: Reader,
    env: RowEnv,
    stage: Stage,
    *,
    epsilon: float,
    seed: int,
    episodes: int,
    max_steps: int,
    clip_reward: bool = False,
    actions: Actions = "greedy",
) -> Iterator[Moment]:
    """Play whole episodes in ``env`` (one row, made with ``seed``), at most ``max_steps`` agent steps in all.

    Actions, draws, episode seeds and what is remembered are those of ``run.evaluate`` with one row and the same seed.
    ``clip_reward``: of the protocol, see `row_policy`. Raises RunFailed when the network has diverged, and what the
    environment and the stage raise.
    """
    player = row_policy(plays_with(policy), 1, clip_reward=clip_reward)
    eps, streams = np.array([epsilon]), RowStreams(seed, 1)
    ignored = np.zeros(1, np.int64)
    played = 0
    now = env.reset()
    for episode in range(episodes):
        if episode > 0:
            streams.next()  # an evaluation draws for the row between two episodes, too
            now = env.step(ignored)
        player.arrive(now)
        stage.reset(episode_seed(seed, 0, episode))
        total, length = 0.0, 0
        while not now.last[0]:
            if played == max_steps:
                yield Moment(stage.picture(now.obs[0]), episode, length, total, ended="cut")
                return
            before = player.state
            preferences = player.values(now.obs)
            try:
                choice = evaluated(actions, preferences, eps, streams.next())
            except FloatingPointError as error:
                raise RunFailed(f"the policy cannot be played: {error}") from error
            action = int(choice.action[0])
            bars, point = reader.read(now.obs, preferences, before)
            picture, explored = stage.picture(now.obs[0]), bool(choice.explored[0])
            yield Moment(picture, episode, length, total, bars, point, action, explored)
            player.acted(choice.action)
            now = env.step(choice.action)
            player.arrive(now)
            stage.follow(action, now)
            total += float(now.reward[0])
            length, played = length + 1, played + 1
        (done,) = now.episodes
        ended = "time limit" if done.truncated else "game over"
        yield Moment(stage.picture(now.obs[0]), episode, done.length, done.raw_return, ended=ended)
