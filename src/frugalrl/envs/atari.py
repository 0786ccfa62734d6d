"""Atari games through ale-py's native vector environment, every argument set from the protocol.

Its two dangerous defaults are off: ``reward_clipping`` (scores read from it would be clipped; we clip after recording)
and ``episodic_life`` (it restarts the whole game). A life loss is read from ``info["lives"]``.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import gymnasium as gym
from gymnasium.vector import AutoresetMode, VectorEnv

from frugalrl.envs.lookup import Found
from frugalrl.envs.protocols import Protocol
from frugalrl.types import UserError

_SKIPS = {"AtariPreprocessing": "frame_skip"}
"""Wrappers that step the emulator several times, and where each keeps how often; all others that are known to keep it
as ``_skip``: Gymnasium's ``MaxAndSkipObservation``, ``MaxAndSkipEnv`` of Baselines, Stable-Baselines3, Tianshou and
CleanRL."""


def make_atari(
    found: Found,
    protocol: Protocol,
    *,
    num_rows: int,
    threads: int,
    training: bool,
    screen: tuple[int, int] | None = None,
    life_loss_info: bool = False,
    autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP,
) -> VectorEnv[Any, Any, Any]:
    """The vector environment of a game under an ``ale`` protocol.

    ``screen``: height and width of an observation in pixels where they differ; by default the protocol's square.
    A seeded reset loads the game again, which takes about 100 ms of CPU: it is the price of an own seed per episode.
    """
    assert found.spec is not None
    limit = protocol.step_limit(training=training)
    frame_skip = protocol.frame_skip or 1
    height, width = screen or (protocol.screen_size, protocol.screen_size)
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
        img_height=height,
        img_width=width,
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


def frames_of(env: gym.Env[Any, Any], env_id: str) -> int:
    """Emulator frames per agent step of a single environment, whatever its id is; 1 where there is no emulator.

    Raises:
        UserError: the emulator skips a random number of frames, as the legacy ids such as ``Pong-v4`` do.
    """
    module = sys.modules.get("ale_py.env")  # whoever made one of its environments has imported it
    if module is None or not isinstance(env.unwrapped, module.AtariEnv):
        return 1
    skip: Any = env.unwrapped._frameskip
    if not isinstance(skip, int):
        raise UserError(
            f"{env_id} with frameskip={skip}: frames are counted, so give one number for all steps, as in "
            f"--env-kwargs frameskip=4, or use the game's ALE/ id."
        )
    layer = env
    while isinstance(layer, gym.Wrapper):
        times = vars(layer).get(_SKIPS.get(type(layer).__name__, "_skip"), 1)
        skip *= times if isinstance(times, int) and times > 1 else 1
        layer = layer.env
    return int(skip)


def native_screen(found: Found) -> tuple[int, int]:
    """Height and width of a game's own picture in pixels: (210, 160) for most."""
    assert found.spec is not None
    ale_py = importlib.import_module("ale_py")
    emulator = ale_py.ALEInterface()
    emulator.loadROM(importlib.import_module("ale_py.roms").get_rom_path(found.spec.kwargs["game"]))
    height, width = emulator.getScreenDims()
    return int(height), int(width)
