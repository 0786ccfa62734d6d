"""ONNX Runtime against PyTorch on every kind of network, and its int8 against ORT's own tool."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from frugalrl.nets.actor_critic import build_actor_critic
from frugalrl.nets.config import NetConfig
from frugalrl.nets.heads import Categorical, Quantiles
from frugalrl.nets.q_network import ValueNetwork, build_q_network
from frugalrl.nets.recurrent_q import build_sequence_q
from frugalrl.nets.torsos import Flat
from frugalrl.types import EnvSpec, UserError

pytest.importorskip("onnxruntime")
from frugalrl.policies.engines.onnx_runtime import OnnxRuntime, rounded


def spec_of(kind: str) -> EnvSpec:
    given = {
        "vector": ("vector", (5,), "float32"),
        "double": ("vector", (2, 3), "float64"),
        "index": ("index", (), "int64"),
        "planes": ("image", (4, 10, 10), "bool"),
        "frames": ("image", (4, 44, 44), "uint8"),
    }[kind]
    return EnvSpec(
        id="x", protocol="p", obs_kind=given[0], obs_shape=given[1], obs_dtype=given[2], num_actions=3,  # type: ignore[arg-type]
        num_indices=7 if kind == "index" else None,
    )  # fmt: skip


def observations(spec: EnvSpec, rows: int) -> np.ndarray:
    rng = np.random.default_rng(rows)
    if spec.obs_kind == "index":
        return rng.integers(0, 7, rows)
    if spec.obs_dtype == "uint8":
        return rng.integers(0, 256, (rows, *spec.obs_shape)).astype(np.uint8)
    values = rng.standard_normal((rows, *spec.obs_shape))
    return values > 0 if spec.obs_dtype == "bool" else values.astype(spec.obs_dtype)


NETS = {
    "mlp": ("vector", lambda s: build_q_network(s, NetConfig(hidden_units=(8, 8)))),
    "doubles": ("double", lambda s: build_q_network(s, NetConfig(hidden_units=(8,)))),
    "one-hot": ("index", lambda s: build_q_network(s, NetConfig(hidden_units=(8,)))),
    "mlp-on-images": ("frames", lambda s: build_q_network(s, NetConfig(torso="mlp", hidden_units=(8,)))),
    "minatar": ("planes", lambda s: build_q_network(s, NetConfig(hidden_units=(8,)))),
    "nature": ("frames", lambda s: build_q_network(s, NetConfig(hidden_units=(16,)))),
    "impala-deep": ("frames", lambda s: build_actor_critic(s, NetConfig(torso="impala-deep", hidden_units=(8,)))),
    "quantiles": ("vector", lambda s: build_q_network(s, NetConfig(hidden_units=(8,)), Quantiles(4))),
    "dueling-c51": (
        "vector",
        lambda s: build_q_network(s, NetConfig(hidden_units=(8,), dueling=True), Categorical(5, -1.0, 1.0)),
    ),
    "r2d2-without-memory": (
        "vector",
        lambda s: build_sequence_q(s, NetConfig(hidden_units=(8, 8), dueling=True), None),
    ),
    "actor-critic": ("vector", lambda s: build_actor_critic(s, NetConfig(hidden_units=(8,)))),
}


@pytest.mark.parametrize("name", NETS)
def test_the_graph_is_the_network(name: str) -> None:
    torch.manual_seed(0)
    kind, build = NETS[name]
    spec = spec_of(kind)
    first, second = build(spec).eval(), build(spec).eval()
    engine = OnnxRuntime(first, spec, int8=False)
    for net in (first, second):  # the second's weights go into the first's graph
        engine.load(dict(net.named_parameters()))
        for rows in (1, 3):
            obs = observations(spec, rows)
            with torch.inference_mode():
                expected = net(torch.from_numpy(obs)).numpy()
            np.testing.assert_allclose(engine(obs), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["mlp", "minatar", "dueling-c51"])
def test_int8_written_in_place_is_what_ort_makes_of_the_weights(name: str) -> None:
    torch.manual_seed(0)
    kind, build = NETS[name]
    spec = spec_of(kind)
    first, second = build(spec).eval(), build(spec).eval()
    from onnx import numpy_helper

    written, anew = OnnxRuntime(first, spec, int8=True), OnnxRuntime(second, spec, int8=True)
    made = {i.name: numpy_helper.to_array(i) for i in anew._model.graph.initializer}
    written.load(dict(second.named_parameters()))
    for initial in written._model.graph.initializer:
        np.testing.assert_array_equal(numpy_helper.to_array(initial), made[initial.name], initial.name)
    anew.load(dict(second.named_parameters()))
    obs = observations(spec, 6)
    np.testing.assert_array_equal(written(obs), anew(obs))
    with torch.inference_mode():
        exact = second(torch.from_numpy(obs)).numpy()
    assert 1e-5 < np.abs(written(obs) - exact).max() < 0.1


def test_int8_products_do_not_overflow() -> None:
    whole, scale = rounded(np.full((512, 2), 3.0, np.float32))
    assert np.abs(whole).max() == 64
    np.testing.assert_allclose(whole * scale, 3.0)
    spec = EnvSpec(id="x", protocol="p", obs_kind="vector", obs_shape=(512,), obs_dtype="float32", num_actions=16)
    net = ValueNetwork(Flat(spec), nn.Linear(512, 16))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.fill_(1.0)
    engine = OnnxRuntime(net, spec, int8=True)
    engine.load(dict(net.named_parameters()))
    obs = np.ones((2, 512), np.float32)
    obs[0, 0] = 0.0
    assert engine(obs)[1, 0] == pytest.approx(513)


def test_what_has_no_graph_is_said() -> None:
    spec = spec_of("vector")
    with pytest.raises(UserError, match=r"do not know the layer GELU; use sampler\.engine=torch"):
        OnnxRuntime(ValueNetwork(Flat(spec), nn.GELU()), spec, int8=False)
    with pytest.raises(UserError, match=r"no noisy layers, .*; use sampler.engine=torch, or net.noisy_sigma0=None$"):
        OnnxRuntime(build_q_network(spec, NetConfig(hidden_units=(8,), noisy_sigma0=0.5)), spec, int8=False)
