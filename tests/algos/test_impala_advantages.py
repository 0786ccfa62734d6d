"""Advantages with mean 0 and standard deviation 1: against the slow learner, and what that does to the gradient."""

from __future__ import annotations

import pytest
import torch
from impala_support import EXACT, VECTOR, SlowLearner, batch_of, new

NORMAL = EXACT | {"normalise_advantages": True}


@pytest.mark.parametrize("bar", [0.9, None])
def test_updates_equal_the_slow_learner(bar: float | None) -> None:
    fast = new(**NORMAL | {"pg_rho_bar": bar})
    slow = SlowLearner(fast, VECTOR)
    for seed in range(3):
        replayed = batch_of(fast, seed=seed)
        assert fast.update(replayed).metrics["loss"] == pytest.approx(slow.update(replayed), rel=1e-6, abs=1e-8)
    for name, p in slow.net.named_parameters():
        torch.testing.assert_close(fast.weights()[name], p.detach(), rtol=1e-5, atol=1e-7)


def test_the_slow_learner_sees_it_done_after_the_ratio() -> None:
    fast = new(**NORMAL | {"max_lag": None})
    slow = SlowLearner(fast, VECTOR, wrong="normalises after the ratio")
    replayed = batch_of(fast)
    assert fast.update(replayed).metrics["loss"] != pytest.approx(slow.update(replayed), rel=1e-4)


@pytest.mark.parametrize("normalise", [True, False])
def test_the_size_of_rewards_does_not_matter_to_the_policy(normalise: bool) -> None:
    """Values of 0, so that advantages are the rewards; the loss of the value is left out."""
    losses = []
    for scale in (1.0, 100.0):
        learner = new(precision="fp64", normalise_advantages=normalise, baseline_cost=0.0)
        with torch.no_grad():
            for weight in learner.weights().values():
                weight[...] = 0.0
        losses.append(learner.update(batch_of(learner, scale=scale)).metrics["policy_loss"])
    assert (losses[1] == pytest.approx(losses[0], rel=1e-5)) is normalise


def test_one_transition_has_no_spread() -> None:
    learner = new(precision="fp64", normalise_advantages=True)
    replayed = batch_of(learner)
    replayed.batch.valid[...] = False
    replayed.batch.valid[0, 0] = True
    assert learner.update(replayed).metrics["policy_loss"] == 0.0


def test_the_control_normalises_without_ratios() -> None:
    losses = []
    for shift in (0.0, -1.0):
        learner = new(precision="fp64", normalise_advantages=True, correction="none")
        replayed = batch_of(learner)
        replayed.batch.log_mu[...] += shift
        losses.append(learner.update(replayed).metrics["loss"])
    assert losses[0] == losses[1]
