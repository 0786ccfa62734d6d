"""Prioritised drawing: probabilities, weights, priorities given back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from frugalrl.math.td import q_loss
from frugalrl.replay import Replay, ReplayConfig
from oracles.replay import GOES_ON, Stream, random_events


def filled(num_rows: int = 1, rows: int = 40, events: list[list[int]] | None = None, **knobs: Any) -> Replay:
    stream = Stream(num_rows, 1)
    config = ReplayConfig(**{"kind": "prioritized", "capacity_transitions": 30, **knobs})
    replay = Replay(config, stream.spec, num_rows, 0.9, np.random.default_rng(0))
    replay.add(stream.play(events or [[GOES_ON] * num_rows] * rows))
    return replay


def all_keys(replay: Replay) -> np.ndarray:
    return np.unique(replay.sample(60 * replay.size, env_step=0).keys)


def give(replay: Replay, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Gives every transition a priority of its own; returns keys and priorities."""
    keys = all_keys(replay)
    priorities = np.random.default_rng(seed).random(len(keys)) * 3 + 0.01
    replay.set_priorities(keys, priorities)
    return keys, priorities


def exact(priorities: np.ndarray, alpha: float, priority_eps: float, share: float) -> np.ndarray:
    mass = (priorities + priority_eps) ** alpha
    return (1 - share) * mass / mass.sum() + share / len(mass)


@pytest.mark.parametrize("num_rows", [1, 3])
@pytest.mark.parametrize(("alpha", "share"), [(0.6, 0.0), (1.0, 0.0), (0.6, 0.3), (0.0, 0.0), (0.5, 1.0)])
def test_draws_with_the_stated_probability(num_rows: int, alpha: float, share: float) -> None:
    """Chi-square against the exact probabilities, ends of episodes included; the wrong exponent is caught."""
    events = random_events(40, num_rows, np.random.default_rng(2))
    replay = filled(num_rows, events=events, alpha=alpha, uniform_share=share, priority_eps=0.05)
    keys, priorities = give(replay)
    drawn = np.concatenate([replay.sample(16, env_step=0).keys for _ in range(1500)])
    found, counts = np.unique(drawn, return_counts=True)
    np.testing.assert_array_equal(found, keys)
    assert stats.chisquare(counts, exact(priorities, alpha, 0.05, share) * len(drawn)).pvalue > 1e-4
    if share < 1.0:
        wrong = exact(priorities, alpha + 0.5, 0.05, share)
        assert stats.chisquare(counts, wrong * len(drawn)).pvalue < 1e-6


@given(
    alpha=st.floats(0, 1),
    share=st.floats(0, 1),
    beta=st.floats(0, 1),
    seed=st.integers(0, 1000),
    step=st.integers(0, 99),
)
@settings(deadline=None, max_examples=50)
def test_weights_are_those_of_the_paper(alpha: float, share: float, beta: float, seed: int, step: int) -> None:
    """(N * P) ** -beta over the largest of the batch, with beta on its line at this environment step."""
    replay = filled(alpha=alpha, uniform_share=share, beta_start=beta, beta_end=1.0, beta_steps=50)
    keys, priorities = give(replay, seed)
    replayed = replay.sample(20, env_step=step)
    probability = exact(priorities, alpha, 1e-6, share)[np.searchsorted(keys, replayed.keys)]
    now = beta + (1.0 - beta) * min(step / 50, 1.0)
    weight = (len(keys) * probability) ** -now
    np.testing.assert_allclose(replayed.weight, weight / weight.max(), rtol=1e-5)
    assert replayed.weight.max() == 1.0
    assert replayed.weight.dtype == np.float32


def masses(replay: Replay) -> dict[int, float]:
    """Drawing probability of every transition, from the weights at beta 1."""
    replayed = replay.sample(100 * replay.size, env_step=10**9)
    inverse = 1.0 / replayed.weight.astype(np.float64)
    table = dict(zip(replayed.keys.tolist(), inverse.tolist(), strict=True))
    return {key: value / sum(table.values()) for key, value in table.items()}


def test_full_correction_is_unbiased() -> None:
    """With beta 1, draws go as 1 / weight: draws times weight is the same for all, as if drawn uniformly."""
    replay = filled()
    keys, priorities = give(replay)
    assert priorities.max() > 10 * priorities.min()
    drawn = np.concatenate([replay.sample(30, env_step=0).keys for _ in range(3000)])
    found, counts = np.unique(drawn, return_counts=True)
    np.testing.assert_array_equal(found, keys)
    probability = masses(replay)
    expected = np.asarray([probability[key] for key in found.tolist()]) * len(drawn)
    assert stats.chisquare(counts, expected / expected.sum() * len(drawn)).pvalue > 1e-4
    assert stats.chisquare(counts).pvalue < 1e-6


@pytest.mark.parametrize("huber_delta", [None, 1.0])
def test_replay_weights_reach_the_gradient(huber_delta: float | None) -> None:
    """D1, D2: from a drawn batch to the gradient, each entry pulls with its replay weight times its error."""
    replay = filled(alpha=1.0, beta_start=1.0)
    give(replay)
    replayed = replay.sample(12, env_step=0)
    assert len(set(replayed.weight.tolist())) > 5
    q = torch.randn(12, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    batch = replayed.batch
    q_t = torch.zeros(12, 3)
    loss, td = q_loss(
        q,
        torch.from_numpy(batch.a_tm1),
        torch.from_numpy(batch.r_t),
        torch.from_numpy(batch.discount_t),
        q_t,
        q_t,
        weight=torch.from_numpy(replayed.weight),
        huber_delta=huber_delta,
    )
    loss.backward()
    slope = td if huber_delta is None else td.clamp(-huber_delta, huber_delta)
    assert q.grad is not None
    torch.testing.assert_close(q.grad.sum(1), -torch.from_numpy(replayed.weight) * slope / 12)
    replay.set_priorities(replayed.keys, td.abs().numpy())


def test_new_transitions_get_the_largest_priority_seen() -> None:
    stream = Stream(1, 1)
    replay = Replay(
        ReplayConfig(kind="prioritized", capacity_transitions=30, alpha=1.0, priority_eps=0.0),
        stream.spec, 1, 0.9, np.random.default_rng(0),
    )  # fmt: skip
    replay.add(stream.play([[GOES_ON]] * 3))
    assert masses(replay) == pytest.approx({0: 0.5, 1: 0.5})
    replay.set_priorities(np.asarray([0, 1]), np.asarray([0.5, 8.0]))
    replay.add(stream.play([[GOES_ON]]))
    assert masses(replay) == pytest.approx({0: 0.5 / 16.5, 1: 8 / 16.5, 2: 8 / 16.5}, rel=1e-5)
    replay.set_priorities(np.asarray([1]), np.asarray([1.0]))
    replay.add(stream.play([[GOES_ON]]))
    assert masses(replay)[3] == pytest.approx(8 / 17.5, rel=1e-5), "the largest ever seen, not the largest now"


def test_last_priority_of_a_repeated_key_counts() -> None:
    replay = filled(rows=4, alpha=1.0, priority_eps=0.0)
    replay.set_priorities(np.asarray([0, 1, 2]), np.asarray([1.0, 1.0, 2.0]))
    replay.set_priorities(np.asarray([1, 1, 0, 1]), np.asarray([9.0, 7.0, 1.0, 1.0]))
    assert masses(replay) == pytest.approx({0: 0.25, 1: 0.25, 2: 0.5}, rel=1e-5)


def test_overwritten_transitions_are_left_alone() -> None:
    """Keys name absolute rows: a priority that comes too late does not land on the row now in the same slot."""
    stream = Stream(2, 1)
    replay = Replay(
        ReplayConfig(kind="prioritized", capacity_transitions=10, alpha=1.0, priority_eps=0.0),
        stream.spec, 2, 0.9, np.random.default_rng(0),
    )  # fmt: skip
    replay.add(stream.play([[GOES_ON, GOES_ON]] * 6))
    old = all_keys(replay)
    assert old.tolist() == list(range(10))
    replay.add(stream.play([[GOES_ON, GOES_ON]] * 2))
    replay.set_priorities(old, np.where(old < 4, 5.0, 1.0))
    after = masses(replay)
    assert sorted(after) == list(range(4, 14))
    # rows 5 and 6 entered before with the first maximum, 1
    assert after == pytest.approx(dict.fromkeys(range(4, 14), 0.1), rel=1e-5)
    replay.set_priorities(old[:4], np.full(4, 3.0))
    assert masses(replay) == pytest.approx(after)


def test_zero_priorities() -> None:
    """Never drawn when priority_eps is 0; drawn uniformly when nothing else is left."""
    replay = filled(rows=6, alpha=1.0, priority_eps=0.0)
    replay.set_priorities(np.arange(5), np.asarray([0.0, 1, 0, 2, 0]))
    assert set(replay.sample(300, env_step=0).keys.tolist()) == {1, 3}
    replay.set_priorities(np.arange(5), np.zeros(5))
    replayed = replay.sample(300, env_step=0)
    assert set(replayed.keys.tolist()) == set(range(5))
    assert (replayed.weight == 1).all()


def test_first_draws_are_even_over_the_batch() -> None:
    """Stratified: with equal priorities, as many draws as transitions draw each one exactly once."""
    replay = filled()
    assert len(set(replay.sample(30, env_step=0).keys.tolist())) == 30


@pytest.mark.parametrize("bad", [-0.1, float("nan"), float("inf")])
def test_priorities_must_be_errors_without_sign(bad: float) -> None:
    replay = filled()
    with pytest.raises(ValueError, match="finite and at least 0"):
        replay.set_priorities(np.asarray([10, 11]), np.asarray([1.0, bad]))


def test_priorities_need_keys_of_a_sample() -> None:
    replay = filled(rows=6, events=[[0], [0], [1], [0], [0], [0]])
    for key in (2, 5, 99, -1):
        with pytest.raises(ValueError, match="give back the keys of a sample"):
            replay.set_priorities(np.asarray([key]), np.asarray([1.0]))
    with pytest.raises(ValueError, match=r"\(2,\) and \(1,\)"):
        replay.set_priorities(np.asarray([0, 1]), np.asarray([1.0]))
    replay.set_priorities(np.asarray([], np.int64), np.asarray([]))


def test_uniform_ignores_priorities() -> None:
    replay = filled(kind="uniform")
    before = replay.state_dict()["rng"]
    replay.set_priorities(np.asarray([10]), np.asarray([5.0]))
    assert replay.state_dict()["rng"] == before
    assert "priorities" not in replay.state_dict()
