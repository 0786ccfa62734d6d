"""What may happen to worker processes: each fault at a fixed step, and what the run sees of it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_processes import agree, oracle
from worker_help import act, drive, is_alive, open_fds, plan, shared_memory, wait_for, workers

from frugalrl.sampling.transport import Fault, Message
from frugalrl.types import EnvFailed

# fault of each life, its kind, its sentence
LIVES = [
    ("step:raise", "raised", r"row 0, step 3 of .*: stepping it failed with ZeroDivisionError: the wheel came off\."),
    ("reset:raise", "raised", r"row 0, step 0 of .*: resetting it failed with ZeroDivisionError: the wheel came off\."),
    ("birth:raise", "birth", r"Cannot make process_envs:Faulty .*: ZeroDivisionError: the wheel came off\."),
    ("step:nan", "bad_data", r"row 0, step 3 of .*: its observation holds NaN\."),
    ("step:shape", "bad_data", r"row 0, step 3 of .*: the observation has shape \(3,\) but its space says \(2,\)"),
    ("step:exit", "died", r"Worker process 0 of process_envs:Faulty ended with exit code 7 while it stepped group 0\."),
    ("reset:segfault", "died", r"Worker process 0 of .* was killed by SIGSEGV while it reset group 0\."),
    ("step:sys-exit", "raised", r"step 3 of the episode with seed \d+: stepping it failed with SystemExit: enough\."),
    ("step:hang", "hung", r"Worker process 0 of .* no sign of life for 0\.6 s while it stepped group 0\."),
]


@pytest.fixture(scope="module")
def many_lives(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Message], tuple[Fault, ...], float]:
    """One worker that fails nine times, each time in another way; then nothing happens to it."""
    fds = open_fds()
    of = plan(faults=[fault for fault, _, _ in LIVES], lives=str(tmp_path_factory.mktemp("lives")))
    with workers(of, rows=1, hang_s=0.6, restarts=len(LIVES)) as transport:
        transport.start()
        seen = drive(transport, lambda seen: sum(m.seq == 8 for m in seen) == 1, within_s=90.0)
        faults = transport.take_faults()
        calls = transport.take_costs()["environment"].calls
        assert transport.live_rows() == 1
    assert open_fds() == fds
    return seen, faults, calls


@pytest.mark.parametrize("life", range(len(LIVES)), ids=[fault for fault, _, _ in LIVES])
def test_each_fault_has_its_kind_and_its_sentence(many_lives, life: int) -> None:
    _, faults, _ = many_lives
    assert len(faults) == len(LIVES)
    _, kind, sentence = LIVES[life]
    assert (faults[life].group, faults[life].kind) == (0, kind)
    assert re.search(sentence, faults[life].sentence), faults[life].sentence
    assert faults[life].sentence.endswith(f"Started again with new episodes (restart {life + 1} of {len(LIVES)}).")


def test_each_life_has_its_own_id_counts_from_0_and_plays_its_own_episodes(many_lives) -> None:
    seen, _, calls = many_lives
    ids = list(dict.fromkeys(m.run_id for m in seen))
    lives = [[m for m in seen if m.run_id == run_id] for run_id in ids]
    assert [m for life in lives for m in life] == seen, "two lives came mixed"
    # lives that ended in their reset or before it sent nothing
    assert [len(life) for life in lives] == [3, 3, 3, 3, 3, 3, 9]
    assert calls - sum(len(life) - 1 for life in lives) in (0, 1)  # the last answer may have been stepped already
    assert all([m.seq for m in life] == list(range(len(life))) for life in lives)
    first = [float(life[0].step.obs[0, 0]) for life in lives]
    assert len(set(first)) == len(first)
    clean = plan()
    for life, incarnation in zip(lives, (0, 3, 4, 5, 7, 8, 9), strict=True):
        assert agree(life, oracle(clean, life[0], len(life), incarnation))


def test_kill_9_twice_in_a_row_stops_nobody_else() -> None:
    with workers(plan(), rows=4, count=2, groups=2) as transport:
        transport.start()
        drive(transport, lambda seen: {m.group for m in seen if m.seq == 4} == {0, 1, 2, 3})
        killed = transport.pids[1]
        held: list[Message] = []
        while not held:
            for message in transport.poll(5.0):
                held.append(message) if message.group >= 2 else transport.reply(message, act(message))
        os.kill(killed, signal.SIGKILL)
        drive(transport, lambda seen: transport.pids[1] != killed)
        assert transport.live_rows() == 2  # those that can be waited for
        for message in held:
            transport.reply(message, act(message))  # an answer to somebody who is gone
        os.kill(again := transport.pids[1], signal.SIGKILL)
        seen = drive(transport, lambda seen: {m.group for m in seen if m.seq == 4} >= {2, 3})
        assert transport.live_rows() == 4
        assert not is_alive(killed)
        assert not is_alive(again)
        assert len(transport.pids) == 2
        faults = transport.take_faults()
    assert [(f.group // 2, f.kind) for f in faults] == [(1, "died"), (1, "birth")]
    assert "was killed by SIGKILL" in faults[0].sentence
    others = [m for m in seen if m.group < 2]
    assert len(others) > 20, "the other worker waited"
    assert len({m.run_id for m in others}) == 1
    for group in (2, 3):
        life = [m for m in seen if m.group == group]
        assert [m.seq for m in life] == list(range(len(life)))
        assert agree(life, oracle(plan(), life[0], len(life), incarnation=2))


def test_a_stopped_worker_is_not_waited_for_and_started_again() -> None:
    with workers(plan(), rows=2, hang_s=1.5) as transport:
        transport.start()
        drive(transport, lambda seen: transport.live_rows() == 2)
        (stopped,) = transport.pids
        os.kill(stopped, signal.SIGSTOP)
        drive(transport, lambda seen: transport.live_rows() == 0)
        assert transport.pids == (stopped,)
        drive(transport, lambda seen: any(m.seq == 3 for m in seen))
        assert transport.pids != (stopped,)
        assert transport.live_rows() == 2
        (fault,) = transport.take_faults()
    assert fault.kind == "hung"
    assert "no sign of life for 1.5 s while it" in fault.sentence


@pytest.mark.parametrize(("restarts", "told"), [(0, "allows no restart"), (1, "started again once before")])
def test_when_the_restarts_are_spent_the_run_fails_with_the_last_cause(restarts: int, told: str) -> None:
    with workers(plan(faults=["step:raise"]), rows=2, restarts=restarts) as transport:
        transport.start()
        with pytest.raises(EnvFailed, match=f"the wheel came off.*{told}") as failed:
            drive(transport, lambda seen: False)
        with pytest.raises(EnvFailed) as again:
            transport.poll(0.0)
        assert str(again.value) == str(failed.value)
        assert [f.kind for f in transport.take_faults()] == ["raised"] * (restarts + 1)


def test_workers_that_die_while_they_are_born_spend_the_restarts_too() -> None:
    with workers(plan(faults=["birth:exit"]), restarts=1) as transport:
        with pytest.raises(EnvFailed, match="ended with exit code 7 while it made its environments"):
            transport.start()
        assert not any(is_alive(pid) for pid in transport.pids)


def test_an_environment_that_hangs_does_not_hold_up_the_end_and_takes_its_children_along() -> None:
    with workers(plan(faults=["step:child-and-hang"]), rows=1) as transport:
        transport.start()
        drive(transport, lambda seen: len(seen) >= 3)
        (pid,) = transport.pids
        assert wait_for(lambda: len(group_of(pid)) == 2)
        before = time.monotonic()
        transport.close()
        assert time.monotonic() - before < 4.0
        assert wait_for(lambda: group_of(pid) == [])


def group_of(leader: int) -> list[int]:
    """Live processes of a process group."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            if os.getpgid(int(name)) == leader and is_alive(int(name)):
                found.append(int(name))
        except ProcessLookupError:
            continue
    return found


PARENT = """
import sys, time
sys.path[:0] = {path!r}
from worker_help import plan, drive, workers
with workers(plan(), rows=2, groups=2) as calm, workers(plan(faults=["step:hang-in-c"]), rows=1) as hung:
    calm.start(); hung.start()
    drive(calm, lambda seen: len(seen) > 5); drive(hung, lambda seen: len(seen) >= 3)
    print(*calm.pids, *hung.pids, flush=True)
    time.sleep(60)
"""


def test_kill_9_of_the_parent_leaves_no_worker_and_no_memory() -> None:
    shm = shared_memory()
    here = Path(__file__).parent
    code = PARENT.format(path=[str(here)])
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == 2
        assert all(is_alive(pid) for pid in pids)
        parent.kill()
    assert wait_for(lambda: not any(is_alive(pid) for pid in pids), within_s=2.0)
    assert shared_memory() == shm
