"""The replay against its naive twin, over streams with ends of every kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frugalrl.replay import Replay, ReplayConfig
from frugalrl.types import Replayed, Transition
from oracles.replay import (
    BREAK,
    GAME_OVER,
    GOES_ON,
    LIFE_LOST,
    TIME_LIMIT,
    TIME_LIMIT_AND_LIFE,
    NaiveReplay,
    Stream,
    Wanted,
    random_events,
)

GAMMA = 0.9


@dataclass(frozen=True)
class Pair:
    """The real replay and its twin, fed with the same rows."""

    stream: Stream
    real: Replay
    twin: NaiveReplay

    def add(self, events: list[list[int]]) -> None:
        rows = self.stream.play(events)
        self.real.add(rows)
        self.twin.add(rows)
        # nothing of the block may be kept
        for array in (rows.obs, rows.action, rows.reward):
            array[...] = 77


def pair(
    *, num_rows: int = 1, stack: int = 1, n_step: int = 1, capacity: int = 20, kind: Any = "uniform",
    frame: tuple[int, ...] = (2,), dtype: str = "int64", seed: int = 0, **wrong: bool,
) -> Pair:  # fmt: skip
    stream = Stream(num_rows, stack, frame=frame, dtype=dtype)
    config = ReplayConfig(kind=kind, capacity_transitions=capacity, n_step=n_step)
    real = Replay(config, stream.spec, num_rows, GAMMA, np.random.default_rng(seed))
    return Pair(stream, real, NaiveReplay(num_rows, capacity, n_step, GAMMA, **wrong))


def entry(batch: Transition, i: int) -> Wanted:
    return Wanted(
        batch.obs_tm1[i], int(batch.a_tm1[i]), float(batch.r_t[i]), float(batch.discount_t[i]), batch.obs_t[i],
        float(batch.log_mu_tm1[i]), int(batch.version_tm1[i]), bool(batch.explored_tm1[i]),
    )  # fmt: skip


def same(a: Wanted, b: Wanted) -> bool:
    return (
        np.array_equal(a.obs_tm1, b.obs_tm1)
        and np.array_equal(a.obs_t, b.obs_t)
        and (a.a_tm1, a.log_mu_tm1, a.version_tm1, a.explored_tm1)
        == (b.a_tm1, b.log_mu_tm1, b.version_tm1, b.explored_tm1)
        and np.isclose(a.r_t, b.r_t, rtol=1e-5)
        and np.isclose(a.discount_t, b.discount_t, rtol=1e-5)
    )


def agree(p: Pair) -> bool:
    """Whether both hold the same transitions; draws often enough to see each one."""
    wanted = p.twin.transitions()
    if p.real.size != len(wanted):
        return False
    if not wanted:
        return not p.real.can_sample(1)
    replayed = p.real.sample(40 * len(wanted), env_step=0)
    seen = {int(key): entry(replayed.batch, i) for i, key in enumerate(replayed.keys)}
    return seen.keys() == wanted.keys() and all(same(seen[key], wanted[key]) for key in wanted)


events_of = st.sampled_from([GOES_ON, GOES_ON, GOES_ON, GAME_OVER, LIFE_LOST, TIME_LIMIT, BREAK, TIME_LIMIT_AND_LIFE])


@given(data=st.data())
@settings(deadline=None, max_examples=150)
def test_holds_what_the_twin_holds(data: st.DataObject) -> None:
    """Any ends, 1 to 3 rows, n 1 to 5, stack 1 to 4, blocks of any length, many times around a small ring."""
    num_rows = data.draw(st.integers(1, 3), label="num_rows")
    n_step = data.draw(st.integers(1, 5), label="n_step")
    p = pair(
        num_rows=num_rows,
        stack=data.draw(st.integers(1, 4), label="stack"),
        n_step=n_step,
        capacity=data.draw(st.integers(n_step, 16), label="capacity"),
        kind=data.draw(st.sampled_from(["uniform", "prioritized"]), label="kind"),
    )
    for _ in range(data.draw(st.integers(1, 5), label="blocks")):
        row = st.lists(events_of, min_size=num_rows, max_size=num_rows)
        p.add(data.draw(st.lists(row, min_size=1, max_size=14), label="events"))
        assert agree(p)


@pytest.mark.parametrize("kind", ["uniform", "prioritized"])
@pytest.mark.parametrize(("num_rows", "stack", "n_step"), [(1, 4, 1), (1, 4, 3), (2, 4, 3), (3, 1, 5), (1, 1, 1)])
def test_long_streams_around_the_ring(kind: str, num_rows: int, stack: int, n_step: int) -> None:
    """Row by row, every state of a ring that is overwritten ten times; the streams hold many episodes per row (D4)."""
    p = pair(num_rows=num_rows, stack=stack, n_step=n_step, capacity=17, kind=kind)
    for events in random_events(190 // num_rows, num_rows, np.random.default_rng(4)):
        p.add([events])
        assert agree(p)
    assert all(len(episodes) > 10 for episodes in p.twin.episodes)
    assert {m.last for b in p.twin.episodes for e in b for m in e} == {True, False}


@pytest.mark.parametrize(
    ("wrong", "n_step"),
    [("ignore_ends", 3), ("forget_tails", 3), ("time_limit_ends_return", 1), ("time_limit_ends_return", 3)],
)
def test_twin_is_not_blind(wrong: str, n_step: int) -> None:
    """A twin with a famous defect disagrees: D3 (next episode's values), D6 (tails forgotten), D11 (time limit)."""
    for flags in ({}, {wrong: True}):
        p = pair(n_step=n_step, stack=2, capacity=60, **flags)
        p.add(random_events(60, 1, np.random.default_rng(1)))
        assert agree(p) == (not flags)


def only(p: Pair, row: int) -> Wanted:
    """The transition that starts at ``row`` of a single environment, as the real replay draws it."""
    replayed: Replayed = p.real.sample(500, env_step=0)
    return entry(replayed.batch, replayed.keys.tolist().index(row))


@pytest.mark.parametrize(
    ("end", "discount", "bootstraps"),
    [(GAME_OVER, 0.0, False), (LIFE_LOST, 0.0, False), (TIME_LIMIT, GAMMA**2, True), (TIME_LIMIT_AND_LIFE, 0.0, False)],
)
def test_tail_of_a_window(end: int, discount: float, bootstraps: bool) -> None:
    """By hand: frames 1, 2, 3 = end, then more; a 3-step window from row 0 has length 2 and ends at frame 3."""
    p = pair(n_step=3)
    p.add([[GOES_ON], [GOES_ON], [end], [GOES_ON], [GOES_ON], [GOES_ON]])
    found = only(p, 0)
    assert found.obs_tm1.tolist() == [1, 1]
    assert found.r_t == pytest.approx(2 / 7 + GAMMA * 3 / 7)
    assert found.discount_t == pytest.approx(discount)
    assert (found.discount_t > 0) == bootstraps
    assert found.obs_t.tolist() == [3, 3]


def test_window_before_a_break_bootstraps_from_the_last_observation_seen() -> None:
    p = pair(n_step=3)
    p.add([[GOES_ON], [GOES_ON], [BREAK], [GOES_ON], [GOES_ON], [GOES_ON], [GOES_ON]])
    found = only(p, 0)
    assert (found.obs_t.tolist(), found.discount_t) == ([2, 2], pytest.approx(GAMMA))
    assert 1 not in p.real.sample(500, env_step=0).keys
    assert only(p, 2).obs_tm1.tolist() == [3, 3]


def test_stack_crosses_a_life_loss_but_no_start() -> None:
    """Frames 1 2 3(life lost) 4 5(game over) 6(first) 7."""
    p = pair(stack=3, frame=(1,))
    p.add([[GOES_ON], [GOES_ON], [LIFE_LOST], [GOES_ON], [GAME_OVER], [GOES_ON], [GOES_ON]])
    assert only(p, 0).obs_tm1.tolist() == [0, 0, 1]
    assert only(p, 3).obs_tm1.tolist() == [2, 3, 4]
    assert only(p, 3).obs_t.tolist() == [3, 4, 5]
    assert only(p, 5).obs_tm1.tolist() == [0, 0, 6]
    assert only(p, 5).obs_t.tolist() == [0, 6, 7]


@pytest.mark.parametrize(
    ("frame", "dtype", "stack"),
    [
        ((1, 3, 2), "uint8", 4),
        ((3, 2, 2), "uint8", 2),
        ((4, 5, 5), "bool", 1),
        ((3,), "float32", 1),
        ((3,), "float64", 1),
        ((), "int64", 1),
        ((2,), "float32", 3),
    ],
)
def test_every_kind_of_observation(frame: tuple[int, ...], dtype: str, stack: int) -> None:
    """Stacked and plain images (colour too), vectors, indices; wide floats come back as float32."""
    p = pair(num_rows=2, frame=frame, dtype=dtype, stack=stack, capacity=30)
    p.add(random_events(40, 2, np.random.default_rng(0)))
    assert agree(p)
    batch = p.real.sample(5, env_step=0).batch
    assert batch.obs_tm1.shape == batch.obs_t.shape == (5, *p.stream.spec.obs_shape)
    assert batch.obs_tm1.dtype == np.dtype("float32" if dtype == "float64" else dtype)
    assert batch.a_tm1.dtype == batch.version_tm1.dtype == np.int64
    assert batch.r_t.dtype == batch.discount_t.dtype == batch.log_mu_tm1.dtype == np.float32
    assert batch.explored_tm1.dtype == np.bool_


def test_uniform_draws_are_uniform_and_weigh_one() -> None:
    from scipy import stats

    for events, num_rows in ((random_events(60, 2, np.random.default_rng(6)), 2), ([[GOES_ON]] * 60, 1)):
        p = pair(num_rows=num_rows, capacity=50, n_step=2)
        p.add(events)
        drawn = [p.real.sample(32, env_step=0) for _ in range(600)]
        _, counts = np.unique(np.concatenate([d.keys for d in drawn]), return_counts=True)
        assert len(counts) == p.real.size
        assert stats.chisquare(counts).pvalue > 1e-4
        assert all((d.weight == 1).all() and d.weight.dtype == np.float32 for d in drawn)


def test_finds_a_needle() -> None:
    """One transition among thousands of rows that are none: still found, still drawn as often as asked."""
    p = pair(capacity=4000)
    p.add([[BREAK]] * 2000 + [[GOES_ON]] + [[BREAK]] * 1900)
    replayed = p.real.sample(9, env_step=0)
    assert p.real.size == 1
    assert replayed.keys.tolist() == [1999] * 9


def test_drawn_arrays_are_new() -> None:
    p = pair(stack=2, capacity=8)
    p.add([[GOES_ON]] * 9)
    first = p.real.sample(4, env_step=0)
    kept = entry(first.batch, 0), first.keys.copy()
    first.batch.obs_tm1[1:] = -5
    p.add([[GOES_ON]] * 30)
    p.real.sample(4, env_step=0)
    assert np.array_equal(kept[1], first.keys)
    assert same(kept[0], entry(first.batch, 0))
    assert agree(p)
