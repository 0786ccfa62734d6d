"""V-trace and the actor-critic loss against slow definitions, identities, gradients, and garbage in masked rows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from frugalrl.math.policy_gradient import actor_critic_loss, log_probabilities
from frugalrl.math.vtrace import vtrace
from oracles.vtrace import WRONG, slow_loss, slow_vtrace

BARS = {"rho_bar": 1.3, "c_bar": 1.1, "pg_rho_bar": 0.8, "lambda_": 0.9}


def case(seed: int = 0, steps: int = 7, rows: int = 3, ends: float = 0.25) -> dict[str, np.ndarray]:
    """Random unrolls; after each ``last`` comes a row that is not valid, half of the ends are time limits."""
    rng = np.random.default_rng(seed)
    shape = (steps, rows)
    valid, discount = np.ones(shape, np.bool_), np.full(shape, 0.9)
    for t in range(steps):
        last = valid[t] & (rng.random(rows) < ends)
        discount[t, last & (rng.random(rows) < 0.5)] = 0.0
        if t + 1 < steps:
            valid[t + 1, last] = False
    return {
        "log_pi": np.log(rng.uniform(0.05, 0.95, shape)),
        "log_mu": np.log(rng.uniform(0.05, 0.95, shape)),
        "reward": rng.normal(size=shape),
        "discount": discount,
        "values": rng.normal(size=(steps + 1, rows)),
        "valid": valid,
    }


def fast(of: dict[str, np.ndarray], **knobs: Any) -> tuple[np.ndarray, np.ndarray]:
    found = vtrace(**{k: torch.from_numpy(v) for k, v in of.items()}, **knobs)
    return found.vs.numpy(), found.advantage.numpy()


def close(a: tuple[np.ndarray, ...], b: tuple[np.ndarray, ...]) -> bool:
    return all(np.allclose(x, y, rtol=1e-10, atol=1e-12) for x, y in zip(a, b, strict=True))


@given(
    seed=st.integers(0, 1000),
    steps=st.integers(1, 6),
    rows=st.integers(1, 3),
    ends=st.sampled_from([0.0, 0.3, 1.0]),
    bars=st.tuples(*[st.sampled_from([None, 0.5, 1.0, 3.0])] * 3),
    lambda_=st.sampled_from([0.0, 0.95, 1.0]),
)
@settings(deadline=None, max_examples=40)
def test_equals_the_sum_of_the_paper(
    seed: int, steps: int, rows: int, ends: float, bars: tuple[float | None, ...], lambda_: float
) -> None:
    of = case(seed, steps, rows, ends)
    names = ("rho_bar", "c_bar", "pg_rho_bar")
    knobs = dict(zip(names, bars, strict=True))
    slow = slow_vtrace(**of, **{k: math.inf if v is None else v for k, v in knobs.items()}, lambda_=lambda_)
    assert close(fast(of, **knobs, lambda_=lambda_), slow)


@pytest.mark.parametrize("wrong", WRONG)
def test_the_comparison_is_not_blind(wrong: str) -> None:
    of = case()
    assert not close(fast(of, **BARS), slow_vtrace(**of, **BARS, wrong=wrong))
    assert close(fast(of, **BARS), slow_vtrace(**of, **BARS))


def test_on_policy_with_lambda_1_the_targets_are_n_step_returns() -> None:
    of = case(ends=0.3) | {}
    of["log_mu"] = of["log_pi"]
    vs, advantage = fast(of)
    steps, rows = of["reward"].shape
    for b in range(rows):
        for s in range(steps):
            if not of["valid"][s, b]:
                continue
            total, factor, t = 0.0, 1.0, s
            while t < steps and of["valid"][t, b]:
                total, factor, t = total + factor * of["reward"][t, b], factor * of["discount"][t, b], t + 1
            expected = total + factor * of["values"][t, b]
            assert vs[s, b] == pytest.approx(expected)
            assert advantage[s, b] == pytest.approx(expected - of["values"][s, b])


def test_nothing_after_an_end_reaches_back() -> None:
    """All that lies behind a game over may change; behind a time limit, all but the value of the final observation."""
    of = case(steps=6, rows=2, ends=0.0)
    of["valid"][3] = False
    of["discount"][2] = [0.0, 0.9]
    changed = {k: v.copy() for k, v in of.items()}
    for name in ("reward", "values", "log_pi", "log_mu"):
        changed[name][4:] += 1.0
    changed["values"][3, 0] += 5.0
    one, two = fast(of, **BARS), fast(changed, **BARS)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a[:3], b[:3])
    changed["values"][3, 1] += 5.0
    assert (fast(changed, **BARS)[0][:3, 1] != one[0][:3, 1]).all()
    np.testing.assert_array_equal(one[0][3], of["values"][3])
    np.testing.assert_array_equal(one[1][3], 0.0)


def test_wrong_shapes_are_named() -> None:
    of = {k: torch.from_numpy(v) for k, v in case().items()}
    with pytest.raises(ValueError, match=r"values \[7, 3\]"):
        vtrace(**(of | {"values": of["values"][:-1]}))
    with pytest.raises(ValueError, match=r"reward \[6, 3\]"):
        vtrace(**(of | {"reward": of["reward"][:-1]}))


# -- the loss --------------------------------------------------------------------------------------------------------

ACTIONS = 3
COSTS = {"baseline_cost": 0.7, "entropy_cost": 0.05}


def table_case(seed: int = 1) -> dict[str, Any]:
    """A policy and a value that are tables, states visited, and what V-trace needs."""
    rng = np.random.default_rng(seed)
    of = case(seed, steps=5, rows=2, ends=0.3)
    steps, rows = of["reward"].shape
    state = rng.integers(0, 4, (steps + 1, rows))
    usable = of["valid"] & (rng.random((steps, rows)) < 0.8)
    assert of["valid"].sum() > usable.sum() > 2
    return {
        "of": of,
        "state": torch.from_numpy(state),
        "action": torch.from_numpy(rng.integers(0, ACTIONS, (steps, rows))),
        "theta": torch.from_numpy(rng.normal(size=(4, ACTIONS))).requires_grad_(),
        "v": torch.from_numpy(rng.normal(size=4)).requires_grad_(),
        "usable": torch.from_numpy(usable),
        "weight": torch.tensor([1.0, 0.4], dtype=torch.float64),
    }


def table_loss(c: dict[str, Any], **changes: Any) -> tuple[Any, np.ndarray, np.ndarray]:
    """As the learner does it: one forward, targets, loss."""
    of = {k: torch.from_numpy(v) for k, v in c["of"].items()}
    logits, values = c["theta"][c["state"]], c["v"][c["state"]]
    log_pi_all, log_pi = log_probabilities(logits[:-1], c["action"], of["valid"])
    found = vtrace(**(of | {"log_pi": log_pi, "values": values}), **BARS)
    loss = actor_critic_loss(
        log_pi_all, log_pi, values[:-1], **({"vs": found.vs, "advantage": found.advantage, "usable": c["usable"],
        "weight": c["weight"]} | COSTS | changes),
    )  # fmt: skip
    return loss, log_pi.detach().numpy(), values.detach().numpy()


def gradients(c: dict[str, Any], loss: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return torch.autograd.grad(loss, (c["theta"], c["v"]))


def test_loss_and_gradient_equal_those_of_the_written_out_loss() -> None:
    """Targets come from numpy, so that no gradient can flow through them."""
    c = table_case()
    loss, log_pi, values = table_loss(c)
    vs, advantage = slow_vtrace(**(c["of"] | {"log_pi": log_pi, "values": values}), **BARS)
    logits, v = c["theta"][c["state"]], c["v"][c["state"]]
    slow = slow_loss(
        logits, v, c["action"].numpy(), vs, advantage, c["usable"].numpy(), c["weight"].numpy(), **COSTS, log=torch.log
    )
    torch.testing.assert_close(loss.loss, slow)
    torch.testing.assert_close(gradients(c, loss.loss), gradients(c, slow))
    parts = loss.policy + COSTS["baseline_cost"] * loss.value - COSTS["entropy_cost"] * loss.entropy
    torch.testing.assert_close(parts, loss.loss.detach())
    # a mean over all rows, usable or not, is another loss
    other = slow.detach() * c["usable"].sum() / c["usable"].numel()
    assert not torch.isclose(loss.loss, other)


def test_the_gradient_equals_finite_differences() -> None:
    c = table_case()
    loss, log_pi, values = table_loss(c)
    vs, advantage = slow_vtrace(**(c["of"] | {"log_pi": log_pi, "values": values}), **BARS)

    def at(theta: np.ndarray, v: np.ndarray) -> float:
        state = c["state"].numpy()
        fixed = (c["action"].numpy(), vs, advantage, c["usable"].numpy(), c["weight"].numpy())
        return float(slow_loss(theta[state], v[state], *fixed, **COSTS, log=math.log))

    theta, v = c["theta"].detach().numpy(), c["v"].detach().numpy()
    for gradient, place in zip(gradients(c, loss.loss), (0, 1), strict=True):
        for i in np.ndindex(*gradient.shape):
            step = [np.zeros_like(theta), np.zeros_like(v)]
            step[place][i] = 1e-6
            up, down = at(theta + step[0], v + step[1]), at(theta - step[0], v - step[1])
            assert float(gradient[i]) == pytest.approx((up - down) / 2e-6, abs=1e-8)


@pytest.mark.parametrize("garbage", [math.nan, math.inf, -math.inf])
def test_garbage_in_rows_that_are_not_valid_reaches_nothing(garbage: float) -> None:
    c = table_case()
    clean = gradients(c, table_loss(c)[0].loss)
    bad = ~c["of"]["valid"]
    assert bad.any()
    for name in ("log_mu", "reward", "discount"):
        c["of"][name][bad] = garbage
    c["action"][torch.from_numpy(bad)] = -(10**9)
    loss = table_loss(c)[0].loss
    assert all(torch.equal(a, b) for a, b in zip(gradients(c, loss), clean, strict=True))


def test_garbage_logits_and_advantages_in_masked_rows_reach_no_gradient() -> None:
    valid = torch.tensor([[True, False]])
    logits = torch.tensor([[[0.1, 0.2], [math.nan, math.inf]]], requires_grad=True)
    values = torch.tensor([[0.5, math.nan]], requires_grad=True)
    log_pi_all, log_pi = log_probabilities(logits, torch.tensor([[1, 0]]), valid)
    garbage = torch.tensor([[1.0, math.nan]])
    loss = actor_critic_loss(
        log_pi_all, log_pi, values, vs=garbage, advantage=garbage, usable=valid, weight=torch.ones(2), **COSTS
    ).loss
    for gradient in torch.autograd.grad(loss, (logits, values)):
        assert gradient[0, 0].abs().sum() > 0
        assert not gradient[0, 1].any()


def test_without_a_usable_row_the_loss_is_zero() -> None:
    c = table_case()
    loss = table_loss(c, usable=torch.zeros_like(c["usable"]))[0].loss
    assert loss.item() == 0.0
    assert not any(g.any() for g in gradients(c, loss))


def test_many_seeds_can_be_stacked() -> None:
    cases = [table_case(seed) for seed in (1, 4, 5)]

    def one(theta: torch.Tensor, v: torch.Tensor, rest: dict[str, torch.Tensor]) -> torch.Tensor:
        logits, values = theta[rest["state"]], v[rest["state"]]
        log_pi_all, log_pi = log_probabilities(logits[:-1], rest["action"], rest["valid"])
        names = ("log_mu", "reward", "discount", "valid")
        found = vtrace(log_pi, values=values.detach(), **{k: rest[k] for k in names}, **BARS)
        return actor_critic_loss(
            log_pi_all, log_pi, values[:-1], vs=found.vs, advantage=found.advantage, usable=rest["usable"],
            weight=rest["weight"], **COSTS,
        ).loss  # fmt: skip

    def rest_of(c: dict[str, Any]) -> dict[str, torch.Tensor]:
        return {k: torch.from_numpy(v) for k, v in c["of"].items()} | {
            k: c[k] for k in ("state", "action", "usable", "weight")
        }

    rests = [rest_of(c) for c in cases]
    stacked = {k: torch.stack([r[k] for r in rests]) for k in rests[0]}
    theta, v = (torch.stack([c[name].detach() for c in cases]) for name in ("theta", "v"))
    found = torch.func.vmap(torch.func.grad(one, argnums=(0, 1)))(theta, v, stacked)
    for i, (c, rest) in enumerate(zip(cases, rests, strict=True)):
        alone = torch.func.grad(one, argnums=(0, 1))(c["theta"].detach(), c["v"].detach(), rest)
        for a, b in zip(alone, found, strict=True):
            torch.testing.assert_close(a, b[i])
