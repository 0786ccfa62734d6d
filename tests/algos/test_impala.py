"""The V-trace learner against a slow one, row by row; who takes part in the loss; what it remembers and counts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from impala_support import EXACT, IMAGE, VECTOR, A, B, SlowLearner, T, batch_of, new, same, unrolls, weights

from frugalrl.algos.impala import ImpalaConfig
from frugalrl.math.explore import POLICY_EXPLORERS, Knobs, View
from frugalrl.types import NonFiniteLoss, ReplayedUnrolls, Unroll
from oracles.vtrace import WRONG


@pytest.mark.parametrize("lstm_units", [None, 5])
@pytest.mark.parametrize(
    "changes", [EXACT, {"precision": "fp64", "c_bar": None, "rho_bar": None}], ids=["all", "plain"]
)
def test_updates_equal_the_slow_learner(changes: dict[str, Any], lstm_units: int | None) -> None:
    fast = new(lstm_units=lstm_units, **changes)
    slow = SlowLearner(fast, VECTOR, lstm_units)
    for seed in range(3):
        replayed = batch_of(fast, seed=seed)
        updated = fast.update(replayed)
        assert updated.metrics["loss"] == pytest.approx(slow.update(replayed), rel=1e-7, abs=1e-9)
    for name, p in slow.net.named_parameters():
        torch.testing.assert_close(fast.weights()[name], p.detach(), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("wrong", WRONG)
def test_the_slow_learner_is_not_blind(wrong: str) -> None:
    fast = new(**EXACT | {"max_abs_reward": None, "max_lag": None})
    slow = SlowLearner(fast, VECTOR, wrong=wrong)
    replayed = batch_of(fast, oldest=0)
    replayed.batch.log_mu[replayed.batch.valid] = math.log(0.1)
    assert fast.update(replayed).metrics["loss"] != pytest.approx(slow.update(replayed), rel=1e-4)


# -- who takes part --------------------------------------------------------------------------------------------------


def test_rows_that_are_too_old_are_in_neither_sum_nor_count() -> None:
    """A batch in which an unroll is too old trains as the batch without it; the lag of all rows is told."""
    one, two = new(precision="fp64", max_lag=3), new(precision="fp64", max_lag=3, batch_unrolls=B - 1)
    replayed = batch_of(one, oldest=0)
    replayed.batch.version[...] = -1
    replayed.batch.version[:, 0] = -4
    batch = replayed.batch
    small = two.update(unrolls(replayed, slice(1, None))).metrics
    metrics = one.update(replayed).metrics
    for name in ("loss", "policy_loss", "value_loss", "entropy", "grad_norm"):
        assert metrics[name] == pytest.approx(small[name], rel=1e-9), name
    valid = batch.valid.sum(0)
    assert metrics["too_old_share"] == pytest.approx(valid[0] / valid.sum())
    assert small["too_old_share"] == 0.0
    assert (metrics["lag_min"], metrics["lag_max"]) == (1.0, 4.0)
    assert metrics["lag_mean"] == pytest.approx((4 * valid[0] + valid[1] + valid[2]) / valid.sum())


def test_without_a_usable_row_the_weights_stay_and_the_update_counts() -> None:
    learner = new(max_lag=0)
    replayed = batch_of(learner, oldest=0)
    replayed.batch.version[...] = -1
    before = weights(learner)
    metrics = learner.update(replayed).metrics
    assert same(before, weights(learner))
    assert learner.version == 1
    assert (metrics["loss"], metrics["grad_norm"], metrics["too_old_share"]) == (0.0, 0.0, 1.0)
    assert all(math.isfinite(v) for v in metrics.values())


def test_a_batch_without_a_transition_is_no_error() -> None:
    """A row between two episodes can be all of an unroll of one step."""
    learner = new()
    replayed = batch_of(learner)
    replayed.batch.valid[...] = False
    before = weights(learner)
    metrics = learner.update(replayed).metrics
    assert same(before, weights(learner))
    assert metrics["loss"] == 0.0
    assert math.isnan(metrics["ratio_mean"])
    assert math.isnan(metrics["lag_mean"])


def test_garbage_in_rows_that_are_not_valid_changes_nothing() -> None:
    learners = [new(lstm_units=units) for units in (None, None, 5, 5)]
    for clean, dirty in (learners[:2], learners[2:]):
        replayed = batch_of(clean)
        one = clean.update(replayed)
        bad = ~replayed.batch.valid
        for name in ("reward", "discount"):
            getattr(replayed.batch, name)[bad] = np.nan
        replayed.batch.version[bad] = 10**12
        two = dirty.update(replayed)
        assert one.metrics == two.metrics
        assert same(weights(clean), weights(dirty))


@pytest.mark.parametrize("spoil", ["reward", "log_mu"])
def test_a_loss_that_is_not_finite_stops_before_the_weights_change(spoil: str) -> None:
    learner = new()
    replayed = batch_of(learner)
    getattr(replayed.batch, spoil)[0, 0] = np.nan
    before = weights(learner)
    with pytest.raises(NonFiniteLoss, match="the loss of update 1 is nan") as caught:
        learner.update(replayed)
    assert caught.value.replayed is replayed
    assert same(before, weights(learner))
    assert learner.version == 0


# -- metrics ---------------------------------------------------------------------------------------------------------


def test_metrics_are_those_of_their_names() -> None:
    learner = new(precision="fp64", max_abs_reward=0.5)
    replayed = batch_of(learner)
    batch = replayed.batch
    with torch.no_grad():
        out = learner._net.unroll(torch.from_numpy(batch.obs), *(torch.zeros(0),) * 3, {})
    log_pi = out[:-1, :, :-1].log_softmax(-1).gather(-1, torch.from_numpy(batch.action)[..., None])[..., 0].numpy()
    valid = batch.valid
    ratio = np.exp(log_pi - batch.log_mu)[valid]
    metrics = learner.update(replayed).metrics
    assert metrics["ratio_mean"] == pytest.approx(ratio.mean(), rel=1e-6)
    assert metrics["ess"] == pytest.approx(ratio.sum() ** 2 / (len(ratio) * (ratio**2).sum()), rel=1e-6)
    assert metrics["rho_clipped_share"] == pytest.approx((ratio > 1).mean())
    assert 0 < metrics["rho_clipped_share"] < 1
    assert metrics["value_mean"] == pytest.approx(out[:-1, :, -1].numpy()[valid].mean())
    assert metrics["reward_mean"] == pytest.approx(batch.reward.clip(-0.5, 0.5)[valid].mean(), rel=1e-6)
    log = out[:-1, :, :-1].log_softmax(-1).numpy()[valid]
    # the weight of an unroll multiplies its rows
    weight = np.broadcast_to(replayed.weight, valid.shape)[valid]
    assert metrics["entropy"] == pytest.approx(float(-((np.exp(log) * log).sum(1) * weight).mean()), rel=1e-6)
    assert metrics["loss"] == pytest.approx(
        metrics["policy_loss"] + 0.5 * metrics["value_loss"] - 0.00025 * metrics["entropy"]
    )


@pytest.mark.parametrize("lstm_units", [None, 5])
def test_flops_are_those_of_all_observations(lstm_units: int | None) -> None:
    """By hand for 8 hidden units: forward and weight gradients of all layers, input gradients of all but the first."""
    learner = new(lstm_units=lstm_units)
    cost = learner.update(batch_of(learner)).costs["learner"]
    size = (T + 1) * B
    first, last = 4 * 8, (8 if lstm_units is None else lstm_units) * (A + 1)
    core = 0.0
    if lstm_units is not None:
        # the state before the first row gets no gradient
        read, remembered = (8 + 1 + A) * 4 * lstm_units, lstm_units * 4 * lstm_units
        core = 3 * (read + remembered) - remembered / (T + 1)
    assert cost.flop == pytest.approx(2.0 * size * (2 * first + core + 3 * last), rel=1e-12)
    assert (cost.calls, cost.updates) == (1, 1)
    twice = new(lstm_units=lstm_units, passes=2)
    both = twice.update(batch_of(twice)).costs["learner"]
    assert (both.flop, both.calls, both.updates) == (2 * (cost.flop or 0.0), 2, 2)


# -- state -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lstm_units", [None, 5])
def test_a_loaded_learner_goes_on_bit_for_bit(lstm_units: int | None) -> None:
    one, two = new(lstm_units=lstm_units, lr_decay_updates=6), new(seed=1, lstm_units=lstm_units, lr_decay_updates=6)
    for seed in range(2):
        one.update(batch_of(one, seed=seed))
    assert not same(weights(one), weights(two))
    two.load_state_dict(one.state_dict())
    for seed in range(2, 4):
        a, b = one.update(batch_of(one, seed=seed)), two.update(batch_of(two, seed=seed))
        assert a.metrics == b.metrics
    assert same(weights(one), weights(two))
    assert two.version == 4


def test_the_learning_rate_ends_at_zero() -> None:
    learner = new(lr_decay_updates=2)
    for seed in range(2):
        learner.update(batch_of(learner, seed=seed))
    before = weights(learner)
    learner.update(batch_of(learner, seed=5))
    assert same(before, weights(learner))


def test_snapshots_share_the_live_parameters() -> None:
    learner = new()
    first = learner.snapshot()
    learner.update(batch_of(learner))
    second = learner.snapshot()
    assert first.parameters is second.parameters
    assert (first.version, second.version) == (0, 1)


def test_images_in_bf16_stay_near_fp32() -> None:
    losses = []
    for precision in ("fp32", "bf16"):
        learner = new(IMAGE, precision=precision)
        losses.append(learner.update(batch_of(learner, IMAGE)).metrics["loss"])
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], abs=0.03)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"gamma": 1.5}, r"agent.gamma=1.5: must lie in \[0, 1\]"),
        ({"unroll_steps": 0}, "agent.unroll_steps=0: must be positive"),
        ({"passes": 0}, "agent.passes=0: must be positive"),
        ({"rho_bar": 0.0}, "agent.rho_bar=0.0: must be positive, or None"),
        ({"entropy_cost": -1.0}, "agent.entropy_cost=-1.0: must be at least 0"),
        ({"adam_beta1": 1.0}, r"agent.adam_beta1=1.0: must lie in \[0, 1\)"),
        ({"max_lag": -1}, "agent.max_lag=-1: must be at least 0"),
        ({"c_bar": 2.0}, "agent.c_bar=2.0 > agent.rho_bar=1.0"),
    ],
)
def test_bad_numbers_are_named(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ImpalaConfig(**changes)


# -- learning --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["policy", "counteractive", "uniform"])
def test_a_bandit_is_learned_with_each_behaviour(name: str) -> None:
    """Acting and learning together: the best of three arms ends with nearly all of the probability of pi."""
    learner = new(learning_rate=0.05, gamma=0.0, entropy_cost=0.0, unroll_steps=1, batch_unrolls=32)
    rng = np.random.default_rng(0)
    obs = np.ones((2, 32, 4), np.float32)
    for _ in range(60):
        with torch.no_grad():
            logits = learner._net(torch.from_numpy(obs[0]))[:, :-1].numpy()
        view = View(
            q=logits, obs=obs[0], last=np.zeros(32, np.bool_), eps=np.full(32, 0.2), temperature=None,
            u=rng.random((32, 3)), num_actions=A, knobs=Knobs(),
        )  # fmt: skip
        choice = POLICY_EXPLORERS[name].choose(view, {})
        ones = np.ones((1, 32))
        unroll = Unroll(
            obs=obs,
            action=choice.action[None],
            reward=np.asarray([0.0, 1.0, 0.5], np.float32)[choice.action][None],
            discount=ones.astype(np.float32),
            last=ones > 1,
            valid=ones > 0,
            log_mu=choice.log_mu[None],
            version=np.full((1, 32), learner.version),
            explored=choice.explored[None],
        )
        learner.update(ReplayedUnrolls(batch=unroll, keys=np.arange(32), weight=np.ones(32, np.float32)))
    pi = torch.from_numpy(logits[0]).softmax(0)
    assert pi[1] > 0.9, pi


def test_as_a_control_it_learns_as_if_the_learner_s_own_policy_had_acted() -> None:
    """And tells the ratios that its loss does not see; a weight on top of V-trace's own is refused."""
    control, plain = new(correction="none", precision="fp64"), new(precision="fp64")
    replayed = batch_of(plain)
    with torch.no_grad():
        out = plain._net(torch.from_numpy(replayed.batch.obs[:-1]).double().flatten(0, 1))
    log_pi = out[:, :-1].log_softmax(-1).view(T, B, A).gather(-1, torch.from_numpy(replayed.batch.action)[..., None])
    told = control.update(replayed).metrics
    ratio = (log_pi[..., 0].numpy() - replayed.batch.log_mu)[replayed.batch.valid]
    assert told["ratio_mean"] == pytest.approx(np.exp(ratio).mean(), rel=1e-6)
    replayed.batch.log_mu[...] = log_pi[..., 0]
    plain.update(replayed)
    for name, p in plain.weights().items():
        np.testing.assert_allclose(control.weights()[name], p, rtol=1e-5, atol=1e-7)
    with pytest.raises(ValueError, match=r"agent.correction='token-tis:2': .* would square it; set agent.pg_rho_bar"):
        new(correction="token-tis:2")
