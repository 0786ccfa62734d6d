"""Generalised advantages and the loss of PPO against slow definitions, with masks, garbage and vmap."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from frugalrl.math.gae import gae
from frugalrl.math.policy_gradient import log_probabilities
from frugalrl.math.ppo import Part, PPOLoss, normalised, ppo_batch_loss
from oracles.gae import WRONG, slow_gae, slow_ppo_loss

GAMMA = 0.9


def case(seed: int = 0, steps: int = 9, rows: int = 4, ends: float = 0.25) -> dict[str, np.ndarray]:
    """Random unrolls: a third of the ends each is a time limit, a game over, and a life loss after which it goes on."""
    rng = np.random.default_rng(seed)
    shape = (steps, rows)
    valid, last, discount = np.ones(shape, np.bool_), np.zeros(shape, np.bool_), np.full(shape, GAMMA)
    for t in range(steps):
        kind = rng.integers(0, 3, rows)
        end = valid[t] & (rng.random(rows) < ends)
        discount[t, end & (kind > 0)] = 0.0
        last[t] = end & (kind < 2)
        if t + 1 < steps:
            valid[t + 1, last[t]] = False
    return {
        "reward": rng.normal(size=shape), "discount": discount, "values": rng.normal(size=(steps + 1, rows)),
        "valid": valid, "last": last,
    }  # fmt: skip


def fast(of: dict[str, np.ndarray], lambda_: float) -> np.ndarray:
    tensors = {k: torch.from_numpy(v) for k, v in of.items() if k != "last"}
    found = gae(**tensors, lambda_=lambda_)
    assert torch.equal(found.target, found.advantage + tensors["values"][:-1])
    return found.advantage.numpy()


@given(
    seed=st.integers(0, 1000),
    steps=st.integers(1, 6),
    ends=st.sampled_from([0.0, 0.4, 1.0]),
    lambda_=st.sampled_from([0.0, 0.9, 1.0]),
)
@settings(deadline=None, max_examples=30)
def test_advantages_are_the_sum_of_their_definition(seed: int, steps: int, ends: float, lambda_: float) -> None:
    of = case(seed, steps, ends=ends)
    np.testing.assert_allclose(fast(of, lambda_), slow_gae(**of, lambda_=lambda_, gamma=GAMMA), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("wrong", WRONG)
def test_the_comparison_of_advantages_is_not_blind(wrong: str) -> None:
    of = case()
    assert not np.allclose(fast(of, 0.8), slow_gae(**of, lambda_=0.8, gamma=GAMMA, wrong=wrong), atol=1e-3)


def test_ends_by_hand() -> None:
    """One step before each kind of end, V = 10 everywhere: a time limit bootstraps, game over and life loss do not."""
    reward, values = torch.ones(3, 3), torch.full((4, 3), 10.0)
    discount = torch.tensor([[0.5, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]])
    valid = torch.tensor([[True, True, True], [False, False, True], [True, True, True]])
    found = gae(reward, discount, values, valid=valid, lambda_=1.0)
    later = 1 + 0.5 * 10 - 10
    assert found.advantage[0].tolist() == [1 + 0.5 * 10 - 10, 1 - 10, 1 - 10]
    assert found.advantage[1].tolist() == [0, 0, later + 0.5 * later]
    assert found.advantage[2].tolist() == [later] * 3
    assert found.target[1, :2].tolist() == [10, 10]


def test_garbage_between_episodes_is_not_read_and_shapes_are_named() -> None:
    of = case()
    clean = fast(of, 0.8)
    for name in ("reward", "discount"):
        of[name][~of["valid"]] = math.nan
    np.testing.assert_array_equal(fast(of, 0.8), clean)
    with pytest.raises(ValueError, match=r"reward \[2, 3\], discount \[2, 3\], values \[2, 3\], valid \[2, 3\]"):
        gae(torch.ones(2, 3), torch.ones(2, 3), torch.ones(2, 3), valid=torch.ones(2, 3) > 0, lambda_=1.0)


def test_advantages_run_under_vmap() -> None:
    cases = [case(seed) for seed in range(3)]
    stacked = {k: torch.from_numpy(np.stack([c[k] for c in cases])) for k in cases[0] if k != "last"}

    def one(reward: torch.Tensor, discount: torch.Tensor, values: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        return gae(reward, discount, values, valid=valid, lambda_=0.8).advantage

    found = torch.func.vmap(one)(*(stacked[k] for k in ("reward", "discount", "values", "valid")))
    np.testing.assert_allclose(found.numpy(), np.stack([fast(c, 0.8) for c in cases]), rtol=1e-12)


# -- the loss --------------------------------------------------------------------------------------------------------

KNOBS: dict[str, Any] = {
    "clip_low": 0.2, "clip_high": 0.3, "dual_clip": 2.0, "value_clip": 0.4, "baseline_cost": 0.7, "entropy_cost": 0.05,
}  # fmt: skip
PLAIN = KNOBS | {"dual_clip": None, "value_clip": None}


def minibatch(seed: int = 0, n: int = 12, masked: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Part]:
    """Logits, values, actions and the rest; the last ``masked`` of ``n`` are no transitions."""
    rng = np.random.default_rng(seed)
    draw = {name: torch.from_numpy(rng.normal(size=n)) for name in Part._fields}
    log_old = torch.from_numpy(np.log(rng.uniform(0.1, 0.9, n)))
    part = Part(**draw | {"log_old": log_old, "log_below": log_old, "weight": draw["weight"].abs(),
                          "mask": torch.arange(n) < n - masked})  # fmt: skip
    logits = torch.from_numpy(rng.normal(size=(n, 3))).requires_grad_()
    values = torch.from_numpy(rng.normal(size=n)).requires_grad_()
    return logits, values, torch.from_numpy(rng.integers(0, 3, n)), part


def loss_of(logits: torch.Tensor, values: torch.Tensor, action: torch.Tensor, part: Part, knobs: Any) -> PPOLoss:
    log_pi_all, log_pi = log_probabilities(logits, action, part.mask)
    return ppo_batch_loss(log_pi_all, log_pi, values, part, **knobs)


def slow_rows(action: torch.Tensor, part: Part) -> list[dict[str, float]]:
    names = ("log_below", "weight", "advantage", "target", "value_old")
    return [{"action": float(action[i])} | {k: float(getattr(part, k)[i]) for k in names} for i in range(len(action))]


@pytest.mark.parametrize("knobs", [KNOBS, PLAIN], ids=["all", "plain"])
def test_loss_and_gradient_are_those_of_the_slow_definition(knobs: dict[str, Any]) -> None:
    for seed in range(3):
        logits, values, action, part = minibatch(seed)
        loss = loss_of(logits, values, action, part, knobs).loss
        got = torch.autograd.grad(loss, (logits, values))
        slow = slow_ppo_loss(list(logits), list(values), slow_rows(action, part), **knobs, log=torch.log)
        assert loss.item() == pytest.approx(slow.item(), rel=1e-10)
        for a, b in zip(got, torch.autograd.grad(slow, (logits, values)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("change", [{"clip_low": 0.3}, {"clip_high": 0.2}, {"dual_clip": None}, {"value_clip": None},
                                    {"baseline_cost": 0.5}, {"entropy_cost": 0.0}])  # fmt: skip
def test_every_knob_of_the_loss_counts(change: dict[str, Any]) -> None:
    of = minibatch(n=60)
    assert loss_of(*of, KNOBS).loss.item() != pytest.approx(loss_of(*of, KNOBS | change).loss.item(), rel=1e-6)


def test_what_is_masked_changes_nothing_and_is_not_counted() -> None:
    logits, values, action, part = minibatch(n=12, masked=4)
    dirty = Part(*(x if x.dtype == torch.bool else torch.where(part.mask, x, math.nan) for x in part))
    spoiled = torch.where(part.mask[:, None], logits, math.nan).detach().requires_grad_()
    clean = loss_of(logits[:8], values[:8], action[:8], Part(*(x[:8] for x in part)), KNOBS)
    found = loss_of(spoiled, torch.where(part.mask, values, math.nan), action, dirty, KNOBS)
    for a, b in zip(clean, found, strict=True):
        assert a.item() == pytest.approx(b.item(), rel=1e-12)
    assert torch.isfinite(torch.autograd.grad(found.loss, spoiled)[0]).all()
    advantage = normalised(dirty.advantage, part.mask)
    np.testing.assert_allclose(advantage[:8].mean(), 0, atol=1e-12)
    assert float(advantage[:8].std()) == pytest.approx(1, rel=1e-6)
    assert advantage[8:].tolist() == [0.0] * 4


def test_weights_of_zero_stay_in_the_denominator() -> None:
    logits, values, action, part = minibatch()
    half = part._replace(weight=torch.where(torch.arange(12) < 6, part.weight, 0.0))
    knobs = PLAIN | {"baseline_cost": 0.0, "entropy_cost": 0.0}
    first = loss_of(logits[:6], values[:6], action[:6], Part(*(x[:6] for x in part)), knobs)
    assert loss_of(logits, values, action, half, knobs).loss.item() == pytest.approx(0.5 * first.loss.item())


def test_the_loss_runs_under_vmap() -> None:
    parts = [minibatch(seed, masked=2) for seed in range(3)]
    stacked = [torch.stack([p[i].detach() for p in parts]) for i in range(3)]
    part = Part(*(torch.stack(x) for x in zip(*(p[3] for p in parts), strict=True)))

    def one(logits: torch.Tensor, values: torch.Tensor, action: torch.Tensor, part: Part) -> torch.Tensor:
        part = part._replace(advantage=normalised(part.advantage, part.mask))
        return loss_of(logits, values, action, part, KNOBS).loss

    found = torch.func.vmap(one)(*stacked, part)
    np.testing.assert_allclose(found, [one(*p).item() for p in parts], rtol=1e-12)
