"""The table and the curves of ``coact_atari.py`` from its raw results: only runs that ended, nothing typed by hand.

Cells may hold different seeds while the study goes on, so the explorers are compared seed by seed only.

python benchmarks/coact_atari_table.py evidence/coact-atari100k
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

EXPLORERS = ("epsilon-greedy", "counteractive")
# random and human scores as printed in DQN Zoo's atari_data and rliable's notebook
REFERENCES = {"RoadRunner": (11.5, 7845.0), "Freeway": (0.0, 29.6)}


def read(run: Path) -> dict[str, Any]:
    config = json.loads((run / "config.json").read_text())
    bill = json.loads((run / "bill.json").read_text())
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rows = bill["rows"]

    def row(name: str, role: str | None = None) -> Any:
        return next((r["value"] for r in rows if r["name"] == name and r["role"] == role), None)

    return {
        "game": config["env"]["id"].removeprefix("ALE/").removesuffix("-v5"),
        "explorer": config["explore"]["name"],
        "seed": config["seed"],
        "updates_per_step": config["schedule"]["updates_per_round"] / config["schedule"]["steps_per_round"],
        "precision": config["agent"]["precision"],
        "final": json.loads((run / "final_eval.json").read_text()),
        "curve": [(line["env_steps"], line["score"]["mean_return"]) for line in lines if line["kind"] == "evaluation"],
        "flop": sum(r["value"] for r in rows if r["name"] == "flop" and r["section"] == "role" and r["value"]),
        "cpu_s": sum(r["value"] for r in rows if r["name"] == "cpu_s" and r["section"] == "role" and r["value"]),
        "evaluation_cpu_s": row("cpu_s", "evaluation"),
        "checkpoint_cpu_s": row("cpu_s", "checkpoint"),
        "inference_calls": row("calls", "inference"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("evidence", type=Path)
    args = parser.parse_args()
    runs = [read(path.parent) for path in sorted(args.evidence.glob("*/final_eval.json"))]
    cells: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for run in runs:
        cells[run["game"], run["explorer"]].append(run)
    print(
        "| game | explorer | seeds | final score per seed | mean | human-normalised | CPU-s per run | inference calls |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for (game, explorer), group in sorted(cells.items()):
        scores = [run["final"]["mean_return"] for run in group]
        mean = sum(scores) / len(scores)
        low, high = REFERENCES[game]
        print(
            f"| {game} | {explorer} | {', '.join(str(r['seed']) for r in group)} | "
            f"{', '.join(f'{s:.1f}' for s in scores)} | {mean:.1f} | {(mean - low) / (high - low):.3f} | "
            f"{sum(r['cpu_s'] for r in group) / len(group):.0f} | "
            f"{sum(r['inference_calls'] for r in group) / len(group):.0f} |"
        )
    print("\nCounteractive minus epsilon-greedy, final score, same seed:\n")
    for game in sorted({game for game, _ in cells}):
        one, other = ({r["seed"]: r["final"]["mean_return"] for r in cells[game, name]} for name in EXPLORERS)
        both = sorted(one.keys() & other.keys())
        print(f"- {game}: {', '.join(f'seed {s}: {other[s] - one[s]:+.1f}' for s in both) or 'no pair yet'}")
    print("\nCurves, mean return of 10 episodes at each step:\n")
    for run in runs:
        curve = ", ".join(f"{step:,}: {score:.1f}" for step, score in run["curve"])
        print(f"- {run['game']} {run['explorer']} seed {run['seed']}: {curve}")
    if runs:
        first = runs[0]
        print(f"\nUpdates per step {first['updates_per_step']}, precision {first['precision']}.")


if __name__ == "__main__":
    main()
