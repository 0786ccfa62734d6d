"""Clocks that say which role used the processor.

CPU-seconds are charged per thread. The loop thread is cut into laps by :class:`LapTimer`; threads that
belong to one role alone (the thread pool of a C++ vector environment) are read through :class:`NativeThreads`;
pool threads that work for whoever calls them (OpenMP workers of torch) are handed to the lap timer.

The clock of another thread of this process is the POSIX per-thread CPU clock, whose id on Linux is
``(~tid << 3) | 6`` (``linux/posix-timers.h``: per-thread bit 4, scheduler clock 2). It counts nanoseconds.
Elsewhere it does not exist and everything that needs it answers ``None``: the CPU-seconds then stay in
``unassigned`` and are not guessed.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from frugalrl.types import ROLES, Cost

T = TypeVar("T")

_TASKS = Path("/proc/self/task")
_LINUX = sys.platform == "linux"
_LOADED_AT = time.perf_counter()
_CHILDREN_BEFORE = os.times().children_user + os.times().children_system
# bound once: they are called several times per environment step
_thread_time = time.thread_time
_perf_counter = time.perf_counter


def _clock_id(tid: int) -> int:
    return (~tid << 3) | 6


def thread_cpu_s(tid: int) -> float | None:
    """CPU-seconds of one thread of this process since it began; ``None`` if it is gone or cannot be read."""
    if not _LINUX:
        return None
    try:
        return time.clock_gettime(_clock_id(tid))
    except (OSError, OverflowError):
        return None


def per_thread_clocks_work() -> bool:
    """Whether the CPU clock of a thread can be read by its id on this machine."""
    return thread_cpu_s(threading.get_native_id()) is not None


class ThreadClock:
    """CPU-seconds of other threads of this process, from now on.

    ``tids`` are native thread ids. What a thread used between the last reading and its end is not seen. One clock
    belongs to one reader.
    """

    def __init__(self, tids: Iterable[int] = ()) -> None:
        self._marks: dict[int, float] = {}
        self._readable = True
        self.watch(tids)

    @property
    def tids(self) -> tuple[int, ...]:
        """Threads that are still alive as far as the last reading knows."""
        return tuple(self._marks)

    def watch(self, tids: Iterable[int], *, from_birth: bool = False) -> None:
        """Adds threads; what they used before this call is not counted, unless ``from_birth``. Threads known already
        stay as they are."""
        for tid in tids:
            if tid in self._marks:
                continue
            now = thread_cpu_s(tid)
            if now is not None:
                self._marks[tid] = 0.0 if from_birth else now
            elif not per_thread_clocks_work():
                self._readable = False

    def growth(self) -> float | None:
        """CPU-seconds since the last call of ``growth`` (0.0 without threads); ``None`` where clocks do not work."""
        if not self._readable:
            return None
        grown = 0.0
        marks = self._marks
        for tid in tuple(marks):
            try:
                now = time.clock_gettime(_clock_id(tid))
            except OSError:
                del marks[tid]
                continue
            gain = now - marks[tid]
            if gain < 0.0:  # the id was given to a new thread
                del marks[tid]
                continue
            marks[tid] = now
            grown += gain
        return grown


class LapTimer:
    """Cuts the time of one loop thread into laps, each charged to a role.

    ``start`` and ``lap`` are called in the thread that is measured; ``take`` may be called from any thread.
    A lap costs one thread clock and one wall clock reading, about a microsecond in all, and one more thread
    clock reading for each thread in ``shared``.

    ``shared`` holds pool threads that work only for this loop thread (OpenMP workers of torch): what they
    used during a lap is charged to the lap's role. Each timer needs a clock of its own.
    """

    def __init__(self, shared: ThreadClock | None = None) -> None:
        self._shared = shared
        self._cpu = 0.0
        self._wall = 0.0
        # one list per role: CPU-seconds, wall seconds; only ever grows, so that take() loses nothing to a race
        self._slots: dict[str, list[float]] = {role: [0.0, 0.0] for role in ROLES}
        self._taken: dict[str, tuple[float, float]] = {}
        self._started = False

    @property
    def watched(self) -> tuple[int, ...]:
        """The shared pool threads."""
        return () if self._shared is None else self._shared.tids

    def watch(self, tids: Iterable[int]) -> None:
        """Adds shared pool threads, for example after the first parallel operation."""
        if self._shared is None:
            self._shared = ThreadClock()
        self._shared.watch(tids)

    def start(self) -> None:
        """Begins the first lap now."""
        self._started = True
        if self._shared is not None:
            self._shared.growth()
        self._cpu = _thread_time()
        self._wall = _perf_counter()

    def lap(self, role: str) -> None:
        """Charges everything since the last lap to ``role``.

        Raises ``KeyError`` for a role that is not in :data:`frugalrl.types.ROLES`, ``RuntimeError`` before ``start``.
        """
        cpu = _thread_time()
        wall = _perf_counter()
        if not self._started:
            raise RuntimeError("LapTimer.lap before LapTimer.start")
        slot = self._slots[role]
        slot[0] += cpu - self._cpu
        slot[1] += wall - self._wall
        if self._shared is not None:
            slot[0] += self._shared.growth() or 0.0
        self._cpu = cpu
        self._wall = wall

    def cpu_s(self, role: str) -> float:
        """CPU-seconds charged to ``role`` so far, taken or not."""
        return self._slots[role][0]

    def take(self) -> dict[str, Cost]:
        """What was charged since the last ``take``: ``cpu_s`` and ``busy_s`` of each role that had a lap."""
        costs: dict[str, Cost] = {}
        for role, slot in self._slots.items():
            cpu, wall = slot
            cpu_before, wall_before = self._taken.get(role, (0.0, 0.0))
            if wall > wall_before or cpu > cpu_before:
                costs[role] = Cost(cpu_s=cpu - cpu_before, busy_s=wall - wall_before)
                self._taken[role] = (cpu, wall)
        return costs


class NativeThreads:
    """Threads that work for one role only, such as the pool of a C++ vector environment.

    ``tids`` come from whoever made the threads. Take a last time before the threads are ended.
    """

    def __init__(self, role: str, tids: Iterable[int]) -> None:
        self.role = role
        self._clock = ThreadClock(tids)

    @property
    def tids(self) -> tuple[int, ...]:
        """Threads that are still alive."""
        return self._clock.tids

    def take(self) -> Cost:
        """CPU-seconds since the last ``take``; ``cpu_s`` is ``None`` where thread clocks do not work."""
        return Cost(cpu_s=self._clock.growth())


class LiveThreads:
    """As `NativeThreads`, for threads that come and go: all that they use from their birth on is the role's."""

    def __init__(self, role: str, ids: Callable[[], Iterable[int]]) -> None:
        """``ids``: the threads there are now."""
        self.role = role
        self._ids = ids
        self._clock = ThreadClock()

    def take(self) -> Cost:
        """CPU-seconds since the last ``take``; ``cpu_s`` is ``None`` where thread clocks do not work."""
        self._clock.watch(self._ids(), from_birth=True)
        return Cost(cpu_s=self._clock.growth())


def thread_ids() -> frozenset[int]:
    """Native ids of all threads of this process now; empty where the system does not tell."""
    if not _LINUX:
        return frozenset()
    try:
        return frozenset(int(entry.name) for entry in _TASKS.iterdir())
    except OSError:
        return frozenset()


def threads_made_by(work: Callable[[], T]) -> tuple[T, tuple[int, ...]]:
    """Runs ``work`` and returns its result and the ids of the threads that were not there before it."""
    before = thread_ids()
    result = work()
    return result, tuple(sorted(thread_ids() - before))


def threads_that_worked(work: Callable[[], object], claimed: Iterable[int] = ()) -> tuple[int, ...]:
    """Ids of native threads that used the processor while ``work`` ran: pool threads, new ones and old ones.

    Call it while no other pool has anything to do. On a loaded machine the threads of one may still be on their way to
    sleep: those that have a clock already are ``claimed``, else two would charge what they use. Threads that Python
    made are never among them.
    """
    before = {tid: thread_cpu_s(tid) for tid in thread_ids()}
    work()
    now = {tid: thread_cpu_s(tid) for tid in unclaimed_threads(claimed)}
    return tuple(sorted(tid for tid, cpu_s in now.items() if cpu_s is not None and cpu_s > (before.get(tid) or 0.0)))


def unclaimed_threads(claimed: Iterable[int] = ()) -> tuple[int, ...]:
    """Native threads that neither Python made nor somebody claimed: pools of torch and BLAS.

    A serial loop hands them to its :class:`LapTimer`, because they can only have worked for it.
    """
    python = {t.native_id for t in threading.enumerate() if t.native_id is not None}
    return tuple(sorted(thread_ids() - python - set(claimed)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """What a process has used so far."""

    cpu_s: float
    """User and system CPU-seconds of all threads, child processes included."""
    wall_s: float
    peak_rss_bytes: int | None = None
    peak_gpu_bytes: int | None = None
    """Most memory torch has reserved on its GPUs, summed over devices."""


class ProcessClock:
    """CPU, wall time and peak memory of this process.

    With ``whole_process`` the CPU time of imports counts too, and wall time since this module was loaded, which the
    command line does first: the process itself may be older (a shell that became this program, with children that it
    waited for). Without it, everything counts since this object was made (a notebook, a test).
    """

    def __init__(self, *, whole_process: bool = True) -> None:
        self._wall_0 = _LOADED_AT if whole_process else time.perf_counter()
        self._cpu_0 = _CHILDREN_BEFORE if whole_process else self._cpu_now()

    def cpu_s(self) -> float:
        """User and system CPU-seconds of this process and its children, ended or alive."""
        return self._cpu_now() - self._cpu_0

    def wall_s(self) -> float:
        """Wall seconds."""
        return time.perf_counter() - self._wall_0

    def read(self) -> Usage:
        """All at once; takes some tens of microseconds."""
        return Usage(
            cpu_s=self.cpu_s(),
            wall_s=self.wall_s(),
            peak_rss_bytes=_peak_rss_bytes(),
            peak_gpu_bytes=_peak_gpu_bytes(),
        )

    def _cpu_now(self) -> float:
        return time.process_time() + children_cpu_s()


class CheapClock:
    """CPU and wall seconds that go on from a reading of a `ProcessClock`, cheap enough to be read after every block.

    Child processes are asked once a second: what they used since then is missing.
    """

    def __init__(self, cpu_s: float, wall_s: float) -> None:
        self._asked_at, self._children = time.monotonic(), children_cpu_s()
        self._cpu_0, self._wall_0 = cpu_s - time.process_time() - self._children, wall_s - self._asked_at

    def read(self) -> tuple[float, float]:
        """(CPU seconds, wall seconds), children included."""
        now = time.monotonic()
        if now - self._asked_at >= 1.0:
            self._asked_at, self._children = now, children_cpu_s()
        return time.process_time() + self._children + self._cpu_0, now + self._wall_0


def children_cpu_s() -> float:
    """CPU-seconds of the children of this process, ended or alive."""
    ended = os.times()
    return ended.children_user + ended.children_system + sum(_child_cpu_s(pid) for pid in _children())


def _children() -> list[int]:
    """Process ids of the direct children that are alive or not waited for, but for `_STRANGERS`."""
    return [pid for pid in _all_children() if pid not in _STRANGERS]


def _all_children() -> list[int]:
    if _LINUX:
        pids: list[int] = []
        readable = False
        for tid in thread_ids():
            with suppress(OSError):
                pids += [int(pid) for pid in (_TASKS / str(tid) / "children").read_text(encoding="ascii").split()]
                readable = True
        if readable:
            return pids
    import psutil

    return [child.pid for child in psutil.Process().children()]


def _child_cpu_s(pid: int) -> float:
    """CPU-seconds of a child and of the children it has waited for."""
    import psutil

    try:
        used = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    children = getattr(used, "children_user", 0.0) + getattr(used, "children_system", 0.0)
    return float(used.user + used.system + children)


def _peak_rss_bytes() -> int | None:
    """Most resident memory of this process, plus that of the children that are alive."""
    own = _high_water_bytes("self")
    if own is None:
        with suppress(ImportError):
            import resource

            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            own = int(peak) if sys.platform == "darwin" else int(peak) * 1024
    if own is None:
        import psutil

        memory = psutil.Process().memory_info()
        own = int(getattr(memory, "peak_wset", memory.rss))
    return own + sum(_high_water_bytes(str(pid)) or 0 for pid in _children())


def _high_water_bytes(pid: str) -> int | None:
    # ru_maxrss survives exec and would show the memory of whoever started us
    if not _LINUX:
        return None
    with suppress(OSError, ValueError, IndexError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None


def _peak_gpu_bytes() -> int | None:
    torch = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)
    if cuda is None or not cuda.is_initialized():
        return None
    return sum(int(cuda.max_memory_reserved(device)) for device in range(cuda.device_count()))


_STRANGERS = frozenset(_all_children() if _LINUX else ())
"""Children of whatever this process was before it became this program (``monitor & exec frugal ...``)."""
