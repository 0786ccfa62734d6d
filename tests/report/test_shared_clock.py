"""Seeds that shared a process: what comes from its clock has the process as unit, what is counted has the seed."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from frugalrl.cost.tables import load_tables
from frugalrl.recipes import build_config
from frugalrl.report.comparison import compare
from frugalrl.report.records import RunRecord, read_run
from frugalrl.report.results import Comparison, MethodResult
from frugalrl.report.shared import units_of
from frugalrl.run.config_io import override
from frugalrl.run.stacked import resume_stacked, train_stacked
from report.records_made import line, point, record

CLOCKS = ("cpu_s", "wall_s", "sampler_s", "learner_s", "joules", "eur")
COUNTED = ("env_steps", "updates", "flop")
A, B = "epsilon-greedy", "counteractive"


def runs(stack_of: Callable[[str, int], str | None], seeds: int = 4, slower: float = 1.1) -> list[RunRecord]:
    """The same scores of both methods; every process of b was a tenth slower, and the seeds alike to a thousandth."""
    found = []
    for method, factor in ((A, 1.0), (B, slower)):
        for seed in range(seeds):
            scores = [30.0, 100.0 + seed, 110.0 + seed] if seed % 2 else [100.0, 105.0 + seed, 110.0 + seed]
            ways = {f"{part}_ms": ms * factor * (1 + seed * factor / 1e3) for part, ms in
                    (("step", 1.0), ("inference", 1.0), ("learner", 3.0))}  # fmt: skip
            made = record(method, seed, line(scores, **ways))
            stack = stack_of(method, seed)
            found.append(replace(made, stacked=seeds, stacks=(stack,)) if stack is not None else made)
    return found


def compared(records: list[RunRecord]) -> Comparison:
    ways = {"targets": {"CartPole-v1": (100.0,)}, "draws": 200, "tables": load_tables()}
    return compare(records, rng=np.random.default_rng(0), **ways)  # type: ignore[arg-type]


def of(comparison: Comparison, name: str) -> MethodResult:
    return next(m for m in comparison.envs[0].methods if m.method == name)


def test_one_process_per_method_gives_clocks_no_interval_and_no_claim() -> None:
    alone, shared = compared(runs(lambda m, s: None)), compared(runs(lambda m, s: m))
    assert any("times the CPU time of" in t and "refused" not in t for t in alone.sentences)  # said of shares before
    (target,) = of(shared, B).targets
    for quantity in CLOCKS:
        for figure in (target.expected[quantity], target.ratio[quantity], of(shared, B).used[quantity]):
            assert figure.value is not None
            assert figure.interval is None, quantity
            assert figure.source.endswith("no interval: the seeds shared one process's clock")
    for quantity in COUNTED:
        assert target.ratio[quantity] == of(alone, B).targets[0].ratio[quantity]
        assert target.expected[quantity].interval is not None
    assert of(shared, B).peak_memory.interval is None
    assert of(shared, B).final_mean == of(alone, B).final_mean
    assert all(c.interval is None for x in shared.envs[0].crossovers for c in x.crossings)
    assert not any(v for x in shared.envs[0].crossovers for each in x.lines for v in each.low)
    for axis, band in (("cpu_s", False), ("eur", False), ("env_steps", True)):
        assert any(v is not None for v in of(shared, B).curves[axis].low) == band  # type: ignore[index]
    said = " ".join(shared.sentences)
    assert "refused: the seeds shared one process's clock, so it has no interval" in said
    assert "at equal money" in said
    assert "no difference shown, the seeds shared one process's clock, so it has no interval" in said
    assert sum("shared one process's clock per method" in note for note in shared.notes) == 1


def test_a_method_that_beats_itself_at_equal_money_has_only_had_the_faster_process() -> None:
    def row(comparison: Comparison) -> str:
        view = next(v for v in comparison.envs[0].views if v.axis == "eur")
        return next(r.verdict for r in view.rows if r.method == B)

    rising = runs(lambda m, s: None, slower=1.5)
    shared = [replace(run, stacked=4, stacks=(run.method,)) for run in rising]
    assert (row(compared(rising)), row(compared(shared))) == ("worse", "no difference shown")


def test_of_several_processes_each_pace_is_one_draw() -> None:
    alone, found = compared(runs(lambda m, s: None)), compared(runs(lambda m, s: f"{m} {s // 2}"))
    ratio, one_by_one = (of(c, B).targets[0].ratio["cpu_s"] for c in (found, alone))
    assert (ratio.value, ratio.n) == (one_by_one.value, 4)
    assert "processes that runs shared (2 degrees of freedom)" in ratio.source
    assert "processes" not in one_by_one.source
    used, lone = (of(c, B).used["cpu_s"] for c in (found, alone))
    assert used.value == pytest.approx(lone.value)
    assert used.interval is not None
    assert any("shared 2 processes per method" in note and "(2 degrees of freedom)" in note for note in found.notes)
    assert all(c.interval for x in found.envs[0].crossovers for c in x.crossings)


def test_a_process_that_was_slow_is_no_method_that_is() -> None:
    """One of two processes of b ran at half its speed: its seeds say so four times, but it is one draw."""

    def slowed(stacked: bool) -> Comparison:
        made = runs(lambda m, s: f"{m} {s // 4}" if stacked else None, seeds=8, slower=1.0)
        slow = line([100.0, 105.0, 110.0], step_ms=2.0, inference_ms=2.0, learner_ms=6.0)
        late = [r for r in made if r.method == B and r.seed >= 4]
        return compared([replace(r, points=record(B, r.seed, slow).points) if r in late else r for r in made])

    shared, alone = (of(slowed(stacked), B).targets[0].ratio["cpu_s"].interval for stacked in (True, False))
    assert shared is not None
    assert alone is not None
    assert shared[0] < 1 < alone[0] * 1.5
    assert shared[1] / shared[0] > alone[1] / alone[0]


def test_the_pace_of_a_lone_process_is_judged_by_those_of_other_methods() -> None:
    found = compared(runs(lambda m, s: f"{m} {s // 2}" if m == A else m))
    assert of(found, B).targets[0].ratio["cpu_s"].interval is not None
    assert any("shared 1 process per method" in note and "(1 degree of freedom)" in note for note in found.notes)
    assert of(found, B).peak_memory.interval is None


@pytest.mark.parametrize("steps", [0, 50])
def test_a_process_that_fails_at_its_start_does_not_blur_the_others(steps: int) -> None:
    """Two seconds of start-up over 50 steps are no pace: b had 16.5 [4.2, 64] CPU-s because a process of a failed."""
    made = runs(lambda m, s: f"{m} {s // 2}", seeds=6)
    ended = replace(point(steps, math.nan), cpu_s=2.0, wall_s=2.0)
    ways: dict[str, Any] = {"points": (), "outcome": "failed", "reason": "out of memory", "ended": ended}
    found = compared([replace(r, **ways) if r.method == A and r.seed >= 4 else r for r in made])
    whole, hurt = (of(c, B) for c in (compared(made), found))
    for figure, before in (
        (hurt.used["cpu_s"], whole.used["cpu_s"]),
        (hurt.targets[0].expected["cpu_s"], whole.targets[0].expected["cpu_s"]),
    ):
        assert figure.interval == pytest.approx(before.interval, rel=0.02)
        assert "(3 degrees of freedom)" in figure.source
    assert of(found, A).used["cpu_s"].interval is not None
    assert any("(3 degrees of freedom)" in note for note in found.notes)


def test_runs_that_went_on_in_a_stack_hang_together_too() -> None:
    lone = [record(A, seed, line([100.0])) for seed in range(5)]
    names = (("x",), ("x", "y"), ("y",), ("z",), ())
    chain = [replace(run, stacks=stacks) for run, stacks in zip(lone, names, strict=True)]
    units = units_of(chain)
    assert units is not None
    assert list(units) == [0, 0, 0, 1, 2]
    assert units_of([replace(run, stacks=(str(run.seed),)) for run in lone]) is None


def test_a_folder_names_its_stack_and_an_old_one_counts_as_one(tmp_path: Path) -> None:
    settings = ["device=cpu", "budget.env_steps=40", "evaluation.episodes=1", "net.hidden_units=(8,)"]
    config = override(build_config("CartPole-v1", "classic-dqn"), settings)
    folders = [tmp_path / str(seed) for seed in (0, 1)]
    train_stacked([replace(config, seed=seed) for seed in (0, 1)], folders)
    (first,) = {read_run(folder).stacks for folder in folders}
    assert len(first) == 1
    resume_stacked(folders)
    (both,) = {read_run(folder).stacks for folder in folders}
    assert both[0] == first[0]
    assert len(both) == 2
    for folder in folders:  # as they were before stacks had names
        document = json.loads((folder / "machine.json").read_text())
        del document["stack"]
        (folder / "machine.json").write_text(json.dumps(document))
        lines = [json.loads(text) for text in (folder / "metrics.jsonl").read_text().splitlines()]
        kept = [{k: v for k, v in each.items() if k != "stack"} for each in lines]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in kept))
    old = [read_run(folder) for folder in folders]
    assert old[0].stacks == old[1].stacks != ()
    assert units_of(old) is not None
