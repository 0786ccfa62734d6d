from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from frugalrl.math.categorical import categorical_loss, project, support
from frugalrl.math.quantile import DistributionLoss, quantile_loss
from oracles.distributions import slow_cross_entropy, slow_project, slow_quantile_loss, softmax

FIXTURE = json.loads((Path(__file__).parent.parent / "fixtures" / "losses.json").read_text())
BATCH, ACTIONS, OUT = 4, 3, 5
ENDS = {"v_min": -2.0, "v_max": 3.0}


def batch(seed: int = 0, scale: float = 1.0) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.tensor(scale * rng.normal(size=shape))

    return {
        "tm1": normal(BATCH, ACTIONS, OUT),
        "a_tm1": torch.tensor(rng.integers(ACTIONS, size=BATCH)),
        "r_t": normal(BATCH),
        "discount_t": torch.tensor(rng.choice([0.0, 0.9], BATCH)),
        "t": normal(BATCH, ACTIONS, OUT),
        "q_select_t": normal(BATCH, ACTIONS),
        "weight": torch.tensor(rng.uniform(0.1, 1.0, BATCH)),
    }


def loss_of(kind: str, x: dict[str, torch.Tensor], **changes: Any) -> DistributionLoss:
    args = (x["tm1"], x["a_tm1"], x["r_t"], x["discount_t"], x["t"], x["q_select_t"])
    if kind == "quantile":
        return quantile_loss(*args, weight=x["weight"], **({"kappa": 1.0} | changes))
    return categorical_loss(*args, weight=x["weight"], **(ENDS | changes))


def slow(kind: str, x: dict[str, torch.Tensor], kappa: float = 1.0, *, min_target: bool = False) -> list[float]:
    """Loss of each entry by the slow definitions; ``min_target`` bootstraps from the worst action, which is wrong."""
    grid = np.linspace(ENDS["v_min"], ENDS["v_max"], OUT).tolist()
    each = []
    for i in range(BATCH):
        select = x["q_select_t"][i].tolist()
        best = select.index(min(select) if min_target else max(select))
        r, d = float(x["r_t"][i]), float(x["discount_t"][i])
        here, there = x["tm1"][i, int(x["a_tm1"][i])].tolist(), x["t"][i, best].tolist()
        if kind == "quantile":
            each.append(slow_quantile_loss(here, [r + d * y for y in there], kappa))
        else:
            target = slow_project([r + d * z for z in grid], softmax(there), grid)
            each.append(slow_cross_entropy(here, target))
    return each


@pytest.mark.parametrize("kind", ["quantile", "categorical"])
@given(seed=st.integers(0, 10_000), scale=st.sampled_from([0.1, 1.0, 20.0]))
@settings(max_examples=40, deadline=None)
def test_losses_equal_the_slow_definitions(kind: str, seed: int, scale: float) -> None:
    x = batch(seed, scale)
    each = slow(kind, x)
    weighted = sum(float(w) * e for w, e in zip(x["weight"], each, strict=True)) / BATCH
    assert float(loss_of(kind, x).loss) == pytest.approx(weighted, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("kappa", [0.0, 0.3, 1.0])
def test_kappa(kappa: float) -> None:
    x = batch()
    assert loss_of("quantile", x, kappa=kappa).each.tolist() == pytest.approx(slow("quantile", x, kappa))


@pytest.mark.parametrize("kind", ["quantile", "categorical"])
def test_a_target_from_the_worst_action_is_told_apart(kind: str) -> None:
    x = batch(seed=1, scale=2.0)
    x["discount_t"] = torch.full((BATCH,), 0.9, dtype=torch.float64)
    wrong = np.dot(slow(kind, x, min_target=True), x["weight"].numpy()) / BATCH
    assert float(loss_of(kind, x).loss) != pytest.approx(float(wrong), rel=1e-3)


@pytest.mark.parametrize("kind", ["quantile", "categorical"])
def test_gradients(kind: str) -> None:
    """Against differences of the slow loss; only the action taken gets one, and the weight scales it."""
    x = batch()
    leaf = x["tm1"].clone().requires_grad_()
    others = [x[n].clone().requires_grad_() for n in ("t", "q_select_t", "r_t")]
    loss_of(kind, x | {"tm1": leaf, "t": others[0], "q_select_t": others[1], "r_t": others[2]}).loss.backward()
    assert leaf.grad is not None
    assert all(o.grad is None for o in others)
    h = 1e-5
    for i in range(BATCH):
        for a in range(ACTIONS):
            for n in range(OUT):
                up, down = x["tm1"].clone(), x["tm1"].clone()
                up[i, a, n] += h
                down[i, a, n] -= h
                rise = (slow(kind, x | {"tm1": up})[i] - slow(kind, x | {"tm1": down})[i]) / (2 * h)
                expected = float(x["weight"][i]) * rise / BATCH
                assert float(leaf.grad[i, a, n]) == pytest.approx(expected, rel=1e-4, abs=1e-8)
                assert a == int(x["a_tm1"][i]) or expected == 0.0


@pytest.mark.parametrize("kind", ["quantile", "categorical"])
def test_the_losses_run_under_vmap(kind: str) -> None:
    many = [batch(seed) for seed in range(3)]
    stacked = {k: torch.stack([x[k] for x in many]) for k in many[0]}
    together = torch.func.vmap(lambda x: tuple(loss_of(kind, x)))(stacked)
    for i, x in enumerate(many):
        for mine, alone in zip(together, loss_of(kind, x), strict=True):
            torch.testing.assert_close(mine[i], alone)


def test_td_is_the_error_between_the_means() -> None:
    x = batch()
    best = x["q_select_t"].argmax(1)
    rows = torch.arange(BATCH)
    expected = x["r_t"] + x["discount_t"] * x["t"].mean(2)[rows, best] - x["tm1"].mean(2)[rows, x["a_tm1"]]
    torch.testing.assert_close(loss_of("quantile", x).td, expected)
    grid = support(OUT, ENDS["v_min"], ENDS["v_max"], x["t"])
    q_t, q_tm1 = x["t"].softmax(2) @ grid, x["tm1"].softmax(2) @ grid
    expected = x["r_t"] + x["discount_t"] * q_t[rows, best] - q_tm1[rows, x["a_tm1"]]
    torch.testing.assert_close(loss_of("categorical", x).td, expected)


@given(
    z=st.lists(st.floats(-5, 5), min_size=3, max_size=3),
    p=st.lists(st.floats(0.01, 1), min_size=3, max_size=3),
)
@settings(max_examples=100, deadline=None)
def test_projection(z: list[float], p: list[float]) -> None:
    share = [x / sum(p) for x in p]
    grid = torch.linspace(-2, 3, 6, dtype=torch.float64)
    mass = project(torch.tensor([z], dtype=torch.float64), torch.tensor([share], dtype=torch.float64), grid)[0]
    assert mass.tolist() == pytest.approx(slow_project(z, share, grid.tolist()), abs=1e-9)
    assert float(mass.sum()) == pytest.approx(1.0)
    inside = [min(max(x, -2.0), 3.0) for x in z]
    assert float(mass @ grid) == pytest.approx(sum(a * b for a, b in zip(inside, share, strict=True)), abs=1e-9)


def test_a_projection_that_loses_the_mass_on_an_atom_is_told_apart() -> None:
    """The textbook's floor and ceil give both neighbours nothing where a mass lies exactly on an atom."""
    grid = [0.0, 1.0, 2.0]
    lost = [0.0, 0.0, 0.0]
    for b, p in ((1.0, 0.5), (0.5, 0.5)):
        low, high = math.floor(b), math.ceil(b)
        lost[low] += p * (high - b)
        lost[high] += p * (b - low)
    mass = project(torch.tensor([[1.0, 0.5]]), torch.tensor([[0.5, 0.5]]), torch.tensor(grid))[0]
    assert sum(lost) == 0.5
    assert mass.tolist() == [0.25, 0.75, 0.0]


def test_the_share_beyond_the_support_is_counted() -> None:
    x = batch()
    x["discount_t"] = torch.zeros(BATCH, dtype=torch.float64)
    x["r_t"] = torch.tensor([0.0, 9.0, -9.0, 3.0], dtype=torch.float64)
    assert float(loss_of("categorical", x).clipped) == pytest.approx(0.5)
    assert float(loss_of("quantile", x).clipped) == 0.0


def test_a_prediction_that_fits_has_priority_0() -> None:
    x = batch()
    x["discount_t"] = torch.ones(BATCH, dtype=torch.float64)
    x["r_t"] = torch.zeros(BATCH, dtype=torch.float64)
    x["q_select_t"] = torch.nn.functional.one_hot(x["a_tm1"], ACTIONS).double()
    fits = loss_of("categorical", x | {"t": x["tm1"]})
    assert fits.each.tolist() == pytest.approx([0.0] * BATCH, abs=1e-12)
    assert (loss_of("categorical", x).each > 1e-3).all()


# -- public implementations; made by benchmarks/peer_losses.py --------------------------------------------------------


def of_fixture(kind: str, select: Any = None) -> dict[str, torch.Tensor]:
    given = {k: torch.from_numpy(np.asarray(v)) for k, v in FIXTURE["inputs"].items()}
    name = {"quantile": "theta", "categorical": "logits"}[kind]
    chosen = given["select"] if select is None else torch.from_numpy(np.asarray(select))
    return {
        "tm1": given[f"{name}_tm1"],
        "t": given[f"{name}_t"],
        "q_select_t": chosen,
        **{k: given[k] for k in ("a_tm1", "r_t", "discount_t", "weight")},
    }


@pytest.mark.parametrize(("peer", "kappa"), [("rlax", 0.0), ("rlax", 0.5), ("rlax", 1.0), ("sb3_contrib", 1.0)])
def test_quantile_loss_equals_public_implementations(peer: str, kappa: float) -> None:
    each = loss_of("quantile", of_fixture("quantile"), kappa=kappa).each
    # rlax does not divide the Huber loss by kappa
    scale = kappa if peer == "rlax" and kappa > 0 else 1.0
    assert (scale * each).tolist() == pytest.approx(FIXTURE[peer]["quantile"][str(kappa)], rel=1e-6)


def entropy_of_target(x: dict[str, torch.Tensor]) -> torch.Tensor:
    grid = support(x["t"].shape[2], FIXTURE["v_min"], FIXTURE["v_max"], x["t"])
    p = x["t"][torch.arange(len(x["t"])), x["q_select_t"].argmax(1)].softmax(1)
    target = project(x["r_t"][:, None] + x["discount_t"][:, None] * grid, p, grid)
    return -torch.special.xlogy(target, target).sum(1)


def test_c51_equals_rlax() -> None:
    x = of_fixture("categorical")
    ends = {"v_min": FIXTURE["v_min"], "v_max": FIXTURE["v_max"]}
    each = loss_of("categorical", x, **ends).each + entropy_of_target(x)
    assert each.tolist() == pytest.approx(FIXTURE["rlax"]["cross_entropy"], rel=1e-6)
    grid = support(x["t"].shape[2], **ends, like=x["t"])
    p = x["t"][torch.arange(len(x["t"])), x["q_select_t"].argmax(1)].softmax(1)
    mine = project(x["r_t"][:, None] + x["discount_t"][:, None] * grid, p, grid)
    np.testing.assert_allclose(mine.numpy(), FIXTURE["rlax"]["projected"], atol=1e-7)


def test_c51_equals_kaixhin_s_rainbow_and_its_gradient() -> None:
    theirs = FIXTURE["rainbow"]
    x = of_fixture("categorical", theirs["select"])
    leaf = x["tm1"].clone().requires_grad_()
    done = loss_of("categorical", x | {"tm1": leaf}, v_min=FIXTURE["v_min"], v_max=FIXTURE["v_max"])
    done.loss.backward()
    assert (done.each + entropy_of_target(x)).tolist() == pytest.approx(theirs["cross_entropy"], rel=1e-6)
    assert leaf.grad is not None
    np.testing.assert_allclose(leaf.grad.numpy(), theirs["gradient"], atol=1e-7)  # its support is in single precision


# -- misuse ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["quantile", "categorical"])
@pytest.mark.parametrize("name", ["tm1", "t", "q_select_t", "a_tm1", "r_t", "weight"])
def test_a_wrong_shape_is_named(kind: str, name: str) -> None:
    x = batch()
    with pytest.raises(ValueError, match=r"expected distributions .* but got"):
        loss_of(kind, x | {name: x[name][:-1]})


def test_impossible_settings() -> None:
    with pytest.raises(ValueError, match="kappa must be at least 0, but is -1"):
        loss_of("quantile", batch(), kappa=-1.0)
    with pytest.raises(ValueError, match="v_min < v_max"):
        loss_of("categorical", batch(), v_min=1.0, v_max=1.0)
