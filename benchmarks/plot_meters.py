#!/usr/bin/env python3
"""Plot the meters of the theory of one or more runs.

python benchmarks/plot_meters.py RUN [RUN ...] --out meters.png
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

PANELS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("return", ()),
    ("disadvantage gap D", ("gap",)),
    ("signed TD error", ("td_explored", "td_greedy")),
    ("absolute TD error", ("td_abs_explored", "td_abs_greedy")),
    ("argmin: entropy, persistence", ("argmin_entropy", "argmin_persistence")),
    ("(state, action) pairs never tried", ("untried_share",)),
    ("eta and delta", ("eta", "delta")),
    ("theorem 3.4", ("td_gap", "bound")),
)
STYLES = ("-", "--")
SMOOTH = 9


def lines(run: Path, kind: str) -> list[dict[str, Any]]:
    found = [json.loads(text) for text in (run / "metrics.jsonl").read_text().splitlines() if text.strip()]
    return [line for line in found if line["kind"] == kind]


def series(points: list[tuple[int, float]], window: int = SMOOTH) -> tuple[list[int], list[float]]:
    """Running means over ``window`` lines, at their middle."""
    window = max(1, min(window, len(points) // 3))
    parts = [points[i : i + window] for i in range(len(points) - window + 1)]
    return [p[len(p) // 2][0] for p in parts], [sum(y for _, y in p) / len(p) for p in parts]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    figure, axes = plt.subplots(4, 2, figsize=(11, 12), sharex=True, constrained_layout=True)
    for number, run in enumerate(args.run):
        config = json.loads((run / "config.json").read_text())
        label, colour = f"{config['explore']['name']}, seed {config['seed']}", f"C{number}"
        for axis, (title, names) in zip(axes.flat, PANELS, strict=True):
            axis.set_title(title, fontsize=10)
            axis.grid(alpha=0.3)
            if not names:
                scores = lines(run, "evaluation")
                axis.plot(
                    [s["env_steps"] for s in scores], [s["score"]["mean_return"] for s in scores], "o-", c=colour,
                    label=label,
                )  # fmt: skip
            for style, name in zip(STYLES, names, strict=False):
                theory = [(p["env_steps"], p[name]) for p in lines(run, "theory") if p.get(name) is not None]
                probed = [(p["env_steps"], p[name]) for p in lines(run, "probe") if p.get(name) is not None]
                tag = name if len(args.run) == 1 else f"{name}, {config['explore']['name']}"
                if theory:
                    axis.plot(*series(theory), style, c=colour, lw=1.4, label=tag if len(names) > 1 else None)
                if probed:
                    axis.plot(*zip(*probed, strict=True), "s", c=colour, ms=4, mfc="none" if style == "--" else colour,
                              label=f"{tag} (probe)")  # fmt: skip
            if title in ("signed TD error", "theorem 3.4"):
                axis.axhline(0.0, c="black", lw=0.7)
    for axis in axes.flat:
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=7, framealpha=0.7)
    for axis in axes[-1]:
        axis.set_xlabel("agent steps")
    env = json.loads((args.run[0] / "config.json").read_text())
    figure.suptitle(f"{env['env']['id']}, {env['recipe']}")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out, dpi=110)
    print(args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
