"""The Q-learning loss against its slow definition, at the gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.func import grad, vmap
from torch.testing import assert_close

from frugalrl.math.td import q_loss
from oracles.td import slow_q_loss

BATCH, ACTIONS = 7, 4


def case(seed: int, dtype: torch.dtype = torch.float64) -> dict[str, Any]:
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g, dtype=dtype)

    return {
        "q_tm1": normal(BATCH, ACTIONS),
        "a_tm1": torch.randint(ACTIONS, (BATCH,), generator=g),
        "r_t": normal(BATCH) * 2,
        "discount_t": torch.rand(BATCH, generator=g, dtype=dtype) * (torch.arange(BATCH) % 3 != 0),
        "q_t": normal(BATCH, ACTIONS),
        "q_select_t": normal(BATCH, ACTIONS),
        "weight": torch.rand(BATCH, generator=g, dtype=dtype),
    }


def loss_and_gradient(huber_delta: float | None, **c: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    q_tm1 = c.pop("q_tm1").clone().requires_grad_()
    loss, td = q_loss(q_tm1, **c, huber_delta=huber_delta)
    (gradient,) = torch.autograd.grad(loss, q_tm1)
    return loss, td, gradient


def slow(huber_delta: float | None, **c: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    loss, td, gradient = slow_q_loss(**{k: v.tolist() for k, v in c.items()}, huber_delta=huber_delta)
    as_tensor = [torch.tensor(x, dtype=torch.float64) for x in (loss, td, gradient)]
    return as_tensor[0], as_tensor[1], as_tensor[2]


@pytest.mark.parametrize("huber_delta", [None, 1.0, 0.3])
@pytest.mark.parametrize("seed", range(10))
def test_matches_definition(seed: int, huber_delta: float | None) -> None:
    for fast, definition in zip(
        loss_and_gradient(huber_delta, **case(seed)), slow(huber_delta, **case(seed)), strict=True
    ):
        assert_close(fast.detach(), definition)


@pytest.mark.parametrize("huber_delta", [None, 3.0])
def test_definition_is_not_blind(huber_delta: float | None) -> None:
    """Each wrong variant differs: no weight (D1, D2), plain instead of double, bootstrap past the end, squared td."""
    c = case(3)
    _, td, gradient = slow(huber_delta, **c)
    wrong = {
        "weight": torch.ones(BATCH, dtype=torch.float64),
        "q_select_t": c["q_t"],
        "discount_t": torch.full((BATCH,), 0.99, dtype=torch.float64),
        "r_t": c["r_t"].clamp(-1, 1),
    }
    for name, value in wrong.items():
        assert not torch.allclose(loss_and_gradient(huber_delta, **{**c, name: value})[2], gradient), name
    assert not torch.allclose(td.square(), q_loss(**c, huber_delta=huber_delta)[1])


@pytest.mark.parametrize("huber_delta", [None, 1.0])
def test_weight_reaches_the_gradient(huber_delta: float | None) -> None:
    """D1 (weights scale only the logged loss) and D2 (Huber drops them): each row's gradient follows its weight."""
    c = case(0)
    _, _, ones = loss_and_gradient(huber_delta, **{**c, "weight": torch.ones(BATCH, dtype=torch.float64)})
    _, _, weighted = loss_and_gradient(huber_delta, **c)
    assert ones.abs().sum(1).min() > 0
    assert_close(weighted, c["weight"][:, None] * ones)


@pytest.mark.parametrize(("huber_delta", "even", "one_sided"), [(None, 10.75, 20.0), (1.0, 4.0, 8.75)])
def test_weight_changes_the_loss_of_known_numbers(huber_delta: float | None, even: float, one_sided: float) -> None:
    """D2: with Huber, weights 1,1,1,1 and 10,0,0,0 gave the same loss 4.0.

    Errors 4, 6, 3, 5: squared (16 + 36 + 9 + 25) / 8 and 10 * 16 / 8; Huber (3.5 + 5.5 + 2.5 + 4.5) / 4 and 35 / 4.
    """
    td, zeros, first = torch.tensor([4.0, 6.0, 3.0, 5.0]), torch.zeros(4, 2), torch.zeros(4, dtype=torch.int64)
    for weight, expected in (([1.0, 1, 1, 1], even), ([10.0, 0, 0, 0], one_sided)):
        loss, _ = q_loss(
            zeros, first, td, torch.zeros(4), zeros, zeros, weight=torch.tensor(weight), huber_delta=huber_delta
        )
        assert float(loss) == expected


def test_closed_form() -> None:
    """One entry: td = 1 + 0.5 * 4 - 0.25 = 2.75, selected by the online net although the target net prefers 9."""
    loss, td = q_loss(
        torch.tensor([[0.25, 7.0]]),
        torch.tensor([0]),
        torch.tensor([1.0]),
        torch.tensor([0.5]),
        torch.tensor([[9.0, 4.0]]),
        torch.tensor([[0.0, 1.0]]),
        weight=torch.tensor([2.0]),
        huber_delta=None,
    )
    assert td.tolist() == [2.75]
    assert float(loss) == 2.75**2


@pytest.mark.parametrize("huber_delta", [None, 0.5])
def test_td_is_signed_and_detached(huber_delta: float | None) -> None:
    """D14 (a key ``td_error`` that holds the square): td is target minus value, negative ones included."""
    c = case(1)
    c["q_tm1"].requires_grad_()
    _, td = q_loss(**c, huber_delta=huber_delta)
    assert not td.requires_grad
    assert (td < 0).any()
    assert (td > 0).any()
    assert_close(td, slow(None, **{k: v.detach() for k, v in c.items()})[1])


def test_only_the_start_gets_a_gradient() -> None:
    c = case(2)
    for name in ("q_tm1", "q_t", "q_select_t"):
        c[name].requires_grad_()
    loss, _ = q_loss(**c, huber_delta=1.0)
    loss.backward()
    assert c["q_tm1"].grad is not None
    assert c["q_t"].grad is None
    assert c["q_select_t"].grad is None


def test_huber_agrees_with_torch() -> None:
    c = case(4)
    c["weight"] = torch.ones(BATCH, dtype=torch.float64)
    loss, td = q_loss(**c, huber_delta=0.7)
    assert_close(loss, torch.nn.functional.huber_loss(td, torch.zeros_like(td), delta=0.7))


def test_zero_error_has_zero_gradient() -> None:
    q = torch.zeros(1, 2, requires_grad=True)
    zero = torch.zeros(1)
    loss, _ = q_loss(
        q, torch.tensor([0]), zero, zero, torch.zeros(1, 2), torch.zeros(1, 2), weight=zero + 1, huber_delta=1.0
    )
    loss.backward()
    assert q.grad is not None
    assert q.grad.abs().max() == 0


@pytest.mark.parametrize("huber_delta", [None, 1.0])
def test_many_seeds_at_once(huber_delta: float | None) -> None:
    """Under vmap, alone and with grad, stacked cases give what each gives alone."""
    cases = [case(seed) for seed in range(5)]
    stacked = {k: torch.stack([c[k] for c in cases]) for k in cases[0]}
    others = [k for k in stacked if k != "q_tm1"]

    def scalar(q_tm1: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        return q_loss(q_tm1, **dict(zip(others, rest, strict=True)), huber_delta=huber_delta)[0]

    gradients = vmap(grad(scalar))(stacked["q_tm1"], *(stacked[k] for k in others))
    losses = vmap(scalar)(stacked["q_tm1"], *(stacked[k] for k in others))
    for i, c in enumerate(cases):
        loss, _, gradient = loss_and_gradient(huber_delta, **c)
        assert_close(losses[i], loss.detach())
        assert_close(gradients[i], gradient)


def test_half_precision_values_are_subtracted_in_single() -> None:
    """bfloat16 networks with float32 rewards: target and error keep float32."""
    c = case(5, torch.float32)
    halves = {k: v.bfloat16() if k.startswith("q_") else v for k, v in c.items()}
    loss, td = q_loss(**halves, huber_delta=None)
    assert loss.dtype == td.dtype == torch.float32
    assert_close(td, q_loss(**{k: v.float() if k != "a_tm1" else v for k, v in halves.items()}, huber_delta=None)[1])


@pytest.mark.parametrize("name", ["a_tm1", "r_t", "discount_t", "q_t", "q_select_t", "weight"])
def test_shapes_that_would_broadcast_are_refused(name: str) -> None:
    """[B, 1] against [B] would silently average over B * B pairs."""
    c = case(0)
    c[name] = c[name][:, None] if c[name].ndim == 1 else c[name][:, :1]
    with pytest.raises(ValueError, match=rf"{name} \[7, 1\]"):
        q_loss(**c, huber_delta=None)


@pytest.mark.parametrize("delta", [0.0, -1.0, float("nan")])
def test_huber_delta_must_be_positive(delta: float) -> None:
    with pytest.raises(ValueError, match="huber_delta"):
        q_loss(**case(0), huber_delta=delta)
