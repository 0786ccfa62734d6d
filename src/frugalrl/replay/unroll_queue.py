"""Complete unrolls in the order in which they came, each handed out once."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frugalrl.replay.ring import SCALARS
from frugalrl.replay.unroll_arrays import as_arrays, from_arrays, join, split, unroll_bytes
from frugalrl.replay.unrolls import Ints, UnrollStore
from frugalrl.types import EnvSpec, ReplayedUnrolls, Rows, StateDict, Unroll


class UnrollQueue:
    """What an on-policy learner trains on.

    Has the surface of `Replay` for the serial and the pipelined loop. Rows go in block by block; ``once`` says that a
    round makes as many updates as there are batches, so that nothing grows old here.

    Args:
        spec: of the environment.
        num_rows: environments written side by side.
        length: transitions of an unroll.
    """

    once = True
    rows_written = 0
    """Rows that are saved apart from the state: none, as there is little to save."""
    oldest_row = 0
    batch_bytes = 0
    """Of the last batch that was handed out: each is written once, so this is a lower bound of what was moved."""

    def __init__(self, spec: EnvSpec, num_rows: int, *, length: int) -> None:
        self._spec, self._num_rows, self._length = spec, num_rows, length
        self._store: UnrollStore | None = None
        self._all = np.arange(num_rows)
        self._complete: deque[Unroll] = deque()
        """One unroll each."""
        self._handed_out = 0

    @property
    def size(self) -> int:
        """Complete unrolls that wait."""
        return len(self._complete)

    @property
    def nbytes(self) -> int:
        """Bytes of the open unrolls and of those that wait."""
        arrays = [] if self._store is None else list(self._store.state_dict().values())
        return sum(int(a.nbytes) for a in arrays) + sum(unroll_bytes(u) for u in self._complete)

    def can_sample(self, batch_size: int) -> bool:
        """Whether ``batch_size`` unrolls wait."""
        return len(self._complete) >= batch_size

    def add(self, rows: Rows) -> None:
        """Append a block of rows of all environments."""
        if self._store is None:
            self._store = self._new_store(rows.state)
        for t in range(len(rows.action)):
            fields = {name: getattr(rows, name)[t] for name in SCALARS}
            done = self._store.append(self._all, rows.obs[t], fields, {k: v[t] for k, v in rows.state.items()})
            if done is not None:
                self._complete.extend(split(done[0]))

    def insert(self, unroll: Unroll, rows: Ints) -> None:
        """Append complete unrolls that somebody else has cut, of these rows [b]."""
        self._complete.extend(split(unroll))

    def sample(self, batch_size: int, *, env_step: int) -> ReplayedUnrolls:
        """The ``batch_size`` oldest unrolls. Raises ValueError when there are fewer."""
        if not self.can_sample(batch_size):
            raise ValueError(f"cannot hand out {batch_size} unrolls of {len(self._complete)}: ask can_sample first")
        batch = join([self._complete.popleft() for _ in range(batch_size)])
        keys = np.arange(self._handed_out, self._handed_out + batch_size)
        self._handed_out += batch_size
        self.batch_bytes = unroll_bytes(batch)
        return ReplayedUnrolls(batch=batch, keys=keys, weight=np.ones(batch_size, np.float32))

    def set_priorities(self, keys: Ints, priorities: NDArray[np.floating[Any]]) -> None:
        """Nothing is drawn twice, so nothing has a priority."""

    def read_rows(self, start: int, stop: int) -> dict[str, NDArray[Any]]:
        """There are none; see ``rows_written``."""
        return {}

    def write_rows(self, start: int, rows: Mapping[str, NDArray[Any]]) -> None:
        """There are none; see ``rows_written``."""

    def state_dict(self) -> StateDict:
        """Everything, the unrolls included."""
        waiting = join(list(self._complete)) if self._complete else None
        return {
            "handed_out": self._handed_out,
            "open": {} if self._store is None else self._store.state_dict(),
            "waiting": {} if waiting is None else as_arrays(waiting),
        }

    def load_state_dict(self, state: StateDict) -> None:
        self._handed_out = state["handed_out"]
        self._complete.clear()
        if state["waiting"]:
            self._complete.extend(split(from_arrays(state["waiting"])))
        if state["open"]:
            prefix = "state/"
            saved = {k.removeprefix(prefix): v for k, v in state["open"].items() if k.startswith(prefix)}
            self._store = self._new_store(saved)
            self._store.load_state_dict(state["open"])

    def _new_store(self, state: Mapping[str, NDArray[Any]]) -> UnrollStore:
        """``state``: of some rows in time, for names, shapes and types."""
        one = {name: x[0] for name, x in state.items()}
        return UnrollStore(self._spec, self._num_rows, length=self._length, state=one)
