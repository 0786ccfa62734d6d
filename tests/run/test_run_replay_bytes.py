"""What the bill says that the replay moved, against counts by hand."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import pytest
from run_support import cartpole, ppo, r2d2, vtrace

from frugalrl.cost.meters import LapTimer
from frugalrl.run.assemble import assemble
from frugalrl.run.config import RunConfig
from frugalrl.run.events import events
from frugalrl.run.loop import Counters
from frugalrl.sampling.background import BackgroundSampler

SCALARS = 8 + 4 + 4 + 1 + 1 + 4 + 8 + 1
"""Action, reward, discount, last, valid, log mu, version and explored of one transition."""
CARTPOLE, RECALL = 4 * 4, 3 * 4
"""Bytes of an observation: four and three float32."""
MEMORY = 8 * 4 + 8 * 4 + 8 + 4
"""h and c of eight units, last action and last reward."""
CENTRAL = ("sampler.kind=central",)


def batch_of(unrolls: int, steps: int, obs: int, memory: int = 0) -> int:
    return unrolls * ((steps + 1) * obs + steps * SCALARS + memory)


VTRACE, PPO, R2D2 = batch_of(2, 5, CARTPOLE), batch_of(4, 10, CARTPOLE), batch_of(4, 6, RECALL, MEMORY)


def test_the_counts_by_hand() -> None:
    assert (VTRACE, PPO, R2D2) == (502, 1944, 1384)


def moved(config: RunConfig, updates: int) -> tuple[int, int, int, int]:
    """Bytes on the bill's line of the replay, rows collected, sequences kept and updates, after some updates."""
    timer = LapTimer()
    timer.start()
    parts, found, rows, made = assemble(config, timer), 0.0, 0, 0
    with closing(parts.hand), closing(parts.worlds), closing(events(config, parts, Counters(), timer)) as loop:
        for event in loop:
            found += sum(costs["replay"].bytes_min or 0 for costs in event.costs if "replay" in costs)
            made += len(event.updated)
            rows += event.collected.data.last.size if hasattr(event.collected, "data") else 0
            if made >= updates:
                break
        if isinstance(parts.sampler, BackgroundSampler):
            parts.sampler.close()
    return int(found), rows, parts.replay.rows_written, made


@pytest.mark.parametrize("lag", [0, 1])
@pytest.mark.parametrize(
    ("make", "obs", "batch"),
    [
        (vtrace, CARTPOLE, VTRACE),
        (ppo, CARTPOLE, PPO),
        (r2d2, RECALL, R2D2),
        # a row holds its observation once, both of a transition are read and written again
        (cartpole, CARTPOLE, 8 * (2 * CARTPOLE + 2 * CARTPOLE + 2 * 29)),
    ],
)
def test_a_batch_costs_what_was_sampled(make: Callable[..., RunConfig], obs: int, batch: int, lag: int) -> None:
    found, rows, _, made = moved(make(f"schedule.lag_blocks={lag}"), 3)
    assert found == rows * (obs + SCALARS) + made * batch


@pytest.mark.parametrize(("make", "batch"), [(vtrace, VTRACE), (ppo, PPO)])
def test_an_asynchronous_queue_moves_each_unroll_in_and_out(make: Callable[..., RunConfig], batch: int) -> None:
    found, _, _, made = moved(make(*CENTRAL), 3)
    assert found == 2 * made * batch


def test_an_asynchronous_replay_moves_sequences_in_and_batches_out() -> None:
    found, _, kept, made = moved(r2d2(*CENTRAL), 3)
    assert found == kept * batch_of(1, 6, RECALL, MEMORY) + made * R2D2
