"""Run two commands in turn, A B A B ..., and compare what each did per CPU-second. Standard library only.

    python benchmarks/side_by_side.py --name pong-fp32 --pairs 5 --out evidence/bench/pong-fp32.json -- "CMD_A" "CMD_B"

Each command is split like a shell line but runs without a shell, one at a time, in the current folder. Its last line of
output must be one JSON object; the number compared is its field `steps_per_cpu_s` (see --metric). The ratio is A / B,
taken pair by pair: the two runs of a pair are neighbours in time, so a slow hour of a shared machine meets both.
Printed are each ratio, their median, and the sign-test interval of the median, which needs no assumption about the
noise: the k-th smallest to the k-th largest ratio, and the share of repeated experiments in which such an interval
holds the true median (5 pairs reach 93.75 %; 6 are the fewest that reach 95 %).

How quiet the machine was is recorded with every run: the load average before and after, the cores that other processes
kept busy meanwhile, the cores the hypervisor gave to others (steal), and the speed of a fixed loop before and after.
The loop shows what nothing else does: a neighbour on the same physical core, who slows every CPU-second of ours.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import platform
import resource
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

WANTED_COVERAGE = 0.95
QUIET_CORES = 0.10
QUIET_SPREAD = 1.25


class BenchError(Exception):
    """What went wrong, in one sentence for the user."""


# ---------------------------------------------------------------------------------------------- the machine


def proc_value(path: str, key: str) -> str | None:
    """The first value of `key : value` in a /proc table, or None."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((line.split(":", 1)[1].strip() for line in lines if line.split(":", 1)[0].strip() == key), None)


def machine() -> dict[str, Any]:
    """What the numbers were taken on. Family and model are there because vendors reuse one CPU name for many chips."""
    cpu = "/proc/cpuinfo"
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    wide = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16")
    flags = (proc_value(cpu, "flags") or "").split()
    return {
        "cpu": proc_value(cpu, "model name") or platform.processor() or "unknown",
        "cpu_family": proc_value(cpu, "cpu family"),
        "cpu_model": proc_value(cpu, "model"),
        "cpu_features": [flag for flag in wide if flag in flags],
        "cores": os.cpu_count(),
        "cores_usable": usable,
        "memory": proc_value("/proc/meminfo", "MemTotal"),
        "system": f"{platform.system()} {platform.machine()}",
    }


def loadavg() -> list[float]:
    return [round(value, 2) for value in os.getloadavg()]


def machine_busy() -> tuple[float, float] | None:
    """CPU-seconds since boot that all processes used, and that the hypervisor took away (Linux only)."""
    try:
        words = Path("/proc/stat").read_text(encoding="utf-8").split("\n", 1)[0].split()
    except OSError:
        return None
    tick = os.sysconf("SC_CLK_TCK")
    user, nice, system, _idle, _iowait, irq, softirq, steal = (int(word) / tick for word in words[1:9])
    return user + nice + system + irq + softirq, steal


def core_speed(probes: int = 20, loops: int = 50_000) -> list[float]:
    """Minimum, median and maximum speed of a fixed Python loop, in million rounds per CPU-second. Takes about 0.1 s."""
    speeds = []
    for _ in range(probes):
        started, total = time.process_time(), 0
        for number in range(loops):
            total += number * number
        speeds.append(loops / (time.process_time() - started) / 1e6)
    return [round(value, 2) for value in (min(speeds), statistics.median(speeds), max(speeds))]


def children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# ---------------------------------------------------------------------------------------------- one run


def last_json(output: str, command: str) -> dict[str, Any]:
    lines = [line for line in output.splitlines() if line.strip()]
    try:
        value = json.loads(lines[-1])
    except (IndexError, ValueError):
        value = None
    if not isinstance(value, dict):
        seen = repr(lines[-1][:120]) if lines else "nothing"
        raise BenchError(f"the last line of `{command}` must be one JSON object; it printed {seen}")
    return value


def metric_of(result: dict[str, Any], metric: str, command: str) -> float:
    value = result.get(metric)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
        raise BenchError(f"`{command}` must report a positive number as {metric!r}; it reported {value!r}")
    return float(value)


def run_once(command: str, metric: str, timeout_s: float) -> dict[str, Any]:
    """Run one command to its end and return its result beside what the operating system saw."""
    speed_before, load_before = core_speed(), loadavg()
    busy_before, cpu_before = machine_busy(), children_cpu()
    started = time.perf_counter()
    try:
        done = subprocess.run(shlex.split(command), check=False, capture_output=True, text=True, timeout=timeout_s)
    except (OSError, ValueError) as error:
        raise BenchError(f"`{command}` could not be started: {error}") from error
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"`{command}` did not end within {timeout_s:g} s (--timeout)") from error
    wall, cpu, busy_after = time.perf_counter() - started, children_cpu() - cpu_before, machine_busy()
    if done.returncode != 0:
        tail = "\n".join(done.stderr.strip().splitlines()[-5:]) or "it printed no reason"
        raise BenchError(f"`{command}` ended with exit code {done.returncode}: {tail}")
    result = last_json(done.stdout, command)
    foreign, steal = None, None
    if busy_before is not None and busy_after is not None:
        foreign = round(max(0.0, busy_after[0] - busy_before[0] - cpu) / wall, 3)
        steal = round((busy_after[1] - busy_before[1]) / wall, 3)
    return {
        "value": metric_of(result, metric, command),
        "whole_process": {"wall_s": round(wall, 3), "cpu_s": round(cpu, 3)},
        "load_before": load_before,
        "load_after": loadavg(),
        "foreign_cores": foreign,
        "steal_cores": steal,
        "core_speed_before": speed_before,
        "core_speed_after": core_speed(),
        "result": result,
    }


# ---------------------------------------------------------------------------------------------- the comparison


def sign_interval(values: list[float], wanted: float = WANTED_COVERAGE) -> dict[str, float]:
    """The narrowest [k-th smallest, k-th largest] whose coverage of the median reaches `wanted`; else the widest one.

    Coverage is 1 - 2 P(X < k) with X ~ Binomial(n, 1/2), for independent pairs (the sign test, inverted).
    """
    ordered, n = sorted(values), len(values)

    def coverage(k: int) -> float:
        return 1.0 - 2.0 * sum(math.comb(n, i) for i in range(k)) / 2.0**n

    k = max((k for k in range(1, (n + 1) // 2 + 1) if coverage(k) >= wanted), default=1)
    return {"low": ordered[k - 1], "high": ordered[n - k], "coverage": max(0.0, coverage(k))}


def summary(pairs: list[dict[str, Any]]) -> dict[str, Any]:
    ratios = [pair["ratio"] for pair in pairs]
    return {
        "ratio": "A / B",
        "median": statistics.median(ratios),
        "interval": sign_interval(ratios),
        "pairs": len(ratios),
        "pairs_where_a_is_higher": sum(ratio > 1 for ratio in ratios),
        "median_a": statistics.median(pair["a"]["value"] for pair in pairs),
        "median_b": statistics.median(pair["b"]["value"] for pair in pairs),
        "core_speed_spread": speed_spread(pairs),
        "quiet": is_quiet(pairs),
    }


def runs_of(pairs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [run for pair in pairs for run in (pair["a"], pair["b"])]


def speed_spread(pairs: list[dict[str, Any]]) -> float:
    """Fastest over slowest median speed of the fixed loop: 1 on a machine whose cores always run alike."""
    medians: list[float] = [
        run[when][1] for run in runs_of(pairs) for when in ("core_speed_before", "core_speed_after")
    ]
    return round(max(medians) / min(medians), 3)


def is_quiet(pairs: list[dict[str, Any]]) -> bool | None:
    """True when nobody took QUIET_CORES or more and the cores ran alike in every run; None where that is unknown."""
    taken = [run[what] for run in runs_of(pairs) for what in ("foreign_cores", "steal_cores")]
    known = [value for value in taken if value is not None]
    if speed_spread(pairs) >= QUIET_SPREAD or max(known, default=0.0) >= QUIET_CORES:
        return False
    return True if len(known) == len(taken) else None


def differences(a: dict[str, Any], b: dict[str, Any]) -> dict[str, list[Any]]:
    """The fields that both results state and that do not agree: work that is not identical, or other versions."""
    found: dict[str, list[Any]] = {}
    for name in ("task", "agent_steps", "updates", "frames", "threads", "precision", "device", "omp_wait_policy"):
        if name in a and name in b and a[name] != b[name]:
            found[name] = [a[name], b[name]]
    for group in ("work", "versions"):
        left, right = a.get(group), b.get(group)
        if not isinstance(left, dict) or not isinstance(right, dict):
            continue
        for name in sorted(left.keys() & right.keys()):
            if left[name] != right[name]:
                found[f"{group}.{name}"] = [left[name], right[name]]
    return found


def without_machine_paths(text: str) -> str:
    """The text with the current, this repository's and the home folder in short: a record names no machine."""
    root = str(Path(__file__).resolve().parents[1])
    for folder, short in ((os.getcwd(), "."), (root, "REPOSITORY"), (os.path.expanduser("~"), "~")):
        if len(folder) > 1:
            text = text.replace(folder, short)
    return text


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write through a neighbour and a rename, so that a reader never meets half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


# ---------------------------------------------------------------------------------------------- the command


def show_pair(number: int, total: int, pair: dict[str, Any]) -> None:
    sides = "   ".join(
        f"{side.upper()} {pair[side]['value']:,.1f} (others {pair[side]['foreign_cores']} cores,"
        f" steal {pair[side]['steal_cores']})"
        for side in ("a", "b")
    )
    print(f"pair {number}/{total}   {sides}   A/B {pair['ratio']:.3f}", flush=True)


def show_summary(record: dict[str, Any]) -> None:
    result, host = record["summary"], record["machine"]
    interval = result["interval"]
    print(
        f"{record['name']}: A/B in {record['metric']}: median {result['median']:.3f},"
        f" {100 * interval['coverage']:.1f} % interval {interval['low']:.3f} to {interval['high']:.3f},"
        f" A higher in {result['pairs_where_a_is_higher']} of {result['pairs']} pairs"
    )
    print(f"  median A {result['median_a']:,.1f}   median B {result['median_b']:,.1f}")
    for name, (left, right) in record["differences"].items():
        print(f"  differs: {name}: A {left!r}, B {right!r}")
    quiet = {True: "quiet", False: "NOT quiet", None: "unknown"}[result["quiet"]]
    spread, load = result["core_speed_spread"], f"{record['load_before']} -> {record['load_after']}"
    print(f"  {host['cpu']} (family {host['cpu_family']}, model {host['cpu_model']}), {host['cores_usable']} cores")
    print(f"  {quiet}: core speed varied {spread:.2f}x; load {load}; {record['date']}")


def compare(args: argparse.Namespace) -> dict[str, Any]:
    """Run all pairs. The record on disk is brought up to date after each, so a later failure loses none of them."""
    pairs: list[dict[str, Any]] = []
    record: dict[str, Any] = {
        "name": args.name,
        "command": without_machine_paths(shlex.join(["python", *sys.orig_argv[1:]])),
        "a": without_machine_paths(args.command_a),
        "b": without_machine_paths(args.command_b),
        "metric": args.metric,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "load_before": loadavg(),
        "complete": False,
    }
    for number in range(1, args.pairs + 1):
        a = run_once(args.command_a, args.metric, args.timeout)
        b = run_once(args.command_b, args.metric, args.timeout)
        pairs.append({"ratio": a["value"] / b["value"], "a": a, "b": b})
        show_pair(number, args.pairs, pairs[-1])
        record |= {
            "load_after": loadavg(),
            "differences": differences(a["result"], b["result"]),
            "summary": summary(pairs),
            "complete": number == args.pairs,
            "pairs": pairs,
        }
        if args.out is not None:
            write_record(args.out, record)
    return record


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--name", required=True, help="what is compared, for example pong-fp32")
    parser.add_argument("--pairs", type=int, default=5, help="how often each command runs")
    parser.add_argument("--metric", default="steps_per_cpu_s", help="the field of the JSON results that is compared")
    parser.add_argument("--out", type=Path, help="the JSON record to write, for example under evidence/")
    parser.add_argument("--timeout", type=float, default=3600.0, help="seconds one run may take")
    parser.add_argument("command_a", metavar="CMD_A", help="the first command, as one quoted argument")
    parser.add_argument("command_b", metavar="CMD_B", help="the second command, as one quoted argument")
    args = parser.parse_args()
    if args.pairs < 1:
        parser.error(f"--pairs is {args.pairs}; it must be at least 1")
    return args


def main() -> int:
    args = parse()
    try:
        record = compare(args)
    except (BenchError, OSError) as error:
        print(f"side_by_side: {without_machine_paths(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("side_by_side: interrupted; the pairs that were complete are in the record", file=sys.stderr)
        return 130
    show_summary(record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
