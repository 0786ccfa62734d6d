"""What it costs to have environments in worker processes: CPU-seconds of the transport, as a share of the whole.

    python benchmarks/transport_cost.py --out evidence/transport/cartpole.json
    python benchmarks/transport_cost.py --env ALE/Pong-v5 --envs 32 --steps 40000 --forward

The engine is trivial: it answers each message with the same actions, or, with --forward, after one forward pass of a
Nature CNN in fp32 on one thread. The transport's share is what workers use for waiting and copying, plus what this
process uses but for the forward pass. Each share is of all CPU-seconds between the first answer and the last.
"""

from __future__ import annotations

import argparse
import datetime
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from side_by_side import loadavg, machine

from frugalrl.envs import default_protocol, named_protocol
from frugalrl.sampling.config import SamplerConfig
from frugalrl.sampling.processes import ProcessTransport
from frugalrl.sampling.transport import Message
from frugalrl.sampling.worker_job import EnvPlan
from frugalrl.types import EnvSpec


def nature(spec: EnvSpec) -> Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]:
    """Greedy actions of a network that nobody trained."""
    import torch
    from torch import nn

    torch.set_num_threads(1)
    net = nn.Sequential(
        nn.Conv2d(spec.obs_shape[0], 32, 8, 4), nn.ReLU(), nn.Conv2d(32, 64, 4, 2), nn.ReLU(),
        nn.Conv2d(64, 64, 3, 1), nn.ReLU(), nn.Flatten(), nn.Linear(3136, 512), nn.ReLU(),
        nn.Linear(512, spec.num_actions),
    )  # fmt: skip

    @torch.inference_mode()
    def act(obs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return net(torch.from_numpy(obs).float().div_(255)).argmax(1).numpy()

    return act


def measure(args: argparse.Namespace) -> dict[str, Any]:
    plan = EnvPlan(env_id=args.env, protocol=named_protocol(default_protocol(args.env)), seed=0)
    config = SamplerConfig(kind="central", workers=args.workers, groups=args.groups)
    transport = ProcessTransport(plan, config, num_rows=args.envs)
    began = time.perf_counter()
    try:
        transport.start()
        act = nature(transport.spec) if args.forward else None
        rng = np.random.default_rng(0)
        fixed = [rng.integers(transport.spec.num_actions, size=rows) for rows in transport.group_rows]
        waiting: dict[int, Message] = {}
        while len(waiting) < len(fixed):
            waiting |= {message.group: message for message in transport.poll(1.0)}
        born_s = time.perf_counter() - began
        startup = transport.take_costs()["startup"].cpu_s
        cpu, wall, forward_s = time.process_time(), time.perf_counter(), 0.0
        steps = messages = 0
        while steps < args.steps:
            for message in list(waiting.values()) or transport.poll(1.0):
                messages += 1
                steps += int(message.step.valid.sum())
                if act is None:
                    action = fixed[message.group]
                else:
                    before = time.thread_time()
                    action = act(message.step.obs)
                    forward_s += time.thread_time() - before
                transport.reply(message, action)
            waiting = {}
        engine_s, wall_s = time.process_time() - cpu - forward_s, time.perf_counter() - wall
        costs = transport.take_costs()
        rss = [peak_mib(pid) for pid in transport.pids]
    finally:
        transport.close()
    environment_s, worker_s = costs["environment"].cpu_s, costs["transport"].cpu_s
    total_s = environment_s + worker_s + engine_s + forward_s
    return {
        "rows_per_message": list(transport.group_rows),
        "steps": steps,
        "messages": messages,
        "steps_per_s": round(steps / wall_s),
        "steps_per_cpu_s": round(steps / total_s),
        "cpu_s": {
            "environment": environment_s, "forward": forward_s, "transport_workers": worker_s,
            "transport_engine_side": engine_s,
        },
        "transport_share": round((worker_s + engine_s) / total_s, 4),
        "transport_us_per_message": round((worker_s + engine_s) / messages * 1e6, 1),
        "start_s": round(born_s, 2),
        "start_cpu_s_per_worker": round(startup / args.workers, 2),
        "worker_peak_mib": rss,
    }  # fmt: skip


def peak_mib(pid: int) -> int:
    line = next(x for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) // 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="CartPole-v1")
    parser.add_argument("--envs", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--groups", type=int, default=2, help="per worker (2)")
    parser.add_argument("--steps", type=int, default=400_000)
    parser.add_argument("--forward", action="store_true", help="a forward pass of a Nature CNN answers each message")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    settings = " ".join(f"--{name} {getattr(args, name)}" for name in ("env", "envs", "workers", "groups", "steps"))
    record = {
        "command": f"python benchmarks/transport_cost.py {settings}{' --forward' if args.forward else ''}",
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "load_before": loadavg(),
        **measure(args),
        "load_after": loadavg(),
    }
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        partial = args.out.with_suffix(".part")
        partial.write_text(json.dumps(record, indent=1) + "\n")
        partial.replace(args.out)
    print(json.dumps({name: value for name, value in record.items() if name != "machine"}))


if __name__ == "__main__":
    main()
