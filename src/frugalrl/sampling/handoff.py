"""Complete unrolls on their way from the engine to the learner: bounded, so that neither runs far ahead."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import fields

import numpy as np

from frugalrl.sampling.draws import Ints
from frugalrl.types import Unroll

_LOOK_EVERY_S = 1.0


class Handoff:
    """First in, first out. One thread puts, another gets."""

    def __init__(self, capacity: int) -> None:
        """``capacity``: unrolls; a batch of them is let in while fewer than these wait."""
        if capacity < 1:
            raise ValueError(f"capacity={capacity}: must be at least 1")
        self._capacity = capacity
        self._items: deque[tuple[Unroll, Ints]] = deque()
        self._count = self._wanted = 0
        self._change = threading.Condition()
        self._error: BaseException | None = None
        self._closed = False
        self.blocked_s = 0.0
        """Wall seconds in which ``put`` waited for room."""
        self.starved_s = 0.0
        """Wall seconds in which ``get`` waited for unrolls."""

    def __len__(self) -> int:
        return self._count

    def put(self, unroll: Unroll, rows: Ints, timeout_s: float) -> bool:
        """False when there was no room in time, and nothing was put."""
        began = time.monotonic()
        with self._change:
            # somebody who waits for more than fits must not wait for ever
            room = self._change.wait_for(
                lambda: self._closed or self._count < max(self._capacity, self._wanted), timeout_s
            )
            self.blocked_s += time.monotonic() - began
            if room and not self._closed:
                self._items.append((unroll, rows))
                self._count += len(rows)
                self._change.notify_all()
            return room

    def get(self, n: int, timeout_s: float | None = None) -> tuple[Unroll, Ints] | None:
        """The oldest ``n`` unrolls as one batch, and the rows they belong to [n]; None when there were not so many in
        time, or the queue was closed.

        Raises what ``fail`` was given.
        """
        began = time.monotonic()
        until = None if timeout_s is None else began + timeout_s
        with self._change:
            self._wanted = n
            self._change.notify_all()
            while self._count < n and self._error is None and not self._closed:
                left = _LOOK_EVERY_S if until is None else min(until - time.monotonic(), _LOOK_EVERY_S)
                if left <= 0:
                    break
                self._change.wait(left)
            self._wanted = 0
            self.starved_s += time.monotonic() - began
            if self._error is not None:
                raise self._error
            if self._count < n or self._closed:
                return None
            items = self._remove(n)
            self._change.notify_all()
        return _joined(items)

    def _remove(self, n: int) -> list[tuple[Unroll, Ints]]:
        taken: list[tuple[Unroll, Ints]] = []
        self._count -= n
        while n:
            unroll, rows = self._items.popleft()
            if len(rows) > n:
                self._items.appendleft((_columns(unroll, slice(n, None)), rows[n:]))
                unroll, rows = _columns(unroll, slice(0, n)), rows[:n]
            taken.append((unroll, rows))
            n -= len(rows)
        return taken

    def fail(self, error: BaseException) -> None:
        """Whoever gets, or waits to get, is told."""
        with self._change:
            self._error = error
            self._change.notify_all()

    def close(self) -> None:
        """Nobody waits any more."""
        with self._change:
            self._closed = True
            self._change.notify_all()


_ARRAYS = tuple(f.name for f in fields(Unroll) if f.name != "state_at_start")


def _columns(unroll: Unroll, which: slice) -> Unroll:
    return Unroll(
        **{name: getattr(unroll, name)[:, which] for name in _ARRAYS},
        state_at_start={name: array[which] for name, array in unroll.state_at_start.items()},
    )


def _joined(items: list[tuple[Unroll, Ints]]) -> tuple[Unroll, Ints]:
    if len(items) == 1:
        return items[0]
    unrolls = [unroll for unroll, _ in items]
    joined = Unroll(
        **{name: np.concatenate([getattr(u, name) for u in unrolls], axis=1) for name in _ARRAYS},
        state_at_start={
            name: np.concatenate([u.state_at_start[name] for u in unrolls]) for name in unrolls[0].state_at_start
        },
    )
    return joined, np.concatenate([rows for _, rows in items])
