"""Kill -9 a run, resume it, and see whether it ends as if nothing had happened.

    python benchmarks/kill_resume.py --work DIR [--games breakout cartpole] [--points 20] [--seed 0] [--lag-blocks 1]
        [--log FILE.json]

Per game: one uninterrupted run, then runs that are killed one to three times each at seeded step counts (every fourth
kill waits for the checkpoint writer) and resumed to the end. Weights, optimiser, target, replay, streams, counters,
scores and everything counted must be equal bit for bit; the steps done again must stand on the bill's line "redone".

The games are Breakout with sticky actions and CartPole, with tiny networks. An untrained policy can stand still in
Breakout for the whole time limit of 27,000 steps, so the evaluation episodes of this benchmark end after 40 steps:
``--frugal`` is the command line of frugal with that one more protocol.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

SHORT = "ale-sticky-short"
FRUGAL = {
    "cartpole": [sys.executable, "-m", "frugalrl.cli"],
    "breakout": [sys.executable, str(Path(__file__).resolve()), "--frugal"],
}
COMMON = (
    "schedule.warmup_env_steps=64 agent.batch_size=8 agent.target_period_updates=20 net.hidden_units=16 "
    "evaluation.episodes=2 evaluation.rows=2 checkpoint.every_s={every_s} schedule.lag_blocks={lag_blocks}"
)
TRAIN = {
    "cartpole": (
        "train CartPole-v1 --budget-steps 2000 --device cpu --quiet --set replay.capacity_transitions=700 "
        f"evaluation.every_env_steps=600 schedule.steps_per_round=2 {COMMON}"
    ),
    "breakout": (
        f"train ALE/Breakout-v5 --protocol {SHORT} --budget-steps 600 --device cpu --quiet "
        "--set replay.capacity_transitions=300 evaluation.every_env_steps=200 agent.learning_rate=1e-3 "
        f"explore.epsilon.start_step=64 explore.epsilon.steps=200 {COMMON}"
    ),
}
STEPS = {"cartpole": 2_000, "breakout": 600}
EVERY_S = {"cartpole": 0.2, "breakout": 0.3}


@dataclass(frozen=True)
class Kill:
    """One kill -9 and what came of it."""

    game: str
    run: str
    where: str
    """``loop`` or ``writer``: what was waited for."""
    asked_step: int
    died_step: int
    inside_writer: bool
    """A half-written checkpoint or replay file was left behind."""
    checkpoint_step: int
    """Newest finished checkpoint at that moment, from which the next process must go on."""

    @property
    def redone_steps(self) -> int:
        return self.died_step - self.checkpoint_step


@dataclass(frozen=True)
class Checked:
    """A run that was killed, resumed to its end and compared."""

    game: str
    run: str
    kills: int
    differences: list[str]
    redone_on_the_bill: int

    @property
    def equal(self) -> bool:
        return not self.differences


# -- one run ---------------------------------------------------------------------------------------------------------


def command(game: str, folder: Path, seed: int, every_s: float, lag_blocks: int = 0) -> list[str]:
    """The command that starts a run."""
    words = TRAIN[game].format(every_s=every_s, lag_blocks=lag_blocks).split()
    return [*FRUGAL[game], *words, "--seed", str(seed), "--out", str(folder)]


def to_the_end(words: Sequence[str]) -> None:
    """Run a command; RuntimeError with its last words when it fails."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}: {done.stderr.strip()[-500:]}")


def kill_at(words: Sequence[str], folder: Path, where: str, step: int) -> tuple[int, bool] | None:
    """Start a command and kill -9 it at a step of this process, or inside the first checkpoint after it.

    Returns the step at which it died and whether the writer was at work; None when the run ended before.
    """
    from frugalrl.run.record import read_progress

    progress = folder / "progress.bin"
    known = len(read_progress(progress.read_bytes())) if progress.exists() else 0
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        while process.poll() is None:
            records = read_progress(progress.read_bytes()) if progress.exists() else []
            if len(records) <= known or records[-1].env_steps < step:
                time.sleep(0.002)
            elif where == "loop" or writing(folder):
                break
        ended = process.poll() is not None
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        _, said = process.communicate()
    if ended:
        if process.returncode:
            raise RuntimeError(f"{' '.join(words)} ended with {process.returncode}: {said.decode().strip()[-500:]}")
        return None
    return read_progress(progress.read_bytes())[-1].env_steps, writing(folder)


def writing(folder: Path) -> bool:
    """Whether something half-written lies in the checkpoint folder."""
    checkpoints = folder / "checkpoints"
    return any(next(place.glob(".part-*"), None) is not None for place in (checkpoints, checkpoints / "rows"))


def newest_checkpoint(folder: Path) -> int:
    """Agent step of the newest finished checkpoint."""
    return max((int(f.name.split("-")[2]) for f in (folder / "checkpoints").glob("[0-9]*-step-*")), default=0)


def killed_run(
    game: str, folder: Path, seed: int, plan: Sequence[tuple[str, int]], every_s: float, lag_blocks: int = 0
) -> Iterator[Kill]:
    """Start a run, kill it at each point of the plan, resume it to the end."""
    words = command(game, folder, seed, every_s, lag_blocks)
    resume = [*FRUGAL[game], "resume", str(folder), "--quiet"]
    for where, step in plan:
        died = kill_at(words, folder, where, step)
        words = resume
        if died is None:
            return
        died_step, inside = died
        yield Kill(game, folder.name, where, step, died_step, inside, newest_checkpoint(folder))
    to_the_end(words)


# -- comparing -------------------------------------------------------------------------------------------------------


def exact_state(folder: Path) -> dict[str, Any]:
    """All that must be equal at the end of two runs, by name: arrays, numbers and texts; no clock is among them."""
    from frugalrl.run.checkpoint import Checkpoints

    state = Checkpoints(folder / "checkpoints").load(None).state
    ledger = state.pop("ledger")
    last = state["evaluator"]["last"]
    if last is not None:
        last.pop("cpu_s")
    state["counts"] = ledger["counts"]
    state["work"] = {
        role: {k: cost[k] for k in ("calls", "env_steps", "frames", "updates", "flop", "bytes_min")}
        for role, cost in ledger["roles"].items()
        if role != "redone"
    }
    state["rows"] = live_rows(folder, state["replay"])
    return dict(flat(state))


def live_rows(folder: Path, replay: dict[str, Any]) -> dict[str, Any]:
    """The replay's rows that are still there, whatever files they lie in."""
    from safetensors.numpy import load_file

    document = json.loads((newest_folder(folder) / "state.json").read_text())["document"]
    pieces = [(int(n[:12]), load_file(folder / "checkpoints/rows" / n)) for n in sorted(json.loads(document)["rows"])]
    if not pieces:  # a queue of unrolls is in the state
        return {}
    layout, written = replay["layout"], replay["rows_written"]
    sequences = layout.get("capacity")
    kept = layout["num_starts"] + layout["n_step"] + layout["frame_stack"] - 1 if sequences is None else sequences
    oldest = max(0, written - kept)
    whole = {name: np.concatenate([piece[name] for _, piece in pieces]) for name in pieces[0][1]}
    return {name: array[oldest - pieces[0][0] :] for name, array in whole.items()} | {"oldest": oldest}


def newest_folder(folder: Path) -> Path:
    return max((folder / "checkpoints").glob("[0-9]*-step-*"))


def flat(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(path, leaf) of nested dicts."""
    if not isinstance(tree, dict):
        yield path, tree
        return
    for key, value in tree.items():
        yield from flat(value, f"{path}/{key}" if path else str(key))


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Names whose values are not equal bit for bit."""
    found = sorted(one.keys() ^ other.keys())
    for name in sorted(one.keys() & other.keys()):
        a, b = one[name], other[name]
        if isinstance(a, np.ndarray):
            same = a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()
        else:
            same = a == b
        if not same:
            found.append(name)
    return found


def scores(folder: Path) -> list[tuple[int, Any]]:
    """Every evaluation that counts: step, returns."""
    from frugalrl.run.record import RunFolder

    lines = RunFolder(folder).lines()
    return [(line["env_steps"], line["score"]["returns"]) for line in lines if line["kind"] == "evaluation"]


def bill_counts(folder: Path) -> tuple[dict[str, float], int]:
    """The counted rows of the bill, and the agent steps on its line ``redone``."""
    rows = json.loads((folder / "bill.json").read_text())["rows"]
    counted = {
        f"{row['role'] or row['section']}/{row['name']}": row["value"]
        for row in rows
        if row["how"] == "counted" and row["role"] != "redone" and row["section"] != "use"
    }
    redone = [r["value"] for r in rows if r["role"] == "redone" and r["name"] == "env_steps"]
    return counted, int(redone[0]) if redone else 0


def compare(game: str, folder: Path, baseline: Path, kills: Sequence[Kill]) -> Checked:
    """A killed run against the uninterrupted one."""
    found = differences(exact_state(baseline), exact_state(folder))
    if scores(folder) != scores(baseline):
        found.append(f"scores: {scores(folder)} instead of {scores(baseline)}")
    expected, none = bill_counts(baseline)
    counted, redone = bill_counts(folder)
    found += [f"bill {k}: {counted.get(k)} instead of {expected[k]}" for k in expected if counted.get(k) != expected[k]]
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    resumed = [line["env_steps"] for line in lines if line["kind"] == "resume"]
    if resumed != [kill.checkpoint_step for kill in kills]:
        found.append(f"it went on from {resumed}")
    lost = sum(kill.redone_steps for kill in kills)
    if none or redone != lost:
        found.append(f"bill redone/env_steps: {redone} instead of {lost}")
    return Checked(game, folder.name, len(kills), found, redone)


# -- the whole -------------------------------------------------------------------------------------------------------


def plans(game: str, points: int, rng: np.random.Generator) -> list[list[tuple[str, int]]]:
    """``points`` seeded kills, in runs of one, two and three kills; every fourth waits for the writer."""
    found: list[list[tuple[str, int]]] = []
    number = 0
    while number < points:
        size = min(1 + len(found) % 3, points - number)
        steps = sorted(int(s) for s in rng.choice(np.arange(1, STEPS[game] * 9 // 10), size, replace=False))
        found.append([("writer" if (number + i) % 4 == 3 else "loop", step) for i, step in enumerate(steps)])
        number += size
    return found


def play(game: str, work: Path, points: int, seed: int, lag_blocks: int = 0) -> tuple[list[Kill], list[Checked]]:
    """All kills of one game; prints a line for each."""
    baseline = work / f"{game}-uninterrupted"
    to_the_end(command(game, baseline, seed, 600.0, lag_blocks))
    rng = np.random.default_rng([seed, len(game)])
    all_kills: list[Kill] = []
    checked: list[Checked] = []
    for number, plan in enumerate(plans(game, points, rng)):
        folder = work / f"{game}-{number:02d}"
        kills = []
        for kill in killed_run(game, folder, seed, plan, EVERY_S[game], lag_blocks):
            kills.append(kill)
            print(in_words(kill), flush=True)
        result = compare(game, folder, baseline, kills)
        print(f"{game:<9} {result.run}: {'equal' if result.equal else 'NOT EQUAL: ' + '; '.join(result.differences)}"
              f", {result.redone_on_the_bill} steps on the bill's line 'redone'", flush=True)  # fmt: skip
        all_kills += kills
        checked.append(result)
    return all_kills, checked


def in_words(kill: Kill) -> str:
    place = "inside the checkpoint writer" if kill.inside_writer else "in the loop"
    return (
        f"{kill.game:<9} {kill.run}: died at step {kill.died_step} ({place}; asked for {kill.where} from "
        f"{kill.asked_step}), goes on from {kill.checkpoint_step}, {kill.redone_steps} steps again"
    )


def frugal(words: Sequence[str]) -> int:
    """The command line of frugal, with the protocol whose evaluation episodes are short."""
    from dataclasses import replace

    from frugalrl.cli import main as cli
    from frugalrl.cli.environment import prepare

    prepare()
    from frugalrl.envs import PROTOCOLS

    PROTOCOLS[SHORT] = replace(PROTOCOLS["ale-sticky"], name=SHORT, eval_max_steps=40)
    sys.argv = ["frugal", *words]
    return cli()


def main() -> int:
    if sys.argv[1:2] == ["--frugal"]:
        return frugal(sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="an empty folder for the runs")
    parser.add_argument("--games", nargs="+", default=["breakout", "cartpole"], choices=sorted(TRAIN))
    parser.add_argument("--points", type=int, default=20, help="kills per game")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lag-blocks", type=int, choices=(0, 1), default=0, help="1: the pipelined loop")
    parser.add_argument("--log", type=Path, help="JSON with every kill")
    args = parser.parse_args()
    kills: list[Kill] = []
    checked: list[Checked] = []
    for game in args.games:
        new_kills, new_checked = play(game, args.work, args.points, args.seed, args.lag_blocks)
        kills += new_kills
        checked += new_checked
    good = sum(result.equal for result in checked)
    if args.log is not None:
        from frugalrl.run.record import code_version

        document = {
            "code": code_version(),
            "command": " ".join(["python", "benchmarks/kill_resume.py", *sys.argv[1:]]),
            "kills": [asdict(kill) | {"redone_steps": kill.redone_steps} for kill in kills],
            "runs": [asdict(result) | {"equal": result.equal} for result in checked],
        }
        args.log.parent.mkdir(parents=True, exist_ok=True)
        args.log.write_text(json.dumps(document, indent=1) + "\n")
    print(f"{len(kills)} kills in {len(checked)} runs: {good} passed, {len(checked) - good} failed")
    return 0 if good == len(checked) else 1


if __name__ == "__main__":
    sys.exit(main())
