"""Time Stable-Baselines3's DQN on Pong or CartPole; run it with the interpreter that `benchmarks/peers make sb3` made.

    benchmarks/.venvs/sb3/bin/python benchmarks/peer_sb3_dqn.py pong --steps 4000 --warmup 2000 --threads 1 --seed 0

The first --warmup agent steps are not counted, the next --steps are, in --windows equal parts. A wrapper outside the
environment counts agent steps (one agent step on Pong is four emulator frames). CPU-seconds are user plus system time
of this process and of its finished children. The last line of the output is one JSON object. Where `work` has the same
values, another program did the same work.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

LEARNING_STARTS = 1_000
STEPS_PER_UPDATE = 4
LIBRARIES = ("stable-baselines3", "torch", "numpy", "gymnasium", "ale-py", "opencv-python-headless")
COMMON = {
    "algorithm": "dqn",
    "double": False,
    "n_step": 1,
    "replay": "uniform",
    "explorer": "epsilon-greedy",
    "epsilon": 0.05,
    "batch_size": 32,
    "steps_per_update": STEPS_PER_UPDATE,
    "learning_starts": LEARNING_STARTS,
    "target_copy_every_steps": 1_000,
    "environments": 1,
    "gamma": 0.99,
    "optimizer": "adam",
    "learning_rate": 1e-4,
    "loss": "huber",
    "max_grad_norm": 10.0,
}
TASKS: dict[str, dict[str, Any]] = {
    "pong": {
        **COMMON,
        "env": "ALE/Pong-v5",
        "observation": "84x84x4 uint8",
        "frames_per_step": 4,
        "sticky_actions": 0.0,
        "clip_reward": True,
        "network": "nature-cnn-512",
        "buffer_capacity": 100_000,
    },
    "cartpole": {
        **COMMON,
        "env": "CartPole-v1",
        "observation": "4 float32",
        "frames_per_step": 1,
        "network": "mlp-64-64",
        "buffer_capacity": 10_000,
    },
}


@dataclass(frozen=True)
class Mark:
    """Where the clocks stood at one agent step."""

    step: int
    updates: int
    episodes: int
    wall_s: float
    cpu_s: float


def cpu_seconds() -> float:
    """User plus system CPU-seconds of this process, all its threads, and its finished children."""
    parts = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in parts)


@dataclass
class Meter:
    """Counts agent steps and reads the clocks at the ends of the windows."""

    warmup: int
    window: int
    count_updates: Callable[[], int] = lambda: 0
    steps: int = 0
    episodes: int = 0
    marks: list[Mark] = field(default_factory=list)

    def stepped(self, ended: bool) -> None:
        self.steps += 1
        self.episodes += ended
        if self.steps >= self.warmup and (self.steps - self.warmup) % self.window == 0:
            clocks = (time.perf_counter(), cpu_seconds())
            self.marks.append(Mark(self.steps, self.count_updates(), self.episodes, *clocks))


def set_threads(threads: int) -> None:
    """Limit every thread pool. Must come before torch and numpy are loaded, for OpenMP reads its settings then."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    # Waiting OpenMP threads spin by default; on a shared machine that alone can slow a 2-thread run ten times.
    os.environ["OMP_WAIT_POLICY"] = "passive"
    import cv2
    import torch

    torch.set_num_threads(threads)
    torch.set_num_interop_threads(threads)
    cv2.setNumThreads(threads)


def make_env(task: str, meter: Meter, seed: int) -> Any:
    """Stable-Baselines3's own wrappers, with the counter outside of them and inside the vector environment."""
    import gymnasium
    from stable_baselines3.common.atari_wrappers import AtariWrapper
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.vec_env import VecFrameStack

    class Counted(gymnasium.Wrapper):
        def step(self, action: Any) -> Any:
            result = self.env.step(action)
            meter.stepped(bool(result[2] or result[3]))
            return result

    if task == "cartpole":
        return make_vec_env("CartPole-v1", n_envs=1, seed=seed, wrapper_class=Counted)
    import ale_py

    gymnasium.register_envs(ale_py)
    emulator = {"frameskip": 1, "repeat_action_probability": 0.0, "full_action_space": False}
    env = make_vec_env(
        "ALE/Pong-v5", n_envs=1, seed=seed, env_kwargs=emulator, wrapper_class=lambda env: Counted(AtariWrapper(env))
    )
    return VecFrameStack(env, n_stack=4)


def make_model(work: dict[str, Any], env: Any, seed: int) -> Any:
    from stable_baselines3 import DQN

    pixels = work["env"] != "CartPole-v1"
    return DQN(
        "CnnPolicy" if pixels else "MlpPolicy",
        env,
        learning_rate=work["learning_rate"],
        buffer_size=work["buffer_capacity"],
        learning_starts=work["learning_starts"],
        batch_size=work["batch_size"],
        gamma=work["gamma"],
        train_freq=work["steps_per_update"],
        gradient_steps=1,
        target_update_interval=work["target_copy_every_steps"],
        exploration_initial_eps=work["epsilon"],
        exploration_final_eps=work["epsilon"],
        max_grad_norm=work["max_grad_norm"],
        policy_kwargs=None if pixels else {"net_arch": [64, 64]},
        seed=seed,
        device="cpu",
        verbose=0,
    )


def totals(first: Mark, last: Mark) -> dict[str, float]:
    steps, wall, cpu = last.step - first.step, last.wall_s - first.wall_s, last.cpu_s - first.cpu_s
    return {
        "agent_steps": steps,
        "updates": last.updates - first.updates,
        "episodes": last.episodes - first.episodes,
        "wall_s": round(wall, 4),
        "cpu_s": round(cpu, 4),
        "steps_per_cpu_s": round(steps / cpu, 3),
        "steps_per_wall_s": round(steps / wall, 3),
    }


def check_work(meter: Meter, counted: dict[str, float], expected_steps: int) -> None:
    """Refuse to print a speed for work that was not the work asked for."""
    if counted["agent_steps"] != expected_steps:
        sys.exit(f"peer_sb3_dqn: counted {counted['agent_steps']} agent steps, expected {expected_steps}")
    for first, last in zip(meter.marks, meter.marks[1:], strict=False):
        wanted = (last.step - first.step) // STEPS_PER_UPDATE
        if last.updates - first.updates != wanted:
            sys.exit(
                f"peer_sb3_dqn: {last.updates - first.updates} updates between agent steps {first.step} and"
                f" {last.step}, expected {wanted}"
            )


def measure(args: argparse.Namespace) -> dict[str, Any]:
    set_threads(args.threads)
    import torch

    work = TASKS[args.task]
    meter = Meter(args.warmup, args.steps // args.windows)
    env = make_env(args.task, meter, args.seed)
    model = make_model(work, env, args.seed)
    meter.count_updates = lambda: int(model._n_updates)
    model.learn(total_timesteps=args.warmup + args.steps)
    env.close()
    counted = totals(meter.marks[0], meter.marks[-1])
    check_work(meter, counted, args.steps)
    windows = [totals(first, last) for first, last in zip(meter.marks, meter.marks[1:], strict=False)]
    return {
        "peer": "stable-baselines3",
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in LIBRARIES},
        },
        "task": args.task,
        "seed": args.seed,
        "threads": torch.get_num_threads(),
        "omp_wait_policy": os.environ["OMP_WAIT_POLICY"],
        "precision": "fp32",
        "device": "cpu",
        "warmup_steps": args.warmup,
        **counted,
        "steps_per_cpu_s_best_window": max(window["steps_per_cpu_s"] for window in windows),
        "frames": args.steps * work["frames_per_step"],
        "windows": windows,
        "peak_rss_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 3),
        "work": {**work, "parameters": sum(weight.numel() for weight in model.q_net.parameters())},
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("task", choices=sorted(TASKS))
    parser.add_argument("--steps", type=int, default=4_000, help="agent steps counted, after the warmup")
    parser.add_argument("--warmup", type=int, default=2_000, help="agent steps before the first window")
    parser.add_argument("--windows", type=int, default=10, help="equal parts of the counted steps")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.threads < 1 or args.windows < 1 or args.steps < 1:
        parser.error("--threads, --windows and --steps must be at least 1")
    if args.warmup <= LEARNING_STARTS or args.warmup % STEPS_PER_UPDATE:
        parser.error(
            f"--warmup is {args.warmup}; it must be a multiple of {STEPS_PER_UPDATE} above {LEARNING_STARTS},"
            " the step at which learning starts"
        )
    if args.steps % (STEPS_PER_UPDATE * args.windows):
        parser.error(
            f"--steps is {args.steps}; it must be a multiple of {STEPS_PER_UPDATE * args.windows}"
            f" ({STEPS_PER_UPDATE} steps per update x {args.windows} windows), so that every window holds whole updates"
        )
    return args


def main() -> int:
    args = parse()
    try:
        result = measure(args)
    except ModuleNotFoundError as error:
        print(
            f"peer_sb3_dqn: {error.name} is not installed here; make the environment with `benchmarks/peers make sb3`"
            " and run this file with the interpreter it prints",
            file=sys.stderr,
        )
        return 2
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
