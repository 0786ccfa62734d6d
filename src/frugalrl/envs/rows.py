"""``RowEnv``: environment rows behind one interface, with seeds, ends, returns and exact replay kept per row.

The two ways to step (``python_rows``, ``vector_rows``) only say how raw observations, rewards and ends are obtained;
what they mean is written once, here:

- terminated: discount 0, last. Time limit: discount 1, last. Both at once: discount 0, last.
- a life lost while the game goes on, where the protocol says so: discount 0, not last.
- after ``last`` comes one row with valid False that leads to the first observation of the next episode.
- row b starts its episode k from ``episode_seed(seed, first_row + b, first_episode + k)``, whatever the agent does.
"""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from frugalrl.envs.action_record import ActionRecord
from frugalrl.envs.finite import unfit_obs, unfit_reward
from frugalrl.envs.protocols import Protocol
from frugalrl.envs.spaces import ObsCodec
from frugalrl.types import EnvFailed, EnvSpec, Episode, RunFailed, StateDict, Step

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


def episode_seed(seed: int, row: int, episode: int) -> int:
    """Seed in [0, 2**31) of a row's episode, from ``numpy.random.SeedSequence([seed, row, episode])``."""
    return int(np.random.SeedSequence([seed, row, episode]).generate_state(1)[0]) & 0x7FFFFFFF


def native_threads() -> frozenset[int]:
    """Thread ids of this process; empty where the system does not list them."""
    try:
        return frozenset(int(name) for name in os.listdir("/proc/self/task"))
    except OSError:
        return frozenset()


def obs_hash(obs: NDArray[Any]) -> str:
    """128-bit BLAKE2b of one observation, as hex."""
    return blake2b(np.ascontiguousarray(obs).tobytes(), digest_size=16).hexdigest()


def say_error(error: BaseException) -> str:
    """Type and message on one line, without the final full stop."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(".: ")


@dataclass(frozen=True, slots=True)
class Restored:
    """Where the rows stand after ``load_state_dict``."""

    step: Step
    """The step they stood at when saved, without its episodes. Rows in ``not_restored`` have valid False."""
    not_restored: tuple[int, ...]
    """Rows whose replay gave another observation. Their next step ignores the action and starts a new episode
    (valid False), so no transition leads out of the observation they stood at."""


class Raw(NamedTuple):
    """All rows after one step, as the environment says it. Rows that were just reset have reward 0 and no end."""

    obs: NDArray[Any]
    """[B, *obs_shape], translated, never overwritten later."""
    reward: NDArray[Any]
    """[B], unclipped."""
    terminated: Bools
    truncated: Bools
    lives: Ints | None


@dataclass(frozen=True, slots=True)
class _Mark:
    """How the rows stood. What is replaced and never written to is held, what is changed in place is copied."""

    now: Step
    episode: Ints
    episode_seed: Ints
    length: Ints
    raw_return: NDArray[np.float64]
    lives: Ints | None
    dead: Bools


def _constant(size: int, value: float | bool, dtype: type) -> NDArray[Any]:
    array: NDArray[Any] = np.full(size, value, dtype)
    array.flags.writeable = False
    return array


class RowEnv(ABC):
    """B rows of one environment under one protocol."""

    spec: EnvSpec
    num_rows: int
    protocol: Protocol
    thread_ids: tuple[int, ...]
    """Native threads that construction and the first reset made."""
    first_row: int = 0
    """Number of row 0 among all rows of a run, for seeds and in `Episode`; set before ``reset``."""
    first_episode: int = 0
    """Number of the first episode; set before ``reset``. Rows that are made again after a failure begin later, so that
    they do not play the same episodes."""

    def __init__(
        self,
        *,
        spec: EnvSpec,
        codec: ObsCodec,
        protocol: Protocol,
        num_rows: int,
        seed: int,
        training: bool,
        threads_before: frozenset[int],
    ) -> None:
        self.spec, self.protocol, self.num_rows, self.seed, self.training = spec, protocol, num_rows, seed, training
        self._codec = codec
        self._clip = training and protocol.clip_reward
        self._life_loss = training and protocol.life_loss_ends_return
        self._limit = protocol.step_limit(training=training) or sys.maxsize
        self._yes = _constant(num_rows, True, np.bool_)
        self._no = _constant(num_rows, False, np.bool_)
        self._one = _constant(num_rows, 1.0, np.float32)
        self._episode = np.full(num_rows, -1, np.int64)
        self._episode_seed = np.zeros(num_rows, np.int64)
        self._length = np.zeros(num_rows, np.int64)
        self._return = np.zeros(num_rows, np.float64)
        self._lives: Ints | None = None
        self._dead = np.zeros(num_rows, np.bool_)
        self._any_dead = False
        self._record = ActionRecord(num_rows)
        self._longest = 0
        self._now: Step | None = None
        self._mark: _Mark | None = None
        self._threads_made = native_threads() - threads_before
        self.thread_ids = tuple(sorted(self._threads_made))

    # ------------------------------------------------------------------ what an adapter provides

    @abstractmethod
    def _reset_all(self, seeds: Ints) -> tuple[NDArray[Any], Ints | None]:
        """Resets every row with its own seed -> observations, lives."""

    @abstractmethod
    def _advance(self, action: Ints, dead: Bools | None) -> Raw:
        """Steps the living rows; resets the ``dead`` ones with ``self._episode_seed``, which is already the new one."""

    @abstractmethod
    def _replay(self, seeds: Ints, actions: Sequence[NDArray[np.int32]]) -> NDArray[Any]:
        """Brings each row to where these actions lead from its seed -> observations [B, *obs_shape]."""

    @property
    @abstractmethod
    def inner(self) -> Any:
        """The Gymnasium environment of row 0, or the vector environment of all rows: to look at, not to step."""

    @abstractmethod
    def close(self) -> None:
        """Frees the environment; harmless when called twice."""

    # ------------------------------------------------------------------ stepping

    def reset(self) -> Step:
        """Starts the first episode of every row; a second call starts the same episodes again. valid is all False."""
        before = native_threads()
        self._episode[:] = self.first_episode - 1
        self._begin(np.ones(self.num_rows, np.bool_))
        obs, self._lives = self._reset_all(self._episode_seed)
        self._dead = self._no
        self._any_dead = False
        self._threads_made |= native_threads() - before
        self.thread_ids = tuple(sorted(self._threads_made))
        self._check_obs(obs)
        zero = np.zeros(self.num_rows, np.float32)
        self._now = Step(obs=obs, reward=zero, discount=self._one, last=self._no, valid=self._no)
        return self._now

    def step(self, action: NDArray[np.int64]) -> Step:
        """Steps all rows. ``action`` [B] int64 in [0, num_actions); ignored for rows whose last step was ``last``.

        Arrays of the returned Step are never written to again and may be shared; do not write to them.

        Raises:
            EnvFailed: the environment raised, or gave NaN, an infinite reward or a wrong shape. After ``roll_back``
                the rows can be saved as they stood at the last ``mark``.
        """
        if self._now is None:
            raise RuntimeError("call reset() before step()")
        action = np.asarray(action, np.int64)
        if action.shape != (self.num_rows,):
            raise ValueError(f"action has shape {action.shape}, not ({self.num_rows},)")
        self._record.put(self._length, self._longest, action)
        if self._any_dead:
            self._now = self._step_and_reset(action)
        else:
            self._length += 1
            self._longest += 1
            raw = self._advance(action, None)
            self._now = self._interpret(raw, self._yes)
        return self._now

    def _step_and_reset(self, action: Ints) -> Step:
        dead = self._dead
        self._begin(dead)
        valid = ~dead
        self._length += valid
        self._longest = int(self._length.max())
        raw = self._advance(action, dead)
        if self._lives is not None and raw.lives is not None:
            self._lives = np.where(dead, raw.lives, self._lives)
        return self._interpret(raw, valid)

    def _begin(self, rows: Bools) -> None:
        for row in np.flatnonzero(rows):
            self._record.begin(int(row))
            self._episode[row] += 1
            self._episode_seed[row] = episode_seed(self.seed, self.first_row + int(row), int(self._episode[row]))
        self._length[rows] = 0
        self._return[rows] = 0.0
        self._longest = int(self._length.max())

    def _interpret(self, raw: Raw, valid: Bools) -> Step:
        reward = raw.reward
        if (row := unfit_reward(reward)) is not None:
            raise self._failed(row, f"it gave the reward {reward[row]}, which is no finite number in float32")
        self._check_obs(raw.obs)
        self._return += reward
        late = self._longest >= self._limit
        truncated = raw.truncated | (self._length >= self._limit) if late else raw.truncated
        last = raw.terminated | truncated
        lost = None
        if self._lives is not None and raw.lives is not None:
            lost = raw.lives < self._lives
            self._lives = raw.lives
        discount: NDArray[np.float32] = self._one
        episodes: tuple[Episode, ...] = ()
        self._any_dead = bool(np.count_nonzero(last))
        self._dead = last
        if self._any_dead:
            discount = (~raw.terminated).astype(np.float32)
            episodes = self._ended(last, raw.terminated)
        if lost is not None and lost.any():
            discount = np.where(lost, np.float32(0.0), discount)
        return Step(
            obs=raw.obs,
            reward=(reward.clip(-1.0, 1.0) if self._clip else reward).astype(np.float32),
            discount=discount,
            last=last,
            valid=valid,
            episodes=episodes,
        )

    def _ended(self, last: Bools, terminated: Bools) -> tuple[Episode, ...]:
        return tuple(
            Episode(
                row=self.first_row + int(row),
                seed=int(self._episode_seed[row]),
                raw_return=float(self._return[row]),
                length=int(self._length[row]),
                truncated=not terminated[row],
            )
            for row in np.flatnonzero(last)
        )

    def _check_obs(self, obs: NDArray[Any]) -> None:
        if (row := unfit_obs(obs)) is not None:
            raise self._failed(row, f"its observation holds {'NaN' if np.isnan(obs[row]).any() else 'infinity'}")

    def _failed(self, row: int | None, cause: str) -> EnvFailed:
        if row is None and self.num_rows == 1:
            row = 0
        if row is None:
            first, final = self.first_row, self.first_row + self.num_rows - 1
            where = f"rows {first} to {final}, steps {self._length.tolist()} of their episodes"
        else:
            number, begun_with = self.first_row + row, int(self._episode_seed[row])
            where = f"row {number}, step {int(self._length[row])} of the episode with seed {begun_with}"
        return EnvFailed(f"Environment {self.spec.id}, {where}: {cause}.")

    # ------------------------------------------------------------------ saving and coming back

    def mark(self) -> None:
        """Remember how the rows stand, so that a failure in a later step does not cost the run its state."""
        self._mark = _Mark(
            self._require_now(),
            self._episode.copy(),
            self._episode_seed.copy(),
            self._length.copy(),
            self._return.copy(),
            self._lives,
            self._dead,
        )
        self._record.mark(self._mark.length)

    def roll_back(self) -> None:
        """Stand at the last ``mark`` again, for ``state_dict`` only: the environment itself cannot be stepped back."""
        mark = self._mark
        if mark is None:
            raise RuntimeError("call mark() first")
        self._now, self._lives, self._dead = mark.now, mark.lives, mark.dead
        self._episode, self._episode_seed = mark.episode, mark.episode_seed
        self._length, self._return = mark.length, mark.raw_return
        self._record.roll_back()

    def state_dict(self) -> StateDict:
        """What is needed to come back to this step: per row the episode's seed and the actions since, and the hash of
        the observation it must lead to. Of an episode too long to replay, no action. Arrays are copies."""
        now = self._require_now()
        length, actions = self._record.saved(self._length)
        return {
            "env_id": self.spec.id,
            "protocol": self.protocol.name,
            "seed": self.seed,
            "episode": self._episode.copy(),
            "episode_seed": self._episode_seed.copy(),
            "length": length,
            "raw_return": self._return.copy(),
            "lives": np.zeros(0, np.int64) if self._lives is None else self._lives.astype(np.int64),
            "dead": self._dead.copy(),
            "actions": actions,
            "obs_hash": [obs_hash(now.obs[b]) for b in range(self.num_rows)],
            "reward": np.array(now.reward),
            "discount": np.array(now.discount),
            "last": np.array(now.last),
            "valid": np.array(now.valid),
        }

    def load_state_dict(self, state: StateDict) -> Restored:
        """Replays every row from its seed and compares the hash of the observation.

        Raises:
            RunFailed: the state belongs to other rows.
            EnvFailed: the environment fails while replaying.
        """
        self._check_state(state)
        self.seed = int(state["seed"])
        self._episode = np.array(state["episode"], np.int64)
        self._episode_seed = np.array(state["episode_seed"], np.int64)
        self._length = np.array(state["length"], np.int64)
        self._return = np.array(state["raw_return"], np.float64)
        self._dead = np.array(state["dead"], np.bool_)
        self._lives = np.asarray(state["lives"]) if len(state["lives"]) else None
        self._longest = int(self._length.max())
        parts = self._record.load(self._length, np.asarray(state["actions"], np.int32))
        obs = self._replay(self._episode_seed, parts)
        lost = [b for b in range(self.num_rows) if obs_hash(obs[b]) != state["obs_hash"][b]]
        self._dead[lost] = True
        self._any_dead = bool(self._dead.any())
        valid = np.array(state["valid"], np.bool_)
        valid[lost] = False
        self._now = Step(
            obs=obs,
            reward=np.asarray(state["reward"], np.float32),
            discount=np.asarray(state["discount"], np.float32),
            last=np.asarray(state["last"], np.bool_),
            valid=valid,
        )
        return Restored(self._now, tuple(lost))

    def _check_state(self, state: StateDict) -> None:
        rows = len(state["length"])
        if state["env_id"] != self.spec.id or state["protocol"] != self.protocol.name or rows != self.num_rows:
            raise RunFailed(
                f"The saved environment is {state['env_id']} under {state['protocol']} with {rows} rows, but this one "
                f"is {self.spec.id} under {self.protocol.name} with {self.num_rows} rows; use the run's own settings."
            )
        if int(np.sum(state["length"])) != len(state["actions"]):
            raise RunFailed(f"The saved state of {self.spec.id} is damaged: its actions and lengths disagree.")

    def _require_now(self) -> Step:
        if self._now is None:
            raise RuntimeError("call reset() first")
        return self._now
