"""The ledger: what every role has used, over all processes of one run.

Records charge it through their ``costs``; clocks that only grow (lap timers, native threads) are followed
and read by :meth:`Ledger.settle`. Two lines are made, not charged: ``unassigned`` is the CPU time of the
processes that no role claims, ``waiting`` the wall time in which the loop was in no role.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from operator import attrgetter
from typing import Any, Protocol

from frugalrl.cost.meters import LiveThreads, NativeThreads, ProcessClock, Usage
from frugalrl.types import ROLES, Cost, Costs, StateDict

SCHEMA = "frugalrl.ledger/1"
_FIELDS = tuple(f.name for f in fields(Cost))
_values = attrgetter(*_FIELDS)  # called several times per block, for every run


class EnergySource(Protocol):
    """Joule counters of the machine; see :class:`frugalrl.cost.power.EnergyCounters`."""

    def joules(self) -> tuple[float | None, float | None]:
        """(processor, GPU) joules since the counters were opened; ``None`` where there is no counter."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """What a run has counted. Only work that stands: work lost in a crash is on the line ``redone``."""

    agent_steps: int = 0
    """Valid transitions of training; evaluation is apart."""
    frames: int = 0
    """Emulator frames of training."""
    updates: int = 0
    """Gradient steps."""
    episodes: int = 0
    invalid_rows: int = 0
    """Rows between two episodes, which are no transitions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """One process that worked for the run."""

    cpu_s: float
    wall_s: float
    peak_rss_bytes: int | None = None
    peak_gpu_bytes: int | None = None
    cpu_j: float | None = None
    """Joules of the processor package, from a counter."""
    gpu_j: float | None = None
    """Joules of the GPUs, from a counter."""
    profile: str | None = None
    """Machine profile whose watts and prices hold for it; None counts as that of the newest process."""


class Clock(Protocol):
    """What the process of a run has used; see :class:`frugalrl.cost.meters.ProcessClock`."""

    def cpu_s(self) -> float: ...

    def wall_s(self) -> float: ...

    def read(self) -> Usage: ...


class Laps(Protocol):
    """Costs by role that only grow; see :class:`frugalrl.cost.meters.LapTimer`."""

    def take(self) -> Mapping[str, Cost]:
        """What was charged since the last call."""


class Ledger:
    """Adds up costs by role.

    Start the loop's lap timer right after making the ledger and end the preparations (imports of torch, making
    environments and networks) with ``lap("startup")``; what happens before the timer starts is unassigned::

        ledger, timer = Ledger(), LapTimer()
        ledger.follow(timer)
        timer.start()
        ...  # prepare
        timer.lap("startup")

    ``whole_process``: the process is the run, so its start-up (imports, everything before this call) is
    charged to the role ``startup``. Pass ``False`` when the process has done other work before.
    ``lanes``: number of loop threads whose laps are charged; their wall times add up.
    ``clock``: read instead of this process's own, for a run that is one of several in it.
    ``profile``: name of the machine profile that stands for this process, so that a run that goes on on another machine
    is charged for each.
    ``charge`` and ``settle`` may be called from any thread.
    """

    def __init__(
        self,
        *,
        whole_process: bool = True,
        lanes: int = 1,
        energy: EnergySource | None = None,
        clock: Clock | None = None,
        profile: str | None = None,
    ) -> None:
        if lanes < 1:
            raise ValueError(f"lanes is {lanes}; a ledger needs at least one loop thread")
        self._clock = clock or ProcessClock(whole_process=whole_process)
        self._energy = energy
        self._profile = profile
        self._lanes = lanes
        self._lock = threading.Lock()
        self._sums: dict[str, list[Any]] = {}
        self._counts = dict.fromkeys((f.name for f in fields(Counts)), 0)
        self._past: tuple[Session, ...] = ()
        self._loaded: StateDict | None = None
        self._sources: list[Laps | NativeThreads | LiveThreads] = []
        if whole_process:
            self.charge("startup", Cost(cpu_s=self._clock.cpu_s(), busy_s=self._clock.wall_s()))

    # -- charging ---------------------------------------------------------------------------------------------------

    def charge(self, role: str, cost: Cost) -> None:
        """Adds ``cost`` to ``role``. Raises ``ValueError`` for an unknown role and for ``unassigned``."""
        if role not in _CHARGEABLE:
            raise ValueError(_bad_role(role))
        with self._lock:
            sums = self._sums.get(role)
            if sums is None:
                sums = self._sums[role] = [None] * len(_FIELDS)
            for i, value in enumerate(_values(cost)):
                if value is not None:
                    old = sums[i]
                    sums[i] = value if old is None else old + value

    def charge_all(self, costs: Costs) -> None:
        """Adds costs by role, as records carry them."""
        for role, cost in costs.items():
            self.charge(role, cost)

    def count(
        self, *, agent_steps: int = 0, frames: int = 0, updates: int = 0, episodes: int = 0, invalid_rows: int = 0
    ) -> None:
        """Adds to the counters of the run."""
        counts = self._counts
        with self._lock:
            counts["agent_steps"] += agent_steps
            counts["frames"] += frames
            counts["updates"] += updates
            counts["episodes"] += episodes
            counts["invalid_rows"] += invalid_rows

    def follow(self, source: Laps | NativeThreads | LiveThreads) -> None:
        """Reads this clock at each ``settle`` from now on."""
        self._sources.append(source)

    def settle(self) -> None:
        """Charges what the followed clocks have measured since the last time."""
        for source in self._sources:
            if isinstance(source, NativeThreads | LiveThreads):
                self.charge(source.role, source.take())
            else:
                self.charge_all(source.take())
        if self._energy is not None:
            self._energy.joules()  # a counter that goes round must be read before it has done so twice

    # -- reading ----------------------------------------------------------------------------------------------------

    @property
    def counts(self) -> Counts:
        """Steps, frames, updates, episodes and invalid rows so far."""
        return Counts(**self._counts)

    @property
    def sessions(self) -> tuple[Session, ...]:
        """All processes of the run, this one last."""
        return (*self._past, self._session())

    def charged(self) -> dict[str, Cost]:
        """What was charged, by role, in the order of :data:`frugalrl.types.ROLES`."""
        with self._lock:
            return {
                role: Cost(**dict(zip(_FIELDS, self._sums[role], strict=True))) for role in ROLES if role in self._sums
            }

    def totals(self, used: Usage | None = None) -> dict[str, Cost]:
        """Costs by role with the two lines that are made: ``waiting`` and ``unassigned``.

        ``used``: a reading of `usage` that they shall add up to; by default one that is made now. Call ``settle``
        before. A negative ``unassigned`` means that something was charged twice.
        """
        used = self.usage() if used is None else used
        return with_remainders(self.charged(), used, wall_s=used.wall_s * self._lanes)

    def usage(self) -> Usage:
        """CPU and wall seconds of all processes of the run added up, and their highest peak memory."""
        sessions: tuple[Session | Usage, ...] = (*self._past, self._clock.read())
        return Usage(
            cpu_s=sum(s.cpu_s for s in sessions),
            wall_s=sum(s.wall_s for s in sessions),
            peak_rss_bytes=_highest(s.peak_rss_bytes for s in sessions),
            peak_gpu_bytes=_highest(s.peak_gpu_bytes for s in sessions),
        )

    def wall_s(self) -> float:
        """Wall seconds of all processes of the run; cheap."""
        return sum(s.wall_s for s in self._past) + self._clock.wall_s()

    def elsewhere(self) -> dict[str, tuple[float, float]]:
        """(CPU-seconds, wall seconds) of earlier processes on machines of another profile, by its name; cheap."""
        found: dict[str, tuple[float, float]] = {}
        for s in self._past:
            if s.profile not in (None, self._profile):
                cpu_s, wall_s = found.get(str(s.profile), (0.0, 0.0))
                found[str(s.profile)] = (cpu_s + s.cpu_s, wall_s + s.wall_s)
        return found

    def _session(self) -> Session:
        used = self._clock.read()
        cpu_j, gpu_j = self._energy.joules() if self._energy is not None else (None, None)
        return Session(**asdict(used), cpu_j=cpu_j, gpu_j=gpu_j, profile=self._profile)

    # -- saving -----------------------------------------------------------------------------------------------------

    def state_dict(self) -> StateDict:
        """Everything, as JSON can hold it. Settles first."""
        self.settle()
        return {
            "schema": SCHEMA,
            "roles": {role: asdict(cost) for role, cost in self.charged().items()},
            "counts": asdict(self.counts),
            "sessions": {str(i): asdict(session) for i, session in enumerate(self.sessions)},
        }

    def load_state_dict(self, state: StateDict) -> None:
        """Adds the earlier processes of the same run to this one. Raises ``ValueError`` when called twice."""
        if self._loaded is not None:
            raise ValueError("this ledger has loaded an earlier state already; loading twice would count it twice")
        _check_schema(state)
        self._loaded = state
        for role, cost in state["roles"].items():
            self.charge(role, Cost(**cost))
        self.count(**state["counts"])
        self._past = _sessions_of(state)

    def book_vain(self, sessions: Sequence[Session]) -> int:
        """Books processes of the run that left nothing to go on from on the line ``redone``; returns how many."""
        self._past = (*self._past, *sessions)
        for session in sessions:
            self.charge("redone", Cost(cpu_s=session.cpu_s, busy_s=session.wall_s))
        return len(sessions)

    def book_lost(self, later: StateDict) -> Cost:
        """Books work that a crash has lost and that will be done again on the line ``redone``; returns it.

        ``later`` is the last ``state_dict`` that the dead process wrote after the checkpoint from which this
        ledger was loaded. What it has more than the checkpoint is lost: steps, updates, CPU and wall seconds.
        Raises ``ValueError`` when nothing was loaded or ``later`` is not later.
        """
        if self._loaded is None:
            raise ValueError("book_lost needs the checkpoint's state first: call load_state_dict")
        _check_schema(later)
        if _age(later) < _age(self._loaded):
            raise ValueError("the state given as later is older than the checkpoint")
        lost = _difference(self._loaded, later)
        self.charge("redone", lost)
        self._past = _sessions_of(later)
        return lost


_CHARGEABLE = frozenset(ROLES) - {"unassigned"}


def with_remainders(charged: Mapping[str, Cost], used: Usage, *, wall_s: float) -> dict[str, Cost]:
    """Adds ``waiting`` (wall time in no role) and ``unassigned`` (CPU time of no role) to charged costs."""
    totals = dict(charged)
    cpu = sum(cost.cpu_s for cost in charged.values() if cost.cpu_s is not None)
    busy = sum(cost.busy_s for cost in charged.values() if cost.busy_s is not None)
    totals["waiting"] = totals.get("waiting", Cost()) + Cost(busy_s=max(0.0, wall_s - busy))
    totals["unassigned"] = Cost(cpu_s=used.cpu_s - cpu)
    return {role: totals[role] for role in ROLES if role in totals}


def _difference(earlier: StateDict, later: StateDict) -> Cost:
    total = Cost()
    for role, cost in later["roles"].items():
        before = earlier["roles"].get(role, {})
        total += Cost(**{k: v - (before.get(k) or 0) for k, v in cost.items() if v is not None})
    # what the later state does not know more of was not measured, rather than 0
    known: dict[str, Any] = {name: getattr(total, name) or None for name in _FIELDS}
    # training's own counters, and what earlier crashes lost; the steps of evaluation are not among them
    redone = (earlier["roles"].get("redone", {}), later["roles"].get("redone", {}))
    for name, counter in (("env_steps", "agent_steps"), ("frames", "frames"), ("updates", "updates")):
        known[name] = later["counts"][counter] - earlier["counts"][counter]
        known[name] += (redone[1].get(name) or 0) - (redone[0].get(name) or 0)
    return Cost(**{**known, "calls": None})


def _age(state: StateDict) -> tuple[int, float]:
    """Number of processes and their wall seconds: both only grow."""
    sessions = _sessions_of(state)
    return len(sessions), sum(session.wall_s for session in sessions)


def _sessions_of(state: StateDict) -> tuple[Session, ...]:
    sessions = state["sessions"]
    return tuple(Session(**sessions[key]) for key in sorted(sessions, key=int))


def _check_schema(state: StateDict) -> None:
    if state.get("schema") != SCHEMA:
        raise ValueError(f"this is no ledger of schema {SCHEMA!r}: {state.get('schema')!r}")


def _highest(values: Any) -> int | None:
    return max((v for v in values if v is not None), default=None)


def _bad_role(role: str) -> str:
    if role == "unassigned":
        return "the role 'unassigned' is what remains and cannot be charged"
    near = get_close_matches(role, ROLES, n=1)
    return f"unknown role {role!r}" + (f"; did you mean {near[0]!r}?" if near else f"; roles are {', '.join(ROLES)}")
