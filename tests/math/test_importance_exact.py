"""Expected gradients by enumeration: every action of a bandit, every sequence of a token tree; no sampling noise."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from frugalrl.importance import Correction, apply, correct
from frugalrl.math.surrogate import ppo_loss, reinforce_loss
from frugalrl.math.vtrace import vtrace
from oracles.importance import Bandit, Estimate, Tree, expectation, finite_differences, log_softmax

FIXTURE = json.loads((Path(__file__).parent.parent / "fixtures" / "vtrace.json").read_text())
SIGMAS = (0.1, 0.5, 1.0, 2.0)


def bandit_estimate(bandit: Bandit, name: str) -> Estimate:
    found = apply(Correction.parse(name), bandit.log_pi[:, None], bandit.log_mu[:, None])
    return bandit.estimate(found.weight[:, 0])


def tree_estimate(tree: Tree, name: str) -> Estimate:
    return tree.estimate(apply(Correction.parse(name), tree.log_pi, tree.log_mu).weight)


# -- bandits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", SIGMAS)
def test_the_expected_ratio_is_1(sigma: float) -> None:
    bandit, tree = Bandit.draw(0, sigma), Tree.draw(0, sigma)
    ratio = correct(bandit.log_pi[:, None], bandit.log_mu[:, None], high=1.0).ratio[:, 0]
    assert np.exp(bandit.log_mu) @ ratio == pytest.approx(1.0)
    p = np.exp(tree.log_mu.sum(1))
    for level in ("token", "sequence"):
        ratio = correct(tree.log_pi, tree.log_mu, level=level, high=1.0).ratio  # type: ignore[arg-type]
        np.testing.assert_allclose(p @ ratio, 1.0)  # at each position
    geometric = correct(tree.log_pi, tree.log_mu, level="geometric", high=1.0).ratio
    assert not np.allclose(p @ geometric, 1.0, rtol=1e-3), "a geometric mean is no importance ratio"


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize(
    ("name", "acts"),
    [
        ("none", lambda pi, mu: mu),
        ("vanilla", lambda pi, mu: pi),
        ("token-tis:2", lambda pi, mu: np.minimum(pi, 2 * mu)),
        ("token-mask:0.5,2", lambda pi, mu: np.where((pi >= mu / 2) & (pi <= 2 * mu), pi, 0)),
        ("token-clamp:0.5,2", lambda pi, mu: np.clip(pi, mu / 2, 2 * mu)),
        ("vanilla+k1-token:0.5,2", lambda pi, mu: np.where((pi >= mu / 2) & (pi <= 2 * mu), pi, 0)),
        ("vanilla+k2-token:0.1", lambda pi, mu: np.where(np.abs(np.log(pi / mu)) <= math.sqrt(0.2), pi, 0)),
    ],
)
def test_the_expected_gradient_is_that_of_the_measure_left_by_the_mode(name: str, acts: object, sigma: float) -> None:
    """sum over a of measure(a) (R_a - b) grad log pi(a), with the measure that the weight makes of mu."""
    bandit = Bandit.draw(3, sigma)
    pi, mu = np.exp(bandit.log_pi), np.exp(bandit.log_mu)
    pull = acts(pi, mu) * (bandit.reward - pi @ bandit.reward)  # type: ignore[operator]
    np.testing.assert_allclose(bandit_estimate(bandit, name).mean, pull - pi * pull.sum(), atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("sigma", SIGMAS)
def test_bias_falls_and_variance_rises_with_the_cap(seed: int, sigma: float) -> None:
    bandit = Bandit.draw(seed, sigma)
    truth = bandit.true_gradient()
    caps = ("1", "1.5", "2", "4", "8", "1e6")
    estimates = [bandit_estimate(bandit, f"token-tis:{c}") for c in caps]
    # the second moment can only grow with the cap; the square of the mean is a small part of it
    second = [e.variance + float(e.mean @ e.mean) for e in estimates]
    assert all(a <= b + 1e-12 for a, b in itertools.pairwise(second))
    found = [e.against(truth) for e in estimates]
    assert found[-1][0] < 1e-12
    assert found[-1][2] == pytest.approx(1.0)
    vanilla = bandit_estimate(bandit, "vanilla").against(truth)
    assert vanilla == pytest.approx(found[-1], abs=1e-12)
    largest = float(np.exp(bandit.log_pi - bandit.log_mu).max())
    enough = bandit_estimate(bandit, f"token-tis:{largest * 1.001!r}")
    assert np.array_equal(enough.mean, bandit_estimate(bandit, "vanilla").mean)


def test_what_a_study_of_bandits_reported_holds_in_kind() -> None:
    """16 arms, sigma 0.5 and 1, over 20 draws: truncation beats masking and nothing, and costs less than no cap."""
    for sigma in (0.5, 1.0):
        rows = {
            name: np.mean([
                bandit_estimate(b, name).against(b.true_gradient()) for b in (Bandit.draw(s, sigma) for s in range(20))
            ], 0)
            for name in ("none", "token-tis:1", "token-tis:2", "token-tis:8", "vanilla", "token-mask:0.5,5")
        }  # fmt: skip
        bias, variance, cosine = ({k: v[i] for k, v in rows.items()} for i in range(3))
        assert bias["vanilla"] < 1e-12 <= bias["token-tis:2"] < bias["token-tis:1"] < bias["none"]
        assert bias["token-tis:8"] < 0.05
        assert variance["token-tis:1"] < variance["token-tis:2"] < variance["vanilla"]
        assert cosine["none"] < cosine["token-mask:0.5,5"] < cosine["token-tis:2"] < cosine["vanilla"] + 1e-12


def test_self_normalisation_has_a_bias_of_one_over_n() -> None:
    bandit = Bandit.draw(1, 0.8, arms=2)
    truth, mu = bandit.true_gradient(), np.exp(bandit.log_mu)
    score = np.eye(2) - np.exp(bandit.log_pi)
    pull = (bandit.reward - np.exp(bandit.log_pi) @ bandit.reward)[:, None] * score
    biases = []
    for n in (1, 2, 4, 16, 32):
        values = []
        for k in range(n + 1):  # how many of the n samples are action 1
            actions = np.repeat([0, 1], [n - k, k])[:, None]
            arrays = (bandit.log_pi[actions], bandit.log_mu[actions])
            values.append((correct(*arrays, mode="vanilla", normalize=True).weight * pull[actions[:, 0]]).mean(0))
        mean = expectation([math.comb(n, k) * mu[0] ** (n - k) * mu[1] ** k for k in range(n + 1)], values).mean
        biases.append(float(np.linalg.norm(mean - truth)))
    plain = bandit_estimate(bandit, "none").mean
    assert biases[0] == pytest.approx(float(np.linalg.norm(plain - truth))), "one sample has its own mean: weight 1"
    assert biases == sorted(biases, reverse=True)
    assert biases[4] / biases[3] == pytest.approx(0.5, abs=0.05)


# -- token trees -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", SIGMAS)
def test_only_the_product_over_a_sequence_is_unbiased(sigma: float) -> None:
    tree = Tree.draw(2, sigma)
    truth = tree.true_gradient()
    names = ("none", "vanilla", "sequence-vanilla", "sequence-tis:2")
    found = {n: tree_estimate(tree, n).against(truth) for n in names}
    assert found["sequence-vanilla"][0] < 1e-12
    assert found["vanilla"][0] > 1e-3, "a token's ratio leaves out how likely its prefix is"
    assert found["vanilla"][0] < found["none"][0]
    assert found["sequence-tis:2"][1] < found["sequence-vanilla"][1] or sigma == 0.1, "there no ratio reaches 2"
    # wrong: the geometric mean in the place of the product
    geometric = apply(Correction(level="geometric", mode="vanilla"), tree.log_pi, tree.log_mu).weight
    assert tree.estimate(geometric).against(truth)[0] > 1e-3


def test_the_true_gradient_of_a_tree_is_that_of_its_value() -> None:
    tree = Tree.draw(4, 0.0, length=3)

    def value(theta: np.ndarray) -> float:
        return float(np.exp(tree.log_probs(theta).sum(1)) @ tree.reward)

    np.testing.assert_allclose(tree.true_gradient(), finite_differences(value, tree.theta).ravel(), atol=1e-8)


def test_the_bias_of_a_truncated_product_is_bounded() -> None:
    """The bound of 2 K (1 + chi2) / C with K the largest norm of an unweighted estimate (Liu and Li 2025)."""
    for sigma, cap in itertools.product((0.5, 1.0, 2.0), (1.0, 2.0, 5.0)):
        tree = Tree.draw(5, sigma)
        p, q = np.exp(tree.log_pi.sum(1)), np.exp(tree.log_mu.sum(1))
        chi2 = float((p * p / q).sum()) - 1.0
        largest = tree.estimate(np.ones_like(tree.log_pi)).largest
        bias = float(np.linalg.norm(tree_estimate(tree, f"sequence-tis:{cap}").mean - tree.true_gradient()))
        assert bias <= 2.0 * largest * (1.0 + chi2) / cap


# -- losses ------------------------------------------------------------------------------------------------------------


def tree_gradient(tree: Tree, name: str, *, leak: bool = False, ppo: bool = False, shrink: bool = False) -> np.ndarray:
    """Expected gradient of our losses by autograd, over all sequences with their probabilities under mu.

    ``leak``: the weight keeps its graph. ``shrink``: the mean is over what the correction has kept."""
    theta = torch.tensor(tree.theta, requires_grad=True)
    nodes = torch.tensor([tree.nodes(s) for s in tree.sequences()])
    tokens = torch.tensor(tree.sequences())
    log_pi = theta.log_softmax(-1)[nodes, tokens]
    log_mu, q = torch.from_numpy(tree.log_mu), torch.from_numpy(np.exp(tree.log_mu.sum(1)))
    correction = Correction.parse(name)
    found = apply(correction, log_pi.detach(), log_mu)
    mask = torch.ones_like(log_mu, dtype=torch.bool)
    baseline = float(np.exp(tree.log_pi.sum(1)) @ tree.reward)
    advantage = torch.from_numpy(tree.reward - baseline)[:, None].expand_as(log_mu)
    if leak:
        ratio = (log_pi - log_mu).exp()
        loss = -ratio.clamp(max=correction.high) * advantage * log_pi
    elif ppo:
        below = log_mu if correction.denominator == "mu" else log_pi.detach()
        loss = ppo_loss(log_pi, below, advantage, found.weight, mask).loss
    else:
        loss = reinforce_loss(log_pi, advantage, found.weight, mask)
    scale = mask.sum() / found.keep.sum() if shrink else 1.0
    (gradient,) = torch.autograd.grad(((q[:, None] * loss).sum() * scale), theta)
    return -gradient.numpy().ravel()


@pytest.mark.parametrize("name", ["none", "vanilla", "token-tis:2", "sequence-tis:2", "sequence-mask:0.5,2"])
def test_losses_have_the_enumerated_gradient(name: str) -> None:
    tree = Tree.draw(6, 1.0, length=3)
    exact = tree_estimate(tree, name).mean
    np.testing.assert_allclose(tree_gradient(tree, name), exact, atol=1e-12)
    # before its first step PPO's ratio is 1, and the gradient is that of REINFORCE
    np.testing.assert_allclose(tree_gradient(tree, name, ppo=True), exact, atol=1e-12)


def test_wrong_losses_have_another_gradient() -> None:
    tree = Tree.draw(6, 1.0, length=3)
    right = tree_gradient(tree, "token-tis:2")
    assert np.linalg.norm(tree_gradient(tree, "token-tis:2", leak=True) - right) > 0.05 * np.linalg.norm(right)
    masked = tree_gradient(tree, "token-mask:0.5,2")
    shrunk = tree_gradient(tree, "token-mask:0.5,2", shrink=True)
    assert np.linalg.norm(shrunk - masked) > 0.05 * np.linalg.norm(masked)


def test_the_sampler_below_the_line_clips_before_the_first_step() -> None:
    """PPO with mu for old: pi/mu is outside of the trust region at once, and those gradients are gone."""
    bandit = Bandit.draw(7, 1.0)
    pi, mu = np.exp(bandit.log_pi), np.exp(bandit.log_mu)
    advantage = bandit.reward - pi @ bandit.reward
    theta = torch.tensor(bandit.theta, requires_grad=True)
    log_pi, log_mu = theta.log_softmax(-1), torch.from_numpy(bandit.log_mu)
    ones = torch.ones(16)
    found = ppo_loss(log_pi, log_mu, torch.from_numpy(advantage), ones, ones > 0)
    (gradient,) = torch.autograd.grad(-(torch.from_numpy(mu) * found.loss).sum(), theta)
    ratio = pi / mu
    free = np.where(advantage > 0, ratio <= 1.2, ratio >= 0.8)
    np.testing.assert_array_equal(found.clipped.numpy(), ~free)
    pull = mu * ratio * free * advantage
    np.testing.assert_allclose(gradient.numpy(), pull - pi * pull.sum(), atol=1e-7)
    assert np.linalg.norm(gradient.numpy() - bandit.true_gradient()) > 0.2 * np.linalg.norm(bandit.true_gradient())


# -- V-trace -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", FIXTURE["cases"], ids=lambda c: f"rho {c['rho_bar']} pg {c['pg_rho_bar']}")
@pytest.mark.parametrize("library", ["rlax", "torchbeast"])
def test_vtrace_equals_public_implementations(case: dict[str, object], library: str) -> None:
    x = {k: torch.tensor(v, dtype=torch.float64) for k, v in FIXTURE["inputs"].items()}
    bars = {"rho_bar": case["rho_bar"], "pg_rho_bar": case["pg_rho_bar"], "c_bar": 1.0}
    found = vtrace(**x, valid=torch.ones_like(x["reward"], dtype=torch.bool), **bars)  # type: ignore[arg-type]
    for ours, name in ((found.vs, "vs"), (found.advantage, "advantage")):
        np.testing.assert_allclose(ours.numpy(), case[library][name], rtol=1e-10, atol=1e-12)  # type: ignore[index]
    other = vtrace(**x, valid=torch.ones_like(x["reward"], dtype=torch.bool), **(bars | {"c_bar": 0.8}))  # type: ignore[arg-type]
    assert not np.allclose(other.vs.numpy(), case[library]["vs"])  # type: ignore[index]


def test_vtrace_caps_are_token_tis() -> None:
    """min(rho_bar, pi/mu) of V-trace is the weight of token-tis with high = rho_bar, on the advantage over one step."""
    x = {k: torch.tensor(v, dtype=torch.float64) for k, v in FIXTURE["inputs"].items()}
    valid = torch.rand(x["reward"].shape, generator=torch.Generator().manual_seed(0)) < 0.8
    for bar in (0.7, 1.0, 2.0):
        weight = correct(x["log_pi"], x["log_mu"], valid, high=bar, axis=0).weight
        found = vtrace(**x, valid=valid, rho_bar=2.0, pg_rho_bar=bar)
        after = torch.cat((found.vs[1:], x["values"][-1:]))
        plain = x["reward"] + x["discount"] * after - x["values"][:-1]
        np.testing.assert_allclose(
            found.advantage.numpy(), (weight * torch.where(valid, plain, 0.0)).numpy(), rtol=1e-12
        )
        one_step = vtrace(**x, valid=valid, rho_bar=bar, c_bar=0.0)
        delta = weight * (x["reward"] + x["discount"] * x["values"][1:] - x["values"][:-1])
        np.testing.assert_allclose(
            (one_step.vs - x["values"][:-1]).numpy(), torch.where(valid, delta, 0.0).numpy(), atol=1e-12
        )


def test_rho_bar_moves_the_policy_that_is_valued() -> None:
    """The mean truncated temporal difference is 0 at the value of pi_rho, proportional to min(rho_bar mu, pi)."""
    rng = np.random.default_rng(0)
    log_pi, log_mu, reward = log_softmax(rng.normal(size=6)), log_softmax(rng.normal(size=6)), rng.normal(size=6)
    for bar in (0.5, 1.0, 3.0, 1e6):
        weight = correct(log_pi[:, None], log_mu[:, None], high=bar).weight[:, 0]
        measure = np.minimum(bar * np.exp(log_mu), np.exp(log_pi))
        value = float(measure @ reward / measure.sum())
        assert np.exp(log_mu) @ (weight * (reward - value)) == pytest.approx(0.0, abs=1e-12)
    assert value == pytest.approx(float(np.exp(log_pi) @ reward))
