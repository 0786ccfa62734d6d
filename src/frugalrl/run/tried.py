"""Which actions a run has tried in which states."""

from __future__ import annotations

from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from frugalrl.types import EnvSpec, Rows, StateDict

_MOST_STATES = 1 << 16
_BUFFER = 64
"""Time rows that are worked on together; their observations are kept until then."""
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""2^64 over the golden ratio (Knuth): multiplying by it spreads neighbouring numbers."""


class Tried:
    """Share of (state, action) pairs never tried, over the states visited so far.

    A state is an index, or the newest frame of an image; float vectors hardly ever repeat, so there is no such number
    for them. At most 65,536 states are followed: when there are more, those whose hash is odd are forgotten, then those
    of every second even hash, and so on, which leaves a random sample of states with all that was tried in them.
    """

    def __init__(self, spec: EnvSpec) -> None:
        self._actions = spec.num_actions
        self._kind = spec.obs_kind
        self._newest = spec.obs_shape[0] // spec.frame_stack if spec.frame_stack > 1 else 0
        self._on = spec.obs_kind != "vector" and spec.num_actions <= 62
        self._stride = 1
        self._tried: dict[int, int] = {}
        """Hash of a state -> bit mask of actions."""
        self._here: list[int] = []
        """Hash of the state in which each row stands."""
        self._pending: list[Rows] = []
        self._rows = 0

    def add(self, data: Rows) -> None:
        """One block: row ``t`` was reached by ``action[t]`` from the row before."""
        if not self._on:
            return
        self._pending.append(data)
        self._rows += len(data.last)
        if self._rows >= _BUFFER:
            self._work()

    def _work(self) -> None:
        if not self._pending:
            return
        hashes = [row for data in self._pending for row in self._hashes(data.obs)]
        tried, stride, here = self._tried, self._stride, self._here
        valid = np.concatenate([data.valid for data in self._pending]).tolist()
        actions = np.concatenate([data.action for data in self._pending]).tolist()
        self._pending, self._rows = [], 0
        for t, row in enumerate(hashes):
            for b, state in enumerate(here):
                if valid[t][b] and state % stride == 0:
                    tried[state] = tried.get(state, 0) | (1 << actions[t][b])
            here = row
        self._here = here
        while len(self._tried) > _MOST_STATES:
            self._stride *= 2
            self._tried = {s: mask for s, mask in self._tried.items() if s % self._stride == 0}

    def _hashes(self, obs: NDArray[Any]) -> list[list[int]]:
        if self._kind == "index":
            # indices are spread, or a grid with even rows would lose whole columns
            spread: list[list[int]] = ((obs.astype(np.uint64) * _GOLDEN) >> np.uint64(32)).tolist()
            return spread
        newest = obs[:, :, -self._newest :] if self._newest else obs
        return [[crc32(frame.tobytes()) for frame in row] for row in newest]

    def share(self) -> float | None:
        """Untried pairs / all pairs of the states followed; None without any."""
        self._work()
        if not self._tried:
            return None
        done = sum(mask.bit_count() for mask in self._tried.values())
        return 1.0 - done / (len(self._tried) * self._actions)

    def state_dict(self) -> StateDict:
        """The table, as arrays."""
        self._work()
        return {
            "stride": self._stride,
            "states": np.fromiter(self._tried.keys(), np.int64, len(self._tried)),
            "masks": np.fromiter(self._tried.values(), np.int64, len(self._tried)),
            "here": list(self._here),
        }

    def load_state_dict(self, state: StateDict) -> None:
        self._stride = state["stride"]
        self._tried = dict(zip(state["states"].tolist(), state["masks"].tolist(), strict=True))
        self._here = list(state["here"])
