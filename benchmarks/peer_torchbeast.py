"""Time TorchBeast's unmodified monobeast on Pong; run it with the interpreter of `benchmarks/peers make torchbeast`.

    git clone https://github.com/facebookresearch/torchbeast TORCHBEAST
    git -C TORCHBEAST checkout 0af07b0
    benchmarks/.venvs/torchbeast/bin/python benchmarks/peer_torchbeast.py --torchbeast TORCHBEAST --steps 16000

monobeast runs as a process of its own with benchmarks/old_gym in place of the old gym. Its own log (logs.csv, a line
per update) is the counter: an update learns from 8 unrolls of 20 agent steps, each used once, and a step is four
emulator frames. At the first line after --warmup steps, and after --steps more, the CPU-seconds of its whole process
tree are read from /proc; then it is ended. The last line of the output is one JSON object.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from process_tree import Window

COMMIT = "0af07b051a2176a8f9fd20c36891ba2bba6bae68"
UNROLL, BATCH = 20, 8
HERE = Path(__file__).resolve().parent
LIBRARIES = ("torch", "numpy", "gymnasium", "ale-py", "opencv-python-headless")
WORK: dict[str, Any] = {
    "algorithm": "v-trace actor-critic",
    "env": "PongNoFrameskip-v4",
    "observation": "84x84x4 uint8",
    "frames_per_step": 4,
    "sticky_actions": 0.0,
    "clip_reward": True,
    "network": "nature-cnn-512",
    "unroll_steps": UNROLL,
    "batch_unrolls": BATCH,
    "transitions_per_update": UNROLL * BATCH,
    "uses_of_a_transition": 1,
    "gamma": 0.99,
    "optimizer": "rmsprop",
    "max_grad_norm": 40.0,
    "also_reads": "last action and reward",
    "life_loss": "ends the episode",
    "fire_reset": True,
}


class PeerError(Exception):
    """What went wrong, in one sentence for the user."""


def check_clone(folder: Path) -> None:
    """Raises PeerError unless ``folder`` is the commit that is compared, with no file changed."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise PeerError(
                f"--torchbeast {folder} is no clone of facebookresearch/torchbeast; make one with git clone"
            )
        return done.stdout.strip()

    commit = git("rev-parse", "HEAD")
    if commit != COMMIT:
        raise PeerError(
            f"{folder} is at {commit[:7]}, not at {COMMIT[:7]}; run `git -C {folder} checkout {COMMIT[:7]}`"
        )
    changed = git("status", "--porcelain", "--", "torchbeast")
    if changed:
        raise PeerError(f"{folder} has changed files ({changed.splitlines()[0].strip()}); the peer runs unmodified")


def command_of(args: argparse.Namespace, savedir: str) -> list[str]:
    return [
        sys.executable, "-m", "torchbeast.monobeast", "--env", WORK["env"], "--num_actors", str(args.actors),
        "--batch_size", str(BATCH), "--unroll_length", str(UNROLL), "--num_learner_threads", "1",
        *([] if args.cuda else ["--disable_cuda"]),
        # ends by itself some time after the window, should nobody be left to end it
        "--disable_checkpoint", "--total_steps", str(4 * (args.warmup + args.steps)), "--savedir", savedir,
        "--xpid", "peer",
    ]  # fmt: skip


def updates_in(log: Path) -> int:
    """Whole lines of its log so far, without the header."""
    try:
        text = log.read_text(encoding="utf-8")
    except FileNotFoundError:
        return 0
    return sum(line.endswith("\n") and not line.startswith("#") for line in text.splitlines(keepends=True))


def watch(peer: subprocess.Popen[bytes], log: Path, output: Path, args: argparse.Namespace) -> Window:
    """Follows the peer's log until the window is closed. Raises PeerError when it ends or makes no update."""
    window = Window(peer.pid, args.warmup, args.steps)
    seen, moved = 0, time.monotonic()
    while not window.closed:
        time.sleep(0.02)
        updates = updates_in(log)
        if updates > seen:
            seen, moved = updates, time.monotonic()
            window.at(updates * UNROLL * BATCH, updates)
        if peer.poll() is not None or time.monotonic() - moved > args.patience:
            tail = " / ".join(output.read_text(errors="replace").strip().splitlines()[-3:])
            what = f"ended with exit code {peer.returncode}" if peer.returncode is not None else "makes no updates"
            raise PeerError(f"monobeast {what} after {seen} updates; it printed: {tail}")
    return window


def measure(args: argparse.Namespace) -> dict[str, Any]:
    check_clone(args.torchbeast)
    environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    environment["OMP_WAIT_POLICY"] = "passive"
    paths = (str(args.torchbeast), str(HERE / "old_gym"), os.environ.get("PYTHONPATH", ""))
    environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "output.txt"
        with output.open("wb") as sink:
            peer = subprocess.Popen(
                command_of(args, folder), stdout=sink, stderr=sink, env=environment, cwd=folder, start_new_session=True
            )
        try:
            window = watch(peer, Path(folder) / "peer" / "logs.csv", output, args)
        finally:
            # its learner thread waits for ever once the actors are gone, so that it cannot be asked to end
            os.killpg(peer.pid, signal.SIGKILL)
            peer.wait()
    result = window.result()
    return {
        "peer": "torchbeast monobeast",
        "versions": {
            "python": platform.python_version(),
            "torchbeast": COMMIT[:7],
            **{name: importlib.metadata.version(name) for name in LIBRARIES},
        },
        "task": "pong",
        "threads": 1,
        "omp_wait_policy": "passive",
        "precision": "fp32",
        "device": "cuda" if args.cuda else "cpu",
        **result,
        "frames": 4 * window.marks[-1].steps - 4 * window.marks[0].steps,
        "work": {**WORK, "environments": args.actors, "actors": args.actors},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--torchbeast", type=Path, required=True, help="a clone of facebookresearch/torchbeast")
    parser.add_argument("--steps", type=int, default=16_000, help="agent steps counted, after the warmup")
    parser.add_argument("--warmup", type=int, default=3_200, help="agent steps before the clocks are read first")
    parser.add_argument("--actors", type=int, default=2, help="actor processes with one environment each")
    parser.add_argument("--cuda", action="store_true", help="its learner on the GPU, as it is by default")
    parser.add_argument("--patience", type=float, default=120.0, help="seconds without an update before giving up")
    args = parser.parse_args()
    args.torchbeast = args.torchbeast.resolve()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that monobeast is ended too
    if args.steps < 1 or args.warmup < 1 or args.actors < 1:
        parser.error("--steps, --warmup and --actors must be at least 1")
    try:
        print(json.dumps(measure(args)))
    except importlib.metadata.PackageNotFoundError as error:
        print(f"peer_torchbeast: {error.name} is not here; run `benchmarks/peers make torchbeast`", file=sys.stderr)
        return 2
    except PeerError as error:
        print(f"peer_torchbeast: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
