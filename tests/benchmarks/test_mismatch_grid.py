"""The mismatch grid: which cells, what is kept of a run, and what the page says of results that are known."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import mismatch_cells
import mismatch_grid
import mismatch_run
import mismatch_table
import numpy as np
import pytest
from mismatch_break_even import break_even, least_ess
from mismatch_cells import CARTPOLE, CORRECTIONS, ENVS, LANGUAGE, SAMPLERS, Cell, cells, config_of
from mismatch_results import Grid, final
from mismatch_samples import samples_table
from mismatch_vllm import vllm_part
from scipy import stats


@pytest.mark.parametrize("env", [LANGUAGE, CARTPOLE])
def test_the_full_grid_has_every_cell_once_and_the_telling_ones_on_all_seeds_first(env: str) -> None:
    found = cells(env)
    assert len(set(found)) == len(found)
    every = set(itertools.product(SAMPLERS, CORRECTIONS, range(5)))
    assert {(c.sampler, c.correction, c.seed) for c in found} == every
    first = found[: len(mismatch_cells.tiers(env)[0]) * 5]
    assert {c.seed for c in first} == set(range(5))
    assert first[0] == Cell(env, "none", "none", 0)
    assert {c.correction for c in first} == {"none", "token-tis:2", "ppo-denominator"}
    assert len({c.name for c in found}) == len(found)


def test_all_environments_in_one_order_have_every_cell_once() -> None:
    found = mismatch_cells.order(ENVS)
    assert sorted(c.name for c in found) == sorted(c.name for env in ENVS for c in cells(env))
    assert [c for c in found if c.env == LANGUAGE] == cells(LANGUAGE)
    assert found[0].env == LANGUAGE
    assert found[-1].env == mismatch_cells.ATARI


@pytest.mark.parametrize("env", ENVS)
def test_the_cells_of_an_environment_differ_in_sampler_correction_and_seed_only(env: str) -> None:
    one, other = config_of(Cell(env, "none", "none", 0)), config_of(Cell(env, "int3", "token-tis:2", 1))
    assert other.sampler.transform == "int3"
    assert other.seed == 1
    agent = replace(other.agent, correction="none")  # type: ignore[arg-type]
    assert replace(other, seed=0, sampler=one.sampler, agent=agent) == one
    steps, every = one.budget.env_steps, one.evaluation.every_env_steps
    assert steps == mismatch_cells.POINTS * every, "the last evaluation is the end of the run"


def test_the_cells_through_vllm_differ_from_the_grid_in_the_sampler_only() -> None:
    found = mismatch_cells.through_vllm()
    assert len({c.name for c in found}) == len(found) == 35
    assert not {c.name for c in found} & {c.name for c in cells(LANGUAGE)}
    own = config_of(Cell(LANGUAGE, "none", "none", 0))
    for cell in found[:7]:
        config = config_of(cell)
        assert replace(config, sampler=own.sampler, agent=replace(config.agent, correction="none")) == own  # type: ignore[arg-type]
        assert config.sampler.engine == "vllm"
        assert config.sampler.transform == (
            "bf16" if "bf16" in cell.sampler else "int8" if "int8" in cell.sampler else "none"
        )
        assert config.sampler.sync_every_updates == (8 if cell.sampler.endswith("@8") else 1)


def test_what_another_process_lets_go_of_is_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two, bad = (Cell(CARTPOLE, "none", "none", seed) for seed in range(3))
    tried: list[Cell] = []

    def run_cell(cell: Cell, work: Path) -> str:
        tried.append(cell)
        if cell == bad:
            raise OSError("no room")
        if cell == one and tried.count(one) == 1:
            return "elsewhere"
        result = mismatch_run.result_path(work, cell)
        result.parent.mkdir(exist_ok=True)
        result.write_text('{"final": 1.0}')
        return "done"

    monkeypatch.setattr(mismatch_grid, "run_cell", run_cell)
    assert mismatch_grid.work_off([bad, one, two], tmp_path, None) == 1
    assert tried == [bad, one, two, one]


def slow_drawdown(scores: list[float]) -> float:
    return max([0.0, *(scores[i] - scores[j] for j in range(len(scores)) for i in range(j))])


def test_the_largest_fall_is_from_an_earlier_peak() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        scores = rng.normal(size=rng.integers(1, 9)).tolist()
        assert math.isclose(mismatch_run.drawdown(scores), slow_drawdown(scores))
    rising = [1.0, 2.0, 5.0]
    assert mismatch_run.drawdown(rising) == 0.0 != max(rising) - min(rising), "not the range of the scores"


def test_rounds_that_were_done_twice_count_once() -> None:
    rounds = [{"env_steps": s, "mismatch_k3": float(s), "mismatch_ratio_max": float(s)} for s in range(12)]
    found = mismatch_run.metrics_of([*rounds[:8], *rounds[4:]])
    assert found == mismatch_run.metrics_of(rounds)
    assert found["mismatch_k3"] == [0.5, 2.5, 4.5, 6.5, 8.5, 10.5]
    assert found["mismatch_ratio_max"] == [1.0, 3.0, 5.0, 7.0, 9.0, 11.0]


def test_what_was_not_measured_is_none() -> None:
    short = mismatch_run.short({"a": math.nan, "b": [1.23456789, 3, None]})
    assert short == {"a": None, "b": [1.2346, 3, None]}


def test_break_even_by_its_definition() -> None:
    share, speed, cost = 0.4, 2.0, 0.05
    e = least_ess(share, speed, cost)
    per_sample = (1 - share) + share / speed + cost
    assert math.isclose(per_sample / e, 1.0), "at e* the same information costs the same"
    assert least_ess(share, math.inf, 0.0) == 1 - share
    assert least_ess(share, 1.0, cost) > 1, "a sampler that is no faster cannot pay"


def known(sampler: str, correction: str, seed: int, score: float) -> dict[str, Any]:
    roles = {"inference": {"cpu_s": 4.0}, "learner": {"cpu_s": 6.0}, "correction": {"cpu_s": 0.0}}
    if correction != "none":
        roles["correction"]["cpu_s"] = 0.5
    bill = {"roles": roles, "counts": {}, "energy": {"cpu_j": {"value": 50.0, "how": "modelled"}}}
    metrics = {name: [0.5] for name in ("mismatch_k3", "mismatch_ess", "mismatch_ess_sequence", "mismatch_ratio_p99")}
    return {
        "env": CARTPOLE, "sampler": sampler, "correction": correction, "seed": seed, "failed": None, "final": score,
        "mean_of_curve": score,
        "worst_drawdown": 1.0, "metrics": metrics, "bill": bill,
    }  # fmt: skip


def grid() -> Grid:
    noise = [0.0, 3.0, -2.0, 1.0, -1.0]
    means = {("none", "none"): 400, ("int3", "none"): 300, ("int3", "token-tis:2"): 380, ("int8", "none"): 400}
    means |= {("int3", "vanilla"): 250, ("int8", "token-tis:2"): 400}
    wiggle = {("int8", "token-tis:2"): (2, -2, 1, -1, 0), ("int3", "none"): (1, 0, 0, 2, 1)}
    runs = [
        known(*cell, seed, mean + noise[seed] + seed * 0.1 + wiggle.get(cell, (0, 1, 0, 1, 0))[seed])
        for cell, mean in means.items()
        for seed in range(5)
    ]
    return Grid(runs)


def test_the_sentences_say_where_a_correction_helps_hurts_and_does_nothing() -> None:
    told = "\n".join(mismatch_table.sentences(grid()))
    assert "it loses at int3" in told
    assert "no difference shown at int8" in told
    assert "`token-tis:2` against no correction, same sampler: it helps at int3" in told
    assert "`vanilla` against no correction, same sampler: it hurts at int3" in told


def test_the_part_through_vllm_compares_what_differs_in_one_thing() -> None:
    means = {("vllm", "none"): 400, ("vllm@8", "none"): 300, ("vllm-int8@8", "none"): 300}
    means[("vllm-int8@8", "token-tis:2")] = 350
    wiggle = {("vllm-int8@8", "none"): (1, -1, 1, -1, 0), ("vllm@8", "none"): (0, 1, 0, 0, 1)}
    runs = [
        known(*cell, seed, mean + 0.1 * seed + wiggle.get(cell, (0,) * 5)[seed])
        for cell, mean in means.items()
        for seed in range(5)
    ]
    for run in runs:
        run["metrics"]["mismatch_prob_diff_max"] = [2e-6, 5e-6 if run["seed"] else 2e-5]
    told = "\n".join(vllm_part(Grid(runs), 5))
    assert "The fp32 control stays below 1e-05 for every token in 4 of 5 runs." in told
    assert "Against `vllm`, no correction: it loses at vllm@8" in told
    assert "Against `vllm@8`, no correction: no difference shown at vllm-int8@8." in told
    assert "`token-tis:2` against no correction, same sampler: it helps at vllm-int8@8" in told
    assert list(vllm_part(grid(), 5)) == []


def test_samples_to_a_score_by_hand() -> None:
    """Targets are 80 % of 0.5; of two seeds one reaches it at 200 instead of 100 samples, the other never."""

    def run(sampler: str, seed: int, scores: list[float]) -> dict[str, Any]:
        curve = [[100 * (i + 1), score] for i, score in enumerate(scores)]
        return known(sampler, "none", seed, scores[-1]) | {"curve": curve}

    runs = [run("none", s, [0.4, 0.3, 0.5]) for s in range(2)]
    runs += [run("int3", 0, [0.3, 0.4, 0.1]), run("int3", 1, [0.3, 0.39, 0.3]), run("int4", 0, [0.0, 0.0, 0.0])]
    told = list(samples_table(Grid(runs)))
    assert "to a score of 0.400, 80%" in told[0]
    rows = {line.split("|")[1].strip(): line for line in told if line.startswith("| ")}
    assert "| 0k (2 of 2) |" in rows["fp32"]
    assert "(1 of 2), x 5.00 [" in rows["int3"], "500 samples for one success, beside 100"
    assert "not reached (0 of 1), x ∞" in rows["int4"]


def test_seeds_are_paired() -> None:
    """Seeds that differ by far more than the methods do: pairing shows the difference, the means alone do not."""
    far = [0.0, 100.0, 200.0, 300.0, 400.0]
    runs = [known("int3", c, s, far[s] + d + 0.1 * s) for c, d in (("none", 0), ("vanilla", 5)) for s in range(5)]
    runs[3]["final"] += 0.5
    found = Grid(runs).against(("int3", "vanilla"), ("int3", "none"), final)
    assert found is not None
    assert found.interval is not None
    assert found.interval[0] > 0
    alone = Grid(runs).estimate("int3", "vanilla", final)
    assert alone is not None
    assert alone.interval is not None
    assert alone.interval[0] < far[2]


def test_the_break_even_is_that_of_the_bills() -> None:
    told = "\n".join(break_even(grid()))
    assert "10 CPU-s without evaluations, 40% of it" in told
    assert "+5.0% of that" in told
    assert "below 0.85, 0.75, 0.65," in told


def test_the_break_even_compares_like_with_like_and_counts_each_run_once() -> None:
    """The machine was slower in one tier than in another: that is nothing that fp32 saves against itself."""
    runs = [known(s, c, i, 400.0 + i) for s in ("none", "int3") for c in ("none", "token-tis:2") for i in range(3)]
    for run in runs:
        if run["correction"] == "token-tis:2":
            run["bill"]["roles"]["inference"]["cpu_s"] = 2.0
            run["bill"]["roles"]["correction"]["cpu_s"] = 0.4 if run["sampler"] == "none" else 0.8
    told = list(break_even(Grid(runs)))
    rows = {row.split(" | ")[0].strip("| "): row.split(" | ") for row in told}
    assert rows["fp32"][1:4] == ["3.0", "+0.0", "+0"]
    assert rows["int3"][1:4] == ["3.0", "+0.0", "+0"]
    assert "included, is 6.0%" in told[0], "the median of three runs of 4 % and three of 8 %"


def test_intervals_are_students_and_not_those_of_a_few_resamples() -> None:
    """Which side of 0 a narrow bound lies on must not be a matter of drawing."""
    x, y = np.array([0.41, 0.45, 0.52, 0.47, 0.58]), np.array([0.40, 0.46, 0.47, 0.47, 0.53])
    runs = [known(s, "none", i, float(v)) for s, scores in (("none", x), ("int3", y)) for i, v in enumerate(scores)]
    for found, values in (
        (Grid(runs).estimate("none", "none", final), x),
        (Grid(runs).against(("none", "none"), ("int3", "none"), final), x - y),
    ):
        assert found is not None
        expected = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
        assert found.interval == pytest.approx(expected, rel=1e-9)


def test_few_seeds_that_differ_by_the_same_amount_have_no_bounds() -> None:
    runs = [known(s, "none", i, float(400 + i + more)) for s, more in (("none", 0), ("int3", -9)) for i in range(4)]
    found = Grid(runs).against(("int3", "none"), ("none", "none"), final)
    assert found is not None
    assert (found.value, found.interval) == (-9.0, (-math.inf, math.inf))


def test_one_seed_shows_nothing() -> None:
    runs = [known("none", "none", 0, 400), known("int3", "none", 0, 300)]
    assert "too few seeds yet at int3" in "\n".join(mismatch_table.sentences(Grid(runs)))


@pytest.mark.slow
def test_runs_from_the_shared_warm_start_are_those_that_warm_up_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers")
    from frugalrl.run.train import train

    monkeypatch.setattr(mismatch_cells, "ROUNDS", 12)
    monkeypatch.setattr(mismatch_cells, "PROMPTS", 4)
    cell = Cell(LANGUAGE, "int3", "token-tis:2", 3)
    model, told = mismatch_run.warm_model(tmp_path, 3)
    assert told["steps"] > 0
    assert told["cpu_s"] > 0
    shared = train(config_of(cell, model), tmp_path / "shared")
    alone = train(config_of(cell), tmp_path / "alone")
    assert shared.score is not None
    assert alone.score is not None
    assert shared.score.returns == alone.score.returns
    other = train(config_of(replace(cell, seed=4), model), tmp_path / "other")
    assert other.score is not None
    assert other.score.returns != alone.score.returns, "the comparison is not blind"


@pytest.mark.slow
def test_a_cell_becomes_one_result_and_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mismatch_cells, "STEPS", {CARTPOLE: 6_144})
    monkeypatch.setattr(mismatch_cells, "EPISODES", {CARTPOLE: 2})
    cell = Cell(CARTPOLE, "int3", "token-tis:2", 0)
    with mismatch_run.claimed(tmp_path / "runs" / cell.name) as mine:
        assert mine
        assert mismatch_run.run_cell(cell, tmp_path) == "elsewhere"
    assert mismatch_run.run_cell(cell, tmp_path) == "done"
    result = mismatch_run.result_path(tmp_path, cell)
    before = result.read_bytes()
    assert mismatch_run.run_cell(cell, tmp_path) == "elsewhere"
    assert result.read_bytes() == before
    document = mismatch_run.read_json(result)
    assert len(document["curve"]) == 12
    assert document["final"] == document["curve"][-1][1]
    assert len(document["metrics"]["mismatch_k3"]) == 6
    assert min(document["metrics"]["mismatch_k3"]) > 0
    assert document["bill"]["roles"]["inference"]["cpu_s"] > 0


def test_collected_runs_are_results_again(tmp_path: Path) -> None:
    runs = [known("int3", "sequence-mask:0.5,2", seed, 400.0 + seed) for seed in range(2)]
    (tmp_path / "CartPole-v1.jsonl").write_text("".join(json.dumps(run) + "\n" for run in runs))
    work = tmp_path / "work"
    assert mismatch_grid.restore(work, tmp_path) == 2
    cell = Cell(CARTPOLE, "int3", "sequence-mask:0.5,2", 1)
    assert json.loads(mismatch_run.result_path(work, cell).read_text()) == runs[1]
    assert mismatch_grid.restore(work, tmp_path) == 0, "what is there is left alone"
    mismatch_grid.collect(
        work, tmp_path / "again", [Cell(CARTPOLE, "int3", "sequence-mask:0.5,2", s) for s in range(2)]
    )
    assert (tmp_path / "again" / "CartPole-v1.jsonl").read_text() == (tmp_path / "CartPole-v1.jsonl").read_text()
