"""Three stages in a row with bounded queues and shared cores, simulated event by event."""

from __future__ import annotations

import heapq
from dataclasses import dataclass


@dataclass
class Played:
    """What one simulation has seen, seconds of simulated time."""

    wall_s: float
    per_s: float
    blocked_s: float
    """The second stage had an item and no room behind it."""
    starved_s: float
    """The second stage had no item."""
    waited_s: float
    """The third stage had no item."""


def play(seconds: list[float], widths: list[int], *, cores: int, items: int, room: int = 4) -> Played:
    """Items pass three stages; a stage works on at most ``widths`` items at a time, all together on ``cores``.

    The first stage never lacks an item. Whoever is nearer to the end takes a free core first.
    """
    waiting = [items, 0, 0]
    busy = [0, 0, 0]
    running: list[tuple[float, int, int]] = []
    now, done, number = 0.0, 0, 0
    blocked = starved = waited = 0.0

    def may_begin(stage: int) -> bool:
        has_room = stage == 2 or waiting[stage + 1] + busy[stage] < room
        return waiting[stage] > 0 and busy[stage] < widths[stage] and has_room

    while done < items:
        for stage in (2, 1, 0):
            while may_begin(stage) and sum(busy) < cores:
                waiting[stage] -= 1
                busy[stage] += 1
                number += 1
                heapq.heappush(running, (now + seconds[stage], number, stage))
        end, _, stage = heapq.heappop(running)
        if not busy[1]:
            starved += (end - now) * (waiting[1] == 0)
            blocked += (end - now) * (waiting[1] > 0 and waiting[2] >= room)
        if not busy[2]:
            waited += (end - now) * (waiting[2] == 0)
        now = end
        busy[stage] -= 1
        if stage == 2:
            done += 1
        else:
            waiting[stage + 1] += 1
    return Played(now, items / now, blocked, starved, waited)
