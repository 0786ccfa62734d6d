"""A second thread that does one piece of work at a time for the loop thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

_LOOK_AFTER_IT_EVERY_S = 1.0


class Worker:
    """``begin`` hands over a piece of work, ``finish`` waits for it and returns or raises what came of it.

    The thread starts with the first piece of work and stays until ``close``. It never keeps a process alive, and
    signals never reach it: they come to the main thread, also while that waits in ``finish``.
    """

    def __init__(self, name: str) -> None:
        self._work: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._answers: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def begin(self, work: Callable[[], Any]) -> None:
        """Do this in the other thread. Call ``finish`` before the next one."""
        if self._thread.ident is None:
            self._thread.start()
        self._work.put(work)

    def finish(self) -> Any:
        """Wait for what was begun. Raises what it raised, and RuntimeError when the thread is gone."""
        while True:
            try:
                answer, error = self._answers.get(timeout=_LOOK_AFTER_IT_EVERY_S)
                break
            except Empty:
                if not self._thread.is_alive():
                    raise RuntimeError(f"the thread {self._thread.name!r} is gone, and with it what it did") from None
        if error is not None:
            raise error
        return answer

    def close(self, timeout_s: float = 5.0) -> bool:
        """End the thread after the work it has; False when it is still busy after ``timeout_s``."""
        if self._thread.ident is None:
            return True
        self._work.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            try:
                answer, error = work(), None
            except BaseException as raised:  # whatever it is, it belongs to whoever waits in finish()
                answer, error = None, raised
            self._answers.put((answer, error))
            del work, answer, error  # what was handed over is not kept alive while this thread waits
