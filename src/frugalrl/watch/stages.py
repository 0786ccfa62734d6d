"""Where the pictures of a game come from.

- Atari under an ``ale`` protocol: a second emulator that plays the same actions from the same seeds and shows its own
  colours; it must answer with the same rewards and ends, step by step.
- other Gymnasium environments: their own ``rgb_array``, where it works.
- everything else, MinAtar and the toys among them: the observation itself, drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from frugalrl.envs import Protocol as EnvProtocol
from frugalrl.envs import RowEnv
from frugalrl.envs.atari import make_atari, native_screen
from frugalrl.envs.lookup import find_env, quiet
from frugalrl.envs.rows import say_error
from frugalrl.run.last_policy import LastPolicy
from frugalrl.types import RunFailed, Step, UserError
from frugalrl.watch.drawings import draw_observation

Picture = NDArray[np.uint8]
SPEED = 10.0
"""Steps per second of an environment that says nothing of its own."""


class Stage(Protocol):
    """Follows the environment that is played, and shows it."""

    shows: str
    """In words."""
    steps_per_s: float
    """Agent steps per second at the speed a human would see."""

    def reset(self, seed: int) -> None:
        """The environment stands at the first observation of the episode with this seed."""

    def follow(self, action: int, step: Step) -> None:
        """The environment took this action and answered with ``step``."""

    def picture(self, obs: NDArray[Any]) -> Picture:
        """[H, W, 3] of the place where the environment stands; ``obs`` is its observation."""

    def close(self) -> None: ...


class SecondEmulator:
    """Colours of an Atari game at its own size, from a second emulator in lockstep with the one that is played."""

    shows = "RGB frames of a second emulator in lockstep"

    def __init__(self, env_id: str, protocol: EnvProtocol) -> None:
        found = find_env(env_id)
        coloured = replace(protocol, grayscale=False, frame_stack=1)
        with quiet():
            self._env = make_atari(found, coloured, num_rows=1, threads=1, training=False, screen=native_screen(found))
        self.steps_per_s = 60.0 / (protocol.frame_skip or 1)
        self._obs: Any = None
        self._where = (0, 0)

    def reset(self, seed: int) -> None:
        each: Any = np.array([seed])
        self._obs, _ = self._env.reset(seed=each)
        self._where = seed, 0

    def follow(self, action: int, step: Step) -> None:
        """Raises RunFailed when the two emulators part: the picture would be of another game."""
        self._obs, reward, terminated, truncated, _ = self._env.step(np.array([action]))
        seed, count = self._where = self._where[0], self._where[1] + 1
        theirs = float(reward[0]), bool(terminated[0] | truncated[0])
        ours = float(step.reward[0]), bool(step.last[0])
        if theirs != ours:
            raise RunFailed(
                f"the second emulator, which shows the colours, parted from the first at step {count} of the episode "
                f"with seed {seed}: reward and end {theirs} instead of {ours}"
            )

    def picture(self, obs: NDArray[Any]) -> Picture:
        image: Picture = self._obs[0, -1]
        return image

    def close(self) -> None:
        self._env.close()


class Rendered:
    """What the environment itself renders as ``rgb_array``."""

    shows = "the environment's own rgb_array"

    def __init__(self, render: Callable[[], Any], steps_per_s: float) -> None:
        self._render = render
        self.steps_per_s = steps_per_s

    def reset(self, seed: int) -> None: ...

    def follow(self, action: int, step: Step) -> None: ...

    def picture(self, obs: NDArray[Any]) -> Picture:
        """Raises RunFailed when the environment cannot render any more."""
        try:
            with quiet():
                return as_picture(self._render())
        except Exception as error:
            raise RunFailed(f"rendering the environment failed with {say_error(error)}") from error

    def close(self) -> None: ...


class Observed:
    """The observation, drawn."""

    shows = "the observation"

    def __init__(self, board: tuple[int, int] | None, steps_per_s: float = SPEED) -> None:
        self._board = board
        self.steps_per_s = steps_per_s
        self._num_indices: int | None = None

    @classmethod
    def of(cls, env: RowEnv) -> Observed:
        """For an environment; a toy's own board is known, and the speed that an environment says of itself."""
        fps = (getattr(env.inner, "metadata", None) or {}).get("render_fps")
        stage = cls(getattr(getattr(env.inner, "rules", None), "board", None), float(fps or SPEED))
        stage._num_indices = env.spec.num_indices
        return stage

    def reset(self, seed: int) -> None: ...

    def follow(self, action: int, step: Step) -> None: ...

    def picture(self, obs: NDArray[Any]) -> Picture:
        return draw_observation(obs, board=self._board, num_indices=self._num_indices)

    def close(self) -> None: ...


def open_stage(last: LastPolicy, seed: int) -> tuple[RowEnv, Stage, str | None]:
    """The run's environment with one row, its pictures, and a sentence when they are not what they could be."""
    if last.protocol.suite == "ale":
        return last.env(rows=1, seed=seed), SecondEmulator(last.config.env.id, last.protocol), None
    env = last.env(rows=1, seed=seed)
    metadata = getattr(env.inner, "metadata", None) or {}
    if last.protocol.suite == "minatar" or "rgb_array" not in metadata.get("render_modes", ()):
        return env, Observed.of(env), None
    env.close()
    return _rendered(last, seed, float(metadata.get("render_fps") or SPEED))


def _rendered(last: LastPolicy, seed: int, steps_per_s: float) -> tuple[RowEnv, Stage, str | None]:
    config = last.config
    shown = replace(config, env=replace(config.env, kwargs={**config.env.kwargs, "render_mode": "rgb_array"}))
    try:
        env = replace(last, config=shown).env(rows=1, seed=seed)
        stage = Rendered(env.inner.render, steps_per_s)
        env.reset()
        stage.picture(np.zeros(0))
        return env, stage, None
    except (RunFailed, UserError) as error:
        env = last.env(rows=1, seed=seed)
        return env, Observed.of(env), f"{error}; the observation is drawn instead"


def as_picture(image: Any) -> Picture:
    """A rendered image as uint8 [H, W, 3]. Raises ValueError for anything else."""
    array = np.asarray(image)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8:
        raise ValueError(f"rgb_array has shape {array.shape} and dtype {array.dtype}, not uint8 [height, width, 3]")
    return array
