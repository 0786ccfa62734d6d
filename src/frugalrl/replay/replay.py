"""Replay: remembers what the environments answered and hands out batches of n-step transitions.

A transition is named by the row it starts from. Start (s, env) can be drawn once row ``s + n_step`` is there, if row
``s + 1`` is a transition of that environment, and as long as it is one of the newest ``capacity_transitions`` starts;
the ring is a little longer than that, so stacks and windows of every start are always whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frugalrl.replay.config import ReplayConfig
from frugalrl.replay.nstep import windows
from frugalrl.replay.prioritized import Priorities
from frugalrl.replay.ring import Ints, Ring
from frugalrl.types import EnvSpec, Replayed, Rows, StateDict, Transition


class Replay:
    """A ring of rows with uniform or prioritised drawing of n-step transitions.

    Args:
        config: the knobs.
        spec: the environment after its protocol; says how observations are stored and stacked.
        num_rows: environments B written side by side.
        gamma: discount per environment step, in [0, 1].
        rng: the only source of randomness; owned by the replay from here on and saved with it.
    """

    def __init__(
        self, config: ReplayConfig, spec: EnvSpec, num_rows: int, gamma: float, rng: np.random.Generator
    ) -> None:
        if num_rows < 1 or not 0.0 <= gamma <= 1.0:
            raise ValueError(f"a replay needs num_rows >= 1 and gamma in [0, 1], but got {num_rows=}, {gamma=}")
        self._config = config
        self._gamma = gamma
        self._num_rows = num_rows
        self._rng = rng
        self._num_starts = -(-config.capacity_transitions // num_rows)
        # the oldest start needs the earlier frames of its stack, the newest one the rows of its window
        self._ring = Ring(spec, num_rows, self._num_starts + config.n_step + spec.frame_stack - 1)
        self._priorities = Priorities(config, self._num_starts, num_rows) if config.kind == "prioritized" else None
        self._size = 0

    once = False

    @property
    def ring(self) -> Ring:
        """Where the rows lie."""
        return self._ring

    @property
    def size(self) -> int:
        """Transitions that can be drawn now."""
        return self._size

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays when full; rows not yet written take no memory."""
        return self._ring.nbytes + (self._priorities.nbytes if self._priorities else 0)

    @property
    def rows_written(self) -> int:
        """Time rows ever written: the absolute number of the next one."""
        return self._ring.rows_written

    @property
    def oldest_row(self) -> int:
        """Absolute number of the oldest time row still there."""
        return self._ring.oldest_row

    def can_sample(self, batch_size: int) -> bool:
        """Whether ``batch_size`` transitions are there, or all that fit; ValueError if so many never can be."""
        if batch_size > self._num_starts * self._num_rows:
            raise ValueError(
                f"batch_size {batch_size} is larger than the {self._num_starts * self._num_rows} transitions "
                f"the replay can hold: learning would never start"
            )
        full = self._ring.rows_written >= self._num_starts + self._config.n_step  # the rows of resets take room too
        return self._size >= (1 if full else max(batch_size, 1))

    def add(self, rows: Rows) -> None:
        """Appends a block of rows; see `Rows`. Nothing of ``rows`` is kept.

        The first row of all must be the reset of every environment (valid False). A later row with valid False starts
        a new episode; it follows a row with ``last`` or says that an environment could not be brought back.

        Raises:
            ValueError: a shape is wrong, or a row continues an episode that has ended or is not there.
        """
        self._ring.check(rows)
        for t in range(len(rows.action)):
            self._ring.write(rows, t)
            start = self._ring.rows_written - 1 - self._config.n_step
            if start < 0:
                continue
            self._size += self._ring.count_valid(start + 1)
            if start >= self._num_starts:
                self._size -= self._ring.count_valid(start + 1 - self._num_starts)
            if self._priorities:
                self._priorities.enter(start, self._ring.valid_row(start + 1))

    def sample(self, batch_size: int, *, env_step: int) -> Replayed:
        """Draws a batch with replacement: numpy arrays, newly made each time.

        Args:
            batch_size: transitions to draw; may exceed ``size``.
            env_step: environment steps (not frames) done so far; sets the exponent of the weights.

        Raises:
            ValueError: nothing can be drawn, or ``batch_size`` is below 1.
        """
        start, env, weight = self.draw(batch_size, env_step=env_step)
        batch = gather(self._ring, start, env, self._config.n_step, self._gamma)
        return Replayed(batch=batch, keys=start * self._num_rows + env, weight=weight)

    def draw(self, batch_size: int, *, env_step: int) -> tuple[Ints, Ints, NDArray[np.float32]]:
        """What `sample` draws, without reading it: absolute rows, environments and weights, [batch_size] each."""
        if batch_size < 1 or self._size == 0:
            raise ValueError(f"cannot draw {batch_size} transitions, it holds {self._size}: ask can_sample first")
        if self._priorities:
            start, env = self._draw_prioritized(batch_size, self._priorities)
            return start, env, self._priorities.weight(start, env, self._size, env_step)
        return *self._draw_uniform(batch_size), np.ones(batch_size, np.float32)

    def set_priorities(self, keys: Ints, priorities: NDArray[np.floating[Any]]) -> None:
        """Sets the priorities, |td| [B], of drawn transitions; the last one counts where a key is repeated.

        Keys of transitions that were overwritten since they were drawn are ignored. Does nothing when uniform.

        Raises:
            ValueError: a priority is negative, NaN or infinite, the shapes differ, or a key was never handed out.
        """
        if not self._priorities:
            return
        keys, priority = np.asarray(keys), np.asarray(priorities, np.float64)
        if keys.ndim != 1 or priority.shape != keys.shape:
            raise ValueError(f"keys and priorities must both be [B], but are {keys.shape} and {priority.shape}")
        if not (np.isfinite(priority).all() and (priority >= 0.0).all()):
            bad = priority[~(np.isfinite(priority) & (priority >= 0.0))][0]
            raise ValueError(f"priorities must be finite and at least 0, but one is {bad}: give |td|, not td")
        low, high = self._span()
        start, env = np.divmod(keys, self._num_rows)
        there = start >= low
        if not there.all():
            start, env, priority = start[there], env[there], priority[there]
        if (
            (keys < 0).any()
            or (start >= high).any()
            or not self._ring.take("valid", self._ring.at(start + 1, env)).all()
        ):
            raise ValueError("some keys do not name a transition of this replay: give back the keys of a sample")
        self._priorities.set(start, env, priority)

    def read_rows(self, start: int, stop: int) -> dict[str, NDArray[Any]]:
        """Copies of absolute rows ``start`` to ``stop - 1`` as stored, for a checkpoint; ValueError if not there."""
        return self._ring.read_rows(start, stop)

    def write_rows(self, start: int, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Puts rows back as `read_rows` gave them, before or after `load_state_dict`.

        Pieces may hold rows older than ``oldest_row`` if pieces are written oldest first: newer rows take their slots.
        """
        self._ring.write_rows(start, arrays)

    def state_dict(self) -> StateDict:
        """Everything that is not in the rows: counters, priorities, generator, and the layout they belong to."""
        state: StateDict = {
            "layout": self._layout(),
            "rows_written": self._ring.rows_written,
            "size": self._size,
            "rng": self._rng.bit_generator.state,
        }
        if self._priorities:
            state["max_priority"] = self._priorities.max_priority
            state["priorities"] = self._priorities.leaves.copy()
        return state

    def load_state_dict(self, state: StateDict) -> None:
        """Puts the state back; with the rows from ``oldest_row`` on, every later sample is the same bit for bit.

        Raises:
            ValueError: the state belongs to a replay with another layout, or it is damaged.
        """
        missing = {"layout", "rows_written", "size", "rng"} - state.keys()
        if self._priorities and state.get("layout", {}).get("kind") == "prioritized":
            missing |= {"max_priority", "priorities"} - state.keys()
        if missing:
            raise ValueError(f"the saved replay lacks {', '.join(sorted(missing))}: the file is damaged")
        mine, theirs = self._layout(), state["layout"]
        if mine != theirs:
            differing = [f"{k}: {theirs.get(k)} saved, {mine[k]} here" for k in mine if theirs.get(k) != mine[k]]
            raise ValueError(f"the saved replay does not fit this one ({'; '.join(differing)})")
        if self._priorities:
            self._priorities.load(np.asarray(state["priorities"], np.float64), state["max_priority"])
        self._ring.rows_written = int(state["rows_written"])
        self._size = int(state["size"])
        self._rng.bit_generator.state = state["rng"]

    def _layout(self) -> dict[str, Any]:
        return {
            "kind": self._config.kind,
            "num_rows": self._num_rows,
            "num_starts": self._num_starts,
            "n_step": self._config.n_step,
            "frame_stack": self._ring.stack,
            "obs_shape": list(self._ring.obs_shape),
            "generator": type(self._rng.bit_generator).__name__,
        }

    def _span(self) -> tuple[int, int]:
        """Absolute rows [low, high) from which transitions may start."""
        high = max(0, self._ring.rows_written - self._config.n_step)
        return max(0, high - self._num_starts), high

    def _draw_uniform(self, count: int) -> tuple[Ints, Ints]:
        """Draws from the whole span and leaves out what is not a transition, until there are enough."""
        low, high = self._span()
        wanted = count
        starts: list[Ints] = []
        envs: list[Ints] = []
        for _ in range(16):
            drawn = self._rng.integers((high - low) * self._num_rows, size=wanted + wanted // 4 + 2)
            start, env = (drawn, np.zeros_like(drawn)) if self._num_rows == 1 else np.divmod(drawn, self._num_rows)
            start = start + low
            good = np.flatnonzero(self._ring.take("valid", self._ring.at(start + 1, env)))[:wanted]
            starts.append(start[good])
            envs.append(env[good])
            wanted -= len(good)
            if not wanted:
                break
        else:
            # hardly any row is a transition (episodes that break at once): list them all
            rows = np.arange(low, high)[:, None]
            every = np.arange(self._num_rows)[None, :]
            row, column = np.nonzero(self._ring.take("valid", self._ring.at(rows + 1, every)))
            pick = self._rng.integers(len(row), size=wanted)
            starts.append(row[pick] + low)
            envs.append(column[pick])
        return (starts[0], envs[0]) if len(starts) == 1 else (np.concatenate(starts), np.concatenate(envs))

    def _draw_prioritized(self, count: int, priorities: Priorities) -> tuple[Ints, Ints]:
        if not priorities.has_mass:
            return self._draw_uniform(count)
        start, env = priorities.draw(count, self._span()[0], self._rng)
        if self._config.uniform_share > 0.0:
            anywhere = np.flatnonzero(self._rng.random(count) < self._config.uniform_share)
            if len(anywhere):
                start[anywhere], env[anywhere] = self._draw_uniform(len(anywhere))
        return start, env


def gather(ring: Ring, start: Ints, env: Ints, n_step: int, gamma: float) -> Transition:
    """The transitions from absolute rows ``start`` [N] of environments ``env`` [N]."""
    window = windows(ring, start, env, n_step, gamma)
    chosen = ring.at(start + 1, env)
    return Transition(
        obs_tm1=ring.obs(start, env),
        a_tm1=ring.take("action", chosen),
        r_t=window.reward,
        discount_t=window.discount,
        obs_t=ring.obs(window.end, env),
        log_mu_tm1=ring.take("log_mu", chosen),
        version_tm1=ring.take("version", chosen),
        explored_tm1=ring.take("explored", chosen),
    )
