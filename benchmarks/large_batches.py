#!/usr/bin/env python3
"""What a training pass over a batch of Atari images costs per image, by where the floats of the images lie.

    python benchmarks/large_batches.py --torso impala-shallow --hidden 256 --out evidence/bench/large-batches.json

Tensors of over 32 MB are taken from the system at each allocation and given back after it, so their pages are faulted
in again and again. The V-trace learner therefore writes its images into the memory of the batch before (``kept``). The
other way out is the allocator's large pages (``THP_MEM_ALLOC_ENABLE=1``, a setting of torch that the user can make): it
is shown beside, because small batches can lose by it. One thread, a process per setting, in turn, least of
``--repeats`` CPU times of forward and backward. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ENVIRONMENT = {"OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "1"}
PAGES = "THP_MEM_ALLOC_ENABLE"


def child(torso: Any, hidden: int, sizes: list[int], repeats: int) -> dict[int, dict[str, float]]:
    """CPU-milliseconds per image, by batch size: of the whole pass, and of the preparation of the images alone."""
    import torch

    from frugalrl.nets.actor_critic import build_actor_critic, prepared_unroll
    from frugalrl.nets.config import NetConfig
    from frugalrl.types import EnvSpec

    torch.set_num_threads(1)
    spec = EnvSpec(
        id="images", protocol="none", obs_kind="image", obs_shape=(4, 84, 84), obs_dtype="uint8", num_actions=6,
        frame_stack=4,
    )  # fmt: skip
    net = build_actor_critic(spec, NetConfig(torso=torso, hidden_units=(hidden,)))
    found = {}
    for size in sizes:
        obs = torch.randint(0, 256, (size, *spec.obs_shape), dtype=torch.uint8)

        def whole(obs: Any = obs) -> None:
            net(obs).square().mean().backward()

        def prepare(obs: Any = obs) -> None:
            net[0](obs)  # type: ignore[index]

        room = prepared_unroll(net, obs[None])

        def kept(obs: Any = obs, room: Any = room) -> None:
            net(prepared_unroll(net, obs[None], room)[0]).square().mean().backward()

        work = {"whole": whole, "whole, kept": kept, "preparation": prepare}
        found[size] = {name: 1e3 * least(call, repeats) / size for name, call in work.items()}
    return found


def least(work: Any, repeats: int) -> float:
    work()
    times = []
    for _ in range(repeats):
        before = time.process_time()
        work()
        times.append(time.process_time() - before)
    return min(times)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--torso", default="impala-shallow")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 168, 264, 528, 1056])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=2, help="processes per setting, in turn")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(child(args.torso, args.hidden, args.sizes, args.repeats)))
        return 0
    rounds: dict[str, list[Any]] = {"0": [], "1": []}
    for _ in range(args.rounds):
        for value, made in rounds.items():
            done = subprocess.run(
                [sys.executable, __file__, *sys.argv[1:], "--child"], check=True, stdout=subprocess.PIPE, text=True,
                env=os.environ | ENVIRONMENT | {PAGES: value},
            )  # fmt: skip
            made.append(json.loads(done.stdout))
    sys.path.insert(0, str(Path(__file__).parent))
    from side_by_side import machine

    def best(value: str, size: int, name: str) -> float:
        return round(min(found[str(size)][name] for found in rounds[value]), 4)

    document = {
        "command": " ".join(["python", "benchmarks/large_batches.py", *sys.argv[1:]]),
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "load_average": os.getloadavg(),
        "torso": args.torso, "hidden": args.hidden,
        "cpu_ms_per_image": {
            str(size): {
                f"{name}, {pages} pages": best(value, size, name)
                for name in ("whole", "whole, kept", "preparation")
                for value, pages in (("0", "small"), ("1", "large"))
            }
            for size in args.sizes
        },
    }  # fmt: skip
    print(json.dumps(document))
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
