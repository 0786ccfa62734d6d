from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import timeit

import pytest
from cost_loads import Worker, burn

from frugalrl.cost import LapTimer, Ledger, NativeThreads, ProcessClock, ThreadClock
from frugalrl.cost.meters import (
    CheapClock,
    per_thread_clocks_work,
    thread_cpu_s,
    thread_ids,
    threads_made_by,
    unclaimed_threads,
)

needs_clocks = pytest.mark.skipif(not per_thread_clocks_work(), reason="no per-thread CPU clocks on this system")


def test_known_loads_are_found_in_their_roles() -> None:
    loads = {"environment": 0.05, "inference": 0.1, "learner": 0.25}
    timer = LapTimer()
    timer.start()
    for part in range(5):
        for role, load in loads.items():
            burn(load / 5)
            timer.lap(role)
        assert part >= 0
    costs = timer.take()
    assert set(costs) == set(loads)
    for role, load in loads.items():
        assert costs[role].cpu_s == pytest.approx(load, rel=0.1)
        assert costs[role].busy_s is not None
        assert costs[role].busy_s >= costs[role].cpu_s * 0.99


@needs_clocks
def test_native_threads_are_found_in_their_role_and_sums_agree_with_the_system() -> None:
    ledger = Ledger(whole_process=False)
    before = sum(os.times()[:2])
    timer = LapTimer()
    with Worker() as worker:
        native = NativeThreads("environment", [worker.tid])
        ledger.follow(timer)
        ledger.follow(native)
        timer.start()
        for _ in range(4):
            worker.work(0.1)
            timer.lap("environment")
            burn(0.05)
            timer.lap("learner")
        ledger.settle()
        totals = ledger.totals()
        spent = sum(os.times()[:2]) - before
    assert totals["environment"].cpu_s == pytest.approx(worker.used_s, rel=0.1)
    assert worker.used_s >= 0.4
    assert totals["learner"].cpu_s == pytest.approx(0.2, rel=0.1)
    charged = sum(c.cpu_s or 0.0 for role, c in totals.items() if role != "unassigned")
    # os.times counts in ticks of 10 ms
    assert charged == pytest.approx(spent, rel=0.03, abs=0.02)
    assert totals["unassigned"].cpu_s == pytest.approx(0.0, abs=0.03 * spent)


@needs_clocks
def test_a_caller_clock_alone_misses_the_native_load() -> None:
    """The wrong way, which must fail: what thread_time of the caller sees of a native pool is next to nothing."""
    with Worker() as worker:
        timer = LapTimer()
        timer.start()
        worker.work(0.1)
        timer.lap("environment")
        assert (timer.take()["environment"].cpu_s or 0.0) < 0.05


@needs_clocks
def test_shared_pool_threads_are_charged_to_the_lap_in_which_they_work() -> None:
    with Worker() as pool:
        timer = LapTimer()
        timer.watch([pool.tid])
        timer.start()
        pool.work(0.1)
        timer.lap("learner")
        pool.work(0.05)
        timer.lap("inference")
        pool.work(0.05)
        timer.start()
        timer.lap("replay")
        costs = timer.take()
    assert costs["learner"].cpu_s == pytest.approx(0.1, rel=0.1)
    assert costs["inference"].cpu_s == pytest.approx(0.05, rel=0.1)
    assert (costs["replay"].cpu_s or 0.0) < 0.01


def test_a_new_start_drops_the_interval_and_take_clears() -> None:
    timer = LapTimer()
    timer.start()
    burn(0.05)
    timer.start()
    burn(0.02)
    timer.lap("target")
    assert timer.take()["target"].cpu_s == pytest.approx(0.02, rel=0.1)
    assert timer.take() == {}


def test_take_from_another_thread_loses_nothing() -> None:
    timer, taken, stop = LapTimer(), [], threading.Event()

    def reader() -> None:
        while not stop.is_set():
            taken.append(timer.take())
            time.sleep(0.001)

    thread = threading.Thread(target=reader)
    timer.start()
    start = time.thread_time()
    thread.start()
    while time.thread_time() < start + 0.1:
        timer.lap("learner")
        timer.lap("replay")
    spent = time.thread_time() - start
    stop.set()
    thread.join()
    taken.append(timer.take())
    assert sum(cost.cpu_s or 0.0 for costs in taken for cost in costs.values()) == pytest.approx(spent, rel=0.02)


def test_lap_needs_a_start_and_a_known_role() -> None:
    timer = LapTimer()
    with pytest.raises(RuntimeError, match="start"):
        timer.lap("learner")
    timer.start()
    with pytest.raises(KeyError):
        timer.lap("lerner")


def test_a_lap_is_cheap() -> None:
    """About a microsecond on a quiet core; the bar is for any machine, in CPU-seconds."""
    timer = LapTimer()
    timer.start()
    times = timeit.repeat(lambda: timer.lap("learner"), number=5_000, repeat=5, timer=time.thread_time)
    assert min(times) / 5_000 < 10e-6


@needs_clocks
def test_an_ended_thread_adds_nothing_more() -> None:
    with Worker() as worker:
        clock = ThreadClock([worker.tid])
        worker.work(0.05)
        assert clock.growth() == pytest.approx(0.05, rel=0.1)
        tid = worker.tid
    deadline = time.monotonic() + 5
    while tid in thread_ids() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert clock.growth() == 0.0
    assert clock.tids == ()
    assert thread_cpu_s(tid) is None


@needs_clocks
def test_a_thread_that_never_was_counts_nothing() -> None:
    assert ThreadClock([2**22 + 5]).growth() == 0.0


def test_where_clocks_do_not_work_the_answer_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frugalrl.cost.meters._LINUX", False)
    clock = ThreadClock([threading.get_native_id()])
    assert clock.growth() is None
    assert NativeThreads("environment", [threading.get_native_id()]).take().cpu_s is None
    assert thread_ids() == frozenset()


@needs_clocks
def test_new_threads_are_found() -> None:
    worker, tids = threads_made_by(lambda: Worker().__enter__())
    assert tids == (worker.tid,)
    assert worker.tid not in unclaimed_threads(), "Python made it"
    worker.__exit__(None, None, None)


@needs_clocks
def test_pool_threads_of_torch_are_found() -> None:
    code = """
import torch
from frugalrl.cost import threads_made_by, unclaimed_threads
torch.set_num_threads(2)
_, made = threads_made_by(lambda: torch.ones(2_000_000).sin().sum())
assert len(made) == 1, made
assert set(made) <= set(unclaimed_threads())
assert not set(made) & set(unclaimed_threads(made))
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_process_clock_counts_children_and_memory() -> None:
    clock = ProcessClock(whole_process=False)
    burn(0.05)
    code = "import time\nwhile time.process_time() < 0.2: pass\nprint(1, flush=True)\ninput()"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    alive = clock.cpu_s()
    assert alive > 0.2
    child.communicate(b"\n")
    used = clock.read()
    assert 0.24 < used.cpu_s < 2, "its children are still in the sum when they have ended"
    assert used.wall_s > 0
    assert used.peak_rss_bytes is not None
    assert used.peak_rss_bytes > 5e6


def test_the_clock_that_is_cheap_sees_children_within_a_second() -> None:
    """What a worker process did after the last checkpoint is redone work like any other."""
    clock = CheapClock(10.0, 20.0)
    burn(0.05)
    code = "import time\nwhile time.process_time() < 0.3: pass\ninput()"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    time.sleep(1.0)
    began = time.monotonic()
    while (cpu_s := clock.read()[0]) < 10.34:
        assert time.monotonic() - began < 30
        time.sleep(0.02)
    child.communicate(b"\n")
    assert cpu_s < 12
    assert clock.read()[1] > 21.0
    clock = CheapClock(10.0, 20.0)
    assert clock.read()[0] < 10.2, "what ended before is not counted again"


def test_whole_process_clock_sees_the_imports_and_not_what_the_process_was_before() -> None:
    """A shell that became this program has waited for children and has been waiting: neither is start-up."""
    code = (
        "import time, os; from frugalrl.cost.meters import ProcessClock; sum(range(10**6)); clock = ProcessClock(); "
        "print(clock.cpu_s(), time.process_time(), clock.wall_s())"
    )
    burn = f"{sys.executable} -c 'sum(range(3 * 10**7))'; sleep 1"
    done = subprocess.run(
        ["bash", "-c", f'{burn}; exec {sys.executable} -c "{code}"'], capture_output=True, text=True, check=True
    )
    cpu_s, own_s, wall_s = map(float, done.stdout.split())
    assert cpu_s == pytest.approx(own_s, rel=0.05)
    assert 0 < wall_s < 1


def test_what_a_shell_had_started_before_it_became_this_program_is_not_counted() -> None:
    """As in an entry point of a container: ``monitor & exec frugal train ...``."""
    code = (
        "from frugalrl.cost.meters import ProcessClock; import time; clock = ProcessClock(); time.sleep(1.5); "
        "print(clock.cpu_s(), time.process_time(), clock.read().peak_rss_bytes)"
    )
    monitor = f"{sys.executable} -c 'x = bytearray(3 * 10**8)\nwhile True: sum(range(10**6))' > /dev/null 2>&1 &"
    shell = f'{monitor} echo $!; exec {sys.executable} -c "{code}"'
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True)
    pid, cpu_s, own_s, peak = map(float, done.stdout.split())
    os.kill(int(pid), signal.SIGKILL)
    assert cpu_s == pytest.approx(own_s, rel=0.05)
    assert peak < 2e8


@pytest.mark.skipif(not per_thread_clocks_work(), reason="needs per-thread clocks")
def test_a_thread_that_has_a_clock_is_claimed_by_no_other() -> None:
    """On a loaded machine the pool of an environment, or of the learner, may still run when the sampler looks."""
    code = """
import torch
from frugalrl.cost.meters import LapTimer, threads_that_worked
torch.set_num_threads(2)
work = lambda: torch.ones(1 << 22).add_(1)
timer = LapTimer()
assert timer.watched == ()
timer.watch(threads_that_worked(work))
assert timer.watched
assert threads_that_worked(work)
assert not set(timer.watched) & set(threads_that_worked(work, timer.watched))
"""
    env = {**os.environ, "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr


def test_importing_cost_loads_no_heavy_library() -> None:
    code = "import sys, frugalrl.cost; assert not {'torch', 'rich', 'psutil', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.skipif(not per_thread_clocks_work(), reason="needs per-thread clocks")
def test_a_pool_that_is_there_already_is_found_by_its_work() -> None:
    """The wrong variant, asking for new threads, finds nothing in a process that has computed before."""
    code = """
import torch
from frugalrl.cost.meters import threads_made_by, threads_that_worked
torch.set_num_threads(2)
work = lambda: torch.ones(1 << 22).add_(1)
_, made = threads_made_by(work)
assert len(made) >= 1, made
assert threads_made_by(work)[1] == ()
assert any(set(threads_that_worked(work)) == set(made) for _ in range(5)), (made, threads_that_worked(work))
torch.set_num_threads(1)
# on a loaded machine a thread of the pool may still be falling asleep after its last piece of work
assert any(threads_that_worked(work) == () for _ in range(5)), threads_that_worked(work)
"""
    env = {**os.environ, "OMP_WAIT_POLICY": "passive"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 0, done.stderr
