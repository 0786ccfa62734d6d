"""The thread that works for the loop: it answers, it fails aloud, and it never keeps anybody waiting for ever."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from frugalrl.run.worker import Worker


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker("sampler")
    yield worker
    worker.close()


def test_one_thread_does_it_all(worker: Worker) -> None:
    names = []
    for number in range(3):
        worker.begin(lambda number=number: (number, threading.get_ident()))
        names.append(worker.finish())
    assert [number for number, _ in names] == [0, 1, 2]
    assert len({ident for _, ident in names}) == 1
    assert names[0][1] != threading.get_ident()


def test_both_work_at_the_same_time(worker: Worker) -> None:
    here, there = threading.Event(), threading.Event()

    def work() -> bool:
        there.set()
        return here.wait(10)

    worker.begin(work)
    assert there.wait(10)
    here.set()
    assert worker.finish() is True


@pytest.mark.parametrize("error", [OSError("gone"), SystemExit(3), KeyboardInterrupt()])
def test_what_it_raises_is_raised_where_it_is_awaited(worker: Worker, error: BaseException) -> None:
    def work() -> None:
        raise error

    worker.begin(work)
    with pytest.raises(type(error)) as caught:
        worker.finish()
    assert caught.value is error
    worker.begin(lambda: 1)
    assert worker.finish() == 1, "it goes on"


def test_a_dead_thread_is_an_error_and_no_endless_wait(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("frugalrl.run.worker._LOOK_AFTER_IT_EVERY_S", 0.01)
    worker.begin(lambda: 1)
    assert worker.finish() == 1
    assert worker.close()
    worker.begin(lambda: 2)
    with pytest.raises(RuntimeError, match="'sampler' is gone"):
        worker.finish()


def test_close() -> None:
    idle, busy, go_on = Worker("idle"), Worker("busy"), threading.Event()
    assert idle.close()
    assert idle.close(), "harmless when called twice"
    busy.begin(lambda: go_on.wait(10))
    assert not busy.close(timeout_s=0.01)
    go_on.set()
    assert busy.close()
    assert "busy" not in {thread.name for thread in threading.enumerate()}


def test_a_signal_is_heard_while_the_loop_waits(worker: Worker) -> None:
    class Heard(Exception):
        pass

    def handle(number: int, frame: object) -> None:
        assert threading.current_thread() is threading.main_thread()
        raise Heard

    before = signal.signal(signal.SIGUSR1, handle)
    go_on = threading.Event()
    try:
        worker.begin(lambda: (os.kill(os.getpid(), signal.SIGUSR1), go_on.wait(10)))
        begun = time.monotonic()
        with pytest.raises(Heard):
            worker.finish()
        assert time.monotonic() - begun < 5
    finally:
        signal.signal(signal.SIGUSR1, before)
        go_on.set()


def test_a_process_does_not_wait_for_a_thread_that_hangs() -> None:
    code = """
import time
from frugalrl.run.worker import Worker
worker = Worker("sampler")
worker.begin(lambda: time.sleep(60))
print(worker.close(timeout_s=0.05))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=True)
    assert done.stdout.split() == ["False"]
