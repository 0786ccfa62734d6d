"""The naive twin of the replay, and streams of rows with ends of every kind.

The twin keeps every episode whole, in Python lists, with the observations exactly as the environment gave them
(stacks and all), and answers which transitions can be drawn and what each of them holds. Its switches make it wrong in
the ways famous libraries were wrong; a test that cannot tell such a twin from the real one is blind.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from frugalrl.types import EnvSpec, Rows

GOES_ON, GAME_OVER, LIFE_LOST, TIME_LIMIT, BREAK, TIME_LIMIT_AND_LIFE = range(6)
"""What happens to an environment in one row. BREAK: it could not be brought back, so a new episode starts at once."""


@dataclass(frozen=True)
class Moment:
    """One row of one environment."""

    row: int
    obs: np.ndarray
    action: int
    reward: float
    discount: float
    last: bool
    log_mu: float
    version: int
    explored: bool


@dataclass(frozen=True)
class Wanted:
    """What a drawn transition must hold."""

    obs_tm1: np.ndarray
    a_tm1: int
    r_t: float
    discount_t: float
    obs_t: np.ndarray
    log_mu_tm1: float
    version_tm1: int
    explored_tm1: bool


class NaiveReplay:
    """Episodes in lists; a transition is looked up by walking its episode."""

    def __init__(
        self,
        num_rows: int,
        capacity_transitions: int,
        n_step: int,
        gamma: float,
        *,
        time_limit_ends_return: bool = False,
        ignore_ends: bool = False,
        forget_tails: bool = False,
    ) -> None:
        self.num_rows = num_rows
        self.starts = -(-capacity_transitions // num_rows)
        self.n_step = n_step
        self.gamma = gamma
        self.time_limit_ends_return = time_limit_ends_return
        self.ignore_ends = ignore_ends
        self.forget_tails = forget_tails
        self.rows_written = 0
        self.episodes: list[list[list[Moment]]] = [[] for _ in range(num_rows)]

    def add(self, rows: Rows) -> None:
        for t in range(len(rows.action)):
            for b in range(self.num_rows):
                if not rows.valid[t, b]:
                    self.episodes[b].append([])
                self.episodes[b][-1].append(
                    Moment(
                        row=self.rows_written,
                        obs=rows.obs[t, b].copy(),
                        action=int(rows.action[t, b]),
                        reward=float(rows.reward[t, b]),
                        discount=float(rows.discount[t, b]),
                        last=bool(rows.last[t, b]),
                        log_mu=float(rows.log_mu[t, b]),
                        version=int(rows.version[t, b]),
                        explored=bool(rows.explored[t, b]),
                    )
                )
            self.rows_written += 1

    def transitions(self) -> dict[int, Wanted]:
        """Everything that can be drawn now, by key."""
        newest = self.rows_written - 1
        found = {}
        for b, episodes in enumerate(self.episodes):
            for number, episode in enumerate(episodes):
                rest = [m for later in episodes[number + 1 :] for m in later] if self.ignore_ends else []
                for i in range(len(episode) - 1):
                    start = episode[i].row
                    if start + self.n_step > newest or start < newest + 1 - self.n_step - self.starts:
                        continue
                    if self.forget_tails and i + self.n_step >= len(episode):
                        continue
                    found[start * self.num_rows + b] = self._window((episode + rest)[i : i + self.n_step + 1])
        return found

    def _window(self, moments: list[Moment]) -> Wanted:
        reward, carried, end = 0.0, 1.0, moments[0]
        for moment in moments[1:]:
            reward += carried * moment.reward
            carried *= self.gamma * (0.0 if self.time_limit_ends_return and moment.last else moment.discount)
            end = moment
            if (moment.discount == 0.0 or moment.last) and not self.ignore_ends:
                break
        act = moments[1]
        return Wanted(moments[0].obs, act.action, reward, carried, end.obs, act.log_mu, act.version, act.explored)


class Stream:
    """Plays events into rows with true frame stacks; every frame, action and reward is a number of its own."""

    def __init__(self, num_rows: int, stack: int, *, frame: tuple[int, ...] = (2,), dtype: str = "int64") -> None:
        self.num_rows = num_rows
        self.stack = stack
        self.frame = frame
        self.dtype = np.dtype(dtype)
        self.count = 0
        self.newly: list[bool] = [True] * num_rows
        self.stacks = [np.zeros((stack, *frame), self.dtype) for _ in range(num_rows)]

    @property
    def spec(self) -> EnvSpec:
        shape = (self.stack * self.frame[0], *self.frame[1:]) if self.frame else ()
        return EnvSpec(
            id="stream",
            protocol="plain",
            obs_kind="vector" if self.frame else "index",
            obs_shape=shape,
            obs_dtype=str(self.dtype),
            num_actions=3,
            frame_stack=self.stack,
        )

    def row(self, events: list[int]) -> dict[str, Any]:
        """One row; a BREAK, like the row after an end, starts a new episode."""
        out: dict[str, list[Any]] = {f.name: [] for f in fields(Rows)}
        for b, event in enumerate(events):
            self.count += 1
            starts = self.newly[b] or event == BREAK
            if starts:
                self.stacks[b] = np.zeros_like(self.stacks[b])
            new = np.full((1, *self.frame), self.count).astype(self.dtype)
            self.stacks[b] = np.concatenate([self.stacks[b][1:], new])
            ends = not starts and event in (GAME_OVER, TIME_LIMIT, TIME_LIMIT_AND_LIFE)
            no_return = not starts and event in (GAME_OVER, LIFE_LOST, TIME_LIMIT_AND_LIFE)
            out["obs"].append(self.stacks[b].reshape(self.spec.obs_shape))
            out["action"].append(self.count % 3)
            # rewards of rows that are no transitions are poison: nothing may read them
            out["reward"].append(1e6 if starts else float(self.count % 97) / 7)
            out["discount"].append(0.0 if no_return else 1.0)
            out["last"].append(ends)
            out["valid"].append(not starts)
            out["log_mu"].append(-float(self.count % 13) - 0.5)
            out["version"].append(self.count * 10)
            out["explored"].append(self.count % 5 == 0)
            self.newly[b] = ends
        return out

    def play(self, events: list[list[int]]) -> Rows:
        """A block of rows, one per list of events."""
        played = [self.row(event) for event in events]
        dtypes = {
            "obs": self.dtype,
            "action": np.int64,
            "reward": np.float32,
            "discount": np.float32,
            "last": np.bool_,
            "valid": np.bool_,
            "log_mu": np.float32,
            "version": np.int64,
            "explored": np.bool_,
        }
        return Rows(**{name: np.asarray([p[name] for p in played], dtype) for name, dtype in dtypes.items()})


def random_events(count: int, num_rows: int, rng: np.random.Generator) -> list[list[int]]:
    """Events in which every kind of end is common."""
    kinds = rng.choice(6, size=(count, num_rows), p=[0.7, 0.06, 0.06, 0.06, 0.06, 0.06])
    return [[int(k) for k in row] for row in kinds]
