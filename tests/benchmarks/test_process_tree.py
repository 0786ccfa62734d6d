"""CPU-seconds of running children, which ``getrusage`` does not show, and the window of a benchmark."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time

import process_tree
import pytest

# a child with a child of its own; each burns a quarter of a second of CPU and then waits for a line
BURN = """
import subprocess, sys, time
if len(sys.argv) < 3:
    inner = subprocess.Popen([sys.executable, "-S", "-c", sys.argv[1], sys.argv[1], "inner"], stdout=subprocess.PIPE)
    inner.stdout.readline()
while time.process_time() < 0.25:
    pass
print("burned", flush=True)
sys.stdin.readline()
if len(sys.argv) < 3:
    inner.wait()
"""


def children_as_getrusage_sees_them() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_a_running_tree_is_counted_and_an_ended_one_is_not_lost() -> None:
    before, ended = process_tree.cpu_seconds(os.getpid()), children_as_getrusage_sees_them()
    child = subprocess.Popen(
        [sys.executable, "-S", "-c", BURN, BURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    child.stdout.readline()
    alone, below = process_tree.cpu_seconds(os.getpid()) - before, process_tree.cpu_seconds(child.pid)
    assert below >= 0.45, "both generations burned 0.25 s"
    assert alone >= below - 0.05
    assert children_as_getrusage_sees_them() - ended < 0.1, "the usual way sees nothing of children that still run"
    child.communicate("\n")
    assert process_tree.cpu_seconds(os.getpid()) - before >= 0.45
    with pytest.raises(ProcessLookupError):
        process_tree.cpu_seconds(child.pid)


def test_the_tree_is_the_root_and_all_below_it_whatever_the_order_of_the_table() -> None:
    table = {pid: process_tree.Process(parent, 1.0) for pid, parent in ((9, 5), (5, 2), (2, 1), (7, 1), (8, 5))}
    assert sorted(process_tree.members(2, table)) == [2, 5, 8, 9]
    assert process_tree.members(4, table) == []


def test_the_window_begins_after_the_warmup_and_ends_with_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = {"cpu": 0.0}
    monkeypatch.setattr(process_tree, "cpu_seconds", lambda root: clock["cpu"])
    monkeypatch.setattr(time, "perf_counter", lambda: clock["cpu"] / 2)
    window = process_tree.Window(root=1, warmup=300, steps=500, every_s=1.0)
    for updates in range(1, 20):
        clock["cpu"] = 3.0 * updates
        window.at(100 * updates, updates)
        assert window.closed == (updates >= 8)
    found = window.result()
    assert (found["warmup_steps"], found["agent_steps"], found["updates"]) == (300, 500, 5)
    assert (found["cpu_s"], found["wall_s"], found["cores"]) == (15.0, 7.5, 2.0)
    assert found["steps_per_cpu_s"] == pytest.approx(100 / 3, abs=1e-3)
