"""Loads of known size."""

from __future__ import annotations

import hashlib
import threading
import time
from types import TracebackType


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
