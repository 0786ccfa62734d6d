"""Time Sample-Factory's APPO on Pong or CartPole, with the interpreter that `benchmarks/peers make` made.

    benchmarks/.venvs/sample-factory/bin/python benchmarks/peer_sample_factory.py pong --steps 16000 --warmup 3200

An observer of its runner counts training iterations; one is an update on new agent steps (160 on Pong, 320 on
CartPole), each used once, so updates give the steps, and the library's own count is held against them. At the first
update after --warmup steps, and after --steps more, the CPU-seconds of its whole process tree are read from /proc; then
it is asked to stop. When its learner dies the library goes on without an end; --patience ends it then. The last line of
the output is one JSON object. Options that are not in SETTINGS are the library's own, for Pong its Atari example's.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import signal
import sys
import tempfile
import threading
import time
from contextlib import redirect_stdout
from typing import Any

from process_tree import Window, members, processes

THREADS = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
LIBRARIES = ("sample-factory", "torch", "numpy", "gymnasium", "ale-py", "opencv-python")
COMMON: dict[str, Any] = {
    "algo": "APPO", "device": "cpu", "num_workers": 2, "worker_num_splits": 2, "async_rl": True, "serial_mode": False,
    "rollout": 20, "recurrence": 1, "use_rnn": False, "with_vtrace": False, "num_batches_per_epoch": 1, "num_epochs": 1,
}  # fmt: skip
SETTINGS: dict[str, dict[str, Any]] = {
    "pong": {**COMMON, "env": "atari_pong", "num_envs_per_worker": 4, "batch_size": 160},
    # no running means of observations and returns, which ours does not have either
    "cartpole": {
        **COMMON, "env": "CartPole-v1", "num_envs_per_worker": 32, "batch_size": 320, "encoder_mlp_layers": (64, 64),
        "nonlinearity": "relu", "normalize_input": False, "normalize_returns": False,
    },
}  # fmt: skip
WORK: dict[str, dict[str, Any]] = {
    "pong": {
        "algorithm": "ppo loss, one epoch", "env": "PongNoFrameskip-v4", "observation": "84x84x4 uint8",
        "frames_per_step": 4, "sticky_actions": 0.0, "clip_reward": True, "network": "nature-cnn-512",
        "optimizer": "adam", "gamma": 0.99, "environments": 8, "fire_reset": True, "life_loss": "ends the episode",
        "also": "running means of observations and returns",
    },
    "cartpole": {
        "algorithm": "ppo loss, one epoch", "env": "CartPole-v1", "observation": "4 float32", "frames_per_step": 1,
        "network": "mlp-64-64", "optimizer": "adam", "gamma": 0.99, "environments": 64, "workers": 2,
    },
}  # fmt: skip


def make_pong(name: str, cfg: Any, env_config: Any, render_mode: str | None = None) -> Any:
    """The library's own Pong; its own module does not import ale_py, without which gymnasium knows no Atari games."""
    import ale_py  # noqa: F401
    from sf_examples.atari.atari_utils import make_atari_env

    return make_atari_env(name, cfg, env_config, render_mode)


def make_cartpole(name: str, cfg: Any, env_config: Any, render_mode: str | None = None) -> Any:
    import gymnasium

    return gymnasium.make(name, render_mode=render_mode)


def configuration(task: str, folder: str, seed: int) -> Any:
    from sample_factory.cfg.arguments import parse_full_cfg, parse_sf_args
    from sample_factory.envs.env_utils import register_env
    from sf_examples.atari.atari_params import atari_override_defaults

    settings = SETTINGS[task]
    register_env(settings["env"], make_pong if task == "pong" else make_cartpole)
    words = [f"--train_dir={folder}", "--experiment=peer", f"--seed={seed}"]
    for name, value in settings.items():
        words += [f"--{name}", *map(str, value)] if isinstance(value, tuple) else [f"--{name}={value}"]
    parser, _ = parse_sf_args(argv=words)
    if task == "pong":
        atari_override_defaults(settings["env"], parser)
    return parse_full_cfg(parser, words)


def give_up_when_silent(window: Window, moved: list[float], patience: float, stop: threading.Event) -> None:
    """Ends this process and its children when the learner has made no update for ``patience`` seconds."""
    while not stop.wait(1.0):
        if time.monotonic() - moved[0] > patience:
            what = "does not end" if window.closed else "makes no updates; its learner may have died"
            print(
                f"peer_sample_factory: the run {what} (waited {patience:g} s); see above", file=sys.stderr, flush=True
            )
            for pid in members(os.getpid(), processes())[1:]:
                os.kill(pid, signal.SIGKILL)
            os._exit(1)


def run(args: argparse.Namespace, folder: str) -> tuple[Window, int]:
    """Runs the library; returns the window and the agent steps that the library itself counted in the whole run."""
    from sample_factory.algo.runners.runner import AlgoObserver
    from sample_factory.train import make_runner

    settings = SETTINGS[args.task]
    window, moved, counted = Window(os.getpid(), args.warmup, args.steps), [time.monotonic()], [0]

    class Counter(AlgoObserver):  # type: ignore[misc]
        def on_training_step(self, runner: Any, training_iteration_since_resume: int) -> None:
            updates = training_iteration_since_resume
            moved[0] = time.monotonic()
            window.at(updates * settings["batch_size"], updates)
            counted[0] = runner.env_steps.get(0, 0) // runner.env_info.frameskip
            if window.closed:
                runner.cfg.train_for_env_steps = 0

    _, runner = make_runner(configuration(args.task, folder, args.seed))
    runner.register_observer(Counter())
    stop = threading.Event()
    watchdog = (window, moved, args.patience, stop)
    threading.Thread(target=give_up_when_silent, args=watchdog, daemon=True).start()
    status = runner.init()
    if status == 0:
        status = runner.run()
    stop.set()
    if status != 0 or not window.closed:
        sys.exit(f"peer_sample_factory: the run ended with status {status} after {counted[0]} steps; see above")
    return window, counted[0]


def measure(args: argparse.Namespace) -> dict[str, Any]:
    os.environ.update(THREADS | {"OMP_WAIT_POLICY": "passive"})
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
        window, counted = run(args, folder)
    trained = window.marks[-1].steps
    batch = SETTINGS[args.task]["batch_size"]
    if abs(counted - trained) > 3 * batch:
        sys.exit(f"peer_sample_factory: {trained} steps by its updates, but it counts {counted} itself")
    work = {**WORK[args.task], "unroll_steps": 20, "transitions_per_update": batch, "uses_of_a_transition": 1}
    result = window.result()
    return {
        "peer": "sample-factory appo",
        "versions": {
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in LIBRARIES},
        },
        "task": args.task,
        "seed": args.seed,
        "threads": 1,
        "omp_wait_policy": "passive",
        "precision": "fp32",
        "device": "cpu",
        **result,
        "frames": work["frames_per_step"] * (window.marks[-1].steps - window.marks[0].steps),
        "settings": SETTINGS[args.task],
        "work": work,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("task", choices=sorted(SETTINGS))
    parser.add_argument("--steps", type=int, default=16_000, help="agent steps counted, after the warmup")
    parser.add_argument("--warmup", type=int, default=3_200, help="agent steps before the clocks are read first")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--patience", type=float, default=120.0, help="seconds without an update before giving up")
    args = parser.parse_args()
    if args.steps < 1 or args.warmup < 1:
        parser.error("--steps and --warmup must be at least 1")
    try:
        print(json.dumps(measure(args)))
    except (ModuleNotFoundError, importlib.metadata.PackageNotFoundError) as error:
        print(
            f"peer_sample_factory: {error.name} is not here; run `benchmarks/peers make sample-factory`",
            file=sys.stderr,
        )
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
