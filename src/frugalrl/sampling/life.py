"""A child process that ends when the process that started it does, and how it ended. Standard library only."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import threading
from contextlib import suppress


def die_with_parent(life_fd: int) -> None:
    """End this process when the other end of this pipe is closed, even while it hangs in native code.

    The kernel sends SIGKILL (Linux). A death signal (PR_SET_PDEATHSIG) would come when the *thread* ends that started
    us. Elsewhere a thread watches, which needs the interpreter lock now and then.
    """
    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(life_fd, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(life_fd, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(life_fd, fcntl.F_SETFL, fcntl.fcntl(life_fd, fcntl.F_GETFL) | os.O_ASYNC)
        watch = select.poll()
        watch.register(life_fd, 0)
        if watch.poll(0):  # it was closed before we asked for the signal
            os._exit(1)
        return

    def wait() -> None:
        os.read(life_fd, 1)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def how_it_ended(code: int) -> str:
    """A child's exit code in words; negative for a signal."""
    if code >= 0:
        return f"ended with exit code {code}"
    names = {known.value: known.name for known in signal.Signals}
    return f"was killed by {names.get(-code, f'signal {-code}')}"


def kill_group(process: subprocess.Popen[bytes]) -> int:
    """SIGKILL to a process that leads a group and to all that it started; its exit code, negative for a signal."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    try:
        return process.wait(timeout=5.0)
    except subprocess.TimeoutExpired:  # it sits in the kernel, and dies as soon as that lets it go
        return -signal.SIGKILL
