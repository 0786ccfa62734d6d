"""The function for slime, on tensors of the shapes that slime passes."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from frugalrl.integrations.slime import tis_function
from frugalrl.types import RunFailed, UserError

ARGS = SimpleNamespace(use_tis=True, tis_clip=2.0, tis_clip_low=0.0)
LENGTHS = [3, 1, 5]


def batch(seed: int = 0) -> dict[str, Any]:
    g = torch.Generator().manual_seed(seed)
    rollout = [-torch.rand(n, generator=g) * 3 for n in LENGTHS]
    train = [(x + torch.randn(x.shape, generator=g)).clamp(max=0) for x in rollout]
    masks = [torch.ones(n, dtype=torch.int) for n in LENGTHS]
    masks[2][1:3] = 0  # a tool's tokens
    return {
        "args": ARGS, "pg_loss": torch.randn(sum(LENGTHS), generator=g).requires_grad_(), "train_log_probs": train,
        "rollout_log_probs": rollout, "loss_masks": masks, "total_lengths": [n + 4 for n in LENGTHS],
        "response_lengths": LENGTHS,
    }  # fmt: skip


def by_hand(given: dict[str, Any], kind: str) -> list[float]:
    weights = []
    for train, rollout, mask in zip(
        given["train_log_probs"], given["rollout_log_probs"], given["loss_masks"], strict=True
    ):
        gaps = [float(a - b) for a, b, m in zip(train, rollout, mask, strict=True) if m]
        rest = iter(gaps)
        for m in mask:
            own = next(rest) if m else 0.0
            ratio = math.exp({"token": own, "sequence": sum(gaps), "geometric": sum(gaps) / len(gaps)}[kind])
            weights.append(min(ratio, 2.0) if m else 0.0)
    return weights


@pytest.mark.parametrize("kind", ["token", "sequence", "geometric"])
def test_the_loss_of_each_token_gets_its_weight(kind: str) -> None:
    given = batch()
    loss, masks, metrics = tis_function(f"{kind}-tis:2")(**given)
    expected = torch.tensor(by_hand(given, kind))
    assert torch.allclose(loss, given["pg_loss"] * expected, atol=1e-5)
    others = {k for k in ("token", "sequence", "geometric") if k != kind}
    assert not any(torch.allclose(expected, torch.tensor(by_hand(given, k)), atol=1e-3) for k in others)
    assert all(a is b for a, b in zip(masks, given["loss_masks"], strict=True)), "denominators stay"
    assert all(x.shape == loss.shape and not x.requires_grad for x in metrics.values())
    loss.sum().backward()
    assert torch.allclose(given["pg_loss"].grad, expected, atol=1e-5), "no gradient through the weight"


def test_it_equals_slimes_own_function_where_that_has_the_mode() -> None:
    given = batch()
    loss, _, metrics = tis_function("token-tis:2")(**given)
    ratio = torch.exp(torch.cat(given["train_log_probs"]) - torch.cat(given["rollout_log_probs"]))
    counts = torch.cat(given["loss_masks"]).bool()
    theirs = given["pg_loss"] * torch.clamp(ratio, min=ARGS.tis_clip_low, max=ARGS.tis_clip)
    assert torch.allclose(loss[counts], theirs[counts], rtol=1e-5)
    assert torch.allclose(metrics["tis"][counts], ratio[counts], rtol=1e-5)
    assert torch.equal(metrics["tis_clipfrac"][counts], (ratio > 2).float()[counts])


@pytest.mark.parametrize(
    ("correction", "share"),
    [
        ("none", 0), ("vanilla", 0), ("vanilla+normalize", 0), ("token-tis:1000+normalize", 0),
        ("none+k3-mean:1000", 0), ("none+k1-token:1,1", 1), ("sequence-tis:0.001", 1), ("token-clamp:1000,", 1),
        ("token-mask:1000,2000", 1),
    ],
)  # fmt: skip
def test_only_what_was_clipped_or_rejected_counts_as_that(correction: str, share: float) -> None:
    given = batch()
    *_, metrics = tis_function(correction)(**given)
    assert torch.equal(metrics["tis_clipfrac"], share * torch.cat(given["loss_masks"]).float())


def test_what_is_masked_may_be_anything() -> None:
    given = batch()
    clean, *_ = tis_function("sequence-mask:0.01,100")(**given)
    given["rollout_log_probs"][2][1:3] = torch.tensor([float("nan"), -float("inf")])
    dirty, *_ = tis_function("sequence-mask:0.01,100")(**given)
    assert torch.equal(clean, dirty)
    given["loss_masks"] = [torch.zeros_like(m) for m in given["loss_masks"]]
    untouched, _, metrics = tis_function("token-tis:2")(**given)
    assert untouched is given["pg_loss"]
    assert metrics == {}


def test_what_does_not_fit_is_said() -> None:
    given = batch()
    given["train_log_probs"][0] = given["train_log_probs"][0][:2]
    with pytest.raises(RunFailed, match=r"the learner has \[2, 1, 5\], the sampler \[3, 1, 5\].*context-parallel-size"):
        tis_function("token-tis:2")(**given)
    given = batch()
    given["rollout_log_probs"][0][0] = 0.5
    with pytest.raises(RunFailed, match=r"token-tis:2 cannot be applied.*log_mu has 1 values above 0"):
        tis_function("token-tis:2")(**given)
    with pytest.raises(UserError, match="did you mean 'token-tis'"):
        tis_function("tokentis:2")
    with pytest.raises(UserError, match="--use-rollout-logprobs"):
        tis_function("ppo-denominator")
