"""What a policy pays to act on a few images: the network's layers, and its convolutions as matrix products.

    python benchmarks/few_rows.py --rows 1 2 3 4 --rounds 40

``layers``: the network as the learner calls it. ``few rows``: `frugalrl.policies.few_rows`, which a policy takes up to
its `MOST_ROWS` and `MOST_PIXELS`. Both run in turn in one process with one thread, the parameters the same; a figure is
the median of the CPU-microseconds of a call. The numbers agree (asserted). The last line of the output is one JSON
object.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import statistics
import time
from typing import Any

os.environ["OMP_WAIT_POLICY"] = "passive"  # must be set before the OpenMP runtime is loaded
os.environ["OMP_NUM_THREADS"] = "1"

import torch
from side_by_side import machine

from frugalrl.nets.config import NetConfig
from frugalrl.nets.q_network import build_q_network
from frugalrl.policies.few_rows import few_rows_forward, pays
from frugalrl.types import EnvSpec

CALLS = 20
"""In one measurement."""
GAMES: dict[str, dict[str, Any]] = {
    "atari": {"obs_shape": (4, 84, 84), "obs_dtype": "uint8", "num_actions": 6},
    "minatar": {"obs_shape": (4, 10, 10), "obs_dtype": "bool", "num_actions": 6, "binary": True},
}
NETWORKS = {
    "nature": ("atari", NetConfig(hidden_units=(512,))),
    "impala-shallow": ("atari", NetConfig(torso="impala-shallow", hidden_units=(256,))),
    "minatar": ("minatar", NetConfig(hidden_units=(128,))),
}


def measure(name: str, rows: int, dtype: torch.dtype, rounds: int) -> dict[str, Any]:
    game, config = NETWORKS[name]
    spec = EnvSpec(id=game, protocol="plain", obs_kind="image", **GAMES[game])
    torch.manual_seed(0)
    obs = torch.randint(2 if spec.binary else 256, (rows, *spec.obs_shape)).to(getattr(torch, spec.obs_dtype))
    net = build_q_network(spec, config).to(dtype).requires_grad_(False)
    few = few_rows_forward(net)
    assert few is not None
    assert torch.allclose(net(obs).float(), few(obs).float(), rtol=1e-2, atol=1e-2)
    times: dict[str, list[float]] = {"layers": [], "few rows": []}
    for number in range(rounds + 2):  # the first two are for libraries to choose their kernels
        for way, forward in (("layers", net), ("few rows", few)):
            began = time.thread_time()
            for _ in range(CALLS):
                forward(obs)
            if number >= 2:
                times[way].append((time.thread_time() - began) / CALLS)
    found = {way: round(1e6 * statistics.median(t), 1) for way, t in times.items()}
    return {"network": name, "rows": rows, "cpu_us": found, "taken": pays(obs)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 2, 3, 4, 8, 16, 32], help="images in one call")
    parser.add_argument("--rounds", type=int, default=40)
    args = parser.parse_args()
    torch.set_num_threads(1)
    results = []
    with torch.inference_mode():
        for name in NETWORKS:
            for rows in args.rows:
                found = measure(name, rows, torch.bfloat16 if args.precision == "bf16" else torch.float32, args.rounds)
                results.append(found)
                layers, few = found["cpu_us"].values()
                print(f"{name:<15} {rows:3} rows: layers {layers:7.1f} us, few rows {few:7.1f} us, {few / layers:.2f}")
    about = {"date": datetime.date.today().isoformat(), "torch": torch.__version__, "machine": machine()}
    print(json.dumps({**about, "precision": args.precision, "results": results}))


if __name__ == "__main__":
    main()
