"""Central runs that are asked to stop, interrupted at a terminal, or killed: what is left, and how they go on.

`Started` looks whether a run keeps memory in /dev/shm: what has no name there cannot be left behind.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from central_support import R2D2, VTRACE, is_alive, r2d2, send, started, within, workers_here
from kill_resume import differences, flat, newest_checkpoint
from run_support import Watcher

from frugalrl.run.checkpoint import Checkpoints
from frugalrl.run.config import BudgetConfig
from frugalrl.run.record import RunFolder
from frugalrl.run.status import Silent
from frugalrl.run.train import Run, resume, train

RECALL = ("frugalrl/Recall-v0", "--recipe", "seed-r2d2-small", "--envs", "4", "--budget-steps", "10_000_000")
CARTPOLE = ("CartPole-v1", "--recipe", "seed-vtrace-small", "--envs", "4", "--budget-steps", "10_000_000")
NEW_LIFE = ("sampler/transport/", "ledger/")
"""What a resumed process has of its own: how often environments were started, and its line in the ledger."""


def saved_and_brought_back(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The newest checkpoint, and the state of a process that has just loaded it; replay rows included."""
    folder = Path(shutil.copytree(folder, folder.with_name("looked-at")))
    saved = dict(flat(Checkpoints(folder / "checkpoints").load(None).state))
    run = Run(RunFolder(folder).config(), Silent(), tables=None, whole_process=False)
    try:
        run.open(RunFolder(folder))
        run.restore()
        state = dict(flat(run._state.state_dict()))
        replay = run._parts.replay
        if replay.rows_written:  # the ring: whatever files the rows lie in
            rows = replay.read_rows(replay.oldest_row, replay.rows_written)
            state |= {f"rows/{name}": array for name, array in rows.items()}
            saved |= {f"rows/{name}": array for name, array in rows_on_disk(folder, replay.oldest_row).items()}
    finally:
        run.close()
    back = {name: value.numpy() if hasattr(value, "numpy") else value for name, value in state.items()}
    return saved, back


def rows_on_disk(folder: Path, oldest: int) -> dict[str, Any]:
    from safetensors.numpy import load_file

    files = sorted((folder / "checkpoints" / "rows").glob("[0-9]*"))
    pieces = [load_file(file) for file in files]
    first = int(files[0].name[:12])
    return {name: np.concatenate([p[name] for p in pieces])[oldest - first :] for name in pieces[0]}


def without_new_life(state: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in state.items() if not name.startswith(NEW_LIFE)}


def assert_it_comes_back(folder: Path, steps: int) -> None:
    """What was saved is there again bit for bit, what cannot be is named, and the run goes on."""
    saved, back = saved_and_brought_back(folder)
    of_rows = ("sampler/actor/last/", "sampler/actor/state/")  # they begin anew
    differing = differences(without_new_life(saved), without_new_life(back))
    assert [name for name in differing if not name.startswith(of_rows)] == []
    assert {"learner/version", "counters/updates", "sampler/actor/chooser/draws/rows/3/state/state"} <= saved.keys()
    assert {"rows/frames", "replay/rng/state/state", "replay/priorities"} <= saved.keys()
    assert saved["counters/env_steps"] == steps == saved["sampler/taken_steps"] <= saved["sampler/env_steps"]

    reporter = Watcher()
    done = resume(folder, reporter, budget=BudgetConfig(env_steps=steps + 300))
    assert (done.completed, done.env_steps >= steps + 300) == (True, True)
    assert reporter.headers[0].resumed_at == steps
    (note,) = [n for n in reporter.notes if "not brought back" in n]
    assert "all 4 environments start new episodes; unrolls that were open or waited for the learner are lost" in note
    (line,) = [line for line in RunFolder(folder).lines() if line["kind"] == "not_restored"]
    assert (line["env_steps"], line["rows"]) == (steps, [0, 1, 2, 3])


@pytest.mark.parametrize("workers", [0, 2])
def test_sigterm_ends_a_central_run_and_it_goes_on_from_where_it_was(workers: int, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    pids: list[int] = []
    threads = set(threading.enumerate())

    def stop() -> None:
        pids.extend(workers_here())
        os.kill(os.getpid(), signal.SIGTERM)

    stopped = train(
        r2d2("frugalrl/Recall-v0", f"sampler.workers={workers}", steps=None), folder, Watcher(at_step=300, act=stop)
    )
    assert (stopped.reason, stopped.completed) == ("interrupted by SIGTERM", False)
    assert newest_checkpoint(folder) == stopped.env_steps >= 300
    assert len(pids) == workers
    assert not any(psutil.pid_exists(pid) for pid in pids), "a worker or a zombie is left"
    assert set(threading.enumerate()) <= threads
    assert_it_comes_back(folder, stopped.env_steps)


@pytest.mark.parametrize(
    ("number", "group"), [(signal.SIGINT, True), pytest.param(signal.SIGTERM, False, marks=pytest.mark.slow)]
)
def test_a_signal_ends_the_process_and_its_workers(number: signal.Signals, group: bool, tmp_path: Path) -> None:
    """Ctrl-C comes to all of the process group, as a terminal sends it; SIGTERM to the process alone."""
    folder = tmp_path / "run"
    with started(folder, *CARTPOLE, "--workers", "2", "--set", *VTRACE) as run:
        run.wait_for_step(300)
        assert len(run.workers) == 2
        code, out, err = run.end(send(run, number, group=group))
    print(f"{number.name}: it took {run.took_s:.2f} s to end")
    assert run.took_s < 30
    assert code == 1
    last = RunFolder(folder).lines()[-1]
    assert (last["kind"], last["completed"]) == ("end", False)
    steps = int(last["env_steps"])
    assert steps >= 300
    (sentence,) = err.splitlines()
    assert sentence == f"frugal: interrupted by {number.name} at step {steps:,}; go on with: frugal resume {folder}"
    assert "Traceback" not in out
    assert newest_checkpoint(folder) == steps
    assert not any(is_alive(pid) for pid in run.workers), "a worker is left"


def test_kill_9_while_a_checkpoint_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    often = "checkpoint.every_s=0.1"
    with started(folder, *RECALL, "--workers", "2", "--set", *R2D2, often) as run:
        run.wait_for_step(600)
        run.wait_for_writer()
        code, _, _ = run.end(send(run, signal.SIGKILL))
        assert within(2.0, lambda: not any(is_alive(pid) for pid in run.workers)), "a worker outlived the run"
    assert code == -signal.SIGKILL
    assert len(run.workers) == 2
    died, saved = run.step(), newest_checkpoint(folder)
    assert 0 < saved <= died
    reporter = Watcher()
    done = resume(folder, reporter, budget=BudgetConfig(env_steps=died + 300))
    assert reporter.headers[0].resumed_at == saved
    assert (done.completed, done.env_steps >= died + 300) == (True, True)
    if died > saved:
        assert f"and {died - saved:,} steps are done again" in reporter.notes[1]
    assert not [n for n in reporter.notes if "damaged" in n], "what was half-written is no checkpoint"
