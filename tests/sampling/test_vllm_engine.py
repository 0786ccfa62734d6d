"""vLLM itself as the sampler; run with -m vllm after scripts/vllm_env."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from frugalrl.sampling.vllm.engine import Completions, VllmEngine
from frugalrl.sampling.vllm.find import find_python
from frugalrl.types import RunFailed, UserError
from oracles.tiny_llama import Mismatch, log_probs, mismatch, moved, tiny_llama

pytestmark = pytest.mark.vllm

ROWS, PROMPT, LENGTH, VOCAB = 64, 12, 64, 128


@pytest.fixture(scope="module")
def python() -> Path:
    try:
        return find_python(None)
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return tiny_llama(vocab=VOCAB, seed=3)


@pytest.fixture(scope="module")
def engines(python: Path, model: torch.nn.Module) -> Iterator[dict[str, VllmEngine]]:
    made = {p: VllmEngine(python, p, max_length=PROMPT + LENGTH) for p in ("fp32", "bf16", "int8")}
    yield made
    for engine in made.values():
        engine.close()


def prompts(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, VOCAB, (ROWS, PROMPT))


def sample(engine: VllmEngine, *, seed: int = 0, temperature: float = 1.0, eos: int | None = None) -> Completions:
    lengths = np.full(ROWS, PROMPT)
    seeds = 1_000 * seed + np.arange(ROWS)
    return engine.generate(prompts(seed), lengths, seeds, max_tokens=LENGTH, temperature=temperature, eos_token_id=eos)


def gap(model: torch.nn.Module, done: Completions, *, seed: int = 0, temperature: float = 1.0) -> Mismatch:
    return mismatch(log_probs(model, prompts(seed), done.tokens, temperature), done.log_mu)


def test_fp32_is_the_control_without_mismatch_before_and_after_pushes(engines, model) -> None:
    engine = engines["fp32"]
    engine.load(model.config.to_dict(), model.state_dict())
    before = sample(engine, seed=1)
    assert gap(model, before, seed=1).max_prob < 1e-5
    for step in (1, 2):
        pushed = moved(model, seed=step)
        engine.load(model.config.to_dict(), pushed.state_dict())
        done = sample(engine, seed=1)
        assert gap(pushed, done, seed=1).max_prob < 1e-5
        assert gap(model, done, seed=1).max_prob > 1e-3, "the old weights must not pass for the new ones"
    engine.load(model.config.to_dict(), model.state_dict())
    again = sample(engine, seed=1)
    np.testing.assert_array_equal(again.tokens, before.tokens)
    np.testing.assert_array_equal(again.log_mu, before.log_mu)


def test_log_mu_is_that_of_the_tempered_distribution(engines, model) -> None:
    engine = engines["fp32"]
    engine.load(model.config.to_dict(), model.state_dict())
    done = sample(engine, temperature=0.6)
    assert gap(model, done, temperature=0.6).max_prob < 1e-5
    assert gap(model, done, temperature=1.0).max_prob > 1e-2, "a forgotten temperature must be seen"


def test_a_row_depends_on_its_own_seed_only(engines, model) -> None:
    engine = engines["fp32"]
    engine.load(model.config.to_dict(), model.state_dict())
    same, lengths = np.repeat(prompts()[:1], 3, axis=0), np.full(3, PROMPT)
    done = engine.generate(same, lengths, np.array([5, 6, 5]), max_tokens=LENGTH)
    np.testing.assert_array_equal(done.tokens[0], done.tokens[2])
    assert (done.tokens[0] != done.tokens[1]).any()
    alone = engine.generate(same[:1], lengths[:1], np.array([6]), max_tokens=LENGTH)
    np.testing.assert_array_equal(alone.tokens[0], done.tokens[1])


def test_an_end_of_sequence_token_ends_a_row_and_counts(engines, model) -> None:
    engine = engines["fp32"]
    engine.load(model.config.to_dict(), model.state_dict())
    done = sample(engine, seed=2, eos=7)
    assert done.counts.min() < LENGTH
    for tokens, log_mu, count in zip(done.tokens, done.log_mu, done.counts, strict=True):
        ended = bool((tokens[:count] == 7).any())
        assert (tokens[: count - 1] != 7).all()
        assert ended == (tokens[count - 1] == 7)
        assert ended or count == LENGTH
        assert (log_mu[count:] == 0).all()
        assert (log_mu[:count] < 0).all()


# the largest probability difference and k3 of this model against its fp32 learner, and the bounds a wrong engine breaks
RANGE = {"bf16": ((1e-4, 0.02), (1e-6, 1e-3)), "int8": ((1e-3, 0.1), (2e-5, 1e-2))}


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_lower_precision_differs_by_as_much_as_it_should(engines, model, precision: str) -> None:
    engine = engines[precision]
    for weights in (model, moved(model, seed=1)):
        engine.load(model.config.to_dict(), weights.state_dict())
        found = gap(weights, sample(engine, seed=4), seed=4)
        (least, most), (k3_least, k3_most) = RANGE[precision]
        assert least < found.max_prob < most
        assert k3_least < found.k3 < k3_most
        assert math.exp(-0.7) < found.ratio_min
        assert found.ratio_max < math.exp(0.7)
    costs = engine.take_costs()
    assert set(costs) == {"startup", "transport", "inference"}
    assert (costs["transport"].cpu_s > 1) == (precision == "int8"), "to build it again is what giving it weights costs"


def test_the_costs_are_those_of_the_process(engines, model) -> None:
    engine = engines["bf16"]
    engine.load(model.config.to_dict(), model.state_dict())
    engine.take_costs()
    nbytes = engine.load(model.config.to_dict(), model.state_dict())
    sample(engine)
    costs = engine.take_costs()
    assert nbytes == 2 * sum(p.numel() for p in model.state_dict().values())
    assert set(costs) == {"transport", "inference"}
    assert 0 < costs["inference"].cpu_s < 60
    assert engine.take_costs() == {}


def test_nan_weights_are_one_sentence(python: Path, model) -> None:
    engine = VllmEngine(python, "fp32", max_length=PROMPT + LENGTH)
    try:
        engine.load(model.config.to_dict(), model.state_dict())
        sample(engine)
        broken = {name: weight.clone() for name, weight in model.state_dict().items()}
        broken["model.layers.0.mlp.up_proj.weight"][:] = math.nan
        engine.load(model.config.to_dict(), broken)
        with pytest.raises(RunFailed, match=r"not finite for 64 of 64 completions"):
            sample(engine)
        engine.load(model.config.to_dict(), model.state_dict())
        assert gap(model, sample(engine)).max_prob < 1e-5, "whole weights heal it"
    finally:
        engine.close()


def test_a_killed_engine_and_one_that_cannot_load_are_one_sentence_each(python: Path, model, tmp_path: Path) -> None:
    engine = VllmEngine(python, "fp32", max_length=PROMPT + LENGTH, log=tmp_path / "vllm.log")
    try:
        with pytest.raises(RunFailed, match=r"could not build: .*its output is in .*vllm\.log"):
            engine.load({**model.config.to_dict(), "hidden_size": 96}, model.state_dict())
    finally:
        engine.close()
    assert (tmp_path / "vllm.log").stat().st_size > 100
    engine = VllmEngine(python, "fp32", max_length=PROMPT + LENGTH)
    try:
        engine.load(model.config.to_dict(), model.state_dict())
        assert engine.pid is not None
        os.kill(engine.pid, signal.SIGKILL)
        with pytest.raises(RunFailed, match=r"^vLLM's process was killed by SIGKILL while it was to generate\.$"):
            sample(engine)
        with pytest.raises(RunFailed, match="was killed by SIGKILL before it was to push"):
            engine.load(model.config.to_dict(), model.state_dict())
    finally:
        engine.close()


def test_nothing_is_left_when_the_learner_dies(python: Path, tmp_path: Path) -> None:
    script = textwrap.dedent(f"""
        import sys, time, numpy as np
        from pathlib import Path
        from frugalrl.sampling.vllm.engine import VllmEngine
        from oracles.tiny_llama import tiny_llama
        model = tiny_llama(vocab={VOCAB}, seed=0)
        engine = VllmEngine(Path({str(python)!r}), max_length=2000)
        engine.load(model.config.to_dict(), model.state_dict())
        print(engine.pid, flush=True)
        many = np.zeros((64, 1), dtype=np.int64)
        while True:
            engine.generate(many, np.ones(64, dtype=np.int64), np.arange(64), max_tokens=1500)
    """)
    learner = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env={
        **os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})  # fmt: skip
    assert learner.stdout is not None
    pid = int(learner.stdout.readline())
    time.sleep(1.0)
    learner.kill()
    learner.wait()
    learner.stdout.close()
    until_s = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < until_s:
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists() or "zombie" in Path(f"/proc/{pid}/status").read_text()
