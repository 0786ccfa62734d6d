"""epsilon-z-greedy and fixed-random against slow definitions."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from explore_views import TIE_PATTERNS, chi_square, choose, draws, spec

from frugalrl.math.explore import EXPLORERS, Memory, epsilon_greedy
from frugalrl.math.explore.persistent import actions_of_states, zeta_length
from oracles.explore import SlowEz, fixed_action, zeta

EZ = EXPLORERS["epsilon-z-greedy"]
ACTIONS = 4


# -- the length of a repetition --------------------------------------------------------------------------------------


def lengths_p(exponent: float, longest: int, wrong: np.ndarray | None = None, shift: int = 0) -> float:
    """p-value of 50,000 lengths, those above 12 together."""
    count = 50_000
    n = np.minimum(zeta_length(draws(count, 5)[:, 1], exponent, longest) + shift, 13)
    p = np.asarray(zeta(exponent, longest) if wrong is None else wrong)
    expected = np.append(p[:12], p[12:].sum()) if len(p) > 12 else np.pad(p, (0, 13 - len(p)))
    return chi_square(np.bincount(n, minlength=14)[1:14], expected * count)


@pytest.mark.parametrize("exponent", [1.25, 2.0, 3.0])
@pytest.mark.parametrize("longest", [1, 2, 7, 10_000])
def test_lengths_are_zeta_distributed(exponent: float, longest: int) -> None:
    assert lengths_p(exponent, longest) > 1e-4


def test_the_test_of_lengths_is_not_blind() -> None:
    assert lengths_p(2.0, 10_000, wrong=np.asarray(zeta(1.9, 10_000))) < 1e-6
    assert lengths_p(2.0, 10_000, shift=1) < 1e-6


def test_lengths_invert_the_cumulative_distribution() -> None:
    """n is the first length whose cumulated probability lies above the draw; both ends are reached."""
    p = np.asarray(zeta(2.0, 5))
    edges = np.concatenate([[0.0], p.cumsum()])
    for n in range(1, 6):
        inside = np.asarray([edges[n - 1] + 1e-12, edges[n] - 1e-12])
        assert zeta_length(inside, 2.0, 5).tolist() == [n, n]
    assert zeta_length(np.asarray([0.0, 1.0 - 2**-53]), 2.0, 5).tolist() == [1, 5]
    assert zeta_length(np.asarray([0.0, 1.0 - 2**-53]), 0.0, 7).tolist() == [1, 7]


# -- epsilon-z-greedy ------------------------------------------------------------------------------------------------


def played(steps: int, rows: int, *, eps: float, longest: int, ends: float = 0.05) -> dict[str, np.ndarray]:
    """Choices [steps, rows] of the fast rule on random Q with ties, with what it was given."""
    rng = np.random.default_rng(12)
    memory = EZ.start(spec(ACTIONS), rows)
    seen: dict[str, list[Any]] = {k: [] for k in ("q", "u", "ended", "action", "mu", "explored")}
    for _ in range(steps):
        q, u, ended = rng.integers(0, 3, (rows, ACTIONS)) / 2.0, rng.random((rows, 3)), rng.random(rows) < ends
        got = choose(EZ.name, q, np.full(rows, eps), u, memory=memory, last=ended, ez_mu=2.0, ez_max_steps=longest)
        EZ.end(memory, ended)
        for name, value in zip(seen, (q, u, ended, got.action, np.exp(got.log_mu), got.explored), strict=True):
            seen[name].append(value)
    return {name: np.asarray(values) for name, values in seen.items()}


def agrees(seen: dict[str, np.ndarray], eps: float, longest: int, **wrong: Any) -> bool:
    """Whether every row is one that the slow definition plays from the same draws."""
    steps, rows = seen["action"].shape
    for row in range(rows):
        slow = SlowEz(2.0, longest, **wrong)
        for t in range(steps):
            action, mu, explored = slow.act(seen["q"][t, row].tolist(), eps, seen["u"][t, row].tolist())
            if seen["ended"][t, row]:
                slow.end()
                continue  # the action of a row that is reset is not used
            if (action, explored) != (seen["action"][t, row], seen["explored"][t, row]):
                return False
            if not math.isclose(mu, seen["mu"][t, row], rel_tol=1e-6):
                return False
    return True


@pytest.mark.parametrize(("eps", "longest"), [(0.1, 50), (0.5, 3), (1.0, 50), (0.0, 50)])
def test_ez_greedy_plays_like_its_definition(eps: float, longest: int) -> None:
    assert agrees(played(150, 4, eps=eps, longest=longest), eps, longest)


def test_the_definition_is_not_blind() -> None:
    """One step too many, as in the algorithm as printed, and repetitions that survive their episode are caught."""
    seen = played(150, 4, eps=0.3, longest=50)
    assert agrees(seen, 0.3, 50)
    assert not agrees(seen, 0.3, 50, extra=1)
    assert not agrees(seen, 0.3, 50, survives=True)


@pytest.mark.parametrize("pattern", TIE_PATTERNS)
def test_outside_of_a_repetition_it_is_epsilon_greedy(pattern: str) -> None:
    """Action and mu of a first step, bit for bit; the draw of the length changes neither."""
    count = 500
    q = np.tile(np.asarray(TIE_PATTERNS[pattern], np.float32), (count, 1))
    eps, u = np.full(count, 0.4), draws(count, 2)
    for x, y in zip(choose(EZ.name, q, eps, u), epsilon_greedy(q, eps, u), strict=True):
        np.testing.assert_array_equal(x, y)


def test_with_a_longest_repetition_of_one_step_it_is_epsilon_greedy() -> None:
    rng, rows = np.random.default_rng(3), 6
    memory = EZ.start(spec(ACTIONS), rows)
    for _ in range(40):
        q, eps, u = rng.standard_normal((rows, ACTIONS)), rng.random(rows), rng.random((rows, 3))
        got = choose(EZ.name, q, eps, u, memory=memory, ez_max_steps=1)
        for x, y in zip(got, epsilon_greedy(q, eps, u), strict=True):
            np.testing.assert_array_equal(x, y)


def repeating(left: list[int], action: list[int]) -> Memory:
    return {"left": np.asarray(left), "action": np.asarray(action)}


def test_a_step_in_which_all_rows_repeat_or_begin_needs_no_q() -> None:
    eps, u = np.asarray([0.2, 0.2, 1.0]), np.asarray([[0.9, 0.5, 0.1], [0.1, 0.0, 0.99], [0.9, 0.0, 0.6]])
    memory, other = (repeating([3, 0, 0], [2, 0, 0]) for _ in range(2))
    assert EZ.explores is not None
    assert EZ.explores(eps, u, memory).all()
    got = choose(EZ.name, None, eps, u, memory=memory, num_actions=ACTIONS)
    with_q = choose(EZ.name, np.zeros((3, ACTIONS)), eps, u, memory=other)
    assert got.action.tolist() == with_q.action.tolist() == [2, 3, 2]
    assert got.explored.all()
    assert got.log_mu[0] == with_q.log_mu[0] == 0.0, "inside a repetition the action is certain"
    assert np.isnan(got.log_mu[1])
    assert got.log_mu[2] == with_q.log_mu[2] == np.float32(-math.log(ACTIONS))
    assert memory["left"].tolist() == other["left"].tolist() == [2, 0, 0]
    u[1, 0] = 0.6
    with pytest.raises(ValueError, match="row 1 does not explore"):
        choose(EZ.name, None, eps, u, memory=repeating([3, 0, 0], [2, 0, 0]))


def test_a_repetition_ends_only_in_the_rows_whose_episode_ended() -> None:
    memory = repeating([3, 4], [1, 2])
    EZ.end(memory, np.asarray([True, False]))
    assert memory["left"].tolist() == [0, 4]


# -- fixed-random ----------------------------------------------------------------------------------------------------


def test_the_action_of_a_state_is_the_hash_as_defined() -> None:
    rng = np.random.default_rng(8)
    for obs in (rng.integers(0, 255, (50, 2, 3), np.uint8), rng.random((50, 4)).astype(np.float32), np.arange(50)):
        for actions, seed in ((2, 0), (18, 2**31 - 1)):
            expected = [fixed_action(row.tobytes(), actions, seed) for row in obs]
            assert actions_of_states(obs, actions, seed).tolist() == expected


@pytest.mark.parametrize("actions", [2, 5, 18])
def test_fixed_actions_are_uniform_over_states_and_over_seeds(actions: int) -> None:
    states = actions_of_states(np.arange(20_000), actions, 3)
    seeds = np.asarray([actions_of_states(np.zeros((1, 4), np.float32), actions, s)[0] for s in range(5_000)])
    for found in (states, seeds):
        counts = np.bincount(found, minlength=actions)
        assert chi_square(counts, np.full(actions, len(found) / actions)) > 1e-4
    biased = np.minimum(states, actions_of_states(np.arange(20_000), actions, 4))
    assert chi_square(np.bincount(biased, minlength=actions), np.full(actions, 20_000 / actions)) < 1e-6


def test_a_state_keeps_its_action() -> None:
    """Whatever Q, the draws, the row or the sign of a zero; another seed gives others."""
    rng = np.random.default_rng(9)
    states = rng.integers(0, 2, (30, 3)).astype(np.float32)
    expected = actions_of_states(states, ACTIONS, 5)
    for _ in range(20):
        order = rng.permutation(30)
        obs = states[order] * np.where(states[order] == 0, rng.choice([-1.0, 1.0]), 1.0).astype(np.float32)
        got = choose("fixed-random", rng.random((30, ACTIONS)), np.ones(30), rng.random((30, 3)), obs=obs, seed=5)
        assert got.action.tolist() == expected[order].tolist()
        assert got.explored.all()
        np.testing.assert_array_equal(got.log_mu, 0.0)
    assert actions_of_states(states, ACTIONS, 6).tolist() != expected.tolist()


def test_a_state_keeps_its_action_in_another_process() -> None:
    code = (
        "import numpy as np; from frugalrl.math.explore.persistent import actions_of_states as f;"
        "print(f(np.arange(40), 6, 7).tolist(), f(np.linspace(0, 1, 40, dtype='float32'), 6, 7).tolist())"
    )
    here = f"{actions_of_states(np.arange(40), 6, 7).tolist()} "
    here += f"{actions_of_states(np.linspace(0, 1, 40, dtype='float32'), 6, 7).tolist()}\n"
    for salt in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": salt}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
        assert done.stdout == here


@pytest.mark.parametrize("pattern", TIE_PATTERNS)
def test_fixed_random_comes_with_the_stated_probability(pattern: str) -> None:
    count, eps = 20_000, 0.3
    q = np.tile(np.asarray(TIE_PATTERNS[pattern], np.float32), (count, 1))
    for state in range(4):
        obs = np.full(count, state)
        choice = choose("fixed-random", q, np.full(count, eps), draws(count, 7), obs=obs, seed=1)
        high = q[0] == q[0].max()
        mu = (1 - eps) * high / high.sum()
        mu[fixed_action(obs[:1].tobytes(), q.shape[1], 1)] += eps
        assert chi_square(np.bincount(choice.action, minlength=q.shape[1]), mu * count) > 1e-4
        np.testing.assert_allclose(choice.log_mu, np.log(mu[choice.action]), rtol=1e-6, atol=1e-7)
        assert abs(choice.explored.mean() - eps) < 4 * math.sqrt(eps * (1 - eps) / count)


def test_fixed_random_without_a_forward() -> None:
    eps, u = np.asarray([0.1, 1.0]), np.asarray([[0.05, 0.5, 0.9], [0.5, 0.5, 0.0]])
    got = choose("fixed-random", None, eps, u, obs=np.asarray([3, 4]), num_actions=ACTIONS)
    with_q = choose("fixed-random", np.ones((2, ACTIONS)), eps, u, obs=np.asarray([3, 4]))
    assert got.action.tolist() == with_q.action.tolist()
    assert np.isnan(got.log_mu[0])
    assert got.log_mu[1] == with_q.log_mu[1] == 0.0
    with pytest.raises(ValueError, match="row 0 does not explore"):
        choose("fixed-random", None, np.asarray([0.0, 1.0]), u, num_actions=ACTIONS)


def test_neither_has_full_support() -> None:
    assert not EZ.full_support
    assert not EXPLORERS["fixed-random"].full_support
