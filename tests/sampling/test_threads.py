"""Groups in threads: failures at fixed steps, restarts within a budget, nothing left afterwards."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sampling_support import SEED, make_rows

from frugalrl.cost.meters import thread_cpu_s
from frugalrl.envs import PROTOCOLS, RowEnv, make_env
from frugalrl.sampling.threads import ThreadTransport
from frugalrl.sampling.transport import Message
from frugalrl.types import EnvFailed, UserError


def broken_in(incarnations: dict[tuple[int, int], dict[str, Any]]) -> Callable[..., RowEnv]:
    """Environments that fail in some (group, incarnation), as ``Counting`` is told."""

    def make(group: int, first_row: int, num_rows: int, incarnation: int) -> RowEnv:
        fault = incarnations.get((group, incarnation), {})
        if fault.get("fault") == "birth" and incarnation:
            raise ZeroDivisionError("no wheel at all")
        return make_rows(**fault)(group, first_row, num_rows, incarnation)

    return make


def drive(transport: ThreadTransport, answers: int, *, seconds: float = 20.0) -> list[Message]:
    """Answer so many messages with action 1."""
    found: list[Message] = []
    until = time.monotonic() + seconds
    while len(found) < answers:
        assert time.monotonic() < until, f"only {len(found)} messages came"
        for message in transport.poll(0.1):
            found.append(message)
            transport.reply(message, np.ones(len(message.step.last), np.int64))
    return found


def test_groups_step_as_rows_of_one_environment_would() -> None:
    transport = ThreadTransport(make_rows(), (2, 1), restarts=0)
    transport.start()
    found = drive(transport, 40)
    transport.close()
    whole = make_env("envs.counting_envs:Counting", protocol=PROTOCOLS["plain"], num_rows=3, seed=SEED, training=True)
    steps = [whole.reset(), *(whole.step(np.ones(3, np.int64)) for _ in range(60))]
    for group, rows in ((0, slice(0, 2)), (1, slice(2, 3))):
        mine = [m for m in found if m.group == group]
        assert [m.seq for m in mine] == list(range(len(mine)))
        assert {m.run_id for m in mine} == {mine[0].run_id}
        assert {m.first_row for m in mine} == {rows.start}
        for message in mine:
            np.testing.assert_array_equal(message.step.obs, steps[message.seq].obs[rows])
            np.testing.assert_array_equal(message.step.valid, steps[message.seq].valid[rows])
    cost = transport.take_costs()["environment"]
    assert cost.calls == sum(m.seq > 0 for m in found)  # the first message of a group says where it stands
    assert cost.env_steps == sum(int(m.step.valid.sum()) for m in found)


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ("raise", "raised", "the wheel came off"),
        ("nan-obs", "bad_data", "its observation holds NaN"),
        ("inf-reward", "bad_data", "it gave the reward inf"),
        ("shape", "raised", "row 1"),
    ],
)
def test_a_failing_environment_is_made_again(fault: str, kind: str, words: str) -> None:
    transport = ThreadTransport(broken_in({(1, 0): {"fault": fault, "fault_step": 3}}), (1, 1), restarts=2)
    transport.start()
    found = drive(transport, 30)
    for _ in range(10_000):  # the other group may go on alone for as long as the new environment takes to be made
        runs = list(dict.fromkeys(m.run_id for m in found if m.group == 1))
        if len(runs) == 2:
            break
        found += drive(transport, 1)
    (report,) = transport.take_faults()
    assert (report.group, report.kind) == (1, kind)
    assert words in report.sentence
    assert len(runs) == 2
    again = [m for m in found if m.run_id == runs[1]]
    assert again[0].seq == 0
    first = next(m for m in found if m.run_id == runs[0])
    assert again[0].step.obs[0, 0] != first.step.obs[0, 0], "it plays the same episodes again"
    assert len({m.run_id for m in found if m.group == 0}) == 1
    transport.close()


@pytest.mark.parametrize("how", ["raise", "birth"])
def test_the_budget_of_restarts_ends_the_run_loudly(how: str) -> None:
    always = {(0, life): {"fault": how if life else "raise", "fault_step": 2} for life in range(9)}
    transport = ThreadTransport(broken_in(always), (1,), restarts=3)
    transport.start()
    with pytest.raises(EnvFailed, match=r"wheel.*started again 3 times before.*sampler.restarts=3"):
        drive(transport, 100)
    kinds = [fault.kind for fault in transport.take_faults()]
    assert kinds == ["raised", *(["birth"] * 3 if how == "birth" else ["raised"] * 3)]
    transport.close()


def test_without_a_budget_the_environment_speaks_for_itself() -> None:
    transport = ThreadTransport(make_rows(fault="raise", fault_step=2), (1,), restarts=0)
    transport.start()
    with pytest.raises(EnvFailed, match=r"the wheel came off\.$"):
        drive(transport, 100)
    transport.close()


def test_wrong_settings_are_told_at_once_and_leave_nothing() -> None:
    def make(group: int, *rest: int) -> RowEnv:
        if group:
            raise UserError("no such game")
        return made

    made = make_rows()(0, 0, 1, 0)
    closed: list[bool] = []
    made.close = lambda: closed.append(True)  # type: ignore[method-assign]
    with pytest.raises(UserError, match="no such game"):
        ThreadTransport(make, (1, 1))
    assert closed == [True]


class Stuck:
    """A lock that the test holds while an environment is to hang: in a step, or already in its first reset."""

    def __init__(self, *, at_birth: bool = False) -> None:
        self.go, self.hanging, self.at_birth = threading.Event(), threading.Event(), at_birth

    def rows(self, group: int, first_row: int, num_rows: int, incarnation: int) -> RowEnv:
        env = make_rows()(group, first_row, num_rows, incarnation)
        if group == 0 and incarnation == 0 and self.at_birth:
            reset = env.reset

            def hang_at_birth() -> Any:
                self.hanging.set()
                self.go.wait(30)
                return reset()

            env.reset = hang_at_birth  # type: ignore[method-assign]
        elif group == 0 and incarnation == 0:
            step, calls = env.step, [0]

            def hang(action: Any) -> Any:
                calls[0] += 1
                if calls[0] == 3:
                    self.hanging.set()
                    self.go.wait(30)
                return step(action)

            env.step = hang  # type: ignore[method-assign]
        return env


def test_an_environment_that_hangs_is_left_behind() -> None:
    stuck = Stuck()
    transport = ThreadTransport(stuck.rows, (1, 1), restarts=1, hang_s=1.5)
    transport.start()
    found: list[Message] = []
    while len({m.run_id for m in found}) < 3:
        found += drive(transport, 5)
    (fault,) = transport.take_faults()
    assert (fault.group, fault.kind) == (0, "hung")
    assert "took longer than 1.5 s" in fault.sentence
    drive(transport, 10)
    stuck.go.set()
    assert {m.run_id for m in drive(transport, 20)} <= {m.run_id for m in found[-3:]} | {
        life.run_id for life in transport._lives
    }
    transport.close()


def test_a_first_reset_that_hangs_keeps_no_other_group_waiting() -> None:
    stuck = Stuck(at_birth=True)
    transport = ThreadTransport(stuck.rows, (1, 1), restarts=1, hang_s=1.0)
    transport.start()
    assert stuck.hanging.wait(10)
    assert {m.group for m in drive(transport, 5)} == {1}  # long before anyone is found to hang
    found: list[Message] = []
    while {m.group for m in found} != {0, 1}:
        found += drive(transport, 1)
    (fault,) = transport.take_faults()
    assert (fault.group, fault.kind) == (0, "hung")
    stuck.go.set()
    transport.close()


def test_a_process_that_was_stopped_finds_no_hung_environment() -> None:
    """As after Ctrl-Z and fg: the clock ran on, and nobody looked."""
    stuck = Stuck()
    transport = ThreadTransport(stuck.rows, (1, 1), restarts=1, hang_s=1.0)
    transport.start()
    while not stuck.hanging.is_set():
        drive(transport, 1)
    time.sleep(1.2)
    for message in transport.poll(0):
        transport.reply(message, np.ones(1, np.int64))
    assert transport.take_faults() == ()
    stuck.go.set()
    drive(transport, 8)
    assert transport.take_faults() == ()
    transport.close()


def test_close_does_not_wait_for_an_environment_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frugalrl.sampling.threads._CLOSE_S", 0.3)
    monkeypatch.setattr("frugalrl.sampling.threads._LIVE_S", 0.05)
    stuck, before = Stuck(), threading.active_count()
    transport = ThreadTransport(stuck.rows, (1, 1))
    transport.start()
    while transport.live_rows() == 2:  # while the hanging group still counts
        drive(transport, 2)
        time.sleep(0.01)
    began = time.monotonic()
    transport.close()
    assert time.monotonic() - began < 2.0
    assert threading.active_count() == before + 1
    stuck.go.set()
    for thread in threading.enumerate():
        if thread.name.startswith("environments"):
            thread.join(5)
    assert threading.active_count() == before


def test_an_answer_to_a_dead_incarnation_is_dropped() -> None:
    transport = ThreadTransport(broken_in({(0, 0): {"fault": "raise", "fault_step": 2}}), (1,))
    transport.start()
    found = drive(transport, 4)
    transport.reply(found[0], np.zeros(1, np.int64))
    assert found[0].run_id != found[-1].run_id
    assert [m.seq for m in drive(transport, 2)] == [found[-1].seq + 1, found[-1].seq + 2]
    transport.close()


def test_the_clocks_of_its_threads_can_be_read() -> None:
    transport = ThreadTransport(make_rows(), (1, 1))
    transport.start()
    drive(transport, 20)
    ids = transport.thread_ids()
    assert len(ids) == 2
    assert threading.get_native_id() not in ids
    assert all((thread_cpu_s(tid) or 0.0) > 0.0 for tid in ids)
    transport.close()


def first_observations(transport: ThreadTransport) -> dict[int, float]:
    """By group, of two; one thread may be many steps ahead of the other."""
    found: dict[int, float] = {}
    for _ in range(10_000):
        found |= {m.group: float(m.step.obs[0, 0]) for m in drive(transport, 1) if m.seq == 0}
        if len(found) == 2:
            break
    return found


def test_what_cannot_be_restored_plays_other_episodes() -> None:
    first = ThreadTransport(make_rows(), (1, 1))
    first.start()
    before = first_observations(first)
    state = first.state_dict()
    first.close()
    second = ThreadTransport(make_rows(), (1, 1))
    second.load_state_dict(state)
    assert second.not_restored == (0, 1)
    second.start()
    after = first_observations(second)
    assert before[0] != after[0]
    assert before[1] != after[1]
    second.close()
