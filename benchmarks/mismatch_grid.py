#!/usr/bin/env python3
"""Accuracy of an fp32 learner against its sampler's precision and age, for every correction: docs/mismatch.md.

    python benchmarks/mismatch_grid.py --work DIR --jobs 2                     # all; the same command goes on
    python benchmarks/mismatch_grid.py --work DIR --env CartPole-v1 --jobs 1
    python benchmarks/mismatch_grid.py --work DIR --vllm --jobs 1              # those through vLLM: scripts/vllm_env
    python benchmarks/mismatch_grid.py --work DIR --list                       # what is done
    python benchmarks/mismatch_grid.py --work DIR --collect evidence/mismatch-grid
    python benchmarks/mismatch_grid.py --work DIR --restore evidence/mismatch-grid   # a new folder goes on from these

Cells are run the most informative first, each on all seeds, so a grid that is cut short has intervals for them. A
process has one thread; any number of these commands may share a work folder. A result is one file, written at once when
its run has ended; a run that was cut goes on from its last checkpoint.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from mismatch_cells import ENVS, LANGUAGE, Cell, order, through_vllm
from mismatch_run import about, result_path, run_cell

from frugalrl.run.record import write_json

ONE_THREAD = {
    "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive",
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--env", nargs="+", default=list(ENVS), choices=ENVS)
    parser.add_argument("--seeds", type=int, help="default: 5, of Atari 3")
    parser.add_argument("--vllm", action="store_true", help="the language model through vLLM, and nothing else")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--most", type=int, help="at most so many runs, for a look at what one takes")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--collect", type=Path)
    parser.add_argument("--restore", type=Path, help="write the results of collected runs into the work folder")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.restore:
        print(f"{restore(args.work, args.restore)} results")
        return 0
    todo = through_vllm(args.seeds) if args.vllm else order(args.env, args.seeds)
    if args.list or args.collect:
        for env in args.env:
            mine = [cell for cell in todo if cell.env == env]
            mine += through_vllm(args.seeds) if env == LANGUAGE and not args.vllm else []
            done = [cell for cell in mine if result_path(args.work, cell).exists()]
            print(f"{env}: {len(done)} of {len(mine)} runs")
            if args.collect and done:
                collect(args.work, args.collect, done)
        return 0
    if not args.child:
        return several(args.jobs)
    return work_off(todo, args.work, args.most)


def work_off(todo: Sequence[Cell], work: Path, most: int | None) -> int:
    """Run what has no result and is nobody else's, always the first of the order: others may have let go of it."""
    broken: set[Cell] = set()
    made = 0
    while most is None or made < most:
        for cell in todo:
            if cell in broken or result_path(work, cell).exists():
                continue
            try:
                ended = run_cell(cell, work)
            except Exception:
                traceback.print_exc()
                broken.add(cell)
                continue
            if ended == "stopped":
                print("stopped; the same command goes on", flush=True)
                return 1
            if ended == "done":
                score = json.loads(result_path(work, cell).read_text())["final"]
                print(f"{datetime.now(UTC):%m-%d %H:%M:%S} {cell.name}: {score}", flush=True)
                made += 1
                break
        else:
            break
    return int(bool(broken))


def several(jobs: int) -> int:
    """As many processes with the same options, which share the work; a signal is handed on to them."""
    command = [sys.executable, *sys.argv, "--child"]
    children = [subprocess.Popen(command, env={**os.environ, **ONE_THREAD}) for _ in range(jobs)]
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: [child.terminate() for child in children])
    return max(child.wait() for child in children)


def collect(work: Path, evidence: Path, done: list[Cell]) -> None:
    """One line per run into a file per environment, sorted; beside it what all runs of it share."""
    evidence.mkdir(parents=True, exist_ok=True)
    name = done[0].env.split("/")[-1].replace(":", "-")
    lines = [json.dumps(json.loads(result_path(work, cell).read_text())) for cell in sorted(done, key=lambda c: c.name)]
    (evidence / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    if (work / "runs" / done[0].name).exists():  # not where it was restored: what was collected then stays
        (evidence / f"{name}.about.json").write_text(json.dumps(about(work, done[0]), indent=1) + "\n")


def restore(work: Path, evidence: Path) -> int:
    """The lines of ``collect`` as results again; what is there already is left alone."""
    made = 0
    for file in sorted(evidence.glob("*.jsonl")):
        for run in map(json.loads, file.read_text().splitlines()):
            path = result_path(work, Cell(run["env"], run["sampler"], run["correction"], run["seed"]))
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                write_json(path, run)
                made += 1
    return made


if __name__ == "__main__":
    raise SystemExit(main())
