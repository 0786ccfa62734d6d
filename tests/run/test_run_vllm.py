"""Runs whose completions come from vLLM: refused early, killed, given broken weights, brought back."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest
import torch
from kill_resume import differences, exact_state
from run_support import Watcher

from frugalrl.recipes import build_config
from frugalrl.run.config import RunConfig
from frugalrl.run.config_io import override
from frugalrl.run.language.check import check_pair
from frugalrl.run.status import Silent
from frugalrl.run.train import resume, train
from frugalrl.sampling.vllm import engine as engine_module
from frugalrl.sampling.vllm.find import find_python
from frugalrl.types import RunFailed, UserError

TINY = (
    'env.kwargs={"length": 2, "end": true}',
    "net.layers=1",
    "net.width=64",
    "net.heads=2",
    "net.mlp_width=64",
    "agent.prompts=8",
    "agent.samples=4",
    "agent.warm_start_steps=20",
    "agent.warm_start_until=None",
    "agent.warm_start_batch=16",
    "agent.correction=token-tis:2",
    "evaluation.episodes=32",
    "evaluation.rows=32",
    "evaluation.every_env_steps=100000",
    "budget.env_steps=500",
    "checkpoint.every_s=3600",
    "device=cpu",
    "sampler.engine=vllm",
)


def copying(*settings: str) -> RunConfig:
    return override(build_config("lm:copy"), [*TINY, *settings])


def test_what_cannot_be_sampled_from_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"vllm_python=nowhere cannot be run; .*scripts/vllm_env"):
        train(copying("sampler.vllm_python=nowhere"), tmp_path / "run", Silent())
    with pytest.raises(UserError, match=r"have 16 \(net\.width=64, net\.heads=4\); .* set net\.heads=2"):
        train(copying("net.heads=4", "sampler.vllm_python=true"), tmp_path / "run", Silent())
    with pytest.raises(UserError, match=r"engine=vllm samples from language models, and CartPole-v1 is no lm: task"):
        check_pair(override(build_config("CartPole-v1"), ["sampler.engine=vllm"]))
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def there() -> None:
    try:
        find_python(None)
    except UserError as error:
        pytest.skip(str(error))


def engines() -> list[psutil.Process]:
    return [p for p in psutil.Process().children() if "frugalrl.sampling.vllm" in " ".join(p.cmdline())]


def kill_engine() -> None:
    (process,) = engines()
    os.kill(process.pid, signal.SIGKILL)


@pytest.mark.vllm
@pytest.mark.usefixtures("there")
def test_a_killed_engine_is_one_sentence_and_a_checkpoint_from_which_the_run_ends_as_if_nothing_was(
    tmp_path: Path,
) -> None:
    config = copying()
    done = train(config, tmp_path / "whole", Silent())
    assert not engines()
    costs = {
        (row["role"], row["name"]): row["value"]
        for row in json.loads((tmp_path / "whole" / "bill.json").read_text())["rows"]
        if row["role"]
    }
    assert costs["inference", "cpu_s"] > 0.1
    assert costs["startup", "cpu_s"] > 3
    assert costs["transport", "bytes_min"] > 1e6
    assert "mismatch_prob_diff_max" in (tmp_path / "whole" / "metrics.jsonl").read_text()
    with pytest.raises(RunFailed) as caught:
        train(config, tmp_path / "cut", Watcher(at_step=200, act=kill_engine))
    assert "vLLM's process was killed by SIGKILL while it was to generate; its output is in" in str(caught.value)
    assert "goes on from the checkpoint at step" in str(caught.value)
    assert (tmp_path / "cut" / "vllm.log").stat().st_size > 100
    again = Watcher()
    resume(tmp_path / "cut", again)
    assert 200 <= (again.headers[0].resumed_at or 0) < done.env_steps
    assert differences(exact_state(tmp_path / "whole"), exact_state(tmp_path / "cut")) == []


@pytest.mark.vllm
@pytest.mark.usefixtures("there")
def test_weights_that_break_on_their_way_are_one_sentence_and_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, calls = engine_module.for_engine, []

    def broken(weights: Mapping[str, torch.Tensor], precision: str) -> dict[str, torch.Tensor]:
        calls.append(precision)
        ready = whole(weights, precision)
        if len(calls) == 2:
            ready["model.norm.weight"][0] = math.nan
        return ready

    monkeypatch.setattr(engine_module, "for_engine", broken)
    with pytest.raises(RunFailed, match=r"not finite for 32 of 32 completions.*goes on from the checkpoint at step"):
        train(copying("sampler.transform=bf16"), tmp_path / "run", Silent())
    assert not engines()
    assert calls == ["bf16", "bf16"]
    again = Watcher()
    assert resume(tmp_path / "run", again).completed
    assert (again.headers[0].resumed_at or 0) > 100
