"""Value rescaling against its definition in 700 digits, and its inverse."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from frugalrl.math.rescale import rescale, unrescale
from oracles.returns import exact_rescale

XS = st.floats(-1e12, 1e12) | st.floats(-1e-3, 1e-3)
EPS = st.sampled_from([1e-3, 1e-2, 0.5])


def f64(x):
    return torch.tensor(x, dtype=torch.float64)


@settings(max_examples=60, deadline=None)
@given(XS, EPS)
def test_it_is_the_definition_and_the_inverse_takes_it_back(x, eps):
    y = rescale(f64(x), eps)
    assert y.item() == pytest.approx(float(exact_rescale(x, eps)), rel=1e-14, abs=1e-300)
    assert unrescale(y, eps).item() == pytest.approx(x, rel=1e-12, abs=1e-300)


def published_inverse(y, eps):
    """As printed in Pohlen et al. 2018; in float32 it loses what it subtracts."""
    root = torch.sqrt(1 + 4 * eps * (y.abs() + 1 + eps))
    return y.sign() * (((root - 1) / (2 * eps)) ** 2 - 1)


def test_the_inverse_is_the_published_one_but_keeps_its_digits_in_float32():
    x = torch.tensor([1e-3, 0.1, 1.0, 30.0, -2e4])
    y = rescale(x, 1e-3)
    torch.testing.assert_close(unrescale(y.double(), 1e-3), published_inverse(y.double(), 1e-3), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(unrescale(y, 1e-3), x, rtol=1e-6, atol=0.0)
    assert ((published_inverse(y, 1e-3) - x).abs() > 1e-2 * x.abs()).any()


def test_it_grows_everywhere_and_runs_under_vmap():
    x = torch.linspace(-50, 50, 301, dtype=torch.float64)
    assert (rescale(x, 1e-3).diff() > 0).all()
    torch.testing.assert_close(torch.func.vmap(lambda v: unrescale(rescale(v, 1e-3), 1e-3))(x.view(7, 43)).flatten(), x)


def test_forgetting_the_sign_or_the_linear_part_is_seen():
    x = f64([-9.0])
    assert rescale(x, 1e-3).item() == pytest.approx(-(10**0.5 - 1) - 9e-3)
    assert rescale(x, 1e-3).item() != pytest.approx((10**0.5 - 1) - 9e-3)
    assert rescale(x, 0.1).item() != pytest.approx(rescale(x, 1e-3).item())
