"""Replays side by side: each draws what it would draw alone, and reading them together changes nothing."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from frugalrl.replay import Replay, ReplayConfig
from frugalrl.replay.stacked import StackedReplay, split
from frugalrl.types import EnvSpec, Replayed
from oracles.replay import Stream, random_events

GAMMA, BATCH = 0.9, 12


def filled(kind: Any, num_rows: int, blocks: list[int], capacity: int = 24) -> tuple[EnvSpec, list[Replay]]:
    """One replay per entry of ``blocks``, which says how many rows it has seen."""
    replays = []
    for seed, rows in enumerate(blocks):
        stream = Stream(num_rows, 1, frame=(2,), dtype="int64")
        config = ReplayConfig(kind=kind, capacity_transitions=capacity, n_step=3)
        replay = Replay(config, stream.spec, num_rows, GAMMA, np.random.default_rng(seed))
        replay.add(stream.play(random_events(rows, num_rows, np.random.default_rng(100 + seed))))
        replays.append(replay)
    return stream.spec, replays


def assert_same(one: Replayed, other: Replayed) -> None:
    for field in fields(one.batch):
        np.testing.assert_array_equal(getattr(one.batch, field.name), getattr(other.batch, field.name))
    np.testing.assert_array_equal(one.keys, other.keys)
    np.testing.assert_array_equal(one.weight, other.weight)


@pytest.mark.parametrize("kind", ["uniform", "prioritized"])
@pytest.mark.parametrize("num_rows", [1, 3])
def test_each_seed_gets_what_it_would_get_alone(kind: Any, num_rows: int) -> None:
    blocks = [40, 33, 61]  # rings that stand at different slots, and have gone round
    spec, together = filled(kind, num_rows, blocks)
    _, alone = filled(kind, num_rows, blocks)
    stack = StackedReplay(spec, together, n_step=3, gamma=GAMMA)
    for seeds in ([0, 1, 2], [0, 2], [1]):
        steps = [1_000 * (1 + s) for s in seeds]
        parts = split(stack.sample(seeds, BATCH, steps), len(seeds))
        for part, seed, step in zip(parts, seeds, steps, strict=True):
            assert_same(part, alone[seed].sample(BATCH, env_step=step))
            for replay in (together[seed], alone[seed]):
                replay.set_priorities(part.keys, np.linspace(0.0, 2.0, BATCH))
    for mine, theirs in zip(together, alone, strict=True):
        assert_same(mine.sample(BATCH, env_step=7), theirs.sample(BATCH, env_step=7))
        low, high = mine.oldest_row, mine.rows_written
        for name, array in theirs.read_rows(low, high).items():
            np.testing.assert_array_equal(mine.read_rows(low, high)[name], array)


def test_a_seed_does_not_see_the_rows_of_another() -> None:
    spec, replays = filled("uniform", 1, [40, 40])
    before = replays[0].read_rows(replays[0].oldest_row, replays[0].rows_written)
    StackedReplay(spec, replays, n_step=3, gamma=GAMMA)
    replays[1].ring._fields["reward"][:] = np.nan
    after = replays[0].read_rows(replays[0].oldest_row, replays[0].rows_written)
    np.testing.assert_array_equal(before["reward"], after["reward"])
