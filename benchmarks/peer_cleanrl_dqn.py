"""Time CleanRL's unmodified ``dqn_atari.py`` on Pong; run it with the interpreter of `benchmarks/peers make cleanrl`.

    git clone https://github.com/vwxyzjn/cleanrl CLEANRL
    benchmarks/.venvs/cleanrl/bin/python benchmarks/peer_cleanrl_dqn.py --cleanrl CLEANRL --steps 2000 --warmup 1600

The script is run as it is (`runpy`), on the work of ``peer_sb3_dqn.py`` as far as its options reach: it has the squared
loss and no gradient clipping. Agent steps are counted in `SyncVectorEnv.step`, updates by its own rule (every 4th step
after the 1,000th). The first --warmup agent steps are not counted, the next --steps are. Clocks and JSON as there.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import resource
import runpy
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

LEARNING_STARTS, STEPS_PER_UPDATE = 1_000, 4
LIBRARIES = ("torch", "numpy", "gymnasium", "ale-py", "opencv-python-headless")


def cpu_seconds() -> float:
    """User plus system CPU-seconds of this process, all its threads, and its finished children."""
    parts = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in parts)


def run(args: argparse.Namespace, marks: dict[int, tuple[float, float]]) -> int:
    """Runs the script; fills the clocks (wall, CPU) at the agent steps in ``marks``; returns its updates in between."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(args.threads)
    os.environ["OMP_WAIT_POLICY"] = "passive"
    import ale_py  # noqa: F401  (registers its environments)
    import cv2
    import gymnasium
    import torch

    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    inner = gymnasium.vector.SyncVectorEnv.step
    steps = 0

    def step(self: Any, actions: Any) -> Any:
        nonlocal steps
        result = inner(self, actions)
        steps += 1
        if steps in marks:
            marks[steps] = (time.perf_counter(), cpu_seconds())
        return result

    gymnasium.vector.SyncVectorEnv.step = step
    script = args.cleanrl / "cleanrl" / "dqn_atari.py"
    sys.path.insert(0, str(args.cleanrl))
    sys.argv = [
        str(script), "--env-id", "PongNoFrameskip-v4", "--seed", str(args.seed), *(() if args.cuda else ("--no-cuda",)),
        "--buffer-size", "100000", "--learning-starts", str(LEARNING_STARTS), "--start-e", "0.05", "--end-e", "0.05",
        # one step more than is counted, so that the updates after the last one are in
        "--total-timesteps", str(args.warmup + args.steps + 1),
    ]  # fmt: skip
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:  # it writes its logs where it stands
        os.chdir(folder)
        try:
            runpy.run_path(str(script), run_name="__main__")
        finally:
            os.chdir(before)
    return args.steps // STEPS_PER_UPDATE


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cleanrl", type=Path, required=True, help="a clone of vwxyzjn/cleanrl")
    parser.add_argument("--steps", type=int, default=2_000, help="agent steps counted, after the warmup")
    parser.add_argument("--warmup", type=int, default=1_600)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cuda", action="store_true", help="on the GPU, as the script is by default")
    args = parser.parse_args()
    args.cleanrl = args.cleanrl.resolve()
    if args.warmup <= LEARNING_STARTS or args.warmup % STEPS_PER_UPDATE or args.steps % STEPS_PER_UPDATE:
        parser.error(f"--warmup must be above {LEARNING_STARTS}, and both multiples of {STEPS_PER_UPDATE}")
    first, last = args.warmup, args.warmup + args.steps
    marks: dict[int, tuple[float, float]] = dict.fromkeys((first, last), (0.0, 0.0))
    try:
        updates = run(args, marks)
    except ModuleNotFoundError as error:
        print(f"peer_cleanrl_dqn: {error.name} is not here; run `benchmarks/peers make cleanrl`", file=sys.stderr)
        return 2
    wall_s, cpu_s = (b - a for a, b in zip(marks[first], marks[last], strict=True))
    own = {"GIT_CEILING_DIRECTORIES": str(args.cleanrl.parent)}  # a copy without its history has no commit
    commit = subprocess.run(
        f"git -C '{args.cleanrl}' rev-parse HEAD", shell=True, capture_output=True, text=True, env=os.environ | own
    )
    print(
        json.dumps(
            {
                "peer": "cleanrl dqn_atari.py",
                "versions": {
                    "python": platform.python_version(),
                    "cleanrl": commit.stdout.strip(),
                    **{name: importlib.metadata.version(name) for name in LIBRARIES},
                },
                "task": "pong",
                "seed": args.seed,
                "threads": args.threads,
                "precision": "fp32",
                "device": "cuda" if args.cuda else "cpu",
                "warmup_steps": args.warmup,
                "agent_steps": args.steps,
                "updates": updates,
                "wall_s": round(wall_s, 4),
                "cpu_s": round(cpu_s, 4),
                "steps_per_cpu_s": round(args.steps / cpu_s, 3),
                "steps_per_wall_s": round(args.steps / wall_s, 3),
                "work": {"loss": "squared", "max_grad_norm": None, "rest": "as peer_sb3_dqn.py"},
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
