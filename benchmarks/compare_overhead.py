"""What `frugal compare` costs beyond the runs that it makes.

    python benchmarks/compare_overhead.py --out evidence/bench/compare-overhead.json -- --seeds 4 --budget-steps 20_000

What follows `--` goes to `frugal compare`. The CPU-seconds of the whole process tree (the operating system's count for
children that were waited for) are set against the sum of the CPU-seconds in the runs' own bills. What a run's process
uses after its bill is written (the interpreter's end) counts as overhead; so do the table and the report.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import resource
import subprocess
import sys
import tempfile
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("words", nargs="*")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        study = Path(place) / "study"
        command = [sys.executable, "-m", "frugalrl.cli", "compare", *args.words, "--out", str(study), "--quiet"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        bills = [json.loads(path.read_text()) for path in sorted(study.rglob("bill.json"))]
    runs = sum(
        row["value"] for bill in bills for row in bill["rows"] if (row["section"], row["name"]) == ("use", "cpu_s")
    )
    whole = used.ru_utime + used.ru_stime
    found = {
        "command": f"frugal compare {' '.join(args.words)}",
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {bills[0]['machine']['cpu']}, {bills[0]['machine']['cores']} cores",
        "runs": len(bills),
        "cpu_s_of_the_runs": runs,
        "cpu_s_in_all": whole,
        "overhead_cpu_s": whole - runs,
        "overhead_share": (whole - runs) / runs,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
