"""Atari games through ale-py's native vector environment, every argument set from the protocol.

Its two dangerous defaults are off: ``reward_clipping`` (scores read from it would be clipped; we clip after recording)
and ``episodic_life`` (it restarts the whole game). A life loss is read from ``info["lives"]``.
"""

from __future__ import annotations

import importlib
from typing import Any

from gymnasium.vector import AutoresetMode, VectorEnv

from frugalrl.envs.lookup import Found
from frugalrl.envs.protocols import Protocol


def make_atari(
    found: Found,
    protocol: Protocol,
    *,
    num_rows: int,
    threads: int,
    training: bool,
    life_loss_info: bool = False,
    autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP,
) -> VectorEnv[Any, Any, Any]:
    """The vector environment of a game under an ``ale`` protocol.

    A seeded reset loads the game again, which takes about 100 ms of CPU: it is the price of an own seed per episode.
    """
    assert found.spec is not None
    limit = protocol.step_limit(training=training)
    frame_skip = protocol.frame_skip or 1
    vector_class = importlib.import_module("ale_py.vector_env").AtariVectorEnv
    env: VectorEnv[Any, Any, Any] = vector_class(
        found.spec.kwargs["game"],
        num_rows,
        batch_size=0,
        num_threads=min(threads, num_rows),
        thread_affinity_offset=-1,
        # The limit counts the frames of agent steps, not those of no-ops; 2**30 frames are 200 days of play.
        max_num_frames_per_episode=2**30 if limit is None else limit * frame_skip,
        repeat_action_probability=protocol.sticky_probability,
        full_action_space=protocol.full_action_space,
        continuous=False,
        autoreset_mode=autoreset_mode,
        img_height=protocol.screen_size,
        img_width=protocol.screen_size,
        grayscale=protocol.grayscale,
        stack_num=protocol.frame_stack,
        frameskip=frame_skip,
        maxpool=protocol.max_pool,
        noop_max=protocol.noop_max,
        episodic_life=False,
        life_loss_info=life_loss_info,
        reward_clipping=False,
        use_fire_reset=protocol.fire_reset,
    )
    return env
