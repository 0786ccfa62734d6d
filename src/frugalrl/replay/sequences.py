"""Replay of sequences: fixed-length unrolls in a ring, drawn in proportion to their priority.

A sequence is named by its number, which never repeats, so a priority that comes late, for a sequence that was
overwritten since, is known as late and ignored. Where observations are stacks of frames each frame is kept once, and
stacks are put together again when a sequence is drawn.

Memory per sequence of T transitions: ``T + frame_stack`` frames (``T + 1`` observations without a stack), 31 bytes per
transition, the recurrent state before its first observation (R2D2 with an LSTM of 512: 4,108 bytes), 8 bytes of tree.

Sources: Kapturowski et al., "Recurrent Experience Replay in Distributed Reinforcement Learning", 2019, section 2.3;
Schaul et al. 2016 (priorities and weights).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from frugalrl.replay.config import ReplayConfig
from frugalrl.replay.prioritized import Priorities
from frugalrl.replay.ring import SCALARS
from frugalrl.replay.sequence_ring import SequenceRing
from frugalrl.replay.unroll_arrays import unroll_bytes
from frugalrl.replay.unrolls import Ints, UnrollStore
from frugalrl.types import EnvSpec, ReplayedUnrolls, Rows, StateDict, Unroll, UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class SequenceReplayConfig:
    """How sequences are kept and drawn; checked at birth. The defaults are those of SEED RL's R2D2 on Atari."""

    kind: Literal["sequences"] = "sequences"
    capacity_sequences: int = 100_000
    """Newest sequences to keep."""
    alpha: float = 0.9
    """Exponent of the priority: 0 draws uniformly, 1 in proportion to the priority."""
    beta: float = 0.6
    """Exponent of the importance weight; 1 corrects the drawing completely."""
    priority_eps: float = 1e-6
    """Added to every priority, so that a sequence with error 0 can still be drawn."""

    def __post_init__(self) -> None:
        if self.kind != "sequences":
            hint = "; did you mean 'sequences'?" if get_close_matches(str(self.kind), ["sequences"]) else ""
            raise UserError(f"the replay of a sequence learner must be of kind sequences, but is {self.kind!r}{hint}")
        if self.capacity_sequences < 1:
            raise UserError(f"replay capacity_sequences must be at least 1, but is {self.capacity_sequences}")
        for name in ("alpha", "beta"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UserError(f"replay {name} must lie in [0, 1], but is {getattr(self, name)}")
        if not 0.0 <= self.priority_eps < np.inf:
            raise UserError(f"replay priority_eps must be finite and at least 0, but is {self.priority_eps}")


class SequenceReplay:
    """A ring of sequences, filled by rows as they come (`add`) or by unrolls that are complete already (`insert`).

    Args:
        config: the knobs.
        spec: the environment after its protocol; says how observations are stored and stacked.
        num_rows: environments B written side by side.
        rng: the only source of randomness; owned by the replay from here on and saved with it.
        length: transitions T of a sequence, burn-in included.
        overlap: transitions that a sequence shares with the one before it.
        state: recurrent state of all rows, [B, ...] each, for names, shapes and types; empty when feed-forward.
    """

    def __init__(
        self,
        config: SequenceReplayConfig,
        spec: EnvSpec,
        num_rows: int,
        rng: np.random.Generator,
        *,
        length: int,
        overlap: int = 0,
        state: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        self._config = config
        self._rng = rng
        self._open = UnrollStore(spec, num_rows, length=length, overlap=overlap, state=state)
        self._ring = SequenceRing(spec, config.capacity_sequences, length, state or {})
        knobs = ReplayConfig(
            kind="prioritized",
            alpha=config.alpha,
            beta_start=config.beta,
            beta_end=config.beta,
            priority_eps=config.priority_eps,
        )
        self._priorities = Priorities(knobs, config.capacity_sequences, 1)

    once = False
    batch_bytes = 0
    """Of the last batch that was drawn: each is written once, so this is a lower bound of what was moved."""

    @property
    def size(self) -> int:
        """Sequences that can be drawn now."""
        return self._ring.rows_written - self._ring.oldest_row

    @property
    def nbytes(self) -> int:
        """Bytes of ring and tree when full; sequences not yet written take no memory."""
        return self._ring.nbytes + self._priorities.nbytes

    @property
    def rows_written(self) -> int:
        """Sequences ever written: the number of the next one."""
        return self._ring.rows_written

    @property
    def oldest_row(self) -> int:
        """Number of the oldest sequence still there."""
        return self._ring.oldest_row

    def can_sample(self, batch_size: int) -> bool:
        """Whether at least ``batch_size`` sequences are there; ValueError if there never can be."""
        if batch_size > self._config.capacity_sequences:
            raise ValueError(
                f"batch_size {batch_size} is larger than the {self._config.capacity_sequences} sequences the replay "
                f"can hold: learning would never start"
            )
        return self.size >= max(batch_size, 1)

    def add(self, rows: Rows) -> None:
        """Appends a block of rows, with ``rows.state`` where the policy is recurrent. Nothing of it is kept."""
        every = np.arange(self._open.num_rows)
        for t in range(len(rows.action)):
            fields = {name: getattr(rows, name)[t] for name in SCALARS}
            state = {name: array[t] for name, array in rows.state.items()}
            done = self._open.append(every, rows.obs[t], fields, state)
            if done is not None:
                self.insert(*done)

    def insert(self, unroll: Unroll, rows: Ints) -> None:
        """Stores unrolls [T, B] that are complete, of environments ``rows`` [B]; each gets the highest priority seen.

        Raises ValueError when a shape is wrong.
        """
        if rows.shape != (unroll.action.shape[1],):
            raise ValueError(f"{unroll.action.shape[1]} unrolls came with rows {rows.shape}: give one row for each")
        first = self._ring.rows_written
        self._ring.write(unroll)
        for key in range(first, self._ring.rows_written):
            self._priorities.enter(key, np.ones(1, np.bool_))

    def sample(self, batch_size: int, *, env_step: int) -> ReplayedUnrolls:
        """Draws a batch with replacement: numpy arrays, newly made each time.

        Args:
            batch_size: sequences to draw; may exceed ``size``.
            env_step: environment steps done so far; the exponent of the weights does not move, so nothing reads it.

        Raises:
            ValueError: nothing can be drawn, or ``batch_size`` is below 1.
        """
        if batch_size < 1 or self.size == 0:
            raise ValueError(
                f"cannot draw {batch_size} sequences from a replay that holds {self.size}: ask can_sample first"
            )
        low = self._ring.oldest_row
        if self._priorities.has_mass:
            keys, env = self._priorities.draw(batch_size, low, self._rng)
        else:
            keys, env = self._rng.integers(low, self._ring.rows_written, batch_size), np.zeros(batch_size, np.int64)
        weight = self._priorities.weight(keys, env, self.size, env_step)
        batch = self._ring.read(keys)
        self.batch_bytes = unroll_bytes(batch)
        return ReplayedUnrolls(batch=batch, keys=keys, weight=weight)

    def set_priorities(self, keys: Ints, priorities: NDArray[np.floating[Any]]) -> None:
        """Sets the priorities [B] of drawn sequences; the last one counts where a key is repeated.

        Keys of sequences that were overwritten since they were drawn are ignored.

        Raises:
            ValueError: a priority is negative, NaN or infinite, the shapes differ, or a key was never handed out.
        """
        keys, priority = np.asarray(keys), np.asarray(priorities, np.float64)
        if keys.ndim != 1 or priority.shape != keys.shape:
            raise ValueError(f"keys and priorities must both be [B], but are {keys.shape} and {priority.shape}")
        good = np.isfinite(priority) & (priority >= 0.0)
        if not good.all():
            raise ValueError(f"priorities must be finite and at least 0, but one is {priority[~good][0]}")
        if ((keys < 0) | (keys >= self._ring.rows_written)).any():
            raise ValueError("some keys do not name a sequence of this replay: give back the keys of a sample")
        there = keys >= self._ring.oldest_row
        keys, priority = keys[there], priority[there]
        self._priorities.set(keys, np.zeros_like(keys), priority)

    def read_rows(self, start: int, stop: int) -> dict[str, NDArray[Any]]:
        """Copies of sequences ``start`` to ``stop - 1`` as stored, for a checkpoint; ValueError if not there."""
        return self._ring.read_rows(start, stop)

    def write_rows(self, start: int, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Puts sequences back as `read_rows` gave them, oldest first, before or after `load_state_dict`."""
        self._ring.write_rows(start, arrays)

    def state_dict(self) -> StateDict:
        """Everything but the sequences: open unrolls, counter, priorities, generator, and the layout."""
        return {
            "layout": self._ring.layout() | {"overlap": self._open.overlap, "num_rows": self._open.num_rows},
            "rows_written": self._ring.rows_written,
            "open": self._open.state_dict(),
            "max_priority": self._priorities.max_priority,
            "priorities": self._priorities.leaves.copy(),
            "rng": self._rng.bit_generator.state,
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Puts the state back; with the sequences from ``oldest_row`` on, every later sample is the same bit for bit.

        Raises:
            ValueError: the state belongs to a replay with another layout, or it is damaged.
        """
        mine = self.state_dict()
        missing = mine.keys() - state.keys()
        if missing:
            raise ValueError(f"the saved replay lacks {', '.join(sorted(missing))}: the file is damaged")
        theirs = state["layout"]
        differing = [f"{k}: {theirs.get(k)} saved, {v} here" for k, v in mine["layout"].items() if theirs.get(k) != v]
        if differing:
            raise ValueError(f"the saved replay does not fit this one ({'; '.join(differing)})")
        self._priorities.load(np.asarray(state["priorities"], np.float64), state["max_priority"])
        self._open.load_state_dict(state["open"])
        self._ring.rows_written = int(state["rows_written"])
        self._rng.bit_generator.state = state["rng"]
