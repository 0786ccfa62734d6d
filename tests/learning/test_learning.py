"""Learning tests with known answers: last evaluation, never the best one; and broken targets that must fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import frugalrl.algos.dqn as dqn
import frugalrl.algos.qrdqn as qrdqn
import frugalrl.algos.rainbow as rainbow
from frugalrl import build_config, evaluate_run, override, train
from frugalrl.envs.toys import Catch, DeepSea, TimeLimitChain, optimal_value
from frugalrl.math.td import q_loss
from frugalrl.policies.value import ValuePolicy
from frugalrl.run.assemble import network_builder
from frugalrl.run.checkpoint import Checkpoints
from frugalrl.run.config import RunConfig
from frugalrl.types import PolicySnapshot

GAMMA = 0.9
SEEDS = (0, 1, 2)


def learn(config: RunConfig, folder: Path) -> float:
    """Train and score the final policy on 100 new episodes; ``pytest -rP`` shows the score."""
    train(config, folder)
    score = evaluate_run(folder, episodes=100, seed=77).mean_return
    print(f"{config.env.id} seed {config.seed}: {score:.1f}")
    return score


def cartpole(seed: int, *settings: str) -> RunConfig:
    never = "evaluation.every_env_steps=1_000_000"
    return override(build_config("CartPole-v1"), [f"seed={seed}", never, "evaluation.episodes=10", *settings])


def catch(seed: int, *settings: str) -> RunConfig:
    small = [
        "net.hidden_units=64", "agent.batch_size=64", "agent.learning_rate=1e-3", "replay.n_step=1", "env.rows=8",
        "explore.epsilon.steps=4_000", "explore.epsilon.start_step=500", "schedule.warmup_env_steps=500",
        "schedule.steps_per_round=1", "schedule.updates_per_round=2", "budget.env_steps=7_000",
        "evaluation.every_env_steps=1_000_000",
    ]  # fmt: skip
    return override(build_config("frugalrl/Catch-v0"), [f"seed={seed}", *small, *settings])


def chain(seed: int, *settings: str) -> RunConfig:
    small = [
        f"agent.gamma={GAMMA}", "net.hidden_units=32", "agent.batch_size=32", "agent.learning_rate=2e-3",
        "replay.n_step=1", "explore.epsilon.kind=constant", "explore.epsilon.start=1.0", "env.rows=4",
        "schedule.warmup_env_steps=200", "schedule.steps_per_round=1", "schedule.updates_per_round=2",
        "budget.env_steps=6_000", "evaluation.every_env_steps=1_000_000",
    ]  # fmt: skip
    return override(build_config("frugalrl/TimeLimitChain-v0"), [f"seed={seed}", *small, *settings])


def first_value(folder: Path, config: RunConfig) -> float:
    """max Q of the first state under the final weights."""
    from frugalrl.envs import make_env, named_protocol

    env = make_env(config.env.id, protocol=named_protocol("plain"), num_rows=1, seed=0, training=False)
    obs, spec = env.reset().obs, env.spec
    env.close()
    policy = ValuePolicy(network_builder(config, spec), torch.device("cpu"))
    online = Checkpoints(folder / "checkpoints").load(None).state["learner"]["online"]
    policy.load(PolicySnapshot(version=0, parameters={k: torch.as_tensor(v) for k, v in online.items()}))
    return float(np.max(policy.q_values(obs)))


def chain_value(config: RunConfig, folder: Path) -> float:
    train(config, folder)
    value = first_value(folder, config)
    print(f"{config.env.id} seed {config.seed}: value of the first state {value:.2f}")
    return value


@pytest.mark.parametrize("seed", [SEEDS[0], *(pytest.param(seed, marks=pytest.mark.slow) for seed in SEEDS[1:])])
def test_cartpole_is_solved_at_the_last_evaluation(seed: int, tmp_path: Path) -> None:
    config = cartpole(seed)
    assert config.budget.env_steps is not None
    assert config.budget.env_steps <= 100_000
    assert learn(config, tmp_path / "run") >= 475


@pytest.mark.parametrize("seed", [SEEDS[0], *(pytest.param(seed, marks=pytest.mark.slow) for seed in SEEDS[1:])])
def test_catch_is_within_5_percent_of_the_optimum(seed: int, tmp_path: Path) -> None:
    assert learn(catch(seed), tmp_path / "run") >= 0.95 * Catch().optimal_return


@pytest.mark.parametrize(
    "setting",
    [
        "replay.kind=prioritized",
        "replay.n_step=3",
        "net.dueling=true",
        pytest.param("agent.double=false", marks=pytest.mark.slow),
        "explore.name=counteractive-mixed",
    ],
)
def test_every_field_of_the_agent_solves_catch(setting: str, tmp_path: Path) -> None:
    assert learn(catch(0, setting), tmp_path / "run") >= 0.95 * Catch().optimal_return


C51 = ("agent.kind=c51", "agent.v_min=-2", "agent.v_max=2", "agent.atoms=21")
NOISE_ALONE = ("net.noisy_sigma0=0.5", "explore.epsilon.kind=constant", "explore.epsilon.start=0")
IMAGES = ('env.kwargs={"observation": "image"}', "agent.shift_pixels=1", "agent.intensity_scale=0.05")
LONGER = "budget.env_steps=12_000"
AGENTS = {
    "qrdqn": ("agent.kind=qrdqn", "agent.quantiles=21", "explore.name=counteractive-mixed"),
    "c51": (*C51, LONGER),
    "noisy": (*NOISE_ALONE, LONGER),
    "rainbow": (*C51, *NOISE_ALONE, "net.dueling=true", "replay.kind=prioritized", "replay.n_step=3"),
    "drq": (*IMAGES, LONGER),
}


@pytest.mark.parametrize("agent", AGENTS)
def test_every_agent_solves_catch(agent: str, tmp_path: Path) -> None:
    assert learn(catch(0, *AGENTS[agent]), tmp_path / "run") >= 0.95 * Catch().optimal_return


def catch_by_table(*settings: str) -> RunConfig:
    small = [
        'env.kwargs={"observation": "index"}', "env.rows=4", "schedule.updates_per_round=2", "budget.env_steps=15_000",
        "explore.epsilon.start=0.3", "evaluation.every_env_steps=1_000_000",
    ]  # fmt: skip
    return override(build_config("frugalrl/Catch-v0", "tabular-q"), [*small, *settings])


@pytest.mark.parametrize("settings", [(), ("agent.double=true", "explore.name=counteractive-mixed")])
def test_a_table_solves_catch(settings: tuple[str, ...], tmp_path: Path) -> None:
    assert learn(catch_by_table(*settings), tmp_path / "run") >= 0.95 * Catch().optimal_return


@pytest.mark.parametrize("agent", ["qrdqn", "c51"])
def test_a_distributional_agent_with_a_flipped_reward_fails(
    agent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, name = {"qrdqn": (qrdqn, "quantile_loss"), "c51": (rainbow, "categorical_loss")}[agent]
    right = getattr(home, name)

    def wrong(out_tm1: Any, a_tm1: Any, r_t: Any, *rest: Any, **settings: Any) -> Any:
        return right(out_tm1, a_tm1, -r_t, *rest, **settings)

    monkeypatch.setattr(home, name, wrong)
    assert learn(catch(0, *AGENTS[agent]), tmp_path / "run") < 0.95 * Catch().optimal_return


@pytest.mark.parametrize("seed", SEEDS)
def test_a_time_limit_bootstraps(seed: int, tmp_path: Path) -> None:
    """Reward 1 per step and a limit of 8: the value is 1 / (1 - gamma) = 10, and 5.7 if the limit ended the return."""
    optimal = optimal_value(GAMMA)
    assert optimal == pytest.approx(10.0)
    assert chain_value(chain(seed), tmp_path / "run") == pytest.approx(optimal, rel=0.05)
    assert TimeLimitChain().optimal_return == 8


def broken(change: Callable[[dict[str, Any]], dict[str, Any]]) -> Callable[..., Any]:
    names = ("q_tm1", "a_tm1", "r_t", "discount_t", "q_t", "q_select_t")

    def loss(*args: Any, **kwargs: Any) -> Any:
        return q_loss(**{**change(dict(zip(names, args, strict=True))), **kwargs})

    return loss


def flipped_reward(a: dict[str, Any]) -> dict[str, Any]:
    return {**a, "r_t": -a["r_t"]}


def wrong_time(a: dict[str, Any]) -> dict[str, Any]:
    """Bootstraps from the start of the window instead of its end."""
    return {**a, "q_t": a["q_tm1"].detach(), "q_select_t": a["q_tm1"].detach()}


@pytest.mark.parametrize("change", [flipped_reward, wrong_time])
def test_catch_with_a_broken_target_fails(
    change: Callable[[dict[str, Any]], dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dqn, "q_loss", broken(change))
    assert learn(catch(0), tmp_path / "run") < 0.95 * Catch().optimal_return


def endless(a: dict[str, Any]) -> dict[str, Any]:
    """Goes on with the return where it ended, so that falling costs nothing."""
    goes_on = torch.full_like(a["discount_t"], 0.95)
    return {**a, "discount_t": torch.where(a["discount_t"] == 0, goes_on, a["discount_t"])}


@pytest.mark.slow
def test_cartpole_with_a_target_that_ignores_the_end_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole budget of the passing test: after a quarter of it a correct target fails too, and shows nothing."""
    monkeypatch.setattr(dqn, "q_loss", broken(endless))
    assert learn(cartpole(0), tmp_path / "run") < 475


def test_deep_sea_of_size_6_is_solved(tmp_path: Path) -> None:
    """Small enough for random actions to find the treasure."""
    config = catch(0)
    config = replace(config, env=replace(config.env, id="frugalrl/DeepSea-v0", kwargs={"size": 6}))
    assert learn(config, tmp_path / "run") >= 0.95 * DeepSea(6).optimal_return


def test_a_chain_whose_limit_ends_the_return_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from frugalrl.envs import rows

    interpret = rows.RowEnv._interpret

    def cut(self: Any, raw: Any, valid: Any) -> Any:
        return interpret(self, raw._replace(terminated=raw.terminated | raw.truncated), valid)

    monkeypatch.setattr(rows.RowEnv, "_interpret", cut)
    assert chain_value(chain(0), tmp_path / "run") < 0.7 * optimal_value(GAMMA)
