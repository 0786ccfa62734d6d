"""Stacks of networks of any kind, as a CUDA device trains them: each seed ends like its own run, in double precision.

The same code runs on a CPU, where it saves nothing and is not offered; on a device run it with ``-m gpu``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stacked_support import apart, end_of, stack

from frugalrl.algos.stacked_gpu import StackedGpuLearner
from frugalrl.nets.stacked_vmap import StackedNetworks
from frugalrl.policies.stacked import StackedGpuPolicy
from frugalrl.recipes import build_config
from frugalrl.run import stacked, stacked_loop
from frugalrl.run.config import RunConfig
from frugalrl.run.config_io import override
from frugalrl.run.stacked_loop import StackedLoop
from frugalrl.run.train import Outcome, train
from frugalrl.types import RunFailed

SEEDS = (3, 4)
SMALL = (
    "agent.precision=fp64", "agent.batch_size=8", "agent.learning_rate=3e-3", "agent.target_period_updates=7",
    "schedule.warmup_env_steps=40", "schedule.steps_per_round=1", "replay.capacity_transitions=200",
    "evaluation.episodes=1", "evaluation.every_env_steps=10_000", "checkpoint.every_s=3600",
    "explore.epsilon.start_step=40", "explore.epsilon.steps=100", "explore.name=counteractive",
)  # fmt: skip
CASES: dict[str, tuple[str, tuple[str, ...]]] = {
    "convolution-dueling-prioritised": (
        "MinAtar/Breakout-v1",
        ("net.dueling=true", "net.hidden_units=(12,)", "replay.kind=prioritized", "env.rows=2", "replay.n_step=3",
         "agent.max_grad_norm=0.5", "budget.env_steps=480"),
    ),
    "noisy-c51": (
        "CartPole-v1",
        ("agent.kind=c51", "agent.atoms=11", "net.noisy_sigma0=0.5", "net.dueling=true", "net.hidden_units=(16,8)",
         "explore.name=epsilon-greedy", "explore.epsilon.kind=constant", "explore.epsilon.start=0.0",
         "explore.epsilon.end=0.0", "agent.max_grad_norm=1.0", "env.rows=1", "budget.env_steps=120"),
    ),
    "augmented-quantiles": (
        "MinAtar/Freeway-v1",
        ("agent.kind=qrdqn", "agent.quantiles=4", "net.hidden_units=(12,)", "env.rows=1",
         "agent.shift_pixels=1", "agent.intensity_scale=0.05", "budget.env_steps=120"),
    ),
    "index": (
        "frugalrl/Catch-v0",
        ('env.kwargs={"observation":"index"}', "agent.double=false", "net.hidden_units=(16,)", "env.rows=1",
         "schedule.updates_per_round=2", "budget.env_steps=150"),
    ),
}  # fmt: skip


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "cpu":
        monkeypatch.setattr(stacked_loop, "is_on_gpu", lambda run: True)
        monkeypatch.setattr(stacked, "why_not_stacked", lambda config, spec: None)
    return str(request.param)


def case(name: str, device: str) -> RunConfig:
    env, settings = CASES[name]
    recipe = "minatar-dqn" if env.startswith("MinAtar") else "classic-dqn"
    return override(build_config(env, recipe), [*SMALL, *settings, f"device={device}"])


Alone = Callable[[RunConfig, int], dict[str, Any]]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Alone:
    """The end of a seed's own run, made once."""
    made: dict[str, dict[str, Any]] = {}

    def of(config: RunConfig, seed: int) -> dict[str, Any]:
        key = f"{config} {seed}"
        if key not in made:
            folder = tmp_path_factory.mktemp("alone")
            train(replace(config, seed=seed), folder / "run")
            made[key] = end_of(folder / "run")
        return made[key]

    return of


@pytest.mark.parametrize("name", CASES)
def test_each_seed_ends_like_its_own_run(name: str, device: str, alone: Alone, tmp_path: Path) -> None:
    config = case(name, device)
    ends = stack(config, tmp_path, SEEDS)
    assert all(isinstance(end, Outcome) and end.completed for end in ends)
    for seed in SEEDS:
        wanted = alone(config, seed)
        assert wanted["counters/updates"] >= (200 if name in ("index", "convolution-dueling-prioritised") else 80)
        assert apart(wanted, end_of(tmp_path / str(seed))) == []


# -- what must not be equal -------------------------------------------------------------------------------------------


def clip_by_the_joint_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    real = StackedGpuLearner._take_steps

    def steps(self: StackedGpuLearner, gradients: Sequence[torch.Tensor], losses: torch.Tensor) -> torch.Tensor:
        joint = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients]))
        return real(self, [g * (0.5 / (joint + 1e-6)).clamp(max=1.0) for g in gradients], losses)

    monkeypatch.setattr(StackedGpuLearner, "_take_steps", steps)


def act_with_old_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    real = StackedGpuPolicy.__init__

    def begin(self: Any, nets: StackedNetworks, *rest: Any) -> None:
        real(self, nets, *rest)
        self._nets.parameters = [p.clone() for p in nets.parameters]

    monkeypatch.setattr(StackedGpuPolicy, "__init__", begin)


def keep_the_first_target(monkeypatch: pytest.MonkeyPatch) -> None:
    real = StackedGpuLearner._copy_targets

    def copy(self: StackedGpuLearner, why: Any) -> None:
        kept = [p.clone() for p in self._target.parameters]
        real(self, why)
        for now, before in zip(self._target.parameters, kept, strict=True):
            now.copy_(before)

    monkeypatch.setattr(StackedGpuLearner, "_copy_targets", copy)


def learn_with_the_first_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StackedNetworks, "gather_noise", lambda self: None)


def forget_who_learned_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StackedGpuLearner, "refresh", lambda self: None)


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        (clip_by_the_joint_norm, "convolution-dueling-prioritised"),
        (act_with_old_parameters, "convolution-dueling-prioritised"),
        (forget_who_learned_alone, "convolution-dueling-prioritised"),
        (keep_the_first_target, "index"),
        (learn_with_the_first_noise, "noisy-c51"),
    ],
)
def test_wrong_stacks_are_found(
    wrong: Callable[[pytest.MonkeyPatch], None],
    name: str,
    device: str,
    alone: Alone,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = case(name, device)
    wanted = [alone(config, seed) for seed in SEEDS]
    wrong(monkeypatch)
    stack(config, tmp_path, SEEDS)
    differing = {p for own, seed in zip(wanted, SEEDS, strict=True) for p in apart(own, end_of(tmp_path / str(seed)))}
    assert any(part.startswith("learner/online") for part in differing)


# -- failures and the bill --------------------------------------------------------------------------------------------


def test_a_seed_that_fails_leaves_the_others_alone(
    device: str, alone: Alone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An infinite reward: the device must not step that seed, and must step the others."""
    config = case("index", device)
    wanted = alone(config, SEEDS[0])
    real, count = StackedLoop.round, [0]

    def round_(self: StackedLoop) -> Any:
        count[0] += 1
        if count[0] == 70:
            self._runs[1].parts.replay.ring._fields["reward"][:] = np.inf  # type: ignore[union-attr]
        return real(self)

    monkeypatch.setattr(StackedLoop, "round", round_)
    ends = stack(config, tmp_path, SEEDS)
    assert [type(end) for end in ends] == [Outcome, RunFailed]
    assert "the loss of update" in str(ends[1])
    assert apart(wanted, end_of(tmp_path / str(SEEDS[0]))) == []


@pytest.mark.gpu
def test_the_seconds_of_the_device_are_shared(tmp_path: Path) -> None:
    config = override(case("index", "cuda"), ["budget.env_steps=400"])
    stack(config, tmp_path, SEEDS)
    for seed in SEEDS:
        rows = {(r["role"], r["name"]): r for r in json.loads((tmp_path / str(seed) / "bill.json").read_text())["rows"]}
        for role in ("inference", "learner", "target"):
            assert rows[role, "gpu_s"]["value"] > 0
