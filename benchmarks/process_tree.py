"""CPU-seconds of a process and of everything it started, while it runs (Linux). Standard library only.

    python benchmarks/process_tree.py PID

``resource.getrusage`` knows children only once they have ended; libraries with worker processes end them last. So the
table in /proc is read: user and system time of each process of the tree, and of the ended children each has waited for.
The clock has a resolution of 1/100 s per process. A process whose parent has ended and that was adopted by another one
is no longer part of the tree.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Process:
    """One line of the process table: its parent, and its CPU-seconds with those of ended children."""

    parent: int
    cpu_s: float


def processes() -> dict[int, Process]:
    """All processes by their ids; one that ends meanwhile is left out."""
    found = {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            text = Path(entry.path, "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        words = text.rpartition(")")[2].split()  # the name before may hold spaces and brackets
        found[int(entry.name)] = Process(int(words[1]), sum(int(word) for word in words[11:15]) * TICK_S)
    return found


def members(root: int, table: dict[int, Process]) -> list[int]:
    """The ids of ``root`` and of its descendants, parents first."""
    children: dict[int, list[int]] = {}
    for pid, process in table.items():
        children.setdefault(process.parent, []).append(pid)
    found = [root] if root in table else []
    for pid in found:  # grows while it is read
        found += children.get(pid, [])
    return found


def cpu_seconds(root: int) -> float:
    """User plus system CPU-seconds of the tree under ``root`` so far. Raises ProcessLookupError if it has ended."""
    table = processes()
    tree = members(root, table)
    if not tree:
        raise ProcessLookupError(f"process {root} has ended")
    return sum(table[pid].cpu_s for pid in tree)


@dataclass(frozen=True)
class Mark:
    """Where the counter and the clocks stood at one moment."""

    steps: int
    updates: int
    wall_s: float
    cpu_s: float


@dataclass
class Window:
    """Marks from the first count at or after ``warmup`` steps until ``steps`` more were counted.

    In between the clocks are read once in ``every_s`` wall seconds: reading them costs a few CPU-milliseconds.
    """

    root: int
    warmup: int
    steps: int
    every_s: float = 1.0
    marks: list[Mark] = field(default_factory=list)
    closed: bool = False

    def at(self, steps: int, updates: int) -> None:
        """The counters stand at ``steps`` agent steps and ``updates`` gradient steps now."""
        if steps < self.warmup or self.closed:
            return
        if not self.marks or time.perf_counter() - self.marks[-1].wall_s >= self.every_s:
            self._mark(steps, updates)
        if steps - self.marks[0].steps >= self.steps:
            self.end(steps, updates)

    def end(self, steps: int, updates: int) -> None:
        """Closes the window here."""
        self.closed = True
        if self.marks and steps > self.marks[-1].steps:
            self._mark(steps, updates)

    def _mark(self, steps: int, updates: int) -> None:
        self.marks.append(Mark(steps, updates, time.perf_counter(), cpu_seconds(self.root)))

    def result(self, part_s: float = 2.0) -> dict[str, object]:
        """Counts and speeds between the first mark and the last, and of parts of at least ``part_s`` wall seconds."""
        first, last = self.marks[0], self.marks[-1]
        parts, start = [], first
        for mark in self.marks[1:]:
            if mark.wall_s - start.wall_s >= part_s and mark.cpu_s > start.cpu_s:
                parts.append(round((mark.steps - start.steps) / (mark.cpu_s - start.cpu_s), 2))
                start = mark
        steps, cpu_s, wall_s = last.steps - first.steps, last.cpu_s - first.cpu_s, last.wall_s - first.wall_s
        return {
            "warmup_steps": first.steps,
            "agent_steps": steps,
            "updates": last.updates - first.updates,
            "wall_s": round(wall_s, 4),
            "cpu_s": round(cpu_s, 4),
            "cores": round(cpu_s / wall_s, 3),
            "steps_per_cpu_s": round(steps / cpu_s, 3),
            "steps_per_wall_s": round(steps / wall_s, 3),
            "steps_per_cpu_s_best_window": max(parts, default=None),
            "windows": parts,
        }


if __name__ == "__main__":
    print(f"{cpu_seconds(int(sys.argv[1])):.2f}")
