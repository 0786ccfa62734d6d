#!/usr/bin/env python3
"""What many seeds cost in one process, and what they cost in one process each.

    python benchmarks/stacked_seeds.py --seeds 16 --steps 20000 --separate 4 --out evidence/bench/stacked-cartpole.json
    python benchmarks/stacked_seeds.py --env MinAtar/Breakout-v1 --recipe minatar-dqn --device cuda --together

Method: one thread; ``classic-dqn`` on CartPole-v1 unless told otherwise. ``--separate`` of the seeds are trained in
processes of their own, one after another, half of them before the stacked process and half after it, so that a machine
that changes its speed meanwhile changes both; their mean stands for every seed. CPU-seconds are those that the
operating system counts for the ended process. The same without start-up is made with the line ``startup`` of the bills.
``--together``: all seeds once more, in as many processes at the same time, for the wall time of that. Prints one JSON
line.
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
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

ENVIRONMENT = {"OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def train(args: argparse.Namespace) -> None:
    """In the process that is measured: one seed alone, several stacked."""
    from frugalrl.recipes import build_config
    from frugalrl.run.config_io import override

    settings = [f"device={args.device}", f"budget.env_steps={args.steps}", *args.set]
    config = override(build_config(args.env, args.recipe), settings)
    seeds, folder = args.seeds, args.child
    if len(seeds) == 1:
        from frugalrl.run.train import train

        train(replace(config, seed=seeds[0]), folder / str(seeds[0]), whole_process=True)
        return
    from frugalrl.run.stacked import train_stacked

    configs, folders = [replace(config, seed=s) for s in seeds], [folder / str(s) for s in seeds]
    for end in train_stacked(configs, folders, whole_process=True):
        if isinstance(end, Exception):
            raise end


def child(seeds: list[int], folder: str, args: argparse.Namespace) -> subprocess.Popen[bytes]:
    """A process that trains these seeds."""
    words = ["--child", folder, "--steps", str(args.steps), "--seeds", *map(str, seeds), "--set", *args.set]
    words += ["--env", args.env, "--recipe", args.recipe, "--device", args.device]
    return subprocess.Popen([sys.executable, __file__, *words], env=os.environ | ENVIRONMENT)


def measure(seeds: list[int], args: argparse.Namespace) -> dict[str, Any]:
    """CPU- and wall seconds of one process that trains these seeds, and what its bills say."""
    with tempfile.TemporaryDirectory() as folder:
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        ended(child(seeds, folder, args))
        wall_s, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        roles: dict[str, dict[str, float]] = {"cpu_s": {}, "gpu_s": {}}
        joules: list[float | None] = []
        for seed in seeds:
            for row in json.loads((Path(folder) / str(seed) / "bill.json").read_text())["rows"]:
                if row["name"] in roles and row["role"] is not None and row["value"] is not None:
                    found = roles[row["name"]]
                    found[row["role"]] = found.get(row["role"], 0.0) + row["value"]
                if row["name"] == "gpu_j":
                    joules.append(row["value"])
    cpu_s = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return {
        "cpu_s": cpu_s,
        "without_startup_cpu_s": cpu_s - roles["cpu_s"]["startup"],
        "wall_s": wall_s,
        "gpu_j": None if None in joules or args.device == "cpu" else sum(j for j in joules if j is not None),
        "roles_cpu_s": roles["cpu_s"],
        "roles_gpu_s": roles["gpu_s"],
    }


def ended(process: subprocess.Popen[bytes]) -> None:
    if process.wait() != 0:
        raise subprocess.CalledProcessError(process.returncode, process.args)


def all_at_once(seeds: list[int], args: argparse.Namespace) -> float:
    """Wall seconds of as many processes as there are seeds, started together."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        for process in [child([seed], folder, args) for seed in seeds]:
            ended(process)
        return time.perf_counter() - started


def per_seed(found: list[dict[str, Any]], seeds: int) -> dict[str, Any]:
    """Means over seeds, rounded."""

    def mean(values: list[float]) -> float:
        return round(sum(values) / seeds, 4)

    means = {
        f"{name}_per_seed": mean([f[name] for f in found]) for name in ("cpu_s", "without_startup_cpu_s", "wall_s")
    }
    joules = [f["gpu_j"] for f in found]
    return {
        **means,
        "gpu_j_per_seed": None if None in joules else mean(joules),
        **{
            f"{kind}_per_seed": {n: mean([f[kind].get(n, 0.0) for f in found]) for n in found[0][kind]}
            for kind in ("roles_cpu_s", "roles_gpu_s")
        },
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[16], help="how many; the seeds themselves for --child")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--separate", type=int, default=4, help="seeds that are trained alone")
    parser.add_argument("--env", default="CartPole-v1")
    parser.add_argument("--recipe", default="classic-dqn")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--together", action="store_true", help="also all seeds at once, a process each")
    parser.add_argument("--set", nargs="*", default=[], help="fields of the configuration")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        train(args)
        return 0
    seeds, half = list(range(args.seeds[0])), args.separate // 2
    alone = [measure([s], args) for s in seeds[:half]]
    stacked = measure(seeds, args)
    alone += [measure([s], args) for s in seeds[half : args.separate]]
    one, many = per_seed(alone, len(alone)), per_seed([stacked], len(seeds))
    sys.path.insert(0, str(Path(__file__).parent))
    from side_by_side import machine

    document = {
        "command": " ".join(["python", "benchmarks/stacked_seeds.py", *sys.argv[1:]]),
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "load_average": os.getloadavg(),
        "environment": args.env, "recipe": args.recipe, "device": args.device, "env_steps": args.steps,
        "seeds": len(seeds),
        "separate_processes_measured": len(alone),
        "separate": one,
        "stacked": many,
        "ratio_cpu_s": round(many["cpu_s_per_seed"] / one["cpu_s_per_seed"], 4),
        "ratio_without_startup": round(
            many["without_startup_cpu_s_per_seed"] / one["without_startup_cpu_s_per_seed"], 4
        ),
        "stacked_wall_s": round(stacked["wall_s"], 2),
        "separate_together_wall_s": round(all_at_once(seeds, args), 2) if args.together else None,
    }  # fmt: skip
    print(json.dumps(document))
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
