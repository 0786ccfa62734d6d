"""Copy the raw results of a study of `frugal compare`, without checkpoints, logs and where it lay on this machine.

    python benchmarks/keep_study.py STUDY evidence/NAME
    frugal compare --out evidence/NAME --resume        # table, comparison.json and report.html from the copy

Kept of each run: config.json, machine.json, metrics.jsonl and bill.json; of the study: study.json and failures.json.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

OF_A_RUN = ("config.json", "machine.json", "metrics.jsonl", "bill.json")
OF_THE_STUDY = ("study.json", "failures.json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("evidence", type=Path)
    args = parser.parse_args()
    found = [args.study / name for name in OF_THE_STUDY]
    found += [run / name for run in sorted(args.study.glob("runs/*/*/seed*")) for name in OF_A_RUN]
    for path in found:
        if path.exists():
            kept = args.evidence / path.relative_to(args.study)
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(without_places(path.read_text()))


def without_places(text: str) -> str:
    """Absolute paths keep what stands behind the last folder that a checkout has: benchmarks/, runs/, or the name."""
    text = re.sub(r'"/[^"\s]*?/(benchmarks/[^"\s]*)"', r'"\1"', text)
    return re.sub(r'"/[^"\s]*/([^"/\s]+)"', r'"\1"', text)


if __name__ == "__main__":
    main()
