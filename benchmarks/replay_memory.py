"""Memory of a replay full of Atari steps: resident memory of the process before and after, not what arrays promise.

python benchmarks/replay_memory.py 100000 1000000
"""

from __future__ import annotations

import argparse
import json
import os
import time

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import psutil

from frugalrl.replay import Replay, ReplayConfig
from frugalrl.types import EnvSpec, Rows

BLOCK = 500
SPEC = EnvSpec(
    id="benchmark", protocol="none", obs_kind="image", obs_shape=(4, 84, 84), obs_dtype="uint8", num_actions=6,
    frame_stack=4, frames_per_step=4,
)  # fmt: skip


def block(rng: np.random.Generator, first: bool) -> Rows:
    valid = np.ones((BLOCK, 1), np.bool_)
    valid[0] = not first
    return Rows(
        obs=rng.integers(0, 256, (BLOCK, 1, 4, 84, 84), dtype=np.uint8),
        action=np.zeros((BLOCK, 1), np.int64),
        reward=np.zeros((BLOCK, 1), np.float32),
        discount=np.ones((BLOCK, 1), np.float32),
        last=np.zeros((BLOCK, 1), np.bool_),
        valid=valid,
        log_mu=np.zeros((BLOCK, 1), np.float32),
        version=np.zeros((BLOCK, 1), np.int64),
        explored=np.zeros((BLOCK, 1), np.bool_),
    )


def measure(steps: int, kind: str) -> dict[str, object]:
    rng = np.random.default_rng(0)
    start = block(rng, first=True)
    rows = block(rng, first=False)
    process = psutil.Process()
    before = process.memory_info().rss
    replay = Replay(ReplayConfig(kind=kind, capacity_transitions=steps), SPEC, 1, 0.99, rng)  # type: ignore[arg-type]
    cpu = time.process_time()
    replay.add(start)
    written = BLOCK
    while written < steps + BLOCK:
        replay.add(rows)
        written += BLOCK
    add_us = (time.process_time() - cpu) / written * 1e6
    for _ in range(20):
        replay.sample(32, env_step=0)
    cpu = time.process_time()
    for _ in range(200):
        replay.sample(32, env_step=0)
    return {
        "steps": steps,
        "kind": kind,
        "resident_gb": round((process.memory_info().rss - before) / 1e9, 4),
        "arrays_gb": round(replay.nbytes / 1e9, 4),
        "eligible": replay.size,
        "add_us_per_step": round(add_us, 2),
        "sample32_ms": round((time.process_time() - cpu) / 200 * 1e3, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("steps", nargs="+", type=int)
    parser.add_argument("--kind", default="prioritized", choices=("uniform", "prioritized"))
    args = parser.parse_args()
    for steps in args.steps:
        print(json.dumps(measure(steps, args.kind)), flush=True)


if __name__ == "__main__":
    main()
