"""The replays of several seeds side by side in one block of memory: each draws for itself, all are read at once.

A replay keeps its own generator, priorities and counters, so what it draws is what it would draw alone; only the
reading, which is most of the work, is shared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from frugalrl.replay.replay import Replay, gather
from frugalrl.replay.ring import Ints, Ring
from frugalrl.types import EnvSpec, Replayed, Transition


class _Rings(Ring):
    """The slots of several rings, one ring after the other. An environment is named by its position in slot 0 of its
    own ring."""

    def __init__(self, spec: EnvSpec, num_rows: int, capacity_rows: int, number: int) -> None:
        super().__init__(spec, num_rows, number * capacity_rows)
        self._each = capacity_rows

    def at(self, row: Ints, env: Ints | int) -> Ints:
        return row % self._each * self.num_rows + env


class StackedReplay:
    """Takes over the storage of replays that have one layout; each of them stays usable alone."""

    def __init__(self, spec: EnvSpec, replays: Sequence[Replay], *, n_step: int, gamma: float) -> None:
        self._n_step, self._gamma = n_step, gamma
        self._replays = list(replays)
        first = self._replays[0].ring
        self._stride = first.capacity_rows * first.num_rows
        self._rings = _Rings(spec, first.num_rows, first.capacity_rows, len(replays))
        for seed, replay in enumerate(replays):
            replay.ring.move_to(self._rings, seed * first.capacity_rows)

    def sample(self, seeds: Sequence[int], batch_size: int, env_steps: Sequence[int]) -> Replayed:
        """One batch of each of these seeds (positions in the stack), one after the other: arrays [S * batch_size, ...].

        ``env_steps``: environment steps of each of the seeds so far. ``keys`` are those of the seed's own replay.
        """
        start, env, keys, weight = [], [], [], []
        for seed, env_step in zip(seeds, env_steps, strict=True):
            replay = self._replays[seed]
            s, e, w = replay.draw(batch_size, env_step=env_step)
            start.append(s)
            env.append(e + seed * self._stride)
            keys.append(s * self._rings.num_rows + e)
            weight.append(w)
        batch = gather(self._rings, np.concatenate(start), np.concatenate(env), self._n_step, self._gamma)
        return Replayed(batch=batch, keys=np.concatenate(keys), weight=np.concatenate(weight))


def split(replayed: Replayed, parts: int) -> list[Replayed]:
    """The batches of ``parts`` seeds as `StackedReplay.sample` put them together: views."""
    size = len(replayed.keys) // parts

    def part(array: Any, i: int) -> Any:
        return array[i * size : (i + 1) * size]

    names = [f.name for f in fields(Transition)]
    return [
        Replayed(
            batch=Transition(**{name: part(getattr(replayed.batch, name), i) for name in names}),
            keys=part(replayed.keys, i),
            weight=part(replayed.weight, i),
        )
        for i in range(parts)
    ]
