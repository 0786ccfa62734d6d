"""The token policy: what it records is the probability of what it drew, cache or not."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from frugalrl.nets.config import TokenNetConfig
from frugalrl.nets.token_cost import generation_cost, sequence_flops
from frugalrl.nets.token_model import TokenModel, build_token_model
from frugalrl.policies.tokens import TokenPolicy, inverse_cdf, log_policy, log_probs, uniforms
from frugalrl.policies.transforms import transformed
from frugalrl.types import PolicySnapshot, UserError
from oracles import tokens as oracle
from oracles.tiny_llama import tiny_llama

SMALL = TokenNetConfig(layers=2, width=16, heads=2, mlp_width=24, init_std=0.5)
P, R, V = 4, 5, 7


def build() -> TokenModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return build_token_model(SMALL, vocabulary=V, longest=P + R)


def policy(temperature: float = 1.0, end: int | None = None, **kwargs: Any) -> TokenPolicy:
    made = TokenPolicy(
        build,
        torch.device("cpu"),
        prompt_tokens=P,
        response_tokens=R,
        end=end,
        temperature=temperature,
        seed=5,
        **kwargs,
    )
    made.load(PolicySnapshot(version=1, parameters=dict(build().named_parameters())))
    return made


PROMPT = np.random.default_rng(0).integers(V, size=(6, P))


@pytest.mark.parametrize(("temperature", "end"), [(1.0, None), (0.6, 2), (1.7, 2)])
def test_log_mu_with_a_cache_is_that_of_a_full_forward(temperature: float, end: int | None) -> None:
    made = policy(temperature, end).generate(PROMPT, 0)
    slow = oracle.log_mu(build(), PROMPT, made.response, made.mask, temperature)
    np.testing.assert_allclose(made.log_mu, slow, atol=2e-6)
    full = log_probs(
        log_policy(build(), torch.as_tensor(PROMPT), torch.as_tensor(made.response), temperature),
        torch.as_tensor(made.response),
    )
    np.testing.assert_allclose(full.detach().numpy()[made.mask], slow[made.mask], atol=2e-6)
    if end is not None:  # wrong variants: the temperature forgotten, and log-probabilities divided by it
        assert np.nanmax(np.abs(oracle.log_mu(build(), PROMPT, made.response, made.mask, 1.0) - made.log_mu)) > 0.01
        divided = oracle.log_mu(build(), PROMPT, made.response, made.mask, 1.0) / temperature
        assert np.nanmax(np.abs(divided - made.log_mu)) > 0.01
    shifted = np.roll(slow, 1, axis=1)
    assert np.nanmax(np.abs(shifted - made.log_mu)) > 0.01


def test_a_response_ends_with_its_end_token_and_not_before() -> None:
    made = policy(end=2).generate(np.repeat(PROMPT, 20, axis=0), 0)
    lengths = made.mask.sum(1)
    assert set(lengths) >= {1, R}
    for row, mask, length in zip(made.response, made.mask, lengths, strict=True):
        assert mask.tolist() == [t < length for t in range(R)]
        assert (row[:length][:-1] != 2).all()
        assert length == R or row[length - 1] == 2
        assert (row[length:] == 0).all()
    assert np.isnan(made.log_mu[~made.mask]).all()
    assert (made.log_mu[made.mask] <= 0).all()
    assert policy().generate(PROMPT, 0).mask.all()


def test_a_completion_depends_on_its_number_and_not_on_its_batch() -> None:
    whole = policy().generate(PROMPT, 10)
    part = policy().generate(PROMPT[2:4], 12)
    np.testing.assert_array_equal(part.response, whole.response[2:4])
    np.testing.assert_array_equal(uniforms(5, 10, 6, R)[2:4], uniforms(5, 12, 2, R))
    assert not np.array_equal(policy().generate(PROMPT, 0).response, whole.response)
    assert len(np.unique(uniforms(5, 0, 100, R))) == 100 * R


def test_tokens_are_drawn_with_their_probabilities_and_never_with_probability_0() -> None:
    p = torch.tensor([0.0, 0.25, 0.0, 0.5, 0.25, 0.0])
    u = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    drawn = inverse_cdf(p.log().expand(1000, -1), u)
    np.testing.assert_allclose(torch.bincount(drawn, minlength=6) / 1000, p, atol=1e-3)
    edges = inverse_cdf(p.log().expand(2, -1), torch.tensor([0.0, 1 - 1e-16], dtype=torch.float64))
    assert edges.tolist() == [1, 4]


def test_flops_of_generation_are_those_of_its_matrix_products() -> None:
    model, rows = build(), 3
    cost = generation_cost(model, P, R).of(rows, R)
    linear = sum(p.numel() for name, p in model.named_parameters() if p.dim() == 2 and "embed" not in name)
    head = V * SMALL.width
    tokens = P + R - 1
    # the head is only asked for the token that comes next; a query meets all keys that are there
    products = 2 * (linear - head) * tokens + 2 * head * R
    attention = 4 * SMALL.width * SMALL.layers * (P * P + sum(P + i for i in range(1, R)))
    rotary = cost.flop / rows - products - attention  # the table of angles is a product too
    assert 0 <= rotary < 0.01 * products
    assert cost.calls == R
    assert sequence_flops(model, tokens, R).forward > products / 2
    without_cache = sum(sequence_flops(model, P + i, 1).forward for i in range(R))
    assert cost.flop < rows * without_cache


def test_rows_that_leave_the_batch_cost_nothing_after_their_end() -> None:
    """An engine that drops a row at its end token makes no pass for it; one batch of equal rows costs the same."""
    costs = generation_cost(build(), P, R)
    assert costs.of_each(np.full(3, R)) == costs.of(3, R)
    mixed = costs.of_each(np.array([1, R, 2]))
    assert mixed.calls == R
    assert mixed.flop == costs.flop[1] + costs.flop[R] + costs.flop[2] < costs.of(3, R).flop
    # pass i of a row reads and writes the keys and values of P + i tokens, and each pass reads the weights once
    assert mixed.bytes_min == R * costs.weight_bytes + costs.cache_bytes * (P + (P + P + 1) + R * P + R * (R - 1) // 2)


def test_bytes_are_those_of_what_generates() -> None:
    def of(transform: str) -> tuple[int, int]:
        cost = policy(transform=transform)._cost
        return cost.weight_bytes, cost.cache_bytes

    whole, cache = of("none")
    frequencies = sum(b.nbytes for b in build().buffers())  # they stay in float32
    assert of("bf16") == ((whole - frequencies) / 2 + frequencies, cache / 2)
    assert of("int4") == (whole, cache)
    dense = [m for m in build().modules() if isinstance(m, torch.nn.Linear)]
    saved = sum(3 * m.weight.numel() - 4 * len(m.weight) for m in dense)
    assert of("int8-dynamic") == (whole - saved, cache)


def test_a_model_is_read_from_a_folder_and_only_from_safetensors(tmp_path: Path) -> None:
    config = TokenNetConfig(checkpoint=str(tmp_path))
    with pytest.raises(UserError, match=r"holds no config\.json; give the folder of a model"):
        build_token_model(config, vocabulary=V, longest=P + R)
    model = build()
    model.lm.config.save_pretrained(tmp_path)
    torch.save(model.lm.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"has a config\.json but no weights"):
        build_token_model(config, vocabulary=V, longest=P + R)
    model.lm.save_pretrained(tmp_path)
    read = build_token_model(config, vocabulary=V, longest=P + R)
    ids = torch.as_tensor(PROMPT)
    torch.testing.assert_close(read(ids), model(ids), rtol=0, atol=0)
    with pytest.raises(UserError, match=f"has {V} tokens and the task {V + 1}"):
        build_token_model(config, vocabulary=V + 1, longest=P + R)
    with pytest.raises(UserError, match=f"takes {P + R} tokens and the task needs {P + R + 1}"):
        build_token_model(config, vocabulary=V, longest=P + R + 1)
    (tmp_path / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(UserError, match="cannot be read"):
        build_token_model(config, vocabulary=V, longest=P + R)


def test_a_copy_in_bf16_is_what_transformers_reads_in_bf16(tmp_path: Path) -> None:
    """Also far from the start, where frequencies of rotary embeddings that were rounded turn by another angle."""
    from transformers import LlamaForCausalLM

    model = tiny_llama(vocab=16, seed=0, layers=1, width=64, init=0.2)
    model.save_pretrained(tmp_path)
    right = LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16).eval()
    ids = torch.as_tensor(np.random.default_rng(1).integers(16, size=(1, 1024)))
    with torch.inference_mode():
        copied, read = transformed(model, "bf16")(ids).logits, right(ids).logits
        wrong = copy.deepcopy(model).to(torch.bfloat16)(ids).logits
    assert torch.equal(copied, read)
    assert (wrong - read).abs().max() > 0.05
