"""Effects of a factorial: by hand, against the oracle, with censored runs; and wrong ways that must differ."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frugalrl.stats import expected_cost_ratio
from frugalrl.stats import factorial as f
from oracles import factorial as oracle

CELLS = tuple(product((0, 1), repeat=3))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def ends(estimate: Any) -> tuple[float, float]:
    assert estimate.interval is not None
    return estimate.interval


def everywhere(runs: int, value: bool = True) -> dict[f.Levels, list[bool]]:
    return {c: [value] * runs for c in CELLS}


def test_effects_by_hand() -> None:
    """100, the first factor x 0.5, the second x 2, both together another x 3; the third does nothing."""
    costs = {(a, b, c): [100 * 0.5**a * 2**b * 3 ** (a * b)] * 2 for a, b, c in CELLS}
    found = {e: f.cost_effect(costs, everywhere(2), e).value for e in f.effects(3)}
    assert list(found) == [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]
    # averaged over the other factor, half of the interaction is in each main effect
    assert found == pytest.approx(
        {(0,): 0.5 * 3**0.5, (1,): 2 * 3**0.5, (2,): 1, (0, 1): 3, (0, 2): 1, (1, 2): 1, (0, 1, 2): 1}
    )
    scores = {(a, b, c): [10 + 2 * a - b + 4 * a * c] * 2 for a, b, c in CELLS}
    differences = {e: f.score_effect(scores, e, rng=rng(), draws=100).value for e in f.effects(3)}
    assert differences == pytest.approx({(0,): 4, (1,): -1, (2,): 2, (0, 1): 0, (0, 2): 4, (1, 2): 0, (0, 1, 2): 0})


positive = st.floats(0.1, 50.0)
designs = st.fixed_dictionaries({c: st.lists(positive, min_size=3, max_size=3) for c in CELLS})
misses = st.fixed_dictionaries({c: st.integers(0, 2) for c in CELLS})


@settings(max_examples=25, deadline=None)
@given(designs, misses)
def test_against_the_definitions(costs: dict[f.Levels, list[float]], missed: dict[f.Levels, int]) -> None:
    reached = {c: [i >= missed[c] for i in range(3)] for c in CELLS}
    means = {c: math.fsum(x) / 3 for c, x in costs.items()}
    geometric = {c: math.prod(x) ** (1 / 3) for c, x in costs.items()}
    for e in f.effects(3):
        found = f.cost_effect(costs, reached, e)
        exact = {c: oracle.expected_cost(costs[c], reached[c]) for c in CELLS}
        assert found.value == pytest.approx(oracle.ratio(exact, e), rel=1e-9)
        assert ends(found)[0] <= found.value <= ends(found)[1]
        short = f.cost_effect(costs, reached, e, kind="restricted")
        assert short.value == pytest.approx(oracle.ratio(geometric, e), rel=1e-9)
        score = f.score_effect(costs, e, rng=rng(), draws=100)
        assert score.value == pytest.approx(oracle.difference(means, e), rel=1e-9, abs=1e-9)


def drawn(seed: int, *, n: int = 5, budget: float = 4.0) -> tuple[dict[f.Levels, Any], dict[f.Levels, Any]]:
    """Log-normal times: the first factor x 0.6, the second x 1.5 with the first; a seed moves all cells."""
    r = rng(seed)
    of_seed = 0.8 * r.normal(size=n)
    costs, reached = {}, {}
    for a, b, c in CELLS:
        t = np.exp(0.3 + of_seed + math.log(0.6) * a + math.log(1.5) * a * b + 0.1 * r.normal(size=n))
        costs[a, b, c], reached[a, b, c] = np.minimum(t, budget), t <= budget
    return costs, reached


def test_two_cells_agree_with_the_ratio_of_expected_costs() -> None:
    costs, reached = drawn(3)
    a, b = (1, 0, 0), (0, 0, 0)
    for paired in (True, False):
        theirs = expected_cost_ratio(costs[a], reached[a], costs[b], reached[b], paired=paired)
        mine = f.cost_effect(
            {(1,): costs[a], (0,): costs[b]}, {(1,): reached[a], (0,): reached[b]}, (0,), paired=paired
        )
        assert mine.value == pytest.approx(theirs.value)
        assert ends(mine) == pytest.approx(ends(theirs))


def test_dropping_censored_runs_arithmetic_means_and_loose_pairs_are_told_apart() -> None:
    costs, reached = drawn(7, n=40, budget=2.0)
    found = f.cost_effect(costs, reached, (0,))
    kept = {c: costs[c][reached[c]] for c in CELLS}
    dropped = f.cost_effect(kept, {c: np.ones(len(x), bool) for c, x in kept.items()}, (0,), paired=False)
    assert abs(math.log(dropped.value)) < 0.75 * abs(math.log(found.value)), "leaving misses out flatters the slow"
    high, low = (np.mean([costs[c].sum() / reached[c].sum() for c in CELLS if c[0] == at]) for at in (1, 0))
    assert found.value != pytest.approx(high / low, rel=1e-3)
    restricted = f.cost_effect(costs, reached, (0,), kind="restricted")
    assert abs(math.log(restricted.value)) < abs(math.log(found.value)), "bounded by the budget"
    width = [np.log(np.divide(*ends(f.cost_effect(costs, reached, (0,), paired=p))[::-1])) for p in (True, False)]
    assert width[0] < 0.6 * width[1]
    halved = math.sqrt(f.cost_effect(costs, reached, (0, 1)).value)
    assert halved != pytest.approx(f.cost_effect(costs, reached, (0, 1)).value, rel=0.01), "Yates halves interactions"


def test_percentile_and_unknown_resamples() -> None:
    costs, reached = drawn(2, n=5)
    reached[0, 0, 0] = np.array([True, False, False, False, False])
    made = f.cost_effect(costs, reached, (0,), method="percentile", rng=rng(), draws=400)
    low, high = ends(made)
    assert low < made.value < high
    assert low == 0.0, "a third of the resamples has no success in one cell of the low side"
    reached[1, 0, 0] = reached[0, 0, 0]
    assert ends(f.cost_effect(costs, reached, (0,), method="percentile", rng=rng(), draws=400))[1] == math.inf


@pytest.mark.parametrize(("paired", "enough"), [(True, 6), (False, 4)])
def test_a_few_runs_that_differ_by_the_same_score_show_nothing(paired: bool, enough: int) -> None:
    """The sign test needs six equal differences; of two groups without spread as many runs as four each have."""
    for n in (2, enough - 1, enough):
        base = np.linspace(0, 1, n) if paired else np.zeros(n)
        found = f.score_effect({(0,): base, (1,): base + 0.25}, (0,), rng=rng(), paired=paired, draws=100)
        assert found.value == pytest.approx(0.25)
        assert (ends(found)[0] > 0) == (n == enough)
        assert math.isinf(ends(found)[0]) == (n < enough)


def test_what_is_not_known_says_why() -> None:
    costs, reached = drawn(1)
    reached[1, 1, 1] = np.zeros(5, bool)
    nothing = f.cost_effect(costs, reached, (0,))
    assert math.isnan(nothing.value)
    assert nothing.interval is None
    assert "no run of 1 of 8 cells reached the target (levels (1, 1, 1))" in nothing.how
    assert f.cost_effect(costs, reached, (0,), kind="restricted").interval is not None
    nobody = f.cost_effect(costs, everywhere(5, False), (0,), kind="restricted")
    assert math.isnan(nobody.value)
    assert "no run of any cell" in nobody.how
    free = f.cost_effect({c: [0.0, 0.0] for c in CELLS}, everywhere(2), (0,))
    assert "cost nothing" in free.how
    one = f.cost_effect({c: [2.0] for c in CELLS}, everywhere(1), (0,))
    assert one.value == 1.0
    assert one.interval is None
    assert f.score_effect({c: [2.0] for c in CELLS}, (0,), rng=rng()).interval is None


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda c, r: f.contrast((), 3), "no effect"),
        (lambda c, r: f.contrast((0, 0), 3), "no effect"),
        (lambda c, r: f.cost_effect(c, r, (3,)), "0 to 2"),
        (lambda c, r: f.cost_effect({}, {}, (0,)), "full design"),
        (lambda c, r: f.cost_effect({k: c[k] for k in CELLS[:7]}, r, (0,)), "full design"),
        (lambda c, r: f.cost_effect(c, {k: r[k] for k in CELLS[:7]}, (0,)), "different cells"),
        (lambda c, r: f.cost_effect(c, r, (0,), kind="mean"), "kind of cost"),
        (lambda c, r: f.cost_effect(c, r, (0,), method="bca"), "interval method"),
        (lambda c, r: f.cost_effect(c, r, (0,), method="percentile"), "rng"),
        (lambda c, r: f.cost_effect(c | {(0, 0, 0): [1]}, r | {(0, 0, 0): [True]}, (0,)), "same seeds"),
        (lambda c, r: f.cost_effect(c | {(0, 1, 0): [math.nan] * 5}, r, (0,)), r"cell \(0, 1, 0\)"),
        (lambda c, r: f.score_effect(c, (0,), rng=rng(), level=2), "level"),
    ],
)
def test_what_makes_no_sense_is_refused(call: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        call(*drawn(0))


@pytest.mark.slow
def test_coverage() -> None:
    """Five paired seeds, some censored: main effect and interaction; the truth is that of a million runs a cell."""
    many = drawn(99, n=1_000_000)
    reps = 400
    for effect in ((0,), (0, 1)):
        truth = f.cost_effect(*many, effect).value
        held = {"t": 0, "percentile": 0, "unpaired": 0, "restricted": 0}
        short = f.cost_effect(*many, effect, kind="restricted").value
        for rep in range(reps):
            costs, reached = drawn(rep, n=5)
            if not all(r.any() for r in reached.values()):
                continue
            ways: dict[str, Any] = {"draws": 200, "rng": rng(rep)}
            for name, right, options in (
                ("t", truth, {}), ("percentile", truth, {"method": "percentile"}),
                ("unpaired", truth, {"paired": False}), ("restricted", short, {"kind": "restricted"}),
            ):  # fmt: skip
                low, high = ends(f.cost_effect(costs, reached, effect, **options, **ways))
                held[name] += low <= right <= high
        share = {name: count / reps for name, count in held.items()}
        assert 0.91 <= share["t"] <= 0.985, share
        assert 0.91 <= share["restricted"] <= 0.985, share
        assert share["percentile"] < 0.90, share
        assert share["unpaired"] > 0.985, share
