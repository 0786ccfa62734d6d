#!/usr/bin/env python3
"""What many seeds cost in one process, and what they cost in one process each.

    python benchmarks/stacked_seeds.py --seeds 16 --steps 20000 --separate 4 --out evidence/bench/stacked-cartpole.json

Method: ``classic-dqn`` on CartPole-v1, one thread. ``--separate`` of the seeds are trained in processes of their own,
one after another, half of them before the stacked process and half after it, so that a machine that changes its speed
meanwhile changes both; their mean stands for every seed. CPU-seconds are those that the operating system counts for
the ended process. The same without start-up is made with the line ``startup`` of the bills. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import resource
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

ENVIRONMENT = {"OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
SETTINGS = ("device=cpu",)


def train(seeds: list[int], steps: int, folder: Path, settings: list[str]) -> None:
    """In the process that is measured: one seed alone, several stacked."""
    from frugalrl.recipes import build_config
    from frugalrl.run.config_io import override

    config = override(build_config("CartPole-v1", "classic-dqn"), [*SETTINGS, f"budget.env_steps={steps}", *settings])
    if len(seeds) == 1:
        from frugalrl.run.train import train

        train(replace(config, seed=seeds[0]), folder / str(seeds[0]), whole_process=True)
        return
    from frugalrl.run.stacked import train_stacked

    configs, folders = [replace(config, seed=s) for s in seeds], [folder / str(s) for s in seeds]
    for end in train_stacked(configs, folders, whole_process=True):
        if isinstance(end, Exception):
            raise end


def measure(seeds: list[int], steps: int, settings: list[str]) -> dict[str, Any]:
    """CPU-seconds of one process that trains these seeds, and what its bills say."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["--child", folder, "--steps", str(steps), "--seeds", *map(str, seeds), "--set", *settings]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, __file__, *words], check=True, env=os.environ | ENVIRONMENT)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        roles: dict[str, float] = {}
        for seed in seeds:
            for row in json.loads((Path(folder) / str(seed) / "bill.json").read_text())["rows"]:
                if row["name"] == "cpu_s" and row["role"] is not None:
                    roles[row["role"]] = roles.get(row["role"], 0.0) + row["value"]
    cpu_s = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return {"cpu_s": cpu_s, "without_startup_cpu_s": cpu_s - roles["startup"], "roles_cpu_s": roles}


def per_seed(found: list[dict[str, Any]], seeds: int) -> dict[str, Any]:
    """Means over seeds, rounded."""
    names = found[0]["roles_cpu_s"]
    return {
        "cpu_s_per_seed": round(sum(f["cpu_s"] for f in found) / seeds, 3),
        "without_startup_cpu_s_per_seed": round(sum(f["without_startup_cpu_s"] for f in found) / seeds, 3),
        "roles_cpu_s_per_seed": {n: round(sum(f["roles_cpu_s"].get(n, 0.0) for f in found) / seeds, 3) for n in names},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[16], help="how many; the seeds themselves for --child")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--separate", type=int, default=4, help="seeds that are trained alone")
    parser.add_argument("--set", nargs="*", default=[], help="fields of the configuration")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        train(args.seeds, args.steps, args.child, args.set)
        return 0
    seeds, half = list(range(args.seeds[0])), args.separate // 2
    alone = [measure([s], args.steps, args.set) for s in seeds[:half]]
    stacked = measure(seeds, args.steps, args.set)
    alone += [measure([s], args.steps, args.set) for s in seeds[half : args.separate]]
    one, many = per_seed(alone, len(alone)), per_seed([stacked], len(seeds))
    sys.path.insert(0, str(Path(__file__).parent))
    from side_by_side import machine

    document = {
        "command": " ".join(["python", "benchmarks/stacked_seeds.py", *sys.argv[1:]]),
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "load_average": os.getloadavg(),
        "environment": "CartPole-v1", "recipe": "classic-dqn", "env_steps": args.steps, "seeds": len(seeds),
        "separate_processes_measured": len(alone),
        "separate": one,
        "stacked": many,
        "ratio_cpu_s": round(many["cpu_s_per_seed"] / one["cpu_s_per_seed"], 4),
        "ratio_without_startup": round(
            many["without_startup_cpu_s_per_seed"] / one["without_startup_cpu_s_per_seed"], 4
        ),
    }  # fmt: skip
    print(json.dumps(document))
    if args.out:
        args.out.write_text(json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
