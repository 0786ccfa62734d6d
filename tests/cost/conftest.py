"""Loads of known size and a machine that does not depend on where the tests run."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from types import TracebackType

import pytest

from frugalrl.cost import Machine, MachineFacts, Tables, load_tables


def burn(cpu_s: float) -> None:
    """Uses that many CPU-seconds of the calling thread, whatever else the machine does."""
    end = time.thread_time() + cpu_s
    while time.thread_time() < end:
        pass


class Worker:
    """A thread whose work releases the GIL (hashing of large blocks), as a native pool does; it works on request."""

    def __init__(self) -> None:
        self._request = 0.0
        self._go = threading.Semaphore(0)
        self._done = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.used_s = 0.0

    def __enter__(self) -> Worker:
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._request = -1.0
        self._go.release()
        self._thread.join()

    @property
    def tid(self) -> int:
        assert self._thread.native_id is not None
        return self._thread.native_id

    def work(self, cpu_s: float) -> None:
        """Lets the thread use that many CPU-seconds while the caller sleeps."""
        self._request = cpu_s
        self._go.release()
        self._done.acquire()

    def _run(self) -> None:
        block = bytes(200_000)
        while True:
            self._go.acquire()
            if self._request < 0:
                return
            start = time.thread_time()
            while time.thread_time() < start + self._request:
                hashlib.sha256(block).digest()
            self.used_s += time.thread_time() - start
            self._done.release()


@pytest.fixture(scope="session")
def tables() -> Tables:
    return load_tables()


@pytest.fixture
def machine(tables: Tables) -> Callable[..., Machine]:
    """make(profile name, gpus=()) -> Machine"""

    def make(name: str = "cloud-2vcpu", gpus: tuple[str, ...] = ()) -> Machine:
        facts = MachineFacts(
            cpu="Test CPU", cores=2, memory_bytes=8 * 10**9, gpus=gpus, virtual=True, battery=False, os="Linux", python="3"
        )
        return Machine(facts=facts, profile=tables.machine(name), price=tables.price(name), chosen_because="a test")

    return make
