#!/usr/bin/env python3
"""Plot mismatch and score of runs whose completions came from vLLM.

python benchmarks/plot_vllm.py evidence/vllm/grpo-tiny-fp32 evidence/vllm/grpo-tiny-bf16 --out docs/images/vllm.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for run in args.runs:
        found = lines(run)
        told = [line for line in found if "mismatch_prob_diff_max" in line]
        scored = [line for line in found if line["kind"] == "evaluation"]
        left.plot([x["updates"] for x in told], [x["mismatch_prob_diff_max"] for x in told], label=run.name)
        means = [x["score"]["mean_return"] for x in scored]
        low, high = ([abs(x["score"]["interval"][i] - m) for x, m in zip(scored, means, strict=True)] for i in (0, 1))
        right.errorbar([x["updates"] for x in scored], means, yerr=[low, high], capsize=2, label=run.name)
    left.axhline(1e-5, color="grey", linestyle=":", linewidth=1)
    left.set(yscale="log", xlabel="updates", ylabel="largest |p_mu - p_pi| since the point before")
    right.set(xlabel="updates", ylabel="exact match of the fp32 learner", ylim=(0, 1))
    left.legend(fontsize=8)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out, dpi=130)


if __name__ == "__main__":
    main()
