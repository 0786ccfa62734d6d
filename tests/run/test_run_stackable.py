"""Which configurations can be stacked, and what is said of the others."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from run_support import cartpole

from frugalrl.recipes import build_config
from frugalrl.run.config_io import override
from frugalrl.run.stackable import why_not_stacked
from frugalrl.types import EnvSpec

CARTPOLE = EnvSpec(
    id="CartPole-v1", protocol="plain", obs_kind="vector", obs_shape=(4,), obs_dtype="float32", num_actions=2
)
MINATAR = EnvSpec(
    id="MinAtar/Breakout-v1", protocol="minatar", obs_kind="image", obs_shape=(4, 10, 10), obs_dtype="uint8",
    num_actions=6,
)  # fmt: skip


@pytest.mark.parametrize("kind", ["dqn", "qrdqn", "c51"])
@pytest.mark.parametrize("precision", ["fp32", "fp64"])
def test_mlps_can_be_stacked(kind: str, precision: str) -> None:
    assert why_not_stacked(cartpole(f"agent.kind={kind}", f"agent.precision={precision}"), CARTPOLE) is None


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("net.dueling=true", "net.dueling=True cannot be stacked"),
        ("net.noisy_sigma0=0.5", "net.noisy_sigma0=0.5 cannot be stacked"),
        ("agent.precision=bf16", "agent.precision=bf16 cannot be stacked"),
        ("sampler.kind=central", "sampler.kind=central cannot be stacked: the seeds of a stack step their own"),
        ("schedule.lag_blocks=1", "schedule.lag_blocks=1 cannot be stacked"),
        ("evaluation.probe_rows=2", "evaluation.probe_rows=2 cannot be stacked"),
        ("budget.hours=1", "budget.hours=1.0 cannot be stacked: the seeds share one clock; give budget.env_steps"),
        ("budget.eur=1", "budget.eur=1.0 cannot be stacked"),
        ("budget.target_score=100", "budget.target_score=100.0 cannot be stacked"),
        ("budget.env_steps=null", "budget.env_steps=None cannot be stacked: the seeds need a common end"),
        ("agent.kind=tabular", "agent.kind=tabular has no network"),
    ],
)
def test_the_reason_names_the_field(setting: str, said: str) -> None:
    why = why_not_stacked(override(cartpole(), [setting]), CARTPOLE)
    assert why is not None
    assert why.startswith(said)


def test_convolutions_are_not_stacked() -> None:
    config = replace(build_config("MinAtar/Breakout-v1"), device="cpu")
    assert "MinAtar/Breakout-v1 needs a convolution (torso 'minatar')" in (why_not_stacked(config, MINATAR) or "")


@pytest.mark.parametrize("setting", ["net.dueling=true", "net.noisy_sigma0=0.5", "net.torso=minatar"])
def test_a_gpu_stacks_networks_of_any_kind(setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = override(replace(build_config("MinAtar/Breakout-v1"), device="auto"), [setting])
    assert why_not_stacked(replace(config, device="cpu"), MINATAR) is not None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert why_not_stacked(config, MINATAR) is None
    assert "agent.precision=bf16" in (why_not_stacked(override(config, ["agent.precision=bf16"]), MINATAR) or "")
