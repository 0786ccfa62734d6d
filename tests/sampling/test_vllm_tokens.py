"""vLLM as the token engine of a sampler: versions, transforms, resume and failures."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from frugalrl.cost.meters import LapTimer
from frugalrl.nets.config import TokenNetConfig
from frugalrl.nets.token_model import TokenModel, build_token_model
from frugalrl.policies.tokens import Generated
from frugalrl.policies.transforms import transformed
from frugalrl.sampling.vllm.find import find_python
from frugalrl.sampling.vllm.tokens import VllmTokens, completion_seeds
from frugalrl.types import EngineFailed, PolicySnapshot, UserError
from oracles import tokens as oracle

P, R, V, END = 11, 10, 12, 11
NET = TokenNetConfig(layers=2, width=64, heads=2, mlp_width=104, init_std=0.15)
PROMPT = np.random.default_rng(0).integers(V - 1, size=(48, P))


def build() -> TokenModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return build_token_model(NET, vocabulary=V, longest=P + R)


def at(version: int) -> TokenModel:
    """The learner after ``version`` updates: each moves all weights."""
    model, generator = build(), torch.Generator().manual_seed(version)
    with torch.no_grad():
        for weight in model.parameters():
            if version:
                weight += 0.1 * torch.randn(weight.shape, generator=generator)
    return model


def snapshot(version: int) -> PolicySnapshot:
    return PolicySnapshot(version=version, parameters=dict(at(version).named_parameters()))


def engine(python: Path, build: Callable[[], TokenModel] = build, **kwargs: Any) -> VllmTokens:
    timer = LapTimer()
    timer.start()
    made: dict[str, Any] = {"prompt_tokens": P, "response_tokens": R, "end": END, "temperature": 0.8, "seed": 5}
    return VllmTokens(build, python, timer=timer, **{**made, **kwargs})


def gap(model: torch.nn.Module, made: Generated) -> float:
    """Largest difference of a probability from what the model says by one full forward pass."""
    slow = oracle.log_mu(model, PROMPT, made.response, made.mask, 0.8)
    return float(np.nanmax(np.abs(np.exp(slow) - np.exp(made.log_mu))))


def test_a_completion_has_one_seed_whatever_its_batch() -> None:
    whole = completion_seeds(5, 100, 300)
    np.testing.assert_array_equal(completion_seeds(5, 170, 10), whole[70:80])
    assert len(np.unique(whole)) == 300
    assert whole.min() >= 0
    assert not np.intersect1d(whole, completion_seeds(6, 100, 300)).size


def test_heads_that_it_cannot_compute_are_refused_before_anything_starts() -> None:
    def four_heads() -> TokenModel:
        return build_token_model(TokenNetConfig(), vocabulary=V, longest=P + R)

    with pytest.raises(
        UserError, match=r"have 16 \(net\.width=64, net\.heads=4\); with net\.width=64 set net\.heads=2"
    ):
        engine(Path("python"), build=four_heads)


@pytest.fixture(scope="module")
def python() -> Path:
    try:
        return find_python(None)
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def plain(python: Path) -> Iterator[VllmTokens]:
    made = engine(python)
    made.load(snapshot(0))
    yield made
    made.close()


@pytest.mark.vllm
def test_what_is_recorded_is_what_the_learner_says_after_every_update(plain: VllmTokens) -> None:
    for version in (0, 1, 2):
        plain.load(snapshot(version))
        made = plain.generate(PROMPT, 7)
        assert plain.version == version
        assert gap(at(version), made) < 1e-5
        assert gap(at(version + 1), made) > 0.01, "one update too early or too late must be seen"
        assert (made.mask.sum(1) < R).any()
        assert (made.response[~made.mask] == 0).all()
        assert np.isnan(made.log_mu[~made.mask]).all()
    assert set(plain.take_costs()) == {"startup", "transport", "inference"}


@pytest.mark.vllm
def test_a_completion_does_not_depend_on_its_batch(plain: VllmTokens) -> None:
    plain.load(snapshot(1))
    whole, part = plain.generate(PROMPT, 100), plain.generate(PROMPT[20:30], 120)
    np.testing.assert_array_equal(part.response, whole.response[20:30])
    assert not np.array_equal(plain.generate(PROMPT, 101).response, whole.response)


@pytest.mark.vllm
def test_old_and_rounded_weights_go_through_the_engine_and_through_a_checkpoint(python: Path) -> None:
    kwargs = {"transform": "int3+stale:2", "sync_every_updates": 1}
    made = engine(python, **kwargs)
    try:
        for version in range(4):
            made.load(snapshot(version))
        assert made.version == 1
        before = made.generate(PROMPT, 0)
        assert gap(transformed(at(1), "int3"), before) < 1e-5
        assert gap(at(1), before) > 0.01
        state = made.state_dict()
    finally:
        made.close()
    again = engine(python, **kwargs)
    try:
        again.load_state_dict(state)
        again.load(snapshot(3))
        after = again.generate(PROMPT, 0)
        assert again.version == 1
        np.testing.assert_array_equal(after.response, before.response)
        np.testing.assert_array_equal(after.log_mu, before.log_mu)
    finally:
        again.close()


@pytest.mark.vllm
def test_a_failure_is_told_of_between_two_rounds(python: Path, tmp_path: Path) -> None:
    made = engine(python)
    made.keep_output(tmp_path)
    try:
        made.load(snapshot(0))
        made.generate(PROMPT, 0)
        os.kill(made._engine.pid or 0, signal.SIGKILL)
        made.load(snapshot(2))
        with pytest.raises(EngineFailed, match=r"was killed by SIGKILL while it was to push; its output is in .*vllm"):
            made.generate(PROMPT, 0)
        assert made.take_costs()["inference"].cpu_s is not None
    finally:
        made.close()
