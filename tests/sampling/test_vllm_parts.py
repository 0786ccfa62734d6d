"""The parts around vLLM that work without it: finding its interpreter, its checkpoints, a process that misbehaves."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from frugalrl.sampling.vllm import find, main
from frugalrl.sampling.vllm.checkpoint import for_engine, quantized, weight_levels, write_checkpoint
from frugalrl.sampling.vllm.engine import VllmEngine
from frugalrl.sampling.vllm.heads import Heads
from frugalrl.sampling.vllm.process import EngineProcess
from frugalrl.sampling.vllm.wire import Message
from frugalrl.types import RunFailed, UserError

# ---------------------------------------------------------------------------------------------- the interpreter


def test_no_environment_is_one_sentence_that_names_the_script(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(find, "_SOURCE", tmp_path)
    with pytest.raises(UserError, match=r"none at \.venvs/vllm/bin/python; make it with scripts/vllm_env"):
        find.find_python(None)
    with pytest.raises(UserError, match=r"vllm_python=nowhere/python cannot be run; .*scripts/vllm_env made"):
        find.find_python("nowhere/python")


def test_the_environment_is_found_where_it_is_and_by_its_link(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    link = tmp_path / find.PLACE
    link.parent.mkdir(parents=True)
    link.symlink_to(sys.executable)
    assert find.find_python(None) == link
    assert find.find_python(str(find.PLACE)) == link
    with pytest.raises(UserError, match=r"is a folder; use sampler\.vllm_python=\.venvs/vllm/bin/python"):
        find.find_python(".venvs/vllm")


# -------------------------------------------------------------------------------------------------- checkpoints


def slow_quantized(row: list[float], levels: int) -> tuple[list[int], float]:
    scale = max(abs(w) for w in row) / levels
    return [0 if scale == 0 else max(-levels, min(levels, round(w / scale))) for w in row], scale


@given(
    st.lists(st.lists(st.floats(-4, 4, width=32), min_size=3, max_size=3), min_size=1, max_size=4),
    st.sampled_from([127, 63]),
)
@settings(max_examples=40, deadline=None)
def test_integers_per_channel_are_those_of_the_definition(rows: list[list[float]], levels: int) -> None:
    ints, scale = quantized(torch.tensor(rows), levels)
    assert ints.dtype == torch.int8
    assert scale.shape == (len(rows), 1)
    for row, mine, one in zip(rows, ints.tolist(), scale[:, 0].tolist(), strict=True):
        theirs, their_scale = slow_quantized(row, levels)
        assert max(map(abs, mine)) <= levels
        if their_scale > 1e-30:
            assert max(abs(a - b) for a, b in zip(mine, theirs, strict=True)) <= 1  # a tie may round either way
            assert one == pytest.approx(their_scale)
            assert max(abs(i * one - w) for i, w in zip(mine, row, strict=True)) <= one * 0.501


def test_a_scale_for_the_whole_matrix_would_be_seen() -> None:
    weight = torch.tensor([[1.0, 0.5], [0.001, 0.0005]])
    ints, scale = quantized(weight, 127)
    torch.testing.assert_close(ints * scale, weight, rtol=0.01, atol=0)
    one = weight.abs().max() / 127
    assert ((weight / one).round() * one)[1].abs().max() == 0


@pytest.mark.parametrize("levels", [127, 63])
def test_two_products_fit_into_16_bits_with_7_bits_only(levels: int) -> None:
    most = 2 * 255 * levels  # activations are moved to [0, 255] there
    assert (most <= 2**15 - 1) == (levels == 63)


@pytest.mark.parametrize(
    ("cpuinfo", "levels"),
    [
        ("model name : x\nflags\t\t: fpu avx2 avx512_vnni\n", 127),
        ("flags : fpu avx2 avx_vnni\n", 127),
        ("flags : fpu avx avx2 fma\n", 63),
        ("processor : 0\nFeatures : fp asimd\n", 127),
        ("", 127),
    ],
)
def test_a_processor_without_vnni_gets_7_bits(cpuinfo: str, levels: int) -> None:
    assert weight_levels(cpuinfo) == levels


def weights() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "model.embed_tokens.weight": (11, 8),
        "model.layers.0.self_attn.q_proj.weight": (8, 8),
        "model.layers.0.mlp.down_proj.weight": (8, 16),
        "model.layers.0.input_layernorm.weight": (8,),
        "lm_head.weight": (11, 8),
    }
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def test_only_the_inner_matrices_become_integers() -> None:
    ready = for_engine(weights(), "int8")
    assert {name for name, tensor in ready.items() if tensor.dtype == torch.int8} == {
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.0.mlp.down_proj.weight",
    }
    assert ready["model.layers.0.mlp.down_proj.weight_scale"].shape == (8, 1)
    assert ready["lm_head.weight"].dtype == ready["model.layers.0.input_layernorm.weight"].dtype == torch.bfloat16


@pytest.mark.parametrize(("precision", "size"), [("fp32", 4), ("bf16", 2)])
def test_a_checkpoint_says_and_holds_its_precision(tmp_path: Path, precision: str, size: int) -> None:
    given_ = weights()
    given_["lm_head.weight"] = given_["model.embed_tokens.weight"]  # tied: one tensor under two names
    nbytes = write_checkpoint(tmp_path, {"hidden_size": 8, "dtype": "float16"}, given_, precision)
    held = load_file(tmp_path / "model.safetensors")
    config = json.loads((tmp_path / "config.json").read_text())
    assert nbytes == size * sum(tensor.numel() for tensor in given_.values())
    assert config == {"hidden_size": 8, "dtype": {"fp32": "float32", "bf16": "bfloat16"}[precision]}
    for name, tensor in given_.items():
        torch.testing.assert_close(held[name].float(), tensor, rtol=2**-8, atol=0)


def test_int8_without_a_layer_that_it_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"int8 knows layers named q_proj, .* none of them"):
        write_checkpoint(tmp_path, {}, {"h.0.attn.c_attn.weight": torch.zeros(2, 2)}, "int8")


def test_an_unknown_precision_is_named() -> None:
    with pytest.raises(UserError, match="vLLM cannot sample in 'fp8' here; use one of fp32, bf16, int8"):
        VllmEngine(Path("python"), "fp8", max_length=8)


# -------------------------------------------------------------------------------------------------- the process


def test_an_interpreter_without_vllm_says_so() -> None:
    engine = VllmEngine(Path(sys.executable), max_length=8)
    try:
        with pytest.raises(RunFailed, match=r"could not build: ModuleNotFoundError: No module named 'vllm'"):
            engine.load({}, weights())
    finally:
        engine.close()


def test_it_ends_with_its_pipe_and_answers_what_it_does_not_know() -> None:
    process = EngineProcess(Path(sys.executable))
    pid = process.pid
    os.close(process._ask_fd)
    process._ask_fd = -1
    assert process._process.wait(timeout=20) == 0
    assert process.kill() == 0
    assert not Path(f"/proc/{pid}").exists()
    process.close()
    process.close()


def fake(tmp_path: Path, body: str) -> Path:
    """Stands for an interpreter; ``ask`` and ``answer`` are its descriptors."""
    script = tmp_path / "python"
    script.write_text(
        f"#!{sys.executable}\nimport os, sys, time\nask, answer = int(sys.argv[4]), int(sys.argv[5])\n"
        + textwrap.dedent(body)
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return script


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("os.write(answer, b'INFO loading'); time.sleep(30)", "sent what is no message when it was to build"),
        ("sys.exit(3)", "ended with exit code 3 while it was to build."),
        ("print('RuntimeError: no cores left.', flush=True); os.abort()", "(RuntimeError: no cores left)."),
        ("os.read(ask, 1 << 20); os.write(answer, b'FrL1'); sys.exit(0)", "ended with exit code 0 while"),
        ("time.sleep(30)", "gave no answer for 1 s when it was to build"),
    ],
)
def test_a_process_that_misbehaves_is_one_sentence_and_gone(tmp_path: Path, body: str, sentence: str) -> None:
    process = EngineProcess(fake(tmp_path, body))
    with pytest.raises(RunFailed) as caught:
        process.ask("build", {}, timeout_s=1)
    assert sentence in str(caught.value)
    assert str(caught.value).startswith("vLLM's process ")
    assert not Path(f"/proc/{process.pid}").exists()
    with pytest.raises(RunFailed, match="before it was to push"):
        process.ask("push", {}, timeout_s=1)
    process.close()


def test_what_it_prints_is_kept_and_named(tmp_path: Path) -> None:
    log = tmp_path / "vllm.log"
    log.write_text("ValueError: of an older process\n")
    process = EngineProcess(fake(tmp_path, "print('OSError: disk full', flush=True); sys.exit(1)"), log)
    with pytest.raises(RunFailed, match=r"\(OSError: disk full\); its output is in .*vllm\.log\."):
        process.ask("build", {}, timeout_s=5)
    assert log.read_text().endswith("OSError: disk full\n")
    process.close()


def test_an_interrupted_wait_leaves_no_answer_for_the_next_question(tmp_path: Path) -> None:
    process = EngineProcess(fake(tmp_path, "time.sleep(30)"))

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    try:
        with pytest.raises(KeyboardInterrupt):
            process.ask("generate", {}, timeout_s=20)
    finally:
        signal.signal(signal.SIGALRM, before)
    until_s = time.monotonic() + 5
    while Path(f"/proc/{process.pid}").exists() and time.monotonic() < until_s:
        time.sleep(0.01)
    assert not Path(f"/proc/{process.pid}").exists()
    process.close()


def test_a_file_that_is_no_program_is_named(tmp_path: Path) -> None:
    plain = tmp_path / "python"
    plain.write_text("no program")
    with pytest.raises(RunFailed, match="Cannot start vLLM's process with"):
        EngineProcess(plain)


def test_generating_needs_weights_and_a_temperature() -> None:
    engine = VllmEngine(Path(sys.executable), max_length=8)
    one = np.ones((1, 1), dtype=np.int64)
    with pytest.raises(RuntimeError, match="call load"):
        engine.generate(one, one[0], one[0], max_tokens=1)
    engine._built = True
    with pytest.raises(UserError, match=r"temperature=0\.0: .* needs one above 0"):
        engine.generate(one, one[0], one[0], max_tokens=1, temperature=0.0)


# ---------------------------------------------------------------------------------------------------- the heads


def llama(heads: int, groups: int, width: int = 32):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=11, hidden_size=width, intermediate_size=48, num_hidden_layers=2, num_attention_heads=heads,
        num_key_value_heads=groups, initializer_range=0.4, max_position_embeddings=64,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def logits_of(config: dict[str, Any], weights: dict[str, torch.Tensor]) -> torch.Tensor:
    from transformers import LlamaConfig, LlamaForCausalLM

    model = LlamaForCausalLM(LlamaConfig(**{k: v for k, v in config.items() if k != "model_type"})).eval()
    model.load_state_dict(weights)
    with torch.inference_mode():
        return model(torch.arange(60).reshape(2, 30) % 11).logits


@pytest.mark.parametrize(("heads", "groups"), [(2, 2), (4, 4), (4, 2)])
def test_wider_heads_are_the_same_function(heads: int, groups: int) -> None:
    model = llama(heads, groups)
    config, weights = model.config.to_dict(), dict(model.state_dict())
    wide = Heads(config)
    assert wide.config["head_dim"] == 32
    same = logits_of(config, weights)
    other = wide.widened(weights)
    torch.testing.assert_close(logits_of(dict(wide.config), other), same, rtol=0, atol=2e-5)
    # wrong variants: the frequencies, or the scale of the scores, of the wider head
    slow = {**wide.config, "rope_parameters": config["rope_parameters"], "rope_theta": 1e4}
    assert (logits_of(slow, other) - same).abs().max() > 1e-2
    unscaled = {n: w * ((32 // heads) / 32) ** 0.5 if "q_proj" in n else w for n, w in other.items()}
    assert (logits_of(dict(wide.config), unscaled) - same).abs().max() > 1e-2


def test_heads_that_fit_stay_as_they_are_and_those_of_other_models_are_refused() -> None:
    config = llama(1, 1).config.to_dict()
    given_ = weights()
    assert Heads(config).config == config
    assert Heads(config).widened(given_) == given_
    with pytest.raises(
        UserError, match=r"this model \(gpt2\) has heads of 16, and only a plain Llama's can be widened"
    ):
        Heads({"model_type": "gpt2", "hidden_size": 64, "num_attention_heads": 4})


def test_what_a_child_of_the_engine_uses_is_start_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first time on a machine vLLM looks at the model's class in a process of its own, as long as its imports."""
    burn = "import time\nwhile time.process_time() < 0.5: pass"

    def load(**_: object) -> Any:
        subprocess.run([sys.executable, "-S", "-c", burn], check=True)
        config = SimpleNamespace(model_config=SimpleNamespace(dtype="float32"))
        return SimpleNamespace(llm_engine=SimpleNamespace(vllm_config=config))

    monkeypatch.setitem(sys.modules, "stands_for_vllm", SimpleNamespace(LLM=load, __version__="0"))
    monkeypatch.setattr(main, "VLLM", "stands_for_vllm")
    answer = main.Engine().answer(Message({"do": "build", "options": {}}, {}))
    assert 0.4e9 < answer.head["cpu_ns"]["startup"] < 1.5e9
