"""Losses with an importance weight beside them: the weight's place, denominators, masks, clips, and advantages."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from frugalrl.importance import correct
from frugalrl.math.surrogate import (
    group_advantages,
    leave_one_out_advantages,
    mean_loss,
    ppo_loss,
    reinforce_loss,
)  # fmt: skip


def batch(seed: int = 0) -> dict[str, Tensor]:
    """[4, 5]; pi has moved away from old, and mu is another policy still."""
    g = torch.Generator().manual_seed(seed)
    old = -torch.rand(4, 5, generator=g, dtype=torch.float64) * 2 - 0.5
    mask = torch.rand(4, 5, generator=g) < 0.7
    mask[:, 0] = True
    return {
        "log_pi": (old + 0.4 * torch.randn(4, 5, generator=g, dtype=torch.float64)).requires_grad_(),
        "old": old,
        "log_mu": old + 0.4 * torch.randn(4, 5, generator=g, dtype=torch.float64) - 0.4,
        "advantage": torch.randn(4, 5, generator=g, dtype=torch.float64),
        "mask": mask,
    }


def slow_ppo(
    log_pi: float, old: float, a: float, weight: float, dual: float | None = None, *, inside: bool = False
) -> float:
    """One token; ``inside``: the weight is multiplied into the ratio, which is wrong."""
    ratio = math.exp(log_pi - old) * (weight if inside else 1.0)
    gain = min(ratio * a, min(max(ratio, 0.8), 1.3) * a)
    if dual is not None and a < 0:
        gain = max(gain, dual * a)
    return -gain * (1.0 if inside else weight)


@pytest.mark.parametrize("dual", [None, 1.5])
def test_the_weight_stands_outside_of_the_min_after_the_dual_clip(dual: float | None) -> None:
    b = batch()
    weight = correct(b["old"], b["log_mu"], b["mask"], high=2.0).weight
    found = ppo_loss(b["log_pi"], b["old"], b["advantage"], weight, b["mask"], clip_high=0.3, dual_clip=dual)
    rows = list(
        zip(*(b[k].flatten().tolist() for k in ("log_pi", "old", "advantage")), weight.flatten().tolist(), strict=True)
    )
    expected = torch.tensor([slow_ppo(*row, dual) for row in rows], dtype=torch.float64).view(4, 5) * b["mask"]
    torch.testing.assert_close(found.loss, expected)
    assert found.clipped.any()
    wrong = (
        torch.tensor([slow_ppo(*row, dual, inside=True) for row in rows], dtype=torch.float64).view(4, 5) * b["mask"]
    )
    assert not torch.allclose(found.loss, wrong)
    assert not found.ratio.requires_grad
    assert (found.ratio[~b["mask"]] == 1).all()


def test_clipped_tokens_have_no_gradient_and_the_others_that_of_the_ratio() -> None:
    b = batch()
    found = ppo_loss(b["log_pi"], b["old"], b["advantage"], torch.ones(4, 5), b["mask"], dual_clip=1.2)
    (gradient,) = torch.autograd.grad(found.loss.sum(), b["log_pi"])
    free = b["mask"] & ~found.clipped
    assert not gradient[~free].any()
    torch.testing.assert_close(gradient[free], (-found.ratio * b["advantage"])[free])


def test_the_same_policy_gives_the_uncorrected_loss_and_gradient_bit_for_bit() -> None:
    b = batch()
    weight = correct(b["old"], b["old"].clone(), b["mask"], high=2.0).weight
    for how in ("token", "sequence", "constant"):
        for make in (
            lambda w: ppo_loss(b["log_pi"], b["old"], b["advantage"], w, b["mask"]).loss,
            lambda w: reinforce_loss(b["log_pi"], b["advantage"], w, b["mask"]),
        ):
            losses = [mean_loss(make(w), b["mask"], how, constant=5.0) for w in (weight, torch.ones_like(weight))]  # type: ignore[arg-type]
            assert torch.equal(*losses)
            assert torch.equal(*(torch.autograd.grad(x, b["log_pi"])[0] for x in losses))


@pytest.mark.parametrize("garbage", [math.nan, math.inf, -math.inf, 0.0])
def test_garbage_outside_of_the_mask_reaches_neither_loss_nor_gradient(garbage: float) -> None:
    b = batch()
    weight = correct(b["old"], b["log_mu"], b["mask"], high=2.0).weight

    def run(dirty: bool) -> list[Tensor]:
        x = {
            k: torch.where(b["mask"], v.detach(), garbage) if dirty else v.detach() for k, v in b.items() if k != "mask"
        }
        w = torch.where(b["mask"], weight, garbage) if dirty else weight
        log_pi = x["log_pi"].requires_grad_()
        losses = (
            ppo_loss(log_pi, x["old"], x["advantage"], w, b["mask"], dual_clip=2.0).loss,
            reinforce_loss(log_pi, x["advantage"], w, b["mask"]),
        )
        return [
            y
            for loss in losses
            for y in (loss, *torch.autograd.grad(mean_loss(loss, b["mask"]), log_pi, retain_graph=True))
        ]

    assert all(torch.equal(a, c) for a, c in zip(run(True), run(False), strict=True))


def test_denominators_count_the_mask_and_not_what_is_kept() -> None:
    b = batch()
    kept = correct(b["old"], b["log_mu"], b["mask"], mode="mask", low=0.9, high=1.6)
    assert 0 < kept.keep.sum() < b["mask"].sum()
    loss = reinforce_loss(b["log_pi"].detach(), b["advantage"], kept.weight, b["mask"])
    total = float(loss.sum())
    assert mean_loss(loss, b["mask"]).item() == pytest.approx(total / int(b["mask"].sum()))
    assert mean_loss(loss, b["mask"]).item() != pytest.approx(total / int(kept.keep.sum()))
    by_row = sum(float(loss[i].sum()) / int(b["mask"][i].sum()) for i in range(4)) / 4
    assert mean_loss(loss, b["mask"], "sequence").item() == pytest.approx(by_row)
    assert mean_loss(loss, b["mask"], "constant", constant=5).item() == pytest.approx(total / 20)
    with pytest.raises(ValueError, match="number of tokens"):
        mean_loss(loss, b["mask"], "constant")
    assert mean_loss(loss * 0, b["mask"] & False).item() == 0.0


def test_micro_batches_add_up() -> None:
    """Numerators of parts, over the denominator of the whole, are the whole; order of sequences does not matter."""
    b = batch()
    weight = correct(b["old"], b["log_mu"], b["mask"], high=2.0).weight
    loss = ppo_loss(b["log_pi"], b["old"], b["advantage"], weight, b["mask"]).loss
    order = torch.tensor([2, 0, 3, 1])
    parts = [
        ppo_loss(b["log_pi"][i], b["old"][i], b["advantage"][i],
                 correct(b["old"][i], b["log_mu"][i], b["mask"][i], high=2.0).weight, b["mask"][i]).loss.sum()
        for i in order.split(2)
    ]  # fmt: skip
    torch.testing.assert_close(sum(parts[1:], parts[0]) / b["mask"].sum(), mean_loss(loss, b["mask"]))


def test_losses_run_stacked() -> None:
    cases = [batch(seed) for seed in (0, 1)]
    stacked = {k: torch.stack([c[k].detach() for c in cases]) for k in cases[0]}

    def one(log_pi: Tensor, old: Tensor, advantage: Tensor, mask: Tensor) -> Tensor:
        return (
            ppo_loss(log_pi, old, advantage, torch.ones_like(old), mask, dual_clip=2.0).loss.sum()
            + reinforce_loss(log_pi, advantage, torch.ones_like(old), mask).sum()
        )

    names = ("log_pi", "old", "advantage", "mask")
    found = torch.func.vmap(torch.func.grad(one))(*(stacked[k] for k in names))
    for i, c in enumerate(cases):
        torch.testing.assert_close(found[i], torch.func.grad(one)(*(c[k].detach() for k in names)))


def test_group_advantages() -> None:
    reward = torch.tensor([[1.0, 0.0, 0.0, 1.0], [2.0, 2.0, 2.0, 2.0]])
    found = group_advantages(reward)
    assert found[0].tolist() == pytest.approx([0.5 / (math.sqrt(1 / 3) + 1e-4) * s for s in (1, -1, -1, 1)])
    assert not found[1].any(), "equal rewards tell nothing"
    assert group_advantages(reward, scaled=False)[0].tolist() == [0.5, -0.5, -0.5, 0.5]


@pytest.mark.parametrize("reward", [0.0, 100.3, 1000.7, 1e6 + 0.1])
def test_a_group_of_equal_rewards_has_no_advantage(reward: float) -> None:
    """The rounding of their mean over eps would be one: up to 0.9 for seven rewards of a million."""
    grouped = torch.full((2, 7), reward)
    grouped[1, 0] += 1.0
    found = group_advantages(grouped)
    assert found[0].tolist() == [0.0] * 7
    assert found[1, 0] > 1.0


def test_groups_of_one_are_refused() -> None:
    with pytest.raises(ValueError, match="groups of 1: a mean of the group needs at least 2"):
        group_advantages(torch.ones(4, 1))


def test_leave_one_out_advantages_are_the_reward_minus_the_mean_of_the_others() -> None:
    reward = torch.tensor([[1.0, 4.0, 7.0]])
    assert leave_one_out_advantages(reward).tolist() == [[1.0 - 5.5, 4.0 - 4.0, 7.0 - 2.5]]
    with pytest.raises(ValueError, match="groups of 1"):
        leave_one_out_advantages(reward[:, :1])


def test_leave_one_out_is_unbiased_and_the_group_mean_is_not() -> None:
    """All pairs of samples of a bandit with three arms: the baseline must not hold the sample's own reward."""
    theta, reward = (
        torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64),
        torch.tensor([1.0, -1.0, 2.0], dtype=torch.float64),
    )
    pi = theta.softmax(0)
    truth = pi * (reward - pi @ reward)
    score = torch.eye(3, dtype=torch.float64) - pi
    loo, mean = torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for pair in itertools.product(range(3), repeat=2):
        both = torch.tensor(pair)
        p = pi[both].prod()
        loo += p * (leave_one_out_advantages(reward[both])[:, None] * score[both]).mean(0)
        mean += p * (group_advantages(reward[both], scaled=False)[:, None] * score[both]).mean(0)
    torch.testing.assert_close(loo, truth)
    torch.testing.assert_close(mean, truth / 2)  # (n - 1) / n of it
