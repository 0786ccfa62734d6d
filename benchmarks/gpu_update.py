"""Milliseconds of an update and of a forward pass on a CUDA device, alone, and what a profiler sees of them.

    python benchmarks/gpu_update.py --precision fp32 --updates 400 --profile

The work is that of ``frugal_dqn.py pong``: Nature network, batch 32, Huber loss, gradient clipping; batches are random
images, each another one. The forward pass is that of one row. One JSON line last; the profiler's table before it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from frugalrl.algos.dqn import DQNConfig, DQNLearner
from frugalrl.cost.meters import LapTimer
from frugalrl.nets.config import NetConfig
from frugalrl.nets.q_network import build_q_network
from frugalrl.policies.value import ValuePolicy
from frugalrl.run.assemble import pick_device
from frugalrl.types import EnvSpec, Replayed, Transition

SPEC = EnvSpec(
    id="Pong", protocol="p", obs_kind="image", obs_shape=(4, 84, 84), obs_dtype="uint8", num_actions=6, frame_stack=4
)


def batches(count: int, size: int) -> list[Replayed]:
    rng = np.random.default_rng(0)

    def one() -> Replayed:
        batch = Transition(
            obs_tm1=rng.integers(0, 256, (size, *SPEC.obs_shape), dtype=np.uint8),
            a_tm1=rng.integers(0, SPEC.num_actions, size),
            r_t=rng.normal(size=size).astype(np.float32),
            discount_t=np.full(size, 0.99, np.float32),
            obs_t=rng.integers(0, 256, (size, *SPEC.obs_shape), dtype=np.uint8),
            log_mu_tm1=np.zeros(size, np.float32),
            version_tm1=np.zeros(size, np.int64),
            explored_tm1=np.zeros(size, np.bool_),
        )
        return Replayed(batch=batch, keys=np.arange(size), weight=np.ones(size, np.float32))

    return [one() for _ in range(count)]


def milliseconds(work: Callable[[int], Any], calls: int) -> dict[str, float]:
    """Wall and CPU time of a call; the device is waited for by the work itself, as a run waits for it."""
    for i in range(20):
        work(i)
    torch.cuda.synchronize()
    walls, cpu = [], time.process_time()
    for i in range(calls):
        start = time.perf_counter()
        work(i)
        walls.append((time.perf_counter() - start) * 1e3)
    torch.cuda.synchronize()
    cpu_ms = (time.process_time() - cpu) / calls * 1e3
    low, middle, high = (round(q, 4) for q in statistics.quantiles(walls, n=4))
    return {"median_ms": middle, "quartile_1_ms": low, "quartile_3_ms": high, "cpu_ms": round(cpu_ms, 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--precision", default="fp32", choices=("fp32", "tf32", "bf16"))
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--updates", type=int, default=400)
    parser.add_argument("--layout", choices=("channels_last", "contiguous"), default="channels_last", help="of weights")
    parser.add_argument("--any-order", action="store_true", help="kernels whose sums depend on the order of threads")
    parser.add_argument("--profile", action="store_true")
    args = parser.parse_args()
    device = pick_device("cuda")
    config = DQNConfig(double=False, batch_size=args.batch, max_grad_norm=10.0, precision=args.precision)

    def build() -> Any:
        net = build_q_network(SPEC, NetConfig(hidden_units=(512,)))
        return net if args.layout == "channels_last" else net.to(memory_format=torch.contiguous_format)

    timer = LapTimer()
    timer.start()
    learner = DQNLearner(config, SPEC, build, device=device, seed=0, timer=timer)
    policy = ValuePolicy(build, device, args.precision)
    policy.load(learner.snapshot())
    torch.backends.cudnn.deterministic = not args.any_order
    pool = batches(16, args.batch)
    found: dict[str, Any] = {
        "update": milliseconds(lambda i: learner.update(pool[i % 16]), args.updates),
        "forward": milliseconds(lambda i: policy.q_values(pool[i % 16].batch.obs_t[:1]), 2 * args.updates),
    }
    costs = learner.update(pool[0]).costs
    found["update_gpu_ms"] = {role: None if c.gpu_s is None else round(c.gpu_s * 1e3, 4) for role, c in costs.items()}
    if args.profile:
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
            for i in range(200):
                learner.update(pool[i % 16])
        for key in ("self_cuda_time_total", "self_cpu_time_total"):
            print(seen.key_averages().table(sort_by=key, row_limit=25, max_name_column_width=60))
    about = {"torch": torch.__version__, "gpu": torch.cuda.get_device_name(0), **vars(args)}
    print(json.dumps({**about, **found}))


if __name__ == "__main__":
    main()
