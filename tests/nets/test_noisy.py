from __future__ import annotations

import numpy as np
import torch
from torch import nn

from frugalrl.math.draws import counted_rng
from frugalrl.nets.config import NetConfig
from frugalrl.nets.noisy import NoisyHidden, NoisyLinear, has_noise, set_noise
from frugalrl.nets.q_network import build_q_network
from frugalrl.policies.value import ValuePolicy
from frugalrl.types import EnvSpec, PolicySnapshot

VECTOR = EnvSpec(id="V", protocol="p", obs_kind="vector", obs_shape=(5,), obs_dtype="float32", num_actions=3)


def slow_forward(layer: NoisyLinear, x: torch.Tensor) -> torch.Tensor:
    """Builds the noisy weight, as section 3 (b) of the paper writes it."""
    weight = layer.weight + layer.weight_sigma * torch.outer(layer.noise_out, layer.noise_in)
    bias = layer.bias + layer.bias_sigma * layer.noise_out
    return x @ weight.T + bias


def test_the_factorised_forward_equals_the_noisy_weight_and_its_gradients() -> None:
    torch.manual_seed(0)
    layer = NoisyLinear(5, 4, 0.5)
    set_noise(layer, np.random.default_rng(0))
    x = torch.randn(7, 5)
    names = [n for n, _ in layer.named_parameters()]
    got = torch.autograd.grad(layer(x).square().sum(), list(layer.parameters()))
    want = torch.autograd.grad(slow_forward(layer, x).square().sum(), list(layer.parameters()))
    torch.testing.assert_close(layer(x), slow_forward(layer, x))
    for name, a, b in zip(names, got, want, strict=True):
        torch.testing.assert_close(a, b, msg=name)
    assert not torch.allclose(layer(x), nn.functional.linear(x, layer.weight, layer.bias))  # a layer without noise


def test_noise_has_the_moments_of_the_paper() -> None:
    """f(e) = sign(e) sqrt(|e|): mean 0, E f^2 = E |e| = sqrt(2 / pi)."""
    layer = NoisyLinear(100_000, 1, 0.5)
    set_noise(layer, np.random.default_rng(0))
    noise = layer.noise_in
    assert abs(float(noise.mean())) < 0.02
    assert abs(float(noise.square().mean()) - (2 / np.pi) ** 0.5) < 0.01
    assert float(layer.weight_sigma.detach()[0, 0]) == np.float32(0.5 / 100_000**0.5)


def test_evaluation_uses_the_means() -> None:
    torch.manual_seed(0)
    layer = NoisyHidden(5, 4, 0.5).eval()
    set_noise(layer, np.random.default_rng(0))
    x = torch.randn(2, 5)
    torch.testing.assert_close(layer(x), nn.functional.relu(nn.functional.linear(x, layer.weight, layer.bias)))


def test_dense_layers_are_noisy_where_asked() -> None:
    plain = build_q_network(VECTOR, NetConfig(hidden_units=(8,)))
    noisy = build_q_network(VECTOR, NetConfig(hidden_units=(8, 8), dueling=True, noisy_sigma0=0.5))
    assert (has_noise(plain), has_noise(noisy)) == (False, True)
    assert not any(type(m) is nn.Linear for m in noisy.modules())


def test_a_draw_is_a_function_of_seed_purpose_and_number() -> None:
    draws = {counted_rng(s, p, c).random() for s in (0, 1) for p in (0, 1) for c in (0, 1, 2)}
    assert len(draws) == 12
    assert counted_rng(1, 0, 2).random() in draws


def test_a_policy_acts_with_new_noise_per_draw_and_a_score_with_none() -> None:
    def build():
        return build_q_network(VECTOR, NetConfig(hidden_units=(8,), noisy_sigma0=0.5))

    torch.manual_seed(0)
    teacher = build()
    snapshot = PolicySnapshot(version=1, parameters=dict(teacher.named_parameters()))
    acting, scoring = ValuePolicy(build, torch.device("cpu"), noise_seed=3), ValuePolicy(build, torch.device("cpu"))
    acting.load(snapshot)
    scoring.load(snapshot)
    obs = np.ones((2, 5), np.float32)
    first = acting.q_values(obs, 1)
    assert not np.array_equal(first, acting.q_values(obs, 2))
    np.testing.assert_array_equal(first, acting.q_values(obs, 1))
    np.testing.assert_array_equal(scoring.q_values(obs, 1), scoring.q_values(obs, 2))
    np.testing.assert_allclose(scoring.q_values(obs), teacher.eval()(torch.from_numpy(obs)).detach().numpy(), atol=1e-6)
