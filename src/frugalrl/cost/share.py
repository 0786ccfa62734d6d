"""The clocks of one process that works for several runs at once, divided evenly over the runs that are alive.

What the processes of all runs have used adds up to what the one process has used. CPU-seconds, wall seconds, laps and
joules are divided; peak memory is not, because each run needs the process as it is.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import replace

from frugalrl.cost.ledger import EnergySource
from frugalrl.cost.meters import LapTimer, ProcessClock, Usage
from frugalrl.types import Cost


class SharedClocks:
    """Reads the process and the lap timer of its loop thread, and hands out the parts."""

    def __init__(self, parts: int, *, whole_process: bool, energy: EnergySource | None = None) -> None:
        """``whole_process``: the process does nothing else, so its start-up is divided as well."""
        self._process = ProcessClock(whole_process=whole_process)
        self._energy = energy
        self.timer = LapTimer()
        """Of the loop thread; this object starts and reads it."""
        self.name = uuid.uuid4().hex
        """Tells this process from others, so that nobody takes two parts of its clocks for two measurements."""
        self.parts = parts
        """Runs at the beginning."""
        self.alive = parts
        self.startup = Cost()
        """One part of what the process had used before the timer was started."""
        if whole_process:
            self.startup = Cost(cpu_s=self._process.cpu_s() / parts, busy_s=self._process.wall_s() / parts)
        self.timer.start()
        self.used = Usage(cpu_s=0.0, wall_s=0.0)
        """One part of what the process has used, at the last ``advance``."""
        self.laps: dict[str, Cost] = {}
        self.joules: tuple[float | None, float | None] = (None, None)
        self._seen = self.used
        self._seen_joules: tuple[float | None, float | None] = (None, None)
        self._cheap = time.process_time(), time.perf_counter()
        self.advance()

    def advance(self) -> None:
        """Divide what was used since the last time over the runs that are alive now."""
        now, parts = self._process.read(), max(self.alive, 1)
        self._cheap = time.process_time(), time.perf_counter()
        self.used = replace(
            now,
            cpu_s=self.used.cpu_s + (now.cpu_s - self._seen.cpu_s) / parts,
            wall_s=self.used.wall_s + (now.wall_s - self._seen.wall_s) / parts,
        )
        self._seen = now
        for role, cost in self.timer.take().items():
            own = Cost(cpu_s=(cost.cpu_s or 0.0) / parts, busy_s=(cost.busy_s or 0.0) / parts)
            self.laps[role] = self.laps.get(role, Cost()) + own
        if self._energy is not None:
            joules = self._energy.joules()
            cpu_j, gpu_j = (
                None if j is None else (mine or 0.0) + (j - (before or 0.0)) / parts
                for j, mine, before in zip(joules, self.joules, self._seen_joules, strict=True)
            )
            self.joules, self._seen_joules = (cpu_j, gpu_j), joules

    def since(self) -> tuple[float, float]:
        """One part of the CPU and wall seconds since the last ``advance``; cheap, without child processes."""
        cpu, wall = self._cheap
        parts = max(self.alive, 1)
        return (time.process_time() - cpu) / parts, (time.perf_counter() - wall) / parts


class Share:
    """One part: the process clock, lap timer and joule counters of one run, as its ledger reads them."""

    def __init__(self, clocks: SharedClocks) -> None:
        self._clocks = clocks
        self._taken: dict[str, Cost] = {}
        self._closed: tuple[Usage, tuple[float | None, float | None]] | None = None

    def cpu_s(self) -> float:
        """CPU-seconds so far; cheap."""
        if self._closed is not None:
            return self._closed[0].cpu_s
        return self._clocks.used.cpu_s + self._clocks.since()[0]

    def wall_s(self) -> float:
        """Wall seconds so far; cheap."""
        if self._closed is not None:
            return self._closed[0].wall_s
        return self._clocks.used.wall_s + self._clocks.since()[1]

    def read(self) -> Usage:
        """All at once; the peak memory is that of the process."""
        if self._closed is not None:
            return self._closed[0]
        self._clocks.advance()
        return self._clocks.used

    def joules(self) -> tuple[float | None, float | None]:
        """(processor, GPU) joules; None where there is no counter."""
        return self._closed[1] if self._closed is not None else self._clocks.joules

    def take(self) -> dict[str, Cost]:
        """What was charged since the last ``take`` by role; nothing more after ``close``."""
        if self._closed is not None:
            return {}
        self._clocks.advance()
        found = {}
        for role, cost in self._clocks.laps.items():
            before = self._taken.get(role, Cost(cpu_s=0.0, busy_s=0.0))
            if cost != before:
                found[role] = Cost(
                    cpu_s=(cost.cpu_s or 0.0) - (before.cpu_s or 0.0),
                    busy_s=(cost.busy_s or 0.0) - (before.busy_s or 0.0),
                )
        self._taken = dict(self._clocks.laps)
        return found

    def close(self) -> None:
        """The run is over: what the process does from now on is for the others. Settle the ledger before."""
        if self._closed is None:
            self._clocks.advance()
            self._closed = self._clocks.used, self._clocks.joules
            self._clocks.alive -= 1
