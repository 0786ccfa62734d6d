"""Learning from a batch of unrolls more than once: against the slow learner, and what is undone after a failure."""

from __future__ import annotations

import pytest
import torch
from impala_support import EXACT, VECTOR, B, SlowLearner, batch_of, new, same, unrolls, weights

from frugalrl.types import NonFiniteLoss


@pytest.mark.parametrize("lstm_units", [None, 5])
def test_passes_are_updates_on_the_same_batch(lstm_units: int | None) -> None:
    """Each with ratios to the policy as the passes before have left it; the learning rate falls by batches."""
    changes = EXACT | {"max_lag": None, "lr_decay_updates": None}
    fast = new(lstm_units=lstm_units, passes=3, **changes)
    slow, short = (SlowLearner(fast, VECTOR, lstm_units) for _ in range(2))
    for seed in range(2):
        replayed = batch_of(fast, seed=seed)
        updated = fast.update(replayed)
        losses = [slow.update(replayed) for _ in range(3)]
        assert updated.metrics["loss"] == pytest.approx(sum(losses) / 3, rel=1e-7, abs=1e-9)
        assert updated.gradient_steps == 3
        short.update(replayed)
    assert fast.version == 2
    for name, p in slow.net.named_parameters():
        torch.testing.assert_close(fast.weights()[name], p.detach(), rtol=1e-6, atol=1e-8)
    slow_weights, short_weights = (dict(one.net.named_parameters()) for one in (slow, short))
    assert not any(torch.allclose(p, short_weights[name]) for name, p in slow_weights.items())


@pytest.mark.parametrize("lstm_units", [None, 5])
def test_minibatches_are_updates_on_parts_of_the_unrolls_in_turn(lstm_units: int | None) -> None:
    changes = EXACT | {"max_lag": None, "lr_decay_updates": None}
    fast = new(lstm_units=lstm_units, passes=2, minibatches=B, **changes)
    slow = SlowLearner(fast, VECTOR, lstm_units)
    for seed in range(2):
        replayed = batch_of(fast, seed=seed)
        updated = fast.update(replayed)
        losses = [slow.update(unrolls(replayed, slice(b, None, B))) for _ in range(2) for b in range(B)]
        assert updated.metrics["loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-7, abs=1e-9)
        assert updated.gradient_steps == 2 * B
    for name, p in slow.net.named_parameters():
        torch.testing.assert_close(fast.weights()[name], p.detach(), rtol=1e-6, atol=1e-8)


def test_parts_that_do_not_divide_the_batch_are_refused() -> None:
    with pytest.raises(ValueError, match=r"agent.minibatches=2: must divide agent.batch_unrolls=3"):
        new(minibatches=2)


def test_parts_cost_the_products_of_the_whole() -> None:
    whole, parts = (new(minibatches=n).update(batch_of(new())).costs["learner"] for n in (1, B))
    assert parts.flop == pytest.approx(whole.flop)
    assert (whole.updates, parts.updates) == (1, B)


def test_a_later_pass_that_is_not_finite_gives_back_what_was_before() -> None:
    learner = new(passes=2, learning_rate=1e30)
    before, optimizer = weights(learner), learner.state_dict()["optimizer"]
    kept = {name: x.clone() for name, x in optimizer.items()}
    with pytest.raises(NonFiniteLoss):
        learner.update(batch_of(learner))
    assert same(before, weights(learner))
    assert same(kept, learner.state_dict()["optimizer"])
    assert learner.version == 0


def test_the_learning_rate_falls_by_batches_not_by_passes() -> None:
    learner = new(passes=2, lr_decay_updates=2)
    learner.update(batch_of(learner))
    before = weights(learner)
    learner.update(batch_of(learner))
    assert not same(before, weights(learner))
