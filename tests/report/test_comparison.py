"""A comparison of six runs whose figures were worked out by hand, and the oracle for all others."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from scipy.stats import ttest_ind

from frugalrl.cost.tables import load_tables
from frugalrl.recipes import build_config
from frugalrl.report.break_even import sampler_cores
from frugalrl.report.comparison import compare
from frugalrl.report.comparison_io import from_json, read_comparison, to_json, write_comparison
from frugalrl.report.groups import Group, Setting, reach
from frugalrl.report.records import RunRecord
from frugalrl.report.results import Comparison, MethodResult
from frugalrl.report.sentences import _percent
from frugalrl.report.table import render
from frugalrl.report.target import to_target
from frugalrl.report.use import origin, rates_of
from frugalrl.report.words import between, short
from frugalrl.report.write import html_report
from frugalrl.types import How, UserError
from oracles import comparison as oracle
from report.records_made import CODE, MACHINE, line, point, record, two_methods

TABLES = load_tables()
ENV = "CartPole-v1"


def compared(records: list[RunRecord], *targets: float, **ways: object) -> Comparison:
    wanted = dict.fromkeys({r.env for r in records}, targets) if targets else None
    return compare(records, targets=wanted, tables=TABLES, rng=np.random.default_rng(0), draws=200, **ways)  # type: ignore[arg-type]


def method(comparison: Comparison, name: str) -> MethodResult:
    return next(m for m in comparison.envs[0].methods if m.method == name)


@pytest.fixture(scope="module")
def six() -> Comparison:
    return compared(two_methods(), 100, 500)


def test_scores_of_sampled_actions_are_called_so(six: Comparison) -> None:
    policy = build_config(ENV, "ppo")
    sampled = replace(policy, evaluation=replace(policy.evaluation, actions="sampled"))
    runs = [replace(run, config=replace(sampled, seed=run.seed)) for run in two_methods()[:2]]
    assert (six.envs[0].protocol, compared(runs, 100).envs[0].protocol) == ("plain", "plain, actions sampled")


def test_cost_to_a_target_by_hand(six: Comparison) -> None:
    slow, fast = method(six, "epsilon-greedy").targets[0], method(six, "counteractive").targets[0]
    assert (slow.reached, slow.runs, fast.reached, fast.runs) == (2, 3, 3, 3)
    assert slow.expected["env_steps"].value == pytest.approx((2_000 + 4_000 + 4_000) / 2)
    assert fast.expected["env_steps"].value == pytest.approx((1_000 + 2_000 + 2_000) / 3)
    assert fast.expected["updates"].value == pytest.approx(5_000 / 3 / 2)
    # 1 ms environment + 1 ms inference + 3 ms learner per step
    assert fast.expected["sampler_s"].value == pytest.approx(5_000 / 3 * 2e-3)
    assert fast.expected["learner_s"].value == pytest.approx(5_000 / 3 * 3e-3)
    assert fast.expected["cpu_s"].value == pytest.approx(5_000 / 3 * 5e-3)
    assert fast.expected["flop"].value == pytest.approx(5_000 / 3 * 2)
    # 0.10 EUR per hour of two cores, 5 W per busy core and half of 5 W idle
    assert fast.expected["eur"].value == pytest.approx(5_000 / 3 * 5e-3 / 3600 * 0.10 / 2)
    assert fast.expected["joules"].value == pytest.approx(5_000 / 3 * 5e-3 * 7.5)
    assert fast.expected["eur"].how == "assumed"
    assert fast.expected["joules"].how == "modelled"
    assert fast.expected["gpu_s"].value is None
    assert fast.ratio["cpu_s"].value == pytest.approx(1 / 3)
    assert slow.ratio == {}
    # Kaplan-Meier: one of three after 1,000 steps, all after 2,000
    assert fast.median_steps.value == 2_000
    assert slow.median_steps.value == 4_000


def test_dropping_censored_runs_is_seen(six: Comparison) -> None:
    runs = [r for r in two_methods() if r.method == "epsilon-greedy"]
    found = method(six, "epsilon-greedy").targets[0].expected["env_steps"].value
    assert found == pytest.approx(oracle.expected_cost(runs, 100, lambda p: p.env_steps))
    assert found != pytest.approx(oracle.dropping_censored(runs, 100, lambda p: p.env_steps))


def test_a_target_that_nobody_reaches(six: Comparison) -> None:
    slow, fast = (method(six, name).targets[1] for name in ("epsilon-greedy", "counteractive"))
    assert fast.expected["cpu_s"].value == float("inf")
    assert fast.median_steps.value == float("inf")
    assert fast.ratio["cpu_s"].value is None
    assert slow.share_reached.value == 0
    told = "Nobody reached 500 on CartPole-v1 (0 of 3 runs of epsilon-greedy, so it takes more than 1,"
    assert any(s.startswith(told) for s in six.sentences)


def test_scores_use_and_memory(six: Comparison) -> None:
    fast = method(six, "counteractive")
    assert fast.final_mean.value == pytest.approx(160)
    assert fast.final_iqm.value == pytest.approx(160)  # of three runs nothing is cut
    assert fast.final_normalized is not None
    assert fast.final_normalized.value == pytest.approx((160 - 22.146) / (500 - 22.146))
    assert fast.tolerance.value == 150
    assert fast.tolerance.interval is None
    assert "46 runs" in fast.tolerance.source
    assert fast.used["cpu_s"].value == pytest.approx(20)
    assert fast.used["wall_s"].value == pytest.approx(40)
    assert fast.peak_memory.value == 1_000_000
    assert fast.cpu_s_by_role == {
        "environment": 4, "inference": 4, "learner": 12, "evaluation": 0, "unassigned": 0
    }  # fmt: skip
    assert fast.flop_by_role == {"inference": 4_000, "learner": 4_000}
    assert set(fast.curves) == {"env_steps", "flop", "cpu_s", "eur"}
    steps = fast.curves["env_steps"]
    assert steps.grid == (1_000, 2_000, 3_000, 4_000)
    assert steps.value == pytest.approx((200 / 3, 120, 400 / 3, 160))
    assert fast.survival[0].env_steps == (1_000, 2_000)
    assert fast.survival[0].share == pytest.approx((1 / 3, 1))


def test_equal_amounts() -> None:
    records = two_methods()
    short = [replace(r, points=r.points[:2]) if r.method == "counteractive" else r for r in records]
    views = {view.axis: view for view in compared(short, 100).envs[0].views}
    assert views["env_steps"].amount == 2_000
    assert views["flop"].amount == 4_000
    baseline, other = views["env_steps"].rows
    assert (baseline.method, baseline.verdict, baseline.difference) == ("epsilon-greedy", "baseline", None)
    assert baseline.score.value == pytest.approx((100 + 40 + 20) / 3)
    assert other.difference is not None
    assert other.difference.value == pytest.approx((50 + 70 + 80) / 3)
    assert other.verdict == "better"
    dearer = [
        replace(r, points=tuple(point(p.env_steps, p.mean_return, learner_ms=8) for p in r.points))
        if r.method == "counteractive"
        else r
        for r in records
    ]
    money = {view.axis: view for view in compared(dearer, 100).envs[0].views}["eur"]
    # 20 CPU-s of the baseline buy 2,000 of the other's steps
    assert money.rows[1].score.value == pytest.approx((150 + 110 + 100) / 3)


def test_failed_runs_are_listed_and_count_as_censored() -> None:
    records = two_methods()
    records[3] = replace(records[3], outcome="failed", reason="the loss is nan", points=records[3].points[:0])
    records[4] = replace(records[4], outcome="unfinished", reason="it ended", points=records[4].points[:1])
    result = method(compared(records, 100), "counteractive")
    assert result.seeds == (2,)
    assert result.failed == ((0, "failed: the loss is nan"), (1, "unfinished: it ended"))
    assert (result.targets[0].reached, result.targets[0].runs) == (1, 2)
    assert result.targets[0].expected["env_steps"].value == pytest.approx(1_000 + 2_000)


def test_one_seed_has_no_interval() -> None:
    found = compared([r for r in two_methods() if r.seed == 0], 100)
    fast = method(found, "counteractive")
    figures = [fast.final_mean, fast.targets[0].share_reached, *fast.targets[0].ratio.values(), *fast.used.values()]
    assert all(figure.interval is None for figure in figures)
    assert found.envs[0].views[0].rows[1].verdict == "one seed"
    assert any("break-even in sampler cores is refused: one seed" in s for s in found.sentences)
    assert any("has one seed on CartPole-v1" in note for note in found.notes)


def test_common_seeds_are_paired() -> None:
    records = [r for r in two_methods() if (r.method, r.seed) != ("counteractive", 2)]
    found = compared(records, 100)
    fast = method(found, "counteractive").targets[0]
    assert fast.ratio["env_steps"].value == pytest.approx(3_000 / 6_000)
    assert fast.ratio["env_steps"].n == 2
    assert any("different seeds" in note for note in found.notes)


def test_scores_without_a_common_seed_are_compared_as_independent() -> None:
    """They were called "no difference shown", although nobody had looked at a difference."""
    slow, fast = [10.0, 14.0, 12.0], [30.0, 36.0, 33.0, 41.0]
    runs = [record("epsilon-greedy", i, line([score])) for i, score in enumerate(slow)]
    runs += [record("counteractive", 10 + i, line([score])) for i, score in enumerate(fast)]
    found = compared(runs, 100)
    row = next(r for r in found.envs[0].views[0].rows if r.method == "counteractive")
    assert row.difference is not None
    assert (row.difference.value, row.difference.n, row.verdict) == (35.0 - 12.0, 3, "better")
    welch = ttest_ind(fast, slow, equal_var=False).confidence_interval(0.95)
    assert row.difference.interval == pytest.approx((welch.low, welch.high), rel=0.1)
    assert any("+23 " in sentence and "better" in sentence for sentence in found.sentences)
    # one run says nothing about the spread
    one = compared([runs[0], *runs[3:]], 100).envs[0].views[0].rows[1]
    assert (one.difference is not None, one.verdict) == (True, "one seed")


def test_runs_read_at_one_evaluation_tie_although_their_blocks_ended_apart() -> None:
    """Blocks of several rows end some steps late: 1.5 [1.5, 1.5] times the samples was shown by four seeds."""

    def runs(name: str, first_hit: int, late: list[int]) -> list[RunRecord]:
        scores = [150.0 if i >= first_hit else 50.0 for i in range(4)]
        return [
            record(name, seed, [point(3_000 * (i + 1) + few, score) for i, score in enumerate(scores)])
            for seed, few in enumerate(late)
        ]

    slow, fast = runs("epsilon-greedy", 2, [7, 1, 4, 3]), runs("counteractive", 1, [0, 4, 1, 1])
    found = compared([*slow, *fast], 100)
    made = method(found, "counteractive").targets[0]
    for quantity in ("env_steps", "updates", "flop", "cpu_s", "sampler_s", "wall_s", "joules", "eur"):
        for figure in (made.expected[quantity], made.ratio[quantity]):  # type: ignore[index]
            assert figure.interval == (0.0, float("inf")), quantity
            assert "no bound: 4 runs" in figure.source
    assert any("no difference shown, so break-even in sampler cores is refused" in text for text in found.sentences)
    lines = found.envs[0].crossovers[0].lines
    assert {x.low[0] for x in lines} == {0.0}
    assert {x.high[-1] for x in lines} == {float("inf")}
    assert made.ratio["env_steps"].value == pytest.approx(24_006 / 36_015)
    # another evaluation for one of them is a spread
    other = [*runs("epsilon-greedy", 1, [7])[:1], *slow[1:]]
    made = method(compared([*other, *fast], 100), "counteractive").targets[0]
    assert made.ratio["env_steps"].interval != (0.0, float("inf"))
    # all at one evaluation in both: nothing is claimed, and that stays
    same = runs("epsilon-greedy", 1, [7, 1, 4, 3])
    low, high = method(compared([*same, *fast], 100), "counteractive").targets[0].ratio["env_steps"].interval or (0, 0)
    assert low == pytest.approx(high, rel=1e-2)


def steady(name: str, steps: list[int], seconds_per_step_ms: tuple[float, float] = (2, 3)) -> list[RunRecord]:
    """Reaches 1 at these steps; (sampler, learner) milliseconds per step."""
    sampler, learner = seconds_per_step_ms
    ways = {"step_ms": sampler / 2, "inference_ms": sampler / 2, "learner_ms": learner}
    return [record(name, i, [point(n // 2, 0, **ways), point(n, 1, **ways)]) for i, n in enumerate(steps)]


def test_break_even_by_hand() -> None:
    assert sampler_cores(2, 3, 0.8) == pytest.approx(2)  # 2 / 2 + 3 = 0.8 x 5
    assert sampler_cores(2, 3, 1.0) == pytest.approx(1)
    assert sampler_cores(2, 3, 0.6) is None  # the rest alone is 0.6
    slow = steady("epsilon-greedy", [5_000, 10_000, 15_000] * 2)
    (told,) = (
        s
        for s in compared([*slow, *steady("counteractive", [4_000, 8_000, 12_000] * 2)], 1).sentences
        if "sampler cores" in s
    )
    assert "0.8 [0.8, 0.8] times the CPU time of epsilon-greedy: as much as 1 [1, 1] more sampler cores" in told
    (told,) = (
        s
        for s in compared([*slow, *steady("counteractive", [2_500, 5_000, 7_500] * 2)], 1).sentences
        if "sampler cores" in s
    )
    assert "no number of sampler cores saves epsilon-greedy as much" in told
    assert "30 of its 50 CPU-s" in told
    (told,) = (
        s
        for s in compared([*slow, *steady("counteractive", [6_250, 12_500, 18_750] * 2)], 1).sentences
        if "sampler cores" in s
    )
    assert told.startswith("epsilon-greedy reaches 1 on CartPole-v1 with 0.8 [0.8, 0.8] times the CPU time of counter")
    told = " ".join(compared(two_methods(), 100).sentences)
    assert "no difference shown, so break-even in sampler cores is refused" in told


def test_before_the_first_evaluation_no_score_is_known() -> None:
    """A method that uses 40 times as much per step has no evaluation where the cheap one's budget ends."""
    cheap, dear = "epsilon-greedy", "counteractive"
    runs = [record(cheap, s, line([10, 20, 30 + s], learner_ms=1)) for s in range(6)]
    runs += [record(dear, s, line([100, 200, 300 + s], learner_ms=40)) for s in range(6)]
    found = compared(runs, 1_000)
    (view,) = (v for v in found.envs[0].views if v.axis == "eur")
    (row,) = (r for r in view.rows if r.method == dear)
    assert (row.score.value, row.difference, row.verdict) == (None, None, "no difference shown")
    assert "before its first evaluation" in row.score.source
    assert not any("equal money" in s for s in found.sentences)
    assert html_report(found)


def test_a_ratio_of_shared_seeds_stands_beside_counts_that_say_so() -> None:
    slow = steady("epsilon-greedy", [5_000, 10_000, 15_000, 5_000, 10_000, 15_000, 900_000])
    fast = steady("counteractive", [4_000, 8_000, 12_100, 4_000, 8_000, 12_000])
    (told,) = (s for s in compared([*slow, *fast], 1).sentences if "times the samples" in s)
    assert (
        "(6 of 6 runs, 7 of 7; compared on the 6 seeds that both have): it saves at least 19 % of the samples." in told
    )
    (refused,) = (s for s in compared([*slow, *fast], 1).sentences if "sampler cores" in s)
    assert refused.endswith("for 1 on CartPole-v1 is refused: they share only 6 seeds.")


def test_the_winner_s_count_stands_first() -> None:
    slow = steady("epsilon-greedy", [5_000, 10_000, 15_000] * 2)
    never = [record("counteractive", seed, line([0] * 9)) for seed in range(6)]
    told = " ".join(compared([*slow, *never], 1).sentences)
    assert (
        "epsilon-greedy reaches 1 on CartPole-v1, counteractive does not on the same seeds (6 of 6 runs, 0 of 6)"
        in told
    )


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0.555, "55 %"), (0.5, "50 %"), (0.29, "29 %"), (0.004, "0.4 %"), (0.00036, "0.03 %"), (0.9951, "99.5 %"),
        (1.999, "199 %"),
    ],
)  # fmt: skip
def test_at_least_is_rounded_down(share: float, words: str) -> None:
    assert _percent(share) == words


def test_numbers_in_words() -> None:
    assert between((-float("inf"), float("inf"))) == " [no bound]"
    assert between((0.0, float("inf"))) == " [0, no end]"
    assert [short(x) for x in (999.4, 999.6, -999.6)] == ["999", "1,000", "-1,000"]


def test_crossover_by_hand() -> None:
    few = steady("counteractive", [1_000] * 6, (2, 9))  # 1 ms inference + 9 ms learner: 10 s
    many = steady("epsilon-greedy", [3_000] * 6, (1, 1 / 6))  # 2 s and 1.5 s of the environment
    found = compared([*few, *many], 1).envs[0].crossovers
    assert [c.quantity for c in found] == ["wall_s", "eur"]
    (crossing,) = found[0].crossings
    assert (crossing.left, crossing.right) == ("epsilon-greedy", "counteractive")
    assert crossing.step_ms == pytest.approx((10 - 2) / (3_000 - 1_000) * 1e3)
    assert crossing.interval == pytest.approx((4, 4))
    assert found[0].measured_step_ms == pytest.approx({"epsilon-greedy": 0.5, "counteractive": 1.0})
    at = found[0].step_ms.index(1.0)
    assert {line.method: line.value[at] for line in found[0].lines} == pytest.approx(
        {"counteractive": 11, "epsilon-greedy": 5}
    )
    assert found[1].lines[0].value[at] == pytest.approx(5 / 3600 * 0.10 / 2)
    noisy = steady("counteractive", [1_000, 5_000, 400], (2, 9))
    (crossing,) = compared([*noisy, *many[:3]], 1).envs[0].crossovers[0].crossings
    assert crossing.interval == (0.0, float("inf"))


def test_targets_come_from_the_references() -> None:
    found = compared(two_methods())
    assert found.envs[0].targets == pytest.approx([22.146 + s * (500 - 22.146) for s in (0.25, 0.5, 0.75, 1)])
    found = compared(two_methods("Acrobot-v1"))
    assert found.envs[0].targets == ()
    assert any("give one with --target" in note for note in found.notes)


def test_several_environments_are_summed_up() -> None:
    envs = [*two_methods(), *two_methods("frugalrl/Catch-v0"), *two_methods("Acrobot-v1")]
    found = compared(envs)
    assert [entry.method for entry in found.overall] == ["epsilon-greedy", "counteractive"]
    assert found.overall[0].improvement is None
    assert found.overall[1].improvement is not None
    assert found.overall[1].improvement.value == pytest.approx(1)
    assert any("leave out Acrobot-v1" in note for note in found.notes)
    for entry in found.overall:
        assert entry.optimality_gap.interval is not None
        assert entry.optimality_gap.interval[0] >= 0
    assert compared(two_methods()).overall == ()


def test_no_interval_of_a_gap_or_of_memory_ends_below_nothing() -> None:
    """Spread over seeds is larger than the mean here, so a t interval alone would."""
    scores, memory = {0: 500, 1: 499, 2: 300}, {0: 10**9, 1: 10**7, 2: 10**7}
    runs = [
        record(m, seed, [replace(p, peak_rss_bytes=memory[seed]) for p in line([top])], env=env)
        for env, tops in ((ENV, scores), ("frugalrl/Catch-v0", {0: 1.0, 1: 1.0, 2: -0.2}))
        for m in ("epsilon-greedy", "counteractive")
        for seed, top in tops.items()
    ]
    found = compared(runs)
    for figure in (*(o.optimality_gap for o in found.overall), *(m.peak_memory for m in found.envs[0].methods)):
        assert figure.value is not None
        assert figure.value > 0
        assert figure.interval is not None
        assert figure.interval[0] == 0


def test_older_folders_have_no_costs() -> None:
    old = [replace(r, points=tuple(line([50, 100], with_costs=False))) for r in two_methods()]
    fast = method(compared(old, 100), "counteractive")
    for quantity in ("updates", "flop", "sampler_s", "learner_s"):
        assert fast.targets[0].expected[quantity].value is None  # type: ignore[index]
        assert fast.used[quantity].value is None  # type: ignore[index]
    assert fast.targets[0].expected["cpu_s"].value == pytest.approx(2_000 * 5e-3)
    assert "flop" not in fast.curves


def test_json_round_trip(six: Comparison, tmp_path) -> None:
    text = json.dumps(to_json(six), allow_nan=False)
    assert '"inf"' in text
    assert from_json(json.loads(text)) == six
    write_comparison(six, tmp_path / "comparison.json")
    assert read_comparison(tmp_path / "comparison.json") == six


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": "frugalrl.comparison/0"}, "no comparison that this version can read"),
        ({"draws": "many"}, "comparison.draws is 'many', not int"),
        ({"colour": 1}, "comparison has no field 'colour'"),
        ({"envs": [{}]}, r"comparison.envs\[0\] lacks"),
    ],
)
def test_a_damaged_comparison_is_refused(six: Comparison, tmp_path, change, says) -> None:
    (tmp_path / "c.json").write_text(json.dumps({**to_json(six), **change}))
    with pytest.raises(UserError, match=says) as error:
        read_comparison(tmp_path / "c.json")
    assert "c.json" in str(error.value)


scores = st.lists(st.integers(0, 4).map(float), min_size=1, max_size=4)


@settings(max_examples=25, deadline=None)
@given(st.lists(scores, min_size=1, max_size=4), st.sampled_from([1.0, 2.0, 4.0]))
def test_expected_cost_is_that_of_the_oracle(runs: list[list[float]], target: float) -> None:
    records = [record("some", i, line(s, evaluation_s=3.0)) for i, s in enumerate(runs)]
    setting = Setting(seed=0, draws=100, level=0.95, rates=rates_of(records[0], TABLES), same_machine=True)
    found = to_target(reach(Group("some", ENV, tuple(records)), target, setting), None, setting)
    assert found is not None
    expected = oracle.expected_cost(records, target, lambda p: p.cpu_s)
    assert found.expected["cpu_s"].value == pytest.approx(expected)
    if expected < float("inf"):
        assert found.expected["cpu_s"].value != pytest.approx(
            oracle.expected_cost(records, target, oracle.evaluations_twice)
        )


def test_the_same_seed_gives_the_same_figures() -> None:
    a, b = (compared(two_methods(), 100) for _ in range(2))
    assert replace(a, made="") == replace(b, made="")


def figures(*targets: float) -> str:
    """Everything that does not belong to a target."""
    env = compared(two_methods(), *targets).envs[0]
    return repr(([replace(m, targets=(), survival=()) for m in env.methods], env.views))


def test_a_figure_does_not_depend_on_which_others_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    assert figures(100) == figures(100, 200, 300)
    shared = np.random.default_rng(0)
    monkeypatch.setattr(Setting, "rng", property(lambda self: shared))
    assert figures(100) != figures(100, 200, 300)


@pytest.mark.parametrize("name", ["int4[tis]", "a[/b]", "[bold]"])
def test_a_name_with_brackets_is_printed_as_it_is(name: str) -> None:
    records = [replace(r, method=name) if r.method == "counteractive" else r for r in two_methods()]
    printed = io.StringIO()
    render(compared(records, 100), Console(file=printed, width=120))
    assert sum(line.startswith(("end of the budget", "to a score of")) and name in line
               for line in printed.getvalue().splitlines()) == 2  # fmt: skip


def test_machines_without_a_price(monkeypatch: pytest.MonkeyPatch) -> None:
    strange = {**MACHINE, "profile": "one-of-a-kind"}
    fast = method(compared([replace(r, machine=strange) for r in two_methods()], 100), "counteractive")
    assert fast.used["eur"].value is None
    assert fast.used["joules"].value is None
    assert fast.used["cpu_s"].value is not None
    assert CODE["version"] == "0.1.0"


@pytest.mark.parametrize(("how", "expected"), [("measured", "modelled"), ("assumed", "assumed")])
def test_money_of_an_own_machine_is_as_weak_as_its_electricity(how: How, expected: How) -> None:
    """The joules in it are modelled, as the bill says; a measured price was enough for "measured"."""
    laptop = TABLES.machine("laptop-4c")
    price = replace(TABLES.prices["laptop-4c"], how="measured")
    tables = replace(TABLES, electricity=replace(TABLES.electricity, how=how), prices={laptop.name: price})
    own = rates_of(record("m", 0, [point(1_000, 1.0)], machine={**MACHINE, "profile": laptop.name}), tables)
    assert origin("eur", own)[0] == expected
    rented = rates_of(
        two_methods()[0], replace(tables, prices={"cloud-2vcpu": replace(price, eur_per_hour_on_demand=1.0)})
    )
    assert origin("eur", rented)[0] == "measured"
