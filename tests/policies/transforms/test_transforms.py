"""Each transform against its definition, and what a transform may not do."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from frugalrl.math.draws import counted_rng
from frugalrl.nets.config import NetConfig
from frugalrl.nets.noisy import NoisyLinear
from frugalrl.nets.q_network import build_q_network
from frugalrl.nets.torsos import Hidden
from frugalrl.policies.transforms import TRANSFORMS, Transformer, parse, transformed
from frugalrl.policies.transforms.int8_dynamic import Int8Linear, pack
from frugalrl.policies.transforms.rounding import levels, round_rows
from frugalrl.types import EnvSpec, PolicySnapshot, UserError
from oracles import transforms as oracle


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))


class Attention(nn.Module):
    """One block of a transformer with an output layer that is also the embedding."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(11, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True, norm_first=True)
        self.out = nn.Linear(8, 11, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.out(self.block(self.embed(tokens)))
        return answer


def snapshot(version: int, value: float | None = None) -> PolicySnapshot:
    parameters = {n: p.detach().clone() for n, p in mlp().named_parameters()}
    if value is not None:
        parameters = {n: torch.full_like(p, value) for n, p in parameters.items()}
    return PolicySnapshot(version=version, parameters=parameters)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**31), bits=st.integers(2, 8), filters=st.booleans(), scale=st.sampled_from([1e-6, 1.0, 1e6])
)
def test_rounding_is_that_of_its_definition(seed: int, bits: int, filters: bool, scale: float) -> None:
    rng = np.random.default_rng(seed)
    weight = (rng.standard_normal((3, 2, 2) if filters else (3, 4)) * scale).astype(np.float32)
    weight[1] = 0.0
    rounded = round_rows(torch.from_numpy(weight), bits).numpy()
    np.testing.assert_allclose(rounded, oracle.round_rows(weight, bits), rtol=1e-6)
    for row, before in zip(rounded, weight, strict=True):
        assert len(np.unique(row)) <= 2 * levels(bits) + 1
        assert np.abs(row - before).max() <= np.abs(before).max() / levels(bits) / 2 * (1 + 1e-5)


def test_one_range_for_the_whole_tensor_is_another_rounding() -> None:
    weight = torch.tensor([[1.0, 0.4], [100.0, 40.0]])
    wrong = torch.round(weight / (weight.abs().max() / 7)) * weight.abs().max() / 7
    assert not torch.allclose(wrong, torch.from_numpy(oracle.round_rows(weight.numpy(), 4)), rtol=0.05)


@pytest.mark.parametrize("relu", [False, True])
def test_int8_layers_multiply_as_their_definition_says(relu: bool) -> None:
    torch.manual_seed(1)
    layer = (Hidden if relu else nn.Linear)(32, 5)
    x = torch.randn(4, 32) + 0.3
    expected = oracle.int8_linear(x.numpy(), layer.weight.detach().numpy(), layer.bias.detach().numpy())
    with torch.no_grad():
        got = Int8Linear(layer)(x).numpy()
    np.testing.assert_allclose(got, np.maximum(expected, 0) if relu else expected, atol=2e-5)
    assert np.abs(got - layer(x).detach().numpy()).max() > 1e-4  # and not in fp32


def test_int8_products_do_not_overflow() -> None:
    layer = nn.Linear(512, 16, bias=False)
    nn.init.ones_(layer.weight)
    x = torch.ones(2, 512)
    x[0, 0] = 0.0
    with torch.no_grad():
        y = Int8Linear(layer)(x)
        all_bits = torch.ops.quantized.linear_dynamic(x, Int8Linear(layer)._packed, False)
    assert y[1, 0] == pytest.approx(512)
    if not torch.cpu._is_vnni_supported():
        assert all_bits[1, 0] < 300  # the wrong variant, on processors that have it


def test_new_weights_are_packed_in_place() -> None:
    layer = Int8Linear(nn.Linear(4, 2))
    x = torch.randn(3, 4)
    before = layer(x)
    with torch.no_grad():
        layer.weight.mul_(2.0)
        layer.bias.mul_(2.0)
    assert torch.equal(layer(x), before)
    pack(layer)
    assert torch.allclose(layer(x), 2 * before, atol=1e-5)


def test_int8_says_nan_for_weights_that_are_not_finite() -> None:
    layer = nn.Linear(4, 2)
    with torch.no_grad():
        layer.weight[0, 0] = torch.nan
    assert torch.isnan(Int8Linear(layer)(torch.ones(1, 4))[0, 0])


@pytest.mark.parametrize("name", [n for n in TRANSFORMS if n not in ("none", "noise", "stale")] + ["noise:0.2"])
def test_a_module_is_copied_and_changed(name: str) -> None:
    for module, x in ((mlp(), torch.randn(5, 6)), (Attention().eval(), torch.randint(0, 11, (2, 7)))):
        before = copy.deepcopy(module.state_dict())
        given_x = x.bfloat16() if name == "bf16" and x.is_floating_point() else x
        with torch.no_grad():
            other, own = transformed(module, name)(given_x).float(), module(x)
        assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())
        difference = (other - own).abs().max()
        assert 1e-6 < difference < 10.0, name


def test_a_shared_tensor_is_changed_once_for_both() -> None:
    module = Attention()
    other = transformed(module, "noise:0.3", seed=4)
    assert other.out.weight is other.embed.weight  # type: ignore[union-attr]
    weight = module.embed.weight.detach()
    assert 0.2 < float((other.embed.weight - weight).std() / weight.std()) < 0.45  # type: ignore[union-attr, operator]


def test_dense_layers_of_gpt2_are_changed_by_their_outputs() -> None:
    """Their class is no nn.Linear, and their weight is [in, out]: all but the output layer had stayed as it was."""
    transformers = pytest.importorskip("transformers")
    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=11, n_positions=8, n_embd=16, n_layer=1, n_head=2)
    )
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    after = dict(transformed(model, "int3").named_parameters())
    dense = [n for n in before if n.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight"))]
    assert len(dense) == 4
    for name in dense:
        assert torch.equal(after[name], round_rows(before[name].T, 3).T)
        assert not torch.equal(after[name], round_rows(before[name], 3))
    assert torch.equal(after["transformer.wpe.weight"], before["transformer.wpe.weight"]), "no embedding of places"
    noisy = dict(transformed(model, "noise:0.1").named_parameters())
    assert all(not torch.equal(noisy[name], before[name]) for name in dense)
    with pytest.raises(UserError, match="int8-dynamic does not know the layer Conv1D of this model; use int8-weight"):
        transformed(model, "int8")


def test_noise_is_a_function_of_seed_and_version() -> None:
    a, b, c, d = (
        transformed(mlp(), "noise:0.2", seed=s, version=v)[0].weight for s, v in ((1, 5), (1, 5), (1, 6), (2, 5))
    )
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert not torch.equal(a, d)
    weight = mlp()[0].weight.detach()
    noise = counted_rng(1, 1, 5).standard_normal(tuple(weight.shape), dtype=np.float32)
    assert torch.allclose(a, weight + 0.2 * weight.std(correction=0) * torch.from_numpy(noise))


def test_biases_stay() -> None:
    for name in ("int3", "noise:0.5"):
        assert torch.equal(transformed(mlp(), name)[0].bias, mlp()[0].bias)


def test_lstm_and_convolution_weights_are_rounded() -> None:
    spec = EnvSpec(id="x", protocol="p", obs_kind="image", obs_shape=(4, 10, 10), obs_dtype="float32", num_actions=3)
    net = build_q_network(spec, NetConfig(hidden_units=(8,)))
    rounded = transformed(net, "int2")
    assert all(len(torch.unique(row)) <= 3 for row in rounded[1].weight)
    lstm = transformed(nn.LSTM(3, 4), "int2")
    assert all(len(torch.unique(row)) <= 3 for name in ("weight_ih_l0", "weight_hh_l0") for row in getattr(lstm, name))


@pytest.mark.parametrize(("ago", "every"), [(0, 1), (3, 1), (8, 1), (0, 4), (4, 2)])
@pytest.mark.parametrize("step", [1, 2])
def test_the_weights_of_k_updates_ago_act(ago: int, every: int, step: int) -> None:
    name = f"stale:{ago}" if ago else "none"
    transformer = Transformer(mlp(), name, sync_every_updates=every)
    taken: list[int] = []
    for version in range(0, 20, step):
        moved = transformer.load(snapshot(version, float(version)))
        if not taken or version - taken[-1] >= every:
            taken.append(version)
            assert moved > 0
        else:
            assert moved == 0
        old_enough = [v for v in taken if v <= taken[-1] - ago]
        assert transformer.version == (old_enough[-1] if old_enough else 0)
        assert all(bool((p == transformer.version).all()) for p in transformer.module.parameters())
    assert transformer.load(snapshot(version, -1.0)) == 0  # what a resumed run publishes once more
    copies = 1 + -(-ago // max(step, every))
    assert transformer.nbytes <= (copies + 1) * sum(p.nbytes for p in mlp().parameters())


@pytest.mark.parametrize("name", ["stale:3", "int3+stale:3", "noise:0.1", "int8+stale:2", "bf16"])
@pytest.mark.parametrize("every", [1, 2])
def test_a_resumed_transformer_acts_with_the_same_weights(name: str, every: int) -> None:
    def play(transformer: Transformer, versions: range) -> list[torch.Tensor]:
        found = []
        for version in versions:
            transformer.load(snapshot(version, 0.01 * version + 0.1))
            found.append(torch.cat([p.float().flatten() for p in transformer.module.parameters()]))
        return found

    whole = Transformer(mlp(), name, seed=3, sync_every_updates=every)
    expected = play(whole, range(12))
    first = Transformer(mlp(), name, seed=3, sync_every_updates=every)
    play(first, range(6))
    second = Transformer(mlp(), name, seed=3, sync_every_updates=every)
    second.load_state_dict(first.state_dict())
    got = play(second, range(5, 12))  # the last one is published once more
    assert all(torch.equal(a, b) for a, b in zip(got, expected[5:], strict=True))
    assert second.version == whole.version


def test_names_are_read_in_any_order() -> None:
    assert parse("stale:8+int3").name == parse("int3 + stale:8").name == "int3+stale:8"
    assert parse("int8").name == "int8-dynamic"
    assert parse("fp32").name == parse("none").name == "none"
    assert parse("none").changes_nothing
    assert parse("noise:0.1+bf16+stale:2+int4").name == "int4+bf16+noise:0.1+stale:2"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("int9", "did you mean 'int"),
        ("int8-dynamik", "did you mean 'int8-dynamic'?"),
        ("quantum", "see 'frugal list transforms'"),
        ("", "see 'frugal list transforms'"),
        ("stale", "is written stale:K"),
        ("int4:2", "is written int4"),
        ("stale:0", "a whole number of updates, 1 or more, such as stale:8"),
        ("stale:1.5", "a whole number of updates"),
        ("noise:-1", "must be a positive number, such as noise:0.1"),
        ("noise:nan", "must be a positive number"),
        ("int3+int4", "two of one kind"),
        ("bf16+int8", "two of one kind"),
        ("int4+", "see 'frugal list transforms'"),
    ],
)
def test_names_that_are_not_known(name: str, says: str) -> None:
    with pytest.raises(UserError) as error:
        parse(name, "sampler.transform")
    assert says in str(error.value)
    assert str(error.value).startswith(f"sampler.transform={name!r}")


def test_what_cannot_be_done_is_said() -> None:
    table = nn.Embedding(3, 4)
    for name in ("int3", "int8", "noise:0.1"):
        with pytest.raises(UserError, match="has none that it could change"):
            transformed(table, name)
    with pytest.raises(UserError, match="use Transformer"):
        transformed(mlp(), "stale:2")
    with pytest.raises(UserError, match="noisy layers"):
        transformed(nn.Sequential(NoisyLinear(3, 4, 0.5)), "int8")
    with pytest.raises(UserError, match="float32 around it"):
        transformed(mlp().double(), "int8")
    with pytest.raises(ValueError, match="no parameter"):
        Transformer(mlp(), "int4").load(PolicySnapshot(version=0, parameters={}))
