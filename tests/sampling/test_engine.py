"""The engine's rules, on a clock that only the transport moves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sampling_support import Linear, Remembering, cost_of, exploring, running_timer
from scripted import SPEC, Clock, Die, PlannedActors, Say, ScriptedTransport

from frugalrl.math.explore import EXPLORERS
from frugalrl.replay.unrolls import UnrollStore
from frugalrl.sampling.chooser import Chooser
from frugalrl.sampling.config import SamplerConfig
from frugalrl.sampling.engine import Engine
from frugalrl.sampling.incarnations import Incarnations
from frugalrl.sampling.row_actor import RowActor
from frugalrl.types import RunFailed, Unroll

CONFIG = SamplerConfig(kind="central", deadline_ms=15.0, live_share=1 / 3)


def engine_for(
    transport: Any,
    policy: Any = None,
    config: SamplerConfig = CONFIG,
    length: int = 4,
    **explore: Any,
) -> Engine:
    policy = policy or Linear()
    settings_ = exploring(**explore)
    rows = transport.num_rows
    chooser = Chooser(EXPLORERS[settings_.name], settings_, SPEC, rows, seed=3, needs_log_mu=True)
    actor = RowActor(policy, chooser, rows, forward_cost=cost_of, clock=transport.clock)
    store = UnrollStore(SPEC, rows, length=length, state=policy.initial_state(rows))
    return Engine(transport, actor, store, config, timer=running_timer(), clock=transport.clock)


def run(engine: Engine, until: float, clock: Clock) -> list[tuple[Unroll, np.ndarray]]:
    ready = []
    while clock.now < until:
        ready += engine.turn(0.05)
    return ready


def answered(transport: ScriptedTransport) -> list[tuple[int, int, int]]:
    """(group, seq, milliseconds)"""
    return [(g, seq, round(at * 1000)) for g, _, seq, _, at in transport.replies]


def scripted(events: list[Any], groups: tuple[int, ...], **more: Any) -> ScriptedTransport:
    return ScriptedTransport(events, groups, Clock(), **more)


# -- the three rules -------------------------------------------------------------------------------------------------


def test_a_full_batch_is_run_at_once() -> None:
    transport = scripted([Say(0.001, 0, 10, 0), Say(0.002, 1, 11, 0)], (2, 2, 2))
    policy = Linear()
    engine = engine_for(transport, policy, replace(CONFIG, max_batch_rows=4, live_share=1.0))
    run(engine, 0.05, transport.clock)
    assert answered(transport) == [(0, 0, 2), (1, 0, 2)]
    assert policy.sizes == [4]
    assert engine.statistics().by_rule == {"full": 1, "share": 0, "deadline": 0}


def test_a_third_of_the_live_rows_is_enough() -> None:
    transport = scripted([Say(0.001, 0, 10, 0)], (2, 2, 2))
    engine = engine_for(transport)
    run(engine, 0.05, transport.clock)
    assert answered(transport) == [(0, 0, 1)]
    assert engine.statistics().by_rule["share"] == 1


def test_the_oldest_request_waits_for_the_deadline_at_most() -> None:
    transport = scripted([Say(0.001, 0, 10, 0), Say(0.009, 1, 11, 0)], (1,) * 8)
    engine = engine_for(transport)
    run(engine, 0.05, transport.clock)
    assert answered(transport) == [(0, 0, 16), (1, 0, 16)]
    statistics = engine.statistics()
    assert statistics.by_rule["deadline"] == 1
    assert statistics.fill == pytest.approx(2 / 8)
    assert statistics.queue_s is not None
    assert statistics.queue_s.p99 == pytest.approx(0.015, abs=1e-3)


def test_live_counts_not_the_configured_number() -> None:
    """SEED's deadlock: fewer environments are alive than a batch has. A third of the live ones is enough, and without
    that the deadline."""
    dead = [Die(0.0, group) for group in range(2, 8)]
    transport = scripted([*dead, Say(0.001, 0, 10, 0)], (1,) * 8)
    engine = engine_for(transport, config=replace(CONFIG, max_batch_rows=8))
    run(engine, 0.05, transport.clock)
    assert answered(transport) == [(0, 0, 1)]
    assert engine.statistics().live_rows == 2
    nobody = scripted([Die(0.0, g) for g in range(8)], (1,) * 8)
    run(engine_for(nobody), 0.05, nobody.clock)
    assert nobody.replies == []


def test_the_rule_test_is_not_blind() -> None:
    """With the configured number the request would have waited for the deadline."""
    transport = scripted([Say(0.001, 0, 10, 0)], (1,) * 8)
    run(engine_for(transport), 0.05, transport.clock)
    assert answered(transport) == [(0, 0, 16)]


def test_a_batch_holds_no_more_than_it_may() -> None:
    events = [Say(0.001, group, 10 + group, 0) for group in range(5)]
    transport, policy = scripted(events, (2,) * 5), Linear()
    run(engine_for(transport, policy, replace(CONFIG, max_batch_rows=4, live_share=1.0)), 0.05, transport.clock)
    assert policy.sizes == [4, 4, 2]
    assert [ms for _, _, ms in answered(transport)] == [1, 1, 1, 1, 16]


def test_a_group_larger_than_a_batch_is_answered_alone() -> None:
    transport, policy = scripted([Say(0.001, 0, 1, 0), Say(0.001, 1, 2, 0)], (6, 2)), Linear()
    run(engine_for(transport, policy, replace(CONFIG, max_batch_rows=4)), 0.05, transport.clock)
    assert policy.sizes == [6, 2]


# -- incarnations ----------------------------------------------------------------------------------------------------


def test_a_repeated_request_is_answered_again_and_stored_once() -> None:
    events = [Say(0.01 * t, 0, 10, t) for t in range(3)]
    retries = [Say(0.025, 0, 10, 2), Say(0.028, 0, 10, 1)]
    more = [Say(0.01 * t, 0, 10, t) for t in range(3, 5)]
    transport = scripted([*events, *retries, *more], (2,))
    engine = engine_for(transport)
    ((unroll, rows),) = run(engine, 0.1, transport.clock)
    assert unroll.obs[:, 0, 1].tolist() == [0, 1, 2, 3, 4]
    assert rows.tolist() == [0, 1]
    of_two = [actions for _, _, seq, actions, _ in transport.replies if seq == 2]
    assert len(of_two) == 2
    assert of_two[0] == of_two[1]
    assert engine.statistics().repeated == 2
    assert engine.env_steps == 8


def test_a_repeated_request_that_still_waits_is_answered_once() -> None:
    transport = scripted([Say(0.001, 0, 10, 0), Say(0.005, 0, 10, 0)], (1,) * 8)
    run(engine_for(transport), 0.05, transport.clock)
    assert answered(transport) == [(0, 0, 16)]


def test_a_new_incarnation_begins_anew_and_the_open_unroll_is_lost() -> None:
    before = [Say(0.01 * t, 0, 10, t) for t in range(4)]
    after = [Say(0.1 + 0.01 * t, 0, 20, t) for t in range(6)]
    late = [Say(0.115, 0, 10, 4)]
    transport = scripted([*before, Die(0.05, 0), *after, *late], (2,))
    engine = engine_for(transport, Remembering())
    ((unroll, _),) = run(engine, 0.3, transport.clock)
    assert (unroll.obs[..., 0] == 20).all()
    assert (unroll.state_at_start["h"] == 0).all()
    assert (unroll.state_at_start["action_tm1"] == -1).all()
    statistics = engine.statistics()
    assert (statistics.restarts, statistics.dropped_steps, statistics.repeated) == (1, 6, 1)


def test_of_two_incarnations_in_one_batch_the_newer_one_is_answered() -> None:
    """SEED asserts here, and inference ends."""
    events = [Say(0.001, 0, 10, 0), Say(0.002, 0, 20, 0), Say(0.003, 0, 30, 0), Say(0.004, 0, 20, 1)]
    transport = scripted(events, (1,) * 8)
    engine = engine_for(transport)
    run(engine, 0.05, transport.clock)
    assert [(run_id, seq) for _, run_id, seq, _, _ in transport.replies] == [(30, 0)]
    assert engine.statistics().restarts == 2


def test_a_step_that_is_missing_is_an_error_that_names_it() -> None:
    skips = scripted([Say(0.0, 0, 10, 0), Say(0.01, 0, 10, 2)], (1,))
    with pytest.raises(RunFailed, match="Group 0 sent step 2 where step 1 was expected"):
        run(engine_for(skips), 0.1, skips.clock)
    late = scripted([Say(0.0, 1, 10, 3)], (1, 1))
    with pytest.raises(RunFailed, match="Group 1 sent step 3 where step 0 was expected"):
        run(engine_for(late), 0.1, late.clock)
    early = scripted([Say(0.0, 0, 10, 0), Say(0.001, 0, 10, 1)], (1, 9))
    with pytest.raises(RunFailed, match="sent step 1 before step 0 was answered"):
        run(engine_for(early), 0.1, early.clock)


# -- whatever order messages come in ---------------------------------------------------------------------------------

ACTS = st.sampled_from(["step"] * 12 + ["again", "restart", "old"])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), ACTS), min_size=30, max_size=120), st.sampled_from([0, 2]))
def test_what_is_stored_is_what_was_sent_once_and_in_order(plan: list[tuple[int, str]], overlap: int) -> None:
    transport = PlannedActors([], (1, 2, 1), Clock(), plan=list(plan))
    policy = Remembering()
    engine = engine_for(transport, policy, replace(CONFIG, deadline_ms=1.0))
    engine._store = UnrollStore(SPEC, 4, length=4, overlap=overlap, state=policy.initial_state(4))
    found: dict[tuple[int, int], list[tuple[Unroll, int]]] = {}
    for _ in range(len(plan) + 5):
        for unroll, rows in engine.turn(0.02):
            for column, row in enumerate(rows.tolist()):
                run_ids = set(unroll.obs[:, column, 0].tolist())
                assert len(run_ids) == 1, "an unroll holds two incarnations"
                found.setdefault((row, int(run_ids.pop())), []).append((unroll, column))
    assert engine.statistics().rows >= len(found)
    for (row, run_id), unrolls in found.items():
        _check_row(transport, policy, row, run_id, unrolls, overlap)


@pytest.mark.parametrize(("blind", "seen"), [("drop", "two incarnations"), ("again", "another answer")])
def test_the_order_test_is_not_blind(monkeypatch: pytest.MonkeyPatch, blind: str, seen: str) -> None:
    """An engine that keeps the open unroll of a dead incarnation, or stores a retry once more, fails it."""
    plan = [(0, "step")] * 3 + [(0, "restart" if blind == "drop" else "again")] + [(0, "step")] * 26
    check = test_what_is_stored_is_what_was_sent_once_and_in_order.hypothesis.inner_test  # type: ignore[attr-defined]
    check(plan, 0)
    if blind == "drop":
        monkeypatch.setattr(UnrollStore, "drop", lambda self, rows: 0)
    else:
        judge = Incarnations.judge

        def trusting(self: Incarnations, message: Any) -> str:
            verdict = judge(self, message)
            return "next" if verdict == "again" else verdict

        monkeypatch.setattr(Incarnations, "judge", trusting)
    with pytest.raises(AssertionError, match=seen):
        check(plan, 0)


def _check_row(
    transport: PlannedActors, policy: Remembering, row: int, run_id: int, unrolls: list[Any], overlap: int
) -> None:
    """Steps, actions, ends and recurrent state of one row, recomputed from what was sent and answered."""
    group = run_id // 100
    place = row - transport.first(group)
    sent = transport.sent[group, run_id]
    state = policy.initial_state(1)
    states = []
    for seq, step in enumerate(sent):
        if seq and step.valid[place]:
            action = transport.given[group, run_id, seq - 1][place]
            state = {**state, "action_tm1": np.array([action]), "reward_tm1": step.reward[place : place + 1]}
        else:
            state = policy.initial_state(1)
        states.append(state)
        state = dict(policy.values(step.obs[place : place + 1], state)[1])
    for count, (unroll, column) in enumerate(unrolls):
        begin = count * (4 - overlap)
        assert unroll.obs[:, column, 1].tolist() == list(range(begin, begin + 5))
        for t in range(4):
            step = sent[begin + t + 1]
            assert unroll.action[t, column] == transport.given[group, run_id, begin + t][place]
            for name in ("reward", "discount", "last", "valid"):
                assert getattr(unroll, name)[t, column] == getattr(step, name)[place]
            assert np.isnan(unroll.log_mu[t, column]) == (not step.valid[place])
        for name, array in states[begin].items():
            np.testing.assert_allclose(unroll.state_at_start[name][column], array[0], atol=1e-12)


def test_the_draws_of_a_row_do_not_depend_on_who_comes_first() -> None:
    def play(order: list[int]) -> dict[tuple[int, int], list[int]]:
        transport = PlannedActors([], (2, 2), Clock(), plan=[(g, "step") for g in order])
        engine = engine_for(transport, config=replace(CONFIG, deadline_ms=1.0))
        for _ in range(len(order) + 3):
            engine.turn(0.02)
        return {(g, seq): actions for (g, _, seq), actions in transport.given.items()}

    one, two = play([0, 1] * 20), play([0, 0, 1, 1, 1, 0] * 7)
    common = one.keys() & two.keys()
    assert len(common) > 30
    assert all(one[key] == two[key] for key in common)


def test_steps_carry_the_version_that_chose_them() -> None:
    transport, policy = scripted([Say(0.01 * t, 0, 10, t) for t in range(5)], (1,)), Linear()
    engine = engine_for(transport, policy)
    ready = []
    for version in range(1, 12):
        policy.version = version
        ready += engine.turn(0.01)
    ((unroll, _),) = ready
    versions = unroll.version[:, 0].tolist()
    assert versions == sorted(versions)
    assert len(set(versions)) == 4
