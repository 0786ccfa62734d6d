"""A block of rows that is filled group by group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from frugalrl.replay.ring import SCALARS
from frugalrl.sampling.draws import Ints
from frugalrl.types import EnvSpec, Episode, Rows, Step


class Block:
    """``steps`` steps of ``num_rows`` rows; ``state``: recurrent state of all rows, for names, shapes and types."""

    def __init__(self, spec: EnvSpec, steps: int, num_rows: int, state: Mapping[str, NDArray[Any]]) -> None:
        size = (steps, num_rows)
        self.steps = steps
        self._num_actions = spec.num_actions
        self.data = Rows(
            obs=np.empty((*size, *spec.obs_shape), spec.obs_dtype),
            **{name: np.empty(size, dtype) for name, dtype in SCALARS.items()},
            state={name: np.empty((steps, *array.shape), array.dtype) for name, array in state.items()},
        )
        self.episodes: list[Episode] = []
        self.q: NDArray[Any] | None = None
        """[steps, num_rows, A], NaN where the explorer chose without values; None without any."""

    def end_after(self, steps: int) -> None:
        """There are fewer steps than was thought; what was added stays."""
        cut = {f.name: getattr(self.data, f.name)[:steps] for f in fields(Rows) if f.name != "state"}
        self.data = Rows(**cut, state={name: array[:steps] for name, array in self.data.state.items()})
        self.q = None if self.q is None else self.q[:steps]
        self.steps = steps

    def add(
        self, at: int, rows: Ints, step: Step, fields: Mapping[str, NDArray[Any]], state: Mapping[str, NDArray[Any]]
    ) -> None:
        """One step of some rows, with what led to it and what the policy remembered before it."""
        self.data.obs[at, rows] = step.obs
        for name in SCALARS:
            getattr(self.data, name)[at, rows] = fields[name]
        for name, array in self.data.state.items():
            array[at, rows] = state[name]
        self.episodes.extend(step.episodes)

    def add_q(self, at: int, rows: Ints, q: NDArray[Any] | None) -> None:
        """The values [n, A] that chose the action which leads to step ``at``, if there were any."""
        if q is None:
            return
        if self.q is None:
            self.q = np.full((self.steps, self.data.last.shape[1], self._num_actions), np.nan, q.dtype)
        self.q[at, rows] = q
