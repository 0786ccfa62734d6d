"""Meters of the theory for value-based runs: readers of what sampler and learner have computed anyway.

They see one update in ``EVERY``, buffer the acting Q-values and work on whole buffers: what they cost is measured by
``benchmarks/meters_cost.py``. A number that cannot be known is None.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from frugalrl.algos.agents import SequenceConfig, TokenConfig
from frugalrl.math.theory import branch_sums, disadvantage_gap, slack_of
from frugalrl.run.config import RunConfig
from frugalrl.run.loop import Event
from frugalrl.run.tried import Tried
from frugalrl.types import Collected, EnvSpec, Seen, StateDict

EVERY = 16
_BUFFER = 512

Meters = Mapping[str, float | None]


class TheoryMeters:
    """Sums since the last ``close``; shares of actions tried are over the whole run.

    Args:
        spec: the environment.
        gamma: discount per agent step.
        share: uniform part of the exploration branch; None for a rule that is no mixture of argmin and uniform.
        num_keys: transitions that the replay can hold.
    """

    def __init__(self, spec: EnvSpec, gamma: float, share: float | None, num_keys: int) -> None:
        self._replayed = ReplayedMeter(spec.num_actions, num_keys)
        self._tried = Tried(spec)
        self._branches = BranchMeter(gamma, share) if share else None
        self._updates = 0

    def read(self, event: Event) -> None:
        """One block."""
        for update in event.updated:
            self._updates += 1
            if update.seen is not None and self._updates % EVERY == 0:
                self._replayed.add(update.seen)
        if not isinstance(event.collected, Collected):
            return
        self._tried.add(event.collected.data)
        if self._branches is not None:
            self._branches.add(event.collected)

    def close(self) -> Meters:
        """The meters by name; starts new sums."""
        meters = {**self._replayed.close(), "untried_share": self._tried.share()}
        return meters | (self._branches.close() if self._branches is not None else dict.fromkeys(BRANCH_METERS))

    def state_dict(self) -> StateDict:
        """What lasts longer than a window."""
        return {
            "updates": self._updates,
            "tried": self._tried.state_dict(),
            "key": self._replayed.last_key,
            "argmin": self._replayed.last_argmin,
        }

    def load_state_dict(self, state: StateDict) -> None:
        self._updates = state["updates"]
        self._tried.load_state_dict(state["tried"])
        self._replayed.last_key[:], self._replayed.last_argmin[:] = state["key"], state["argmin"]


class NoMeters:
    """For agents about whose updates the theory says nothing."""

    def read(self, event: Event) -> None:
        """Nothing is measured."""

    def close(self) -> Meters:
        """No meters."""
        return {}

    def state_dict(self) -> StateDict:
        return {}

    def load_state_dict(self, state: StateDict) -> None:
        """Nothing was saved."""


def theory_meters(config: RunConfig, spec: EnvSpec) -> TheoryMeters | NoMeters:
    """The meters of a run."""
    if isinstance(config.agent, SequenceConfig | TokenConfig):
        return NoMeters()
    rows = config.env.rows
    # what epsilon-greedy explores with is the mixture without its argmin part; a step in which every row explores has
    # no Q-values, so one row gives nothing
    shares = {"counteractive-mixed": config.explore.uniform_share, "epsilon-greedy": 1.0 if rows > 1 else None}
    num_keys = -(-config.replay.capacity_transitions // rows) * rows
    return TheoryMeters(spec, config.agent.gamma, shares.get(config.explore.name), num_keys)


class ReplayedMeter:
    """Gap, TD by kind of transition, entropy and persistence of argmin, from replayed batches."""

    def __init__(self, num_actions: int, num_keys: int) -> None:
        self._actions = num_actions
        # what was last seen in each place of the replay: whose transition, and its argmin
        self.last_key = np.full(num_keys, -1, np.int64)
        self.last_argmin = np.zeros(num_keys, np.int8 if num_actions < 128 else np.int16)
        self._reset()

    def _reset(self) -> None:
        self._gap, self._states = 0.0, 0
        self._td = np.zeros((2, 3))  # greedy, explored: number, sum, sum of absolute values
        self._histogram = np.zeros(self._actions)
        self._same = self._again = 0

    def add(self, seen: Seen) -> None:
        q, td, explored = seen.q_tm1, seen.td, seen.explored_tm1.astype(np.int64)
        self._gap += float(disadvantage_gap(q).sum())
        self._states += len(q)
        for column, values in enumerate((np.ones_like(td), td, np.abs(td))):
            self._td[:, column] += np.bincount(explored, values, 2)
        argmin = q.argmin(1)
        low = q == q.min(1, keepdims=True)
        self._histogram += (low / low.sum(1, keepdims=True)).sum(0)  # ties are broken evenly, as explorers do
        place = seen.keys % len(self.last_key)
        known = self.last_key[place] == seen.keys
        self._again += int(known.sum())
        self._same += int((known & (self.last_argmin[place] == argmin)).sum())
        self.last_key[place], self.last_argmin[place] = seen.keys, argmin

    def close(self) -> dict[str, float | None]:
        """Means since the last call."""
        (greedy, explored), states = self._td, self._states
        meters = {
            "gap": self._gap / states if states else None,
            "td_greedy": _ratio(greedy[1], greedy[0]),
            "td_abs_greedy": _ratio(greedy[2], greedy[0]),
            "td_explored": _ratio(explored[1], explored[0]),
            "td_abs_explored": _ratio(explored[2], explored[0]),
            "argmin_entropy": entropy_share(self._histogram),
            "argmin_persistence": _ratio(self._same, self._again),
        }
        self._reset()
        return meters


BRANCH_METERS = ("eta", "delta", "td_gap", "slack", "bound")


class BranchMeter:
    """eta, delta and the theorem's slack, from the Q-values that acted."""

    def __init__(self, gamma: float, share: float) -> None:
        self._gamma, self._share = gamma, share
        self._pending: list[_Rows] = []
        self._rows = 0
        self._before: dict[str, NDArray[Any]] | None = None
        self._reset()

    def _reset(self) -> None:
        self._sums, self._gap, self._number = np.zeros((2, 5)), 0.0, 0

    def add(self, collected: Collected) -> None:
        data = collected.data  # without its observations, which would fill the memory
        self._pending.append(_Rows(data.action, data.reward, data.discount, data.valid, data.explored, collected.q))
        self._rows += len(data.last)
        if self._rows >= _BUFFER:
            self._work()

    def _work(self) -> None:
        """All transitions of which is known whether their successor's Q-values are; the newest rows wait for that."""
        names = ("action", "reward", "discount", "valid", "explored")
        parts: dict[str, list[NDArray[Any]]] = {n: [getattr(c, n) for c in self._pending] for n in names}
        made = next((c.q for c in self._pending if c.q is not None), None)
        if made is None:  # not one forward pass: a new beginning
            self._pending, self._rows, self._before = [], 0, None
            return
        parts["q"] = [_q_of(c, made.shape[2]) for c in self._pending]
        if self._before is not None:
            parts = {n: [self._before[n], *arrays] for n, arrays in parts.items()}
        rows = {n: np.concatenate(arrays) for n, arrays in parts.items()}
        self._before = {n: x[-2:] for n, x in rows.items()}
        self._pending, self._rows = [], 0

        goes_on, follows = rows["discount"][:-2] > 0, rows["valid"][1:-1]
        has_q = np.isfinite(rows["q"][:, :, 0])
        # a step in which all rows explore has no Q-values. An end needs none after it, but if all ends were used they
        # would count for more than their share: one stands or falls with the first step of the next episode
        known = np.where(follows, has_q[1:-1], has_q[2:] & ~goes_on)
        use = rows["valid"][:-2] & rows["explored"][:-2] & has_q[:-2] & known
        if not use.any():
            return
        q_tm1, action = rows["q"][:-2][use], rows["action"][:-2][use]
        max_q_t = np.where(goes_on, rows["q"][1:-1].max(2), 0.0)[use]
        r_t, discount_t = rows["reward"][:-2][use], rows["discount"][:-2][use]
        td = r_t + self._gamma * discount_t * max_q_t - q_tm1[np.arange(len(action)), action]
        self._sums += branch_sums(q_tm1, action, r_t, td, max_q_t, goes_on[use].astype(np.float64), self._share)
        self._gap += float(disadvantage_gap(q_tm1).sum())
        self._number += len(action)

    def close(self) -> dict[str, float | None]:
        """Means since the last call."""
        if self._pending:
            self._work()
        parts = slack_of(self._sums, self._gap / self._number) if self._number else None
        self._reset()
        return dict.fromkeys(BRANCH_METERS) if parts is None else {n: getattr(parts, n) for n in BRANCH_METERS}


class _Rows(NamedTuple):
    """What the meter needs of a block: [T, B] each, and q [T, B, A]."""

    action: NDArray[np.int64]
    reward: NDArray[np.float32]
    discount: NDArray[np.float32]
    valid: NDArray[np.bool_]
    explored: NDArray[np.bool_]
    q: NDArray[np.float32] | None


def _q_of(rows: _Rows, num_actions: int) -> NDArray[Any]:
    return rows.q if rows.q is not None else np.full((*rows.action.shape, num_actions), np.nan, np.float32)


def _ratio(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def entropy_share(histogram: NDArray[np.integer[Any] | np.floating[Any]]) -> float | None:
    """Entropy of a histogram over A actions as a share of log A: 1 when uniform, 0 when it is always the same."""
    total = histogram.sum()
    if not total or len(histogram) < 2:
        return None
    p = histogram[histogram > 0] / total
    return float(-(p * np.log(p)).sum() / math.log(len(histogram))) + 0.0
