"""``watch_run``: the last policy of a run, played and filmed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from frugalrl.envs.meanings import action_meanings
from frugalrl.run.last_policy import last_policy
from frugalrl.watch.moments import Moment, play
from frugalrl.watch.panel import Panel
from frugalrl.watch.readings import reader_of
from frugalrl.watch.stages import open_stage
from frugalrl.watch.video import Written, plan_video, write_video


@dataclass(frozen=True, slots=True)
class Watched:
    """What was filmed."""

    video: Written
    returns: tuple[float, ...]
    """Raw returns of the finished episodes."""
    cut_return: float | None
    """Return so far of an episode that the limit of steps cut off; None without one."""
    env_steps: int
    """Agent step of the checkpoint."""
    fps: float
    shows: str
    """Where the pictures come from."""


def watch_run(
    folder: Path,
    video: Path,
    *,
    episodes: int = 1,
    seed: int | None = None,
    max_steps: int = 5_000,
    fps: float | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> Watched:
    """Play the last checkpoint as ``frugal eval`` does (protocol, evaluation epsilon, seeds) and write a video.

    Args:
        folder: of the run; only read.
        video: ``.mp4`` or ``.gif``; without an ffmpeg an ``.mp4`` becomes a ``.gif``, and ``note`` hears it.
        episodes: to play.
        seed: of the episodes; by default the run's evaluation seed, so that the first episode is also the first one
            of ``frugal eval``.
        max_steps: agent steps in all; what is longer is cut.
        fps: frames, which are agent steps, per second; by default as fast as the game is for a human.
        note: hears one sentence when something is not as it could be.

    Raises UserError and RunFailed; then no video is left behind.
    """
    path, instead = plan_video(video)
    last = last_policy(folder)
    for sentence in (*last.damaged, *([instead] if instead else ())):
        note(sentence)
    torch.set_num_threads(last.config.threads)
    seed = last.config.evaluation.seed if seed is None else seed
    env, stage, missing = open_stage(last, seed)
    try:
        if missing is not None:
            note(missing)
        policy = last.policy(env.spec)
        actions = last.config.evaluation.actions
        reader = reader_of(policy, actions)
        lines = (
            f"policy after {last.step:,} steps, protocol {last.protocol.name}",
            f"picture: {stage.shows}",
            f"bars: {reader.scale.bars}",
        )
        panel = Panel(env.spec.id, lines, action_meanings(env), reader.scale)
        ends: list[Moment] = []
        moments = play(
            policy, reader, env, stage, epsilon=last.protocol.eval_epsilon, seed=seed, episodes=episodes,
            max_steps=max_steps, clip_reward=last.protocol.clip_reward,
            actions=actions,
        )  # fmt: skip
        fps = fps or stage.steps_per_s
        written = write_video(_frames(moments, panel, ends), path, fps)
    finally:
        stage.close()
        env.close()
    cut = next((m.return_so_far for m in ends if m.ended == "cut"), None)
    returns = tuple(m.return_so_far for m in ends if m.ended != "cut")
    return Watched(written, returns, cut, last.step, written.fps, stage.shows)


def _frames(moments: Iterator[Moment], panel: Panel, ends: list[Moment]) -> Iterator[Image.Image]:
    for moment in moments:
        if moment.ended is not None:
            ends.append(moment)
        yield panel.draw(moment)
