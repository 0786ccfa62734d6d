"""Importance weights: against slow definitions, and what no input may do to them."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from frugalrl.importance import Correction, Rejection, apply, correct
from oracles.importance import WRONG, slow_weights

CORRECTIONS = (
    "none", "token-tis:2", "token-tis:1", "sequence-tis:2", "geometric-tis:1.1", "token-mask:0.5,2",
    "token-mask:0.5,", "sequence-mask:2", "geometric-mask:0.9,1.1", "token-clamp:0.5,2", "sequence-clamp:0.5,5",
    "geometric-clamp:0.9,", "vanilla", "sequence-vanilla", "token-tis:2+normalize", "sequence-mask:0.2,3+normalize",
    "none+k1-token:0.5,2", "vanilla+k1-mean:0.8,1.25", "token-tis:2+k1-sum:0.5,2", "none+k1-max:0.4,2.5",
    "none+k1-sum:,3", "token-tis:2+k2-token:0.1", "none+k2-sum:0.5", "none+k2-mean:0.1+normalize", "none+k2-max:0.4",
    "none+k3-token:0.1", "none+k3-sum:0.3", "vanilla+k3-mean:0.1", "none+k3-max:0.3",
)  # fmt: skip


def batch(
    seed: int = 0, rows: int = 5, steps: int = 4, scale: float = 0.5
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """log pi, log mu and a mask in which each sequence has a token."""
    rng = np.random.default_rng(seed)
    log_mu = -rng.exponential(1.0, (rows, steps)) - 3 * scale
    log_pi = np.minimum(log_mu + scale * rng.normal(size=(rows, steps)), 0.0)
    mask = rng.random((rows, steps)) < 0.7
    mask[:, 0] = True
    return log_pi, log_mu, mask


def slow(correction: Correction, *arrays: np.ndarray, wrong: str = "") -> np.ndarray:
    c = correction
    knobs: dict[str, Any] = {"level": c.level, "mode": c.mode, "low": c.low, "high": c.high, "normalize": c.normalize}
    return slow_weights(*arrays, **knobs, reject=c.reject, wrong=wrong)


@given(seed=st.integers(0, 10_000), name=st.sampled_from(CORRECTIONS), scale=st.sampled_from([0.05, 0.5, 1.5]))
@settings(deadline=None, max_examples=60)
def test_equals_the_definition(seed: int, name: str, scale: float) -> None:
    correction, arrays = Correction.parse(name), batch(seed, scale=scale)
    expected = slow(correction, *arrays)
    np.testing.assert_allclose(apply(correction, *arrays).weight, expected, rtol=1e-12, atol=1e-12)
    tensors = [torch.from_numpy(x) for x in arrays]
    np.testing.assert_allclose(apply(correction, *tensors).weight.numpy(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ("geometric for product", "sequence-tis:2"), ("sum of exp", "sequence-tis:2"),
        ("sum of exp", "geometric-tis:2"), ("bounds on mu/pi", "token-mask:0.9,5"),
        ("masked tokens count", "sequence-tis:2"), ("masked tokens count", "geometric-tis:2"),
        ("clips up", "token-tis:1.2"), ("mean over kept", "token-mask:0.7,1.4+normalize"),
    ],
)  # fmt: skip
def test_the_comparison_is_not_blind(wrong: str, name: str) -> None:
    correction, arrays = Correction.parse(name), batch(scale=0.6)
    assert wrong in WRONG
    right = apply(correction, *arrays).weight
    np.testing.assert_allclose(right, slow(correction, *arrays))
    assert not np.allclose(right, slow(correction, *arrays, wrong=wrong))


def test_bounds_of_k1_are_those_of_the_ratio() -> None:
    """A ratio of 3 lies in [0.5, 4], whose mirror image [0.25, 2] does not hold it."""
    log_pi, log_mu = np.array([[-1.0]]), np.array([[-1.0 - math.log(3.0)]])
    for over in ("token", "sum", "mean", "max"):
        assert correct(log_pi, log_mu, level=None, reject=f"k1-{over}:0.5,4").keep.all()
        assert not correct(log_pi, log_mu, level=None, reject=f"k1-{over}:0.25,2").keep.any()


@pytest.mark.parametrize("name", CORRECTIONS)
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_the_same_policy_has_weight_1_bit_for_bit(name: str, library: str) -> None:
    log_pi, _, mask = batch()
    log_pi = log_pi.astype(np.float32)
    arrays = (
        (log_pi, log_pi.copy(), mask) if library == "numpy" else tuple(map(torch.from_numpy, (log_pi, log_pi, mask)))
    )
    found = apply(Correction.parse(name), *arrays)
    assert np.array_equal(np.asarray(found.weight), mask.astype(np.float32))
    assert np.array_equal(np.asarray(found.keep), mask)
    assert found.weight.dtype == (np.float32 if library == "numpy" else torch.float32)


@pytest.mark.parametrize("garbage", [math.nan, 0.0, -math.inf, math.inf, 7.0])
@pytest.mark.parametrize("name", ["token-tis:2", "sequence-mask:0.5,2+normalize", "geometric-tis:2+k3-mean:0.1"])
def test_garbage_outside_of_the_mask_changes_nothing(garbage: float, name: str) -> None:
    log_pi, log_mu, mask = batch()
    clean = apply(Correction.parse(name), log_pi, log_mu, mask)
    for dirty in ((log_pi, np.where(mask, log_mu, garbage)), (np.where(mask, log_pi, garbage), log_mu)):
        for arrays in (dirty, [torch.from_numpy(x) for x in dirty]):
            found = apply(Correction.parse(name), *arrays, mask if arrays is dirty else torch.from_numpy(mask))
            for part in ("weight", "keep", "log_ratio", "ratio"):
                np.testing.assert_allclose(np.asarray(getattr(found, part)), getattr(clean, part), rtol=1e-12)
            assert_same(found.metrics, clean.metrics)


def assert_same(a: dict[str, float], b: dict[str, float], rtol: float = 1e-9) -> None:
    assert list(a) == list(b)
    for name, value in a.items():
        assert value == pytest.approx(b[name], rel=rtol, abs=1e-9, nan_ok=True), name


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_a_missing_log_probability_has_weight_1_and_is_counted(library: str) -> None:
    log_pi, log_mu, mask = batch()
    log_mu[0, 0] = log_pi[1, 0] = math.nan
    arrays = [log_pi, log_mu, mask]
    found = correct(*(arrays if library == "numpy" else map(torch.from_numpy, arrays)), high=2.0)
    assert found.weight[0, 0] == found.weight[1, 0] == 1.0
    assert found.metrics["mismatch_missing_share"] == pytest.approx(2 / mask.sum())
    assert [w.name for w in found.warnings] == ["missing log-probs"]


def test_what_pi_cannot_do_has_weight_0() -> None:
    found = correct(np.array([[-math.inf, -1.0]]), np.array([[-1.0, -1.0]]), high=2.0)
    assert 0 <= found.weight[0, 0] < 1e-8
    assert found.weight[0, 1] == 1.0
    assert found.metrics["mismatch_impossible_share"] == 0.5


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("sequence-tis:2", True), ("sequence-vanilla", True), ("geometric-tis:2", True),
        ("geometric-mask:0.5,2", False), ("none+k1-mean:0.5,2", False), ("none+k1-sum:0.5,2", False),
        ("none+k1-max:0.5,2", False), ("none+k2-mean:0.5", False), ("none+k3-mean:0.5", False),
        ("none+k3-sum:9", False),
    ],
)  # fmt: skip
def test_no_number_of_likely_tokens_makes_up_for_an_impossible_one(name: str, kept: bool, library: str) -> None:
    """A clamp per token would: 99 tokens of ratio 1.2 and one of e^-20 have a geometric mean of almost 1."""
    log_mu = np.full((2, 100), -1.0, np.float32)
    log_pi = log_mu + 0.18
    log_pi[0, 7] = -math.inf
    arrays = (log_pi, log_mu) if library == "numpy" else (torch.from_numpy(log_pi), torch.from_numpy(log_mu))
    found = apply(Correction.parse(name), *arrays)
    assert np.asarray(found.weight)[0].max() < 1e-8
    assert bool(found.keep[0].all()) is kept
    assert np.asarray(found.log_ratio)[0, 7] == -20.0, "diagnostics count it as the largest ratio that is told apart"
    assert not [k for k, v in found.metrics.items() if math.isinf(v)]


@pytest.mark.parametrize("size", [1e3, 1e30])
@pytest.mark.parametrize("name", ["vanilla", "sequence-vanilla", "token-tis:2", "sequence-tis:2", "token-mask:0.5,2"])
def test_nothing_overflows(size: float, name: str) -> None:
    far, near = np.full((3, 4), -size, np.float32), np.full((3, 4), -1.0, np.float32)
    for log_pi, log_mu in ((far, near), (near, far)):
        for arrays in ((log_pi, log_mu), (torch.from_numpy(log_pi), torch.from_numpy(log_mu))):
            found = apply(Correction.parse(name), *arrays)
            assert np.isfinite(np.asarray(found.weight)).all()
            assert not [k for k, v in found.metrics.items() if math.isinf(v)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_widened_before_it_is_subtracted(dtype: torch.dtype) -> None:
    log_pi, log_mu = torch.tensor([[-7.03125]], dtype=dtype), torch.tensor([[-7.0]], dtype=dtype)
    found = correct(log_pi, log_mu, high=2.0)
    assert found.weight.dtype == torch.float32
    assert found.weight.item() == pytest.approx(math.exp(-0.03125), rel=1e-6)
    assert torch.exp(log_pi - log_mu).float().item() != found.weight.item()  # what half precision would have given


def test_no_gradient_reaches_the_weight() -> None:
    log_pi = torch.tensor([[-1.0, -2.0]], requires_grad=True)
    log_mu = torch.tensor([[-1.5, -1.5]], requires_grad=True)
    for name in ("vanilla", "token-tis:2", "sequence-mask:0.1,5+normalize", "none+k3-mean:1"):
        found = apply(Correction.parse(name), log_pi, log_mu)
        for part in (found.weight, found.ratio, found.log_ratio, found.log_pi_old):
            assert not part.requires_grad
        assert found.metrics["mismatch_tokens"] == 2


@pytest.mark.parametrize("name", ["token-tis:2", "sequence-tis:2", "geometric-mask:0.9,1.1"])
def test_order_of_sequences_and_of_axes_does_not_matter(name: str) -> None:
    log_pi, log_mu, mask = batch()
    correction, order = Correction.parse(name), np.array([3, 1, 4, 0, 2])
    whole = apply(correction, log_pi, log_mu, mask)
    shuffled = apply(correction, log_pi[order], log_mu[order], mask[order])
    np.testing.assert_allclose(shuffled.weight, whole.weight[order])
    turned = apply(correction, log_pi.T, log_mu.T, mask.T, axis=0)
    np.testing.assert_allclose(turned.weight.T, whole.weight)
    assert_same(turned.metrics, whole.metrics)
    parts = [apply(correction, log_pi[i], log_mu[i], mask[i]).weight for i in (slice(0, 2), slice(2, 5))]
    np.testing.assert_allclose(np.concatenate(parts), whole.weight)


def test_numpy_needs_no_torch() -> None:
    code = (
        "import sys; import numpy as np; from frugalrl.importance import correct\n"
        "c = correct(np.full((2, 3), -1.0), np.full((2, 3), -1.1), high=2.0)\n"
        "assert isinstance(c.weight, np.ndarray) and c.metrics and c.warnings == []\n"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_lists_and_mixed_arrays_are_taken() -> None:
    assert correct([[-1.0]], [[-1.0]], high=2).weight.tolist() == [[1.0]]
    mixed = correct(torch.tensor([[-1.0, -2.0]]), np.array([[-1.0, -2.0]]), [[1, 0]], high=2.0)
    assert mixed.weight.tolist() == [[1.0, 0.0]]


# -- names, and what is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*CORRECTIONS, "ppo-denominator", "token-tis:1.23456789", "token-tis:2+k1-sum:0.5,"])
def test_short_names_round_trip(name: str) -> None:
    correction = Correction.parse(name)
    assert Correction.parse(correction.name()) == correction
    assert correction.weighs == (name not in ("none", "ppo-denominator"))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("token-tiss:2", "did you mean 'token-tis'"), ("foo", "known: none, ppo-denominator"),
        ("token-tis", "needs high"), ("token-tis:x", "after ':' stands the largest ratio"),
        ("token-tis:0.5,2", "no low"),
        ("token-mask:3,2", "low=3 > high=2"), ("none:2", "takes neither bounds"), ("vanilla:2", "has no bounds"),
        ("token-tis:2+foo", "after '[+]' stands 'normalize'"), ("token-tis:2+k3-mean:0.1,0.2", "never negative"),
        ("token-tis:2+k1-sum", "needs low, high or both"), ("token-tis:0", "every weight would be 0"),
        ("token-tis:inf", "finite"), ("token-tis:2+k1-sum:1,2+k2-sum:3", "one rejection"),
        ("token-tis:1,2,3", "after ':'"), ("none+normalize", "takes neither bounds nor '[+]normalize'"),
        ("ppo-denominator+k3-mean:1", "ppo-denominator takes neither"),
    ],
)  # fmt: skip
def test_wrong_names_are_explained(name: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as error:
        Correction.parse(name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"high": "2"}, r"high='2': a bound of the ratio pi/mu must be a number, at least 0 and finite, or None"),
        ({"high": True}, "high=True: a bound"), ({"high": 10**400}, "high=1000.*: a bound"),
        ({"high": math.nan}, "high=nan: a bound"), ({"high": 2, "reject": 3}, "reject=3: must be a Rejection"),
        ({"high": 2, "axis": 5}, r"axis=5: sequences run along an axis of the arrays \[1, 2\]"),
        ({"high": 2, "axis": None}, "axis=None"), ({"high": 2, "mode": None}, "mode=None: must be one of truncate"),
        ({"high": 2, "reject": "k3-mean:-1"}, "high=-1.0 of k3-mean: a bound must be a number, at least 0"),
    ],
)  # fmt: skip
def test_wrong_settings_are_one_sentence(how: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        correct([[-1.0, -2.0]], [[-1.0, -2.0]], **how)


def test_wrong_kinds_are_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"must be a Correction: Correction\.parse reads a short name"):
        apply("token-tis:2", np.zeros((1, 2)), np.zeros((1, 2)))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="denominator='foo': must be one of old, mu"):
        Correction(level=None, denominator="foo")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="it needs level=None alone"):
        Correction(level=None, denominator="mu", normalize=True)
    for wrong in (np.zeros((1, 2), complex), torch.zeros((1, 2), dtype=torch.complex64), np.array([["a", "b"]])):
        with pytest.raises(ValueError, match="log-probabilities are numbers, not"):
            correct(wrong, np.zeros((1, 2)), high=2)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        (([[-1.0]], [[-1.0, -2.0]]), r"log_pi_old \[1, 1\], log_mu \[1, 2\], mask \[1, 2\]"),
        (([[0.5]], [[-1.0]]), "log_pi_old has 1 values above 0, the largest 0.5"),
        (([[-1.0]], [[0.3]]), "log_mu has 1 values above 0"),
        (([[-1.0]], [[-math.inf]]), "log_mu is -inf for 1 sampled actions"),
        (([[-1.0]], [[-1.0]], [[False]]), "leaves nothing"),
    ],
)
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_wrong_arrays_are_named(arrays: Any, says: str, library: str) -> None:
    make = np.array if library == "numpy" else torch.tensor
    with pytest.raises(ValueError, match=says):
        correct(*(make(x) for x in arrays), high=2.0)


def test_wrong_fields_are_named() -> None:
    with pytest.raises(ValueError, match="level='tokens': must be one of token, sequence, geometric"):
        correct(np.zeros(1), np.zeros(1), level="tokens", high=2.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mode='cut': must be one of"):
        correct(np.zeros(1), np.zeros(1), mode="cut", high=2.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="low=2 > high=1"):
        correct(np.zeros(1), np.zeros(1), mode="clamp", low=2.0, high=1.0)
    with pytest.raises(ValueError, match="unknown rejection 'k4-mean'"):
        Rejection(statistic="k4", over="mean", high=1.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="control without weight"):
        Correction(denominator="mu", high=2.0)


def test_single_numbers_have_no_axis_of_tokens() -> None:
    for one in (np.float64(-1.0), torch.tensor(-1.0)):
        with pytest.raises(ValueError, match="single numbers"):
            correct(one, one, high=2.0)
