"""Counteractive against epsilon-greedy exploration on two Atari games: a study that can be cut off and resumed.

    python benchmarks/coact_atari.py --work DIR --evidence evidence/coact-atari100k [--games ...] [--seeds 0 1 2]

Runs go into --work, one after the other, outside the work tree; a finished run is skipped, a cut one is resumed. The
raw results (config, machine, metrics, bill, final evaluation) are copied to --evidence as each run ends. Start a
second process with other --seeds to use a second core.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

RAW = ("config.json", "machine.json", "metrics.jsonl", "bill.json", "final_eval.json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--evidence", type=Path, required=True)
    parser.add_argument("--games", nargs="+", default=["RoadRunner", "Freeway"])
    parser.add_argument("--explorers", nargs="+", default=["epsilon-greedy", "counteractive"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--precision", default="bf16", choices=["fp32", "bf16"])
    parser.add_argument("--final-episodes", type=int, default=30)
    args = parser.parse_args()
    for seed in args.seeds:
        for game in args.games:
            for explorer in args.explorers:
                name = f"{game}-{explorer}-seed{seed}"
                finish(args, args.work / name, game, explorer, seed)
                keep(args.work / name, args.evidence / name)
                print(f"done: {name}", flush=True)


def finish(args: argparse.Namespace, run: Path, game: str, explorer: str, seed: int) -> None:
    """Start, resume or skip one run, then score its final policy on more episodes."""
    frugal = [sys.executable, "-m", "frugalrl.cli"]
    if not ended(run):
        if (run / "checkpoints").exists():
            command = [*frugal, "resume", str(run), "--quiet"]
        else:
            shutil.rmtree(run, ignore_errors=True)
            command = [*frugal, "train", f"ALE/{game}-v5", "--recipe", "atari100k-ddqn", "--explore", explorer]
            command += ["--seed", str(seed), "--budget-steps", str(args.steps), "--out", str(run), "--quiet"]
            command += ["--set", f"agent.precision={args.precision}"]
        subprocess.run(command, check=True)
    if not (run / "final_eval.json").exists():
        command = [*frugal, "eval", str(run), "--episodes", str(args.final_episodes), "--json"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        (run / "final_eval.json").write_text(done.stdout.strip().splitlines()[-1] + "\n")


def ended(run: Path) -> bool:
    """Whether the run used its whole budget."""
    path = run / "metrics.jsonl"
    if not path.exists():
        return False
    lines = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    return bool(lines) and lines[-1]["kind"] == "end" and bool(lines[-1]["completed"])


def keep(run: Path, evidence: Path) -> None:
    """Copy the raw results; where the run lay on this machine is nobody's business."""
    evidence.mkdir(parents=True, exist_ok=True)
    for name in RAW:
        (evidence / name).write_text((run / name).read_text().replace(str(run), f"runs/{run.name}"))


if __name__ == "__main__":
    main()
