"""What happened since the last status line: speeds, means, shares of time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping

import psutil

from frugalrl.cost.ledger import Ledger
from frugalrl.run.loop import Event
from frugalrl.sampling.engine_meters import EngineStatistics
from frugalrl.types import Episode

_EPISODES = 20
_EXTREMES = ("_max", "_min")


class Window:
    """Sums over the blocks since the last status; the behaviour's return is over its last 20 episodes."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._extremes: dict[str, float] = {}
        self._updates = 0
        self._steps = 0
        self._since = time.perf_counter()
        self._busy: dict[str, float] = {}
        self._returns: deque[float] = deque(maxlen=_EPISODES)
        self._engine: EngineStatistics | None = None
        self._process = psutil.Process()

    def add(self, event: Event) -> None:
        self._engine = event.engine or self._engine
        if event.collected is not None:
            self._steps += event.collected.env_steps
            self.add_episodes(event.collected.episodes)
        for update in event.updated:
            self._updates += 1
            for name, value in update.metrics.items():
                if name.endswith(_EXTREMES):  # the mean of largest values is not the largest one
                    worst = max if name.endswith("_max") else min
                    self._extremes[name] = worst(self._extremes.get(name, value), value)
                else:
                    self._sums[name] = self._sums.get(name, 0.0) + value

    def add_episodes(self, episodes: tuple[Episode, ...]) -> None:
        self._returns.extend(e.raw_return for e in episodes)

    @property
    def age_s(self) -> float:
        """Wall seconds since the last ``close``."""
        return time.perf_counter() - self._since

    def behaviour_return(self) -> float | None:
        """Mean raw return of the last episodes of the exploring policy."""
        return sum(self._returns) / len(self._returns) if self._returns else None

    def memory_bytes(self) -> int:
        return int(self._process.memory_info().rss)

    def close(self, ledger: Ledger) -> tuple[float, Mapping[str, float], Mapping[str, float]]:
        """(agent steps per second, metrics, share of wall time by role) since the last call; starts anew. Metrics are
        means over updates, those named ``_max`` and ``_min`` the extremes."""
        seconds = max(self.age_s, 1e-9)
        busy = {role: cost.busy_s or 0.0 for role, cost in ledger.totals().items()}
        spent = {role: s - self._busy.get(role, 0.0) for role, s in busy.items()}
        whole = max(sum(spent.values()), 1e-9)
        shares = {role: s / whole for role, s in spent.items() if s > 0}
        means = {name: total / self._updates for name, total in self._sums.items()} | self._extremes
        means |= {} if self._engine is None else engine_meters(self._engine)
        speed = self._steps / seconds
        self._sums, self._extremes, self._updates, self._steps, self._busy = {}, {}, 0, 0, busy
        self._since = time.perf_counter()
        return speed, means, shares


def engine_meters(engine: EngineStatistics) -> dict[str, float]:
    """The numbers of an inference engine that a status shows, since it was started."""
    found: dict[str, float | None] = {
        "batch_rows": engine.rows / engine.batches if engine.batches else None,
        "batch_fill": engine.fill,
        "queue_ms_p95": engine.queue_s.p95 * 1e3 if engine.queue_s else None,
        "forward_ms_p50": engine.forward_s.p50 * 1e3 if engine.forward_s else None,
        "live_rows": engine.live_rows,
        "restarts": engine.restarts,
        "dropped_steps": engine.dropped_steps,
    }
    return {name: float(value) for name, value in found.items() if value is not None}
