"""``PythonRows``: any list of single Gymnasium environments, stepped one after another in Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from frugalrl.envs.answers import answers_of, end_of, reward_of
from frugalrl.envs.closing import close_all
from frugalrl.envs.protocols import Protocol
from frugalrl.envs.rows import Bools, Ints, Raw, RowEnv, say_error
from frugalrl.envs.spaces import ObsCodec
from frugalrl.types import EnvFailed, EnvSpec

_Answer = tuple[Any, Any, Any, Any, Any]
"""Of one environment: observation, reward, terminated, truncated, info."""


class PythonRows(RowEnv):
    """Each row is one environment; a row whose episode ended is reset, with its next seed, on the next step."""

    def __init__(
        self,
        envs: Sequence[gym.Env[Any, Any]],
        *,
        spec: EnvSpec,
        codec: ObsCodec,
        first_action: int,
        protocol: Protocol,
        seed: int,
        training: bool,
        threads_before: frozenset[int],
    ) -> None:
        super().__init__(
            spec=spec,
            codec=codec,
            protocol=protocol,
            num_rows=len(envs),
            seed=seed,
            training=training,
            threads_before=threads_before,
        )
        self._envs = list(envs)
        self._first_action = first_action
        self._batch_shape = (self.num_rows, *codec.shape)

    def _reset_all(self, seeds: Ints) -> tuple[NDArray[Any], Ints | None]:
        obs = np.empty(self._batch_shape, self._codec.dtype)
        lives = np.zeros(self.num_rows, np.int64) if self._life_loss else None
        for row in range(self.num_rows):
            self._reset_row(row, int(seeds[row]), obs, lives)
        return obs, lives

    def _reset_row(self, row: int, seed: int, obs: NDArray[Any], lives: Ints | None) -> None:
        try:
            raw, info = self._envs[row].reset(seed=seed)
            obs[row] = self._codec.one(raw)
            if lives is not None:
                lives[row] = info.get("lives", 0)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # some library's sys.exit() must not end a run without a word
            raise self._raised(row, "resetting it", error) from error

    def _advance(self, action: Ints, dead: Bools | None) -> Raw:
        answers: list[_Answer] = []
        # numpy integers, as a Discrete space samples them: Gymnasium checks those faster than Python's
        for row, (env, act) in enumerate(zip(self._envs, action + self._first_action, strict=True)):
            resets = dead is not None and dead[row]
            try:
                if resets:
                    raw, info = env.reset(seed=int(self._episode_seed[row]))
                    answers.append((raw, 0.0, False, False, info))
                else:
                    raw, gain, term, trunc, info = env.step(act)
                    answers.append((raw, gain, term, trunc, info))
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                raise self._raised(row, "resetting it" if resets else "stepping it", error) from error
        if self._codec.kind == "image":
            return self._row_by_row(answers, dead)
        try:
            return self._at_once(answers)
        except Exception:
            return self._row_by_row(answers, dead)

    def _at_once(self, answers: Sequence[_Answer]) -> Raw:
        """All rows in one array each: half the cost of a row at a time where observations are small."""
        raws, rewards, terminated, truncated, infos = zip(*answers, strict=True)
        reward, term, trunc = answers_of(rewards, terminated, truncated, self.num_rows)
        lives = np.array([info.get("lives", 0) for info in infos], np.int64) if self._life_loss else None
        obs = self._codec.batch(raws, self.num_rows, copy=False)
        return Raw(obs, reward, term, trunc, lives)

    def _row_by_row(self, answers: Sequence[_Answer], dead: Bools | None) -> Raw:
        """The same, or an error that names the row."""
        rows = self.num_rows
        obs = np.empty(self._batch_shape, self._codec.dtype)
        reward = np.zeros(rows, np.float64)
        terminated, truncated = np.zeros(rows, np.bool_), np.zeros(rows, np.bool_)
        lives = np.zeros(rows, np.int64) if self._life_loss else None
        for row, (raw, gain, term, trunc, info) in enumerate(answers):
            try:
                obs[row] = self._codec.one(raw)
                reward[row] = reward_of(gain)
                terminated[row] = end_of("terminated", term)
                truncated[row] = end_of("truncated", trunc)
                if lives is not None:
                    lives[row] = info.get("lives", 0)
            except Exception as error:
                doing = "resetting it" if dead is not None and dead[row] else "stepping it"
                raise self._raised(row, doing, error) from error
        return Raw(obs, reward, terminated, truncated, lives)

    def _replay(self, seeds: Ints, actions: Sequence[NDArray[np.int32]]) -> NDArray[Any]:
        obs = np.empty(self._batch_shape, self._codec.dtype)
        for row, env in enumerate(self._envs):
            self._reset_row(row, int(seeds[row]), obs, None)
            final = len(actions[row]) - 1
            for count, act in enumerate(actions[row].astype(np.int64) + self._first_action):
                try:
                    raw, _, term, trunc, _ = env.step(act)
                    obs[row] = self._codec.one(raw)
                except KeyboardInterrupt:
                    raise
                except BaseException as error:
                    raise self._raised(row, "replaying it", error) from error
                if (term or trunc) and count < final:
                    break
        return obs

    def _raised(self, row: int, doing: str, error: BaseException) -> EnvFailed:
        return self._failed(row, f"{doing} failed with {say_error(error)}")

    @property
    def inner(self) -> Any:
        """The environment of row 0."""
        return self._envs[0]

    def close(self) -> None:
        close_all(self._envs, self.spec.id, "rows")
