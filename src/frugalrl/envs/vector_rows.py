"""``VectorRows``: a native Gymnasium vector environment whose rows can be seeded one by one.

What it needs of the environment (``AtariVectorEnv`` has it; any other says so with ``metadata["row_seeding"] = True``):
``reset(seed=seeds, options={"reset_mask": mask})`` with one seed per row that is reset, in row order, resets exactly
these rows and leaves the others, and their random streams, alone.

The environment's own autoreset would continue the row's random stream. So after ``last`` every row is stepped, what
the ended rows give is thrown away, and they are reset with their recorded seed. The same works for NEXT_STEP and
SAME_STEP; the latter hides the final observation in ``info["final_obs"]``.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from frugalrl.envs.answers import answers_of
from frugalrl.envs.closing import close_all
from frugalrl.envs.protocols import Protocol
from frugalrl.envs.rows import Bools, Ints, Raw, RowEnv, say_error
from frugalrl.envs.spaces import ObsCodec
from frugalrl.types import EnvFailed, EnvSpec, UserError


def autoreset_mode(env: VectorEnv[Any, Any, Any], env_id: str) -> AutoresetMode:
    """NEXT_STEP or SAME_STEP.

    Raises:
        UserError: the environment does not reset ended rows itself, or says nothing that can be understood.
    """
    said = env.metadata.get("autoreset_mode")
    try:
        mode = said if isinstance(said, AutoresetMode) else AutoresetMode(said)
    except ValueError:
        mode = AutoresetMode.DISABLED
    if mode is AutoresetMode.DISABLED:
        raise UserError(
            f"{env_id} has autoreset_mode {said!r} in its metadata, which is not supported; "
            f"use AutoresetMode.NEXT_STEP or AutoresetMode.SAME_STEP."
        )
    return mode


class VectorRows(RowEnv):
    """Rows of one native vector environment."""

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        *,
        spec: EnvSpec,
        codec: ObsCodec,
        first_action: int,
        protocol: Protocol,
        seed: int,
        training: bool,
        threads_before: frozenset[int],
        fresh_obs: bool = False,
    ) -> None:
        """``fresh_obs`` promises that the environment never writes again to an observation it has returned."""
        self._env = env
        self._mode = autoreset_mode(env, spec.id)
        if not _takes_reset_mask(env):
            raise UserError(f"{spec.id} cannot reset single rows: its reset() has no options; use its single version.")
        super().__init__(
            spec=spec,
            codec=codec,
            protocol=protocol,
            num_rows=int(env.num_envs),
            seed=seed,
            training=training,
            threads_before=threads_before,
        )
        self._first_action = first_action
        self._copy = not fresh_obs

    def _reset_all(self, seeds: Ints) -> tuple[NDArray[Any], Ints | None]:
        raw, info = self._reset_masked(np.ones(self.num_rows, np.bool_), seeds)
        return self._obs(raw), self._lives_in(info)

    def _reset_masked(self, mask: Bools, seeds: Ints) -> tuple[Any, dict[str, Any]]:
        each: Any = seeds[mask]
        options = None if mask.all() else {"reset_mask": mask}
        try:
            return self._env.reset(seed=each, options=options)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # as in PythonRows
            raise self._raised("resetting", error) from error

    def _advance(self, action: Ints, dead: Bools | None) -> Raw:
        if dead is not None and dead.all():
            obs, lives = self._reset_all(self._episode_seed)
            return Raw(obs, np.zeros(self.num_rows), self._no, self._no, lives)
        try:
            raw, gain, term, trunc, info = self._env.step(action + self._first_action)
            reward, terminated, truncated = answers_of(gain, term, trunc, self.num_rows)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # as in PythonRows
            raise self._raised("stepping", error) from error
        lives = self._lives_in(info)
        obs = self._obs(raw)
        if self._mode is AutoresetMode.SAME_STEP:
            obs = self._with_final(obs, info, terminated | truncated)
        if dead is None:
            return Raw(obs, reward, terminated, truncated, lives)
        raw, info = self._reset_masked(dead, self._episode_seed)
        obs = np.array(obs)
        obs[dead] = self._obs(raw)[dead]
        reset_lives = self._lives_in(info)
        if lives is not None and reset_lives is not None:
            lives = np.where(dead, reset_lives, lives)
        return Raw(obs, np.where(dead, 0, reward), terminated & ~dead, truncated & ~dead, lives)

    def _with_final(self, obs: NDArray[Any], info: dict[str, Any], ended: Bools) -> NDArray[Any]:
        if not ended.any():
            return obs
        if "final_obs" not in info:
            raise EnvFailed(f"Environment {self.spec.id} resets in the same step but gives no info['final_obs'].")
        obs = np.array(obs)
        for row in np.flatnonzero(ended):
            try:
                obs[row] = self._codec.one(info["final_obs"][row])
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # as in PythonRows
                raise self._raised("reading the final observation", error) from error
        return obs

    def _replay(self, seeds: Ints, actions: Sequence[NDArray[np.int32]]) -> NDArray[Any]:
        # All rows are stepped together, so a row with fewer actions starts later and all finish at once.
        lengths = np.array([len(a) for a in actions])
        horizon = int(lengths.max())
        starts = horizon - lengths
        plan = np.zeros((horizon, self.num_rows), np.int64)
        for row, part in enumerate(actions):
            plan[starts[row] :, row] = part
        obs, _ = self._reset_all(seeds)
        for time in range(horizon + 1):
            begins = starts == time
            if time > 0 and begins.any():
                raw, _ = self._reset_masked(begins, seeds)
                obs = np.array(obs)
                obs[begins] = self._obs(raw)[begins]
            if time < horizon:
                obs = self._advance(plan[time], None).obs
        return obs

    def _obs(self, raw: Any) -> NDArray[Any]:
        try:
            return self._codec.batch(raw, self.num_rows, copy=self._copy)
        except Exception as error:
            raise self._raised("reading its observations", error) from error

    def _lives_in(self, info: dict[str, Any]) -> Ints | None:
        if not self._life_loss:
            return None
        try:
            lives = info.get("lives")
            return None if lives is None else np.array(lives, np.int64)
        except Exception as error:
            raise self._raised("reading its lives", error) from error

    def _raised(self, doing: str, error: BaseException) -> EnvFailed:
        return self._failed(None, f"{doing} failed with {say_error(error)}")

    @property
    def inner(self) -> Any:
        """The vector environment."""
        return self._env

    def close(self) -> None:
        close_all([self._env], self.spec.id, "vector environments")


def _takes_reset_mask(env: VectorEnv[Any, Any, Any]) -> bool:
    parameters = inspect.signature(env.reset).parameters
    return "options" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
