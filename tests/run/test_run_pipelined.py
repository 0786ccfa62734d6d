"""The pipelined loop: what is done when, and that timing changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kill_resume import differences, flat
from run_support import breakout, cartpole, vtrace
from test_run_loop import Tape

from frugalrl.cost.ledger import Ledger
from frugalrl.cost.meters import LapTimer
from frugalrl.run.assemble import Parts, assemble, network_builder
from frugalrl.run.config import RunConfig, ScheduleConfig
from frugalrl.run.evaluator import Evaluator
from frugalrl.run.events import events
from frugalrl.run.loop import Counters, Event
from frugalrl.run.pipelined import pipelined
from frugalrl.run.state import RunState
from frugalrl.run.tell import about, header_of
from frugalrl.run.theory import theory_meters
from frugalrl.run.worker import Worker
from frugalrl.types import Collected, Cost, EnvFailed, NonFiniteLoss, UserError
from oracles.hands import Dawdling, LearnerFirst, SamplerFirst

LAG = "schedule.lag_blocks=1"

# -- the schedule, written down by one tape ----------------------------------------------------------------------------


class Failing(Tape):
    """Its environment fails in the block ``fail_block``, counted from 1."""

    fail_block = 0

    def collect(self, n: int) -> Collected:
        if self.names().count("collect") + 1 == self.fail_block:
            self.calls.append(("failed", n))
            raise EnvFailed("Environment X, row 0: gone.")
        return super().collect(n)


def started() -> LapTimer:
    timer = LapTimer()
    timer.start()
    return timer


def play(tape: Any, rounds: int, counters: Counters | None = None, hand: Any = None, **schedule: int) -> list[Event]:
    config = ScheduleConfig(**({"warmup_env_steps": 1, "steps_per_round": 4, "lag_blocks": 1} | schedule))
    loop = pipelined(
        tape, tape, tape, config, counters or Counters(), num_rows=tape.rows, batch_size=4, row_bytes=3,
        batch_bytes=lambda: 50, timer=started(), sampler_timer=started(), hand=hand or SamplerFirst(),
    )  # fmt: skip
    return list(islice(loop, rounds))


@pytest.mark.parametrize(
    ("hand", "learning", "collecting"),
    [
        (SamplerFirst, [], ["sample", "update", "set_priorities"]),
        (LearnerFirst, ["sample", "update", "set_priorities"], []),
    ],
)
def test_the_updates_of_a_round_belong_to_the_block_before(
    hand: type, learning: list[str], collecting: list[str]
) -> None:
    tape = Tape()
    play(tape, 3, hand=hand())
    later = [*learning, "collect", *collecting, "add", "load"]
    assert tape.names() == ["load", "collect", "add", *later, *later]
    assert [c for c in tape.calls if c[0] == "load"] == [("load", 0), ("load", 1), ("load", 2)]
    assert [c[2] for c in tape.calls if c[0] == "sample"] == [4, 8], "a replay without the block that is collected now"


def test_no_update_and_nothing_published_before_the_warm_up_is_over() -> None:
    tape, counters = Tape(), Counters()
    got = play(tape, 6, counters, warmup_env_steps=14, updates_per_round=2)
    assert [len(e.updated) for e in got] == [0, 0, 0, 0, 2, 2]
    assert (counters.env_steps, counters.updates) == (24, 4)
    assert [c for c in tape.calls if c[0] == "load"] == [("load", 0), ("load", 2), ("load", 4)]


def test_an_event_carries_what_was_counted() -> None:
    event = play(Tape(), 2, updates_per_round=2)[1]
    assert event.failure is None
    assert event.costs[0] == {"environment": Cost(calls=4)}
    assert event.costs[1] == {"replay": Cost(calls=2, bytes_min=3.0 * 4 + 50.0 * 2)}
    assert event.costs[2:] == ({"learner": Cost(updates=1)},) * 2


def test_a_loss_that_is_not_finite_keeps_the_block_that_was_collected_meanwhile() -> None:
    tape, counters = Tape(fail_at=5), Counters()
    got = play(tape, 3, counters, updates_per_round=3)
    assert [len(e.updated) for e in got] == [0, 3, 1]
    assert isinstance(got[2].failure, NonFiniteLoss)
    assert got[2].collected is not None
    assert (counters.env_steps, counters.updates, counters.learner_ahead) == (12, 4, False)
    assert tape.names().count("add") == 3


@pytest.mark.parametrize("hand", [SamplerFirst, LearnerFirst, Worker])
def test_an_environment_that_fails_leaves_the_learner_a_round_ahead(hand: Callable[[str], Any]) -> None:
    tape, counters, thread = Failing(), Counters(), hand("sampler")
    tape.fail_block = 4
    *_, event = play(tape, 9, counters, hand=thread, updates_per_round=2)
    thread.close()
    assert isinstance(event.failure, EnvFailed)
    assert event.collected is None
    assert len(event.updated) == 2
    assert event.costs == ({"replay": Cost(calls=2, bytes_min=100.0)}, *[{"learner": Cost(updates=1)}] * 2)
    assert (counters.env_steps, counters.updates, counters.learner_ahead) == (12, 6, True)
    # another loop goes on: the block first, without making the updates again or publishing newer weights
    tape.calls.clear()
    tape.fail_block = 0
    play(tape, 2, counters, updates_per_round=2)
    once = ["sample", "update", "set_priorities"]
    assert tape.names() == ["collect", "add", "load", "collect", *once, *once, "add", "load"]
    assert (counters.env_steps, counters.updates, counters.learner_ahead) == (20, 8, False)


def test_when_both_halves_fail_the_loss_is_reported_and_the_block_is_still_to_come() -> None:
    tape, counters = Failing(fail_at=5), Counters()
    tape.fail_block = 3
    *_, event = play(tape, 9, counters, updates_per_round=3)
    assert isinstance(event.failure, NonFiniteLoss)
    assert event.collected is None
    assert (counters.env_steps, counters.updates, counters.learner_ahead) == (8, 4, True)


class Raising(Tape):
    """Its sampler raises in every block but the first."""

    error: Exception = RuntimeError("a bug")

    def collect(self, n: int) -> Collected:
        if self.size:
            raise self.error
        return super().collect(n)


def test_another_error_of_the_sampler_comes_out_of_the_loop() -> None:
    thread = Worker("sampler")
    with pytest.raises(RuntimeError, match="a bug"):
        play(Raising(), 3, hand=thread)
    assert thread.close()


@pytest.mark.parametrize("fail_at", [None, 1])
def test_q_values_that_are_not_finite_end_the_round_and_do_not_hide_the_loss(fail_at: int | None) -> None:
    tape, counters = (Raising() if fail_at is None else Raising(fail_at=fail_at)), Counters()
    tape.error = FloatingPointError("the Q-values are not finite")
    *_, event = play(tape, 9, counters, updates_per_round=3)
    assert isinstance(event.failure, FloatingPointError if fail_at is None else NonFiniteLoss)
    assert event.collected is None
    assert len(event.updated) == counters.updates, "what was learned is booked"


# -- two threads and one ---------------------------------------------------------------------------------------------


def run(
    config: RunConfig, hand: Callable[[str], Any], rounds: int, prepare: Callable[[Parts], object] = lambda parts: None
) -> tuple[dict[str, Any], list[Event]]:
    """All state after some rounds, and the events. ``prepare`` may spoil the parts."""
    torch.set_num_threads(1)
    timer = started()
    made = assemble(config, timer)
    parts, counters = replace(made, hand=hand("sampler")), Counters()
    prepare(parts)
    try:
        got = list(islice(events(config, parts, counters, timer), rounds))
    finally:
        assert parts.hand.close()
        parts.sampler.close()
    replay = parts.replay
    state = {
        "learner": parts.learner.state_dict(),
        "sampler": parts.sampler.state_dict(),
        "replay": replay.state_dict(),
        "rows": replay.read_rows(replay.oldest_row, replay.rows_written),
        "counters": (counters.env_steps, counters.updates),
        "costs": [event.costs for event in got],
        "metrics": [update.metrics for event in got for update in event.updated],
    }
    plain = {k: v.detach().float().numpy().copy() if isinstance(v, torch.Tensor) else v for k, v in flat(state)}
    return plain, got


# what the sampler does must depend on the weights of its round, or a mistake would not show
GREEDY = ["explore.epsilon.kind=constant", "explore.epsilon.start=0.1", "agent.learning_rate=1e-2"]
SOON = [*GREEDY, "schedule.warmup_env_steps=16", "agent.batch_size=4"]
CASES: dict[str, tuple[Callable[..., RunConfig], list[str], int]] = {
    "mlp": (cartpole, GREEDY, 80),
    "mlp-3-rows-prioritized": (cartpole, [*SOON, "env.rows=3", "replay.kind=prioritized", "replay.n_step=3"], 50),
    "mlp-counteractive-2-updates": (
        cartpole, [*SOON, "explore.name=counteractive", "schedule.updates_per_round=2"], 50
    ),
    "conv": (breakout, SOON, 22),
    "conv-2-rows-prioritized-bf16": (
        breakout,
        [*SOON, "env.rows=2", "replay.kind=prioritized", "agent.precision=bf16", "schedule.steps_per_round=2"],
        15,
    ),
    "vtrace-lockstep": (vtrace, ["sampler.kind=central", "sampler.lockstep=true", "agent.learning_rate=1e-2"], 20),
}  # fmt: skip
"""Configuration, settings, rounds."""


@pytest.mark.parametrize(("name", "seed"), [("mlp", 1), ("mlp", 2), ("conv", 1), *((name, 0) for name in CASES)])
def test_timing_changes_nothing(name: str, seed: int) -> None:
    build, settings, rounds = CASES[name]
    config = build(LAG, f"seed={seed}", *settings)

    class Jitter(Dawdling):
        pass

    Jitter.seed = seed
    expected, got = run(config, SamplerFirst, rounds)
    assert len(expected) > 30
    assert sum(len(event.updated) for event in got) >= 10
    for hand in (LearnerFirst, Worker, Jitter):
        assert differences(expected, run(config, hand, rounds)[0]) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp", "conv"])
@pytest.mark.parametrize("seed", range(20))
def test_timing_changes_nothing_however_often_it_is_tried(name: str, seed: int) -> None:
    build, settings, rounds = CASES[name]
    config = build(LAG, *settings)

    class Jitter(Dawdling):
        longest_s = (1e-4, 1e-3, 1e-2)[seed % 3]

    Jitter.seed = seed
    assert differences(run(config, SamplerFirst, rounds)[0], run(config, Jitter, rounds)[0]) == []


@pytest.mark.parametrize("name", ["mlp", "conv"])
def test_a_sampler_that_shares_the_weights_of_the_learner_would_be_found(name: str) -> None:
    build, settings, rounds = CASES[name]

    def share(parts: Parts) -> None:
        parts.sampler._policy._may_share = True

    one, other = (run(build(LAG, *settings), hand, rounds, share)[0] for hand in (SamplerFirst, LearnerFirst))
    assert {"learner/online/1.weight", "rows/action"} & set(differences(one, other))


@pytest.mark.parametrize("rows", [1, 2])
def test_every_row_carries_the_version_that_was_published_before_the_updates_of_its_round(rows: int) -> None:
    config = cartpole(LAG, "schedule.updates_per_round=3", f"env.rows={rows}", "schedule.warmup_env_steps=40")
    _, got = run(config, Worker, 60)
    # without the rows between episodes a block could be counted in steps; with them the events say it
    steps, updates, newest = 0, 0, 0
    for number, event in enumerate(got):
        assert event.collected is not None
        acted = np.unique(event.collected.data.version)
        assert acted.tolist() == [newest], f"block {number}"
        assert len(event.updated) == (3 if steps >= 40 else 0)
        steps += event.collected.env_steps
        updates += len(event.updated)
        newest = updates
    assert newest > 100


def test_the_lag_is_real() -> None:
    """Serial and pipelined are two schedules: the same first rounds, other weights in the end."""
    (serial, in_turn), (lagging, in_pipe) = (run(cartpole(lag), Worker, 60) for lag in ("schedule.lag_blocks=0", LAG))
    assert in_turn[0].collected is not None
    assert in_pipe[0].collected is not None
    np.testing.assert_array_equal(in_turn[0].collected.data.obs, in_pipe[0].collected.data.obs)
    assert [len(e.updated) for e in in_turn] == [len(e.updated) for e in in_pipe[1:]] + [1]
    assert "learner/online/1.weight" in differences(serial, lagging)


# -- around it ---------------------------------------------------------------------------------------------------------


def test_another_lag_is_refused() -> None:
    with pytest.raises(UserError, match=r"schedule\.lag_blocks=2: must be 0 \(serial\) or 1 \(pipelined\)"):
        cartpole("schedule.lag_blocks=2")


def test_the_first_line_and_the_bill_say_which_loop_it_is() -> None:
    for lag, name in ((0, "inline"), (1, "inline, pipelined")):
        config = cartpole(f"schedule.lag_blocks={lag}")
        header = header_of(config, device="cpu", folder=Path("run"), resumed_at=None)
        assert header.sampler == about(header)["sampler"] == name


def test_a_checkpoint_of_older_code_is_read() -> None:
    """It knows nothing of a learner that is ahead, nor of meters."""
    config = cartpole(LAG)
    parts = [assemble(config, started()) for _ in range(2)]

    def state_of(p: Parts) -> RunState:
        evaluator = Evaluator(config, p.spec, network_builder(config, p.spec), p.device)
        return RunState(p, Counters(), evaluator, Ledger(), theory_meters(config, p.spec))

    old, new = (state_of(p) for p in parts)
    state = old.state_dict()
    assert "acting" not in state
    del state["counters"]["learner_ahead"], state["theory"]
    assert new.load_state_dict(state) == ()
    assert new.counters == Counters()
    for p in parts:
        p.sampler.close()
