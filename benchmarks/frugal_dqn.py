"""Time FrugalRL's DQN on the work of ``peer_sb3_dqn.py``: the whole `train`, with its ledger, as a user runs it.

    python benchmarks/frugal_dqn.py pong --steps 4000 --warmup 2000 --precision fp32 [--lag-blocks 1] [--threads 2]

Clocks are read at the first status after --warmup and at the end of the budget, before the final evaluation. The last
line of the output is one JSON object with the fields of the peer's.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ["OMP_WAIT_POLICY"] = "passive"  # must be set before the OpenMP runtime is loaded
THREADS = sys.argv[sys.argv.index("--threads") + 1] if "--threads" in sys.argv[:-1] else "1"
os.environ["OMP_NUM_THREADS"] = THREADS

WORK: dict[str, Any] = {
    "algorithm": "dqn", "double": False, "n_step": 1, "replay": "uniform", "explorer": "epsilon-greedy",
    "epsilon": 0.05, "batch_size": 32, "steps_per_update": 4, "learning_starts": 1_000,
    "target_copy_every_steps": 1_000, "environments": 1, "gamma": 0.99, "optimizer": "adam", "learning_rate": 1e-4,
    "loss": "huber", "max_grad_norm": 10.0,
}  # fmt: skip
TASKS: dict[str, dict[str, Any]] = {
    "pong": {
        "env": "ALE/Pong-v5", "observation": "84x84x4 uint8", "frames_per_step": 4, "sticky_actions": 0.0,
        "clip_reward": True, "network": "nature-cnn-512", "buffer_capacity": 100_000,
    },
    "cartpole": {
        "env": "CartPole-v1", "observation": "4 float32", "frames_per_step": 1, "network": "mlp-64-64",
        "buffer_capacity": 10_000,
    },
}  # fmt: skip


def settings(work: dict[str, Any], args: argparse.Namespace) -> list[str]:
    """The work as overrides of a recipe."""
    hidden = "512" if work["network"].startswith("nature") else "64,64"
    return [
        f"net.hidden_units={hidden}",
        "env.rows=1",
        "net.dueling=false",
        f"agent.gamma={work['gamma']}",
        "agent.double=false",
        f"agent.batch_size={work['batch_size']}",
        f"agent.learning_rate={work['learning_rate']}",
        "agent.adam_eps=1e-8",
        "agent.huber_delta=1.0",
        f"agent.max_grad_norm={work['max_grad_norm']}",
        f"agent.target_period_updates={work['target_copy_every_steps'] // work['steps_per_update']}",
        f"agent.precision={args.precision}",
        "replay.kind=uniform",
        "replay.n_step=1",
        f"replay.capacity_transitions={work['buffer_capacity']}",
        f"explore.name={args.explorer}",
        "explore.epsilon.kind=constant",
        f"explore.epsilon.start={args.epsilon}",
        f"schedule.warmup_env_steps={work['learning_starts']}",
        f"schedule.steps_per_round={work['steps_per_update']}",
        "schedule.updates_per_round=1",
        f"schedule.lag_blocks={args.lag_blocks}",
        f"threads={args.threads}",
        f"evaluation.every_env_steps={10 * (args.steps + args.warmup)}",
        "evaluation.episodes=1",
        "evaluation.rows=1",
        f"budget.env_steps={args.steps + args.warmup}",
        f"seed={args.seed}",
        f"device={getattr(args, 'device', 'cpu')}",
    ]


def gpu_name() -> str:
    import torch

    return torch.cuda.get_device_name(0)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    from frugalrl import build_config, override, train
    from frugalrl.run.status import Silent, Status

    work = {**WORK, **TASKS[args.task], "epsilon": args.epsilon, "explorer": args.explorer}

    class Marks(Silent):
        interval_s = 0.5

        def __init__(self) -> None:
            self.marks: list[Status] = []

        def status(self, status: Status) -> None:
            if status.env_steps >= args.warmup:
                self.marks.append(status)

    reader = Marks()
    config = override(build_config(work["env"]), settings(work, args))
    with tempfile.TemporaryDirectory() as folder:
        outcome = train(config, args.keep or Path(folder) / "run", reader, whole_process=True)
    first, last = reader.marks[0], reader.marks[-1]
    if first.env_steps == last.env_steps:
        sys.exit(
            f"frugal_dqn: {args.steps} steps after the warmup were too few for two readings of the clocks; use more"
        )
    steps, cpu_s, wall_s = last.env_steps - first.env_steps, last.cpu_s - first.cpu_s, last.wall_s - first.wall_s
    # a window is at least two seconds, so that the status lines themselves do not show in it
    windows, wall_windows, start = [], [], first
    for mark in reader.marks[1:]:
        if mark.wall_s - start.wall_s >= 2.0:
            windows.append(round((mark.env_steps - start.env_steps) / (mark.cpu_s - start.cpu_s), 3))
            wall_windows.append(round((mark.env_steps - start.env_steps) / (mark.wall_s - start.wall_s), 3))
            start = mark
    roles: dict[str, dict[str, float]] = {"cpu_s": {}, "busy_s": {}, "gpu_s": {}}
    for row in outcome.bill.rows:
        if row.section == "role" and row.name in roles and row.role and row.value:
            roles[row.name][row.role] = row.value
    libraries = ("torch", "numpy", "gymnasium", "ale-py")
    return {
        "peer": "frugalrl",
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in (*libraries, "frugalrl")},
        },
        "task": args.task,
        "seed": args.seed,
        "threads": args.threads,
        "omp_wait_policy": os.environ["OMP_WAIT_POLICY"],
        "precision": args.precision,
        "lag_blocks": args.lag_blocks,
        "device": args.device,
        "gpu": gpu_name() if args.device == "cuda" else None,
        "gpu_joules_whole_run": next((r.value for r in outcome.bill.rows if r.name == "gpu_j"), None),
        "warmup_steps": first.env_steps,
        "agent_steps": steps,
        "updates": last.updates - first.updates,
        "episodes": last.episodes - first.episodes,
        "forwards": outcome.bill.find("calls", "inference").value,
        "inference_flop": outcome.bill.find("flop", "inference").value,
        "wall_s": round(wall_s, 4),
        "cpu_s": round(cpu_s, 4),
        "steps_per_cpu_s": round(steps / cpu_s, 3),
        "steps_per_wall_s": round(steps / wall_s, 3),
        "steps_per_cpu_s_best_window": max(windows, default=None),
        "steps_per_wall_s_best_window": max(wall_windows, default=None),
        "windows": windows,
        "frames": steps * work["frames_per_step"],
        "roles_cpu_s_whole_run": roles["cpu_s"],
        "roles_busy_s_whole_run": roles["busy_s"],
        "roles_gpu_s_whole_run": roles["gpu_s"],
        "work": work,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("task", choices=sorted(TASKS))
    parser.add_argument("--steps", type=int, default=4_000, help="agent steps counted, after the warmup")
    parser.add_argument("--warmup", type=int, default=2_000)
    parser.add_argument("--precision", choices=("fp32", "tf32", "bf16"), default="fp32")
    parser.add_argument("--threads", type=int, default=1, help="threads of one tensor operation")
    parser.add_argument("--lag-blocks", type=int, choices=(0, 1), default=0, help="1: the pipelined loop")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--keep", type=Path, help="keep the run in this folder, new or empty")
    parser.add_argument("--explorer", default="epsilon-greedy")
    parser.add_argument("--epsilon", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.steps < 1:
        parser.error(f"--steps is {args.steps}; it must be at least 1")
    learning_starts = WORK["learning_starts"]
    if args.warmup <= learning_starts:  # as for the peer: steps without updates would count as fast ones
        parser.error(
            f"--warmup is {args.warmup}; it must be above {learning_starts}, the step at which learning starts"
        )
    print(json.dumps(measure(args)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
