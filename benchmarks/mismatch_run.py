"""One run of the mismatch grid, from its cell to one JSON file; and the warm start that runs of one seed share."""

from __future__ import annotations

import fcntl
import json
import math
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from mismatch_cells import LANGUAGE, Cell, config_of

from frugalrl.cost import Bill
from frugalrl.cost.meters import LapTimer
from frugalrl.envs.lm import find_task
from frugalrl.run.config_io import to_dict
from frugalrl.run.kinds import assemble_run
from frugalrl.run.language.warm_start import WarmStart
from frugalrl.run.record import RunFolder, read_json, write_json
from frugalrl.run.status import Header, Status
from frugalrl.run.train import resume, train
from frugalrl.types import RunFailed

METRICS = (
    "mismatch_k1", "mismatch_k3", "mismatch_tv", "mismatch_ess", "mismatch_ess_sequence", "mismatch_ratio_mean",
    "mismatch_ratio_p99", "mismatch_ratio_max", "mismatch_prob_diff_max", "mismatch_clipped_high_share",
    "mismatch_masked_share", "mismatch_weight_mean", "mismatch_ess_weight", "entropy", "grad_norm", "clipped_share",
    "lag_mean", "reward_mean",
)  # fmt: skip
BINS, DIGITS = 6, 5
COSTS = ("cpu_s", "flop", "bytes_min")


class Rounds:
    """A reporter that keeps the metrics of every round in a file, so that a resumed run has all of them."""

    interval_s = 0.0

    def __init__(self, path: Path) -> None:
        self._path = path

    def start(self, header: Header) -> None: ...

    def status(self, status: Status) -> None:
        found = {name: status.metrics[name] for name in METRICS if name in status.metrics}
        if found:
            with self._path.open("a") as file:
                file.write(json.dumps({"env_steps": status.env_steps, **found}) + "\n")

    def score(self, env_steps: int, score: object) -> None: ...

    def note(self, text: str) -> None: ...

    def close(self) -> None: ...


@contextmanager
def claimed(path: Path) -> Iterator[bool]:
    """Whether this process may work on ``path`` for as long as the block lasts; a process that dies lets go."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def warm_model(work: Path, seed: int) -> tuple[Path, dict[str, Any]]:
    """The model that RL begins with, made once per seed, and what that took.

    Weights, prompts and draws of the warm start depend on the seed alone, and the optimiser of RL begins anew after it,
    so a run from this model is the run that had made the warm start itself.
    """
    folder = work / "warm" / f"seed{seed}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"seed{seed}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not (folder / "warm.json").exists():
            part = folder.with_name(f".part-seed{seed}")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            write_json(part / "warm.json", _warm_start(part, seed))
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(part, folder)
    told: dict[str, Any] = read_json(folder / "warm.json")
    return folder, told


def _warm_start(folder: Path, seed: int) -> dict[str, Any]:
    config = config_of(Cell(LANGUAGE, "none", "none", seed))
    timer = LapTimer()
    timer.start()
    parts = assemble_run(config, timer)
    before = time.process_time()
    learner: Any = parts.learner
    warm = WarmStart(config, learner, find_task(LANGUAGE, {}), parts.device, timer)
    notes, flop = [], 0.0
    while learner.imitating:
        event = warm.round()
        notes += event.notes
        flop += sum(cost.flop or 0.0 for costs in event.costs for cost in costs.values())
    learner.model.lm.save_pretrained(folder)
    return {"cpu_s": time.process_time() - before, "flop": flop, "steps": learner.imitated, "told": notes[-1]}


def run_cell(cell: Cell, work: Path) -> Literal["done", "elsewhere", "stopped"]:
    """Make the run, or go on with it, and write its result; a result that is there is left alone."""
    folder, result = work / "runs" / cell.name, result_path(work, cell)
    with claimed(folder) as mine:
        if not mine or result.exists():
            return "elsewhere"
        model, warm = warm_model(work, cell.seed) if cell.env == LANGUAGE else (None, None)
        reporter = Rounds(work / "runs" / f"{cell.name}.rounds.jsonl")
        failed = bill = None
        try:
            if (folder / "checkpoints").exists():
                bill = resume(folder, reporter).bill
            else:
                shutil.rmtree(folder, ignore_errors=True)
                reporter._path.unlink(missing_ok=True)
                bill = train(config_of(cell, model), folder, reporter).bill
        except RunFailed as error:
            failed = str(error).replace(str(folder), folder.name)
        lines = RunFolder.open(folder).lines()
        if failed is None and not (lines and lines[-1]["kind"] == "end" and lines[-1]["completed"]):
            return "stopped"
        result.parent.mkdir(parents=True, exist_ok=True)
        rounds = [json.loads(line) for line in reporter._path.read_text().splitlines() if line.endswith("}")]
        document = document_of(cell, lines, rounds, bill, failed)
        if warm is not None:
            document["warm_start"] = warm
        write_json(result, short(document))
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        return "done"


def result_path(work: Path, cell: Cell) -> Path:
    """Where the result of a cell is."""
    return work / "results" / f"{cell.name}.json"


def document_of(
    cell: Cell, lines: Sequence[Mapping[str, Any]], rounds: Sequence[Mapping[str, Any]], bill: Bill | None,
    failed: str | None,
) -> dict[str, Any]:  # fmt: skip
    """Everything about a run that the pages need; numbers that were not measured are None."""
    points = [line for line in lines if line["kind"] == "evaluation"]
    scores = [float(line["score"]["mean_return"]) for line in points]
    last = points[-1]["score"] if points else None
    return {
        "env": cell.env,
        "sampler": cell.sampler,
        "correction": cell.correction,
        "seed": cell.seed,
        "failed": failed,
        "final": scores[-1] if scores else None,
        "final_interval": None if last is None else last["interval"],
        "mean_of_curve": float(np.mean(scores)) if scores else None,
        "worst_drawdown": drawdown(scores) if scores else None,
        "curve": [[line["env_steps"], line["score"]["mean_return"]] for line in points],
        "metrics": metrics_of(rounds),
        "bill": None if bill is None else costs_of(bill),
    }


def drawdown(scores: Sequence[float]) -> float:
    """The largest fall from a peak: max over i < j of score i less score j, at least 0."""
    return float(np.max(np.maximum.accumulate(scores) - np.asarray(scores)))


def metrics_of(rounds: Sequence[Mapping[str, Any]]) -> dict[str, list[float | None]]:
    """Means over equal parts of a run (largest values of what is a maximum); rounds done twice count once."""
    once = [r for _, r in sorted({r["env_steps"]: r for r in rounds}.items())]
    found: dict[str, list[float | None]] = {}
    for name in METRICS:
        parts = np.array_split(np.array([r.get(name, math.nan) for r in once], float), min(BINS, max(1, len(once))))
        over = np.nanmax if name.endswith("_max") else np.nanmean
        found[name] = [float(over(p)) if np.isfinite(p).any() else None for p in parts]
    return {name: values for name, values in found.items() if any(v is not None for v in values)}


def costs_of(bill: Bill) -> dict[str, Any]:
    """CPU-seconds, FLOPs and bytes by role, the totals that the bill has, and joules with how they were obtained."""
    roles: dict[str, dict[str, float]] = {}
    for row in bill.rows:
        if row.section == "role" and row.role and row.name in COSTS and row.value is not None:
            roles.setdefault(row.role, {})[row.name] = row.value
    counts = {row.name: row.value for row in bill.rows if row.section == "counts"}
    energy = {row.name: {"value": row.value, "how": row.how} for row in bill.rows if row.section == "energy"}
    return {"roles": roles, "counts": counts, "energy": energy}


def short(x: Any) -> Any:
    """Numbers with few digits: a thousand results shall stay readable."""
    if isinstance(x, float):
        return float(f"{x:.{DIGITS}g}") if math.isfinite(x) else None
    if isinstance(x, Mapping):
        return {key: short(value) for key, value in x.items()}
    return [short(value) for value in x] if isinstance(x, list | tuple) else x


def about(work: Path, cell: Cell) -> dict[str, Any]:
    """Machine, code and configuration of a run, without where it lay."""
    folder = work / "runs" / cell.name
    machine = read_json(folder / "machine.json")
    model, _ = warm_model(work, cell.seed) if cell.env == LANGUAGE else (None, None)
    config = to_dict(config_of(cell, model))
    if model is not None:
        config["net"]["checkpoint"] = str(model.relative_to(work))
    return {"code": machine["code"], "machine": machine["machine"], "config": config}
