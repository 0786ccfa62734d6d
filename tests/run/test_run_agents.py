"""Runs of every agent: killed and resumed bit for bit, in both loops; their meters, their probe, their alarms."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from kill_resume import differences, exact_state, scores
from run_support import TINY, Killed, Watcher, breakout, cartpole, die, r2d2
from test_run_resume import assert_same_run

import frugalrl.policies.value as value
from frugalrl.recipes import build_config
from frugalrl.run.config import RunConfig
from frugalrl.run.config_io import override
from frugalrl.run.status import Silent
from frugalrl.run.train import resume, train
from frugalrl.types import UserError

NOISY = ("net.noisy_sigma0=0.5", "net.dueling=true")
C51 = ("agent.kind=c51", "agent.atoms=11", "agent.v_min=0", "agent.v_max=20")
PIPELINED, PRIORITIZED = "schedule.lag_blocks=1", "replay.kind=prioritized"
MIXED = "explore.name=counteractive-mixed"
# with its usual epsilon a short run hardly depends on its weights, and every wrong variant would pass
SENSITIVE = ("explore.epsilon.kind=constant", "explore.epsilon.start=0.1", "agent.learning_rate=1e-2")


def table(*settings: str) -> RunConfig:
    """tabular-q, shrunk."""
    small = [s for s in TINY if not s.startswith(("agent.target", "agent.batch", "net.", "schedule."))]
    known = ("evaluation.every_env_steps=200", *small, "budget.env_steps=400", "explore.epsilon.start=0.5")
    return override(build_config("FrozenLake-v1", "tabular-q"), [*known, *settings])


CASES: dict[str, Callable[[], RunConfig]] = {
    "qrdqn": lambda: cartpole(
        "agent.kind=qrdqn", "agent.quantiles=7", "replay.kind=prioritized", *SENSITIVE, steps=400
    ),
    "rainbow": lambda: cartpole(*C51, *NOISY, "replay.kind=prioritized", "replay.n_step=3", *SENSITIVE, steps=400),
    "rainbow-pipelined": lambda: cartpole(
        *C51, *NOISY, "explore.name=counteractive-mixed", PIPELINED, *SENSITIVE, steps=400
    ),
    "drq": lambda: breakout("agent.shift_pixels=4", "agent.intensity_scale=0.05", steps=160),
    "table": lambda: table("explore.name=counteractive-mixed"),
    "double-table-pipelined": lambda: table("agent.double=true", "agent.init_std=1.0", PIPELINED),
}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    @cache
    def run(name: str) -> Path:
        folder = tmp_path_factory.mktemp(name) / "whole"
        train(CASES[name](), folder, Silent())
        return folder

    return run


def cut(name: str, folder: Path, share: float = 0.4) -> int:
    """A run that got a SIGTERM; returns its budget."""
    config = CASES[name]()
    steps = config.budget.env_steps
    assert steps is not None
    train(config, folder, Watcher(at_step=int(share * steps), act=lambda: os.kill(os.getpid(), signal.SIGTERM)))
    return steps


@pytest.mark.parametrize("name", CASES)
def test_a_killed_run_ends_as_if_nothing_had_happened(
    uninterrupted: Callable[[str], Path], name: str, tmp_path: Path
) -> None:
    whole, run = uninterrupted(name), tmp_path / "run"
    steps = cut(name, run)
    with pytest.raises(Killed):
        resume(run, Watcher(at_step=int(0.6 * steps), act=die))
    assert resume(run, Silent()).completed
    assert_same_run(whole, run)
    assert scores(run) == scores(whole)


def test_noise_that_begins_again_is_caught(
    uninterrupted: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wrong variant: a resumed sampler that draws the noise of its first steps once more."""
    whole, run = uninterrupted("rainbow"), tmp_path / "run"
    cut("rainbow", run)
    right, first = value.counted_rng, [0]

    def again(seed: int, purpose: int, count: int) -> Any:
        first[0] += 1
        return right(seed, purpose, first[0])

    monkeypatch.setattr(value, "counted_rng", again)
    resume(run, Silent())
    assert "rows/action" in differences(exact_state(whole), exact_state(run))


# -- meters ------------------------------------------------------------------------------------------------------------


def lines(run: Path, kind: str) -> list[dict[str, Any]]:
    every = [json.loads(text) for text in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in every if line["kind"] == kind]


@pytest.mark.parametrize("name", ["qrdqn", "drq", "table"])
def test_every_agent_has_meters(uninterrupted: Callable[[str], Path], name: str) -> None:
    run = uninterrupted(name)
    theory = lines(run, "theory")
    assert theory
    gaps = [line["gap"] for line in theory if line["gap"] is not None]
    assert gaps
    assert min(gaps) >= 0.0
    assert any(line["td_explored"] is not None for line in theory)
    shares = [line["untried_share"] for line in theory]
    assert shares[-1] is None if name == "qrdqn" else 0.0 <= shares[-1] <= 1.0
    mixed = CASES[name]().explore.name == "counteractive-mixed"
    assert any(line["slack"] is not None for line in theory) == mixed


def test_a_resumed_run_still_knows_what_was_tried(uninterrupted: Callable[[str], Path], tmp_path: Path) -> None:
    whole, run = uninterrupted("table"), tmp_path / "run"
    cut("table", run)
    resume(run, Silent())
    assert lines(run, "theory")[-1]["untried_share"] == lines(whole, "theory")[-1]["untried_share"]


# -- the probe ---------------------------------------------------------------------------------------------------------

PROBED = ("evaluation.probe_rows=3", "evaluation.probe_steps=40", "explore.name=counteractive")


def test_the_probe_measures_is_billed_apart_and_changes_nothing(tmp_path: Path) -> None:
    plain, probed = tmp_path / "plain", tmp_path / "probed"
    train(cartpole("explore.name=counteractive"), plain, Silent())
    outcome = train(cartpole(*PROBED), probed, Silent())
    states = [{k: v for k, v in exact_state(r).items() if not k.startswith("work/probe")} for r in (plain, probed)]
    assert differences(*states) == []
    measured = lines(probed, "probe")
    assert [line["env_steps"] for line in measured] == [line["env_steps"] for line in lines(probed, "evaluation")]
    assert all(line["slack"] is not None and line["eta"] is not None for line in measured)
    assert not lines(plain, "probe")
    assert all(line["slack"] is None for line in lines(probed, "theory"))
    rows = {r.name: r.value for r in outcome.bill.rows if r.role == "probe"}
    assert rows["cpu_s"] > 0
    steps = outcome.bill.find("agent_steps")
    assert steps.value == 600, "the probe's steps are not training"


def test_the_probe_is_a_function_of_the_weights(tmp_path: Path) -> None:
    runs = [tmp_path / "a", tmp_path / "b"]
    for run in runs:
        train(cartpole(*PROBED, steps=200), run, Silent())
    assert lines(runs[0], "probe") == lines(runs[1], "probe")


# -- what a user hears -------------------------------------------------------------------------------------------------


def test_a_support_that_misses_the_rewards_is_told_once(tmp_path: Path) -> None:
    watcher = Watcher(interval_s=0.0)
    train(cartpole("agent.kind=c51", "agent.v_min=-1", "agent.v_max=0.5", "agent.atoms=5"), tmp_path / "run", watcher)
    told = [n for n in watcher.notes if "beyond the support" in n]
    assert len(told) == 1
    assert "widen agent.v_min and agent.v_max" in told[0]
    assert all("support_clipped" in s.metrics for s in watcher.statuses if s.metrics)


def test_a_wide_support_and_other_agents_say_nothing(tmp_path: Path) -> None:
    for k, settings in enumerate(((*C51[:2], "agent.v_min=-200", "agent.v_max=200"), ())):
        watcher = Watcher(interval_s=0.0)
        train(cartpole(*settings, steps=200), tmp_path / str(k), watcher)
        assert not watcher.notes


def test_noise_beside_epsilon_is_explained(tmp_path: Path) -> None:
    watcher = Watcher()
    train(cartpole(*NOISY, steps=100), tmp_path / "both", watcher)
    assert any("noisy layers explore by themselves" in n and "0.05" in n for n in watcher.notes)
    alone = Watcher()
    off = ("explore.epsilon.kind=constant", "explore.epsilon.start=0")
    train(cartpole(*NOISY, *off, steps=100), tmp_path / "alone", alone)
    assert not alone.notes


def test_kinds_are_chosen_by_name() -> None:
    config = cartpole("agent.learning_rate=3e-3", "agent.kind=qrdqn")
    assert (config.agent.kind, config.agent.learning_rate) == ("qrdqn", 3e-3)
    with pytest.raises(UserError, match=r"agent.kind='qrdqm': expected one of dqn, qrdqn, c51, tabular, impala, r2d2"):
        cartpole("agent.kind=qrdqm")
    with pytest.raises(UserError, match=r"there is no field 'agent.kappa'"):
        cartpole("agent.kappa=0.5")
    with pytest.raises(UserError, match=r"agent.quantiles=1"):
        cartpole("agent.kind=qrdqn", "agent.quantiles=1")


def test_the_order_of_settings_does_not_matter() -> None:
    assert cartpole("agent.v_max=100", "agent.kind=c51") == cartpole("agent.kind=c51", "agent.v_max=100")


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("evaluation.seed=-1", r"evaluation.seed=-1: must be at least 0"),
        ("evaluation.probe_rows=-1", r"evaluation.probe_rows=-1"),
        ("explore.ez_max_steps=100_000_000_000", r"from 1 to 10,000,000"),
        ("net.lstm_units=8", r"net.lstm_units=8: agent.kind=dqn learns from single transitions and cannot train"),
    ],
)
def test_what_would_fail_later_is_refused_now(setting: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        cartpole(setting)


@pytest.mark.parametrize("recipe", ["ppo", "inline-vtrace"])
def test_a_number_of_updates_that_nobody_reads_is_refused(recipe: str) -> None:
    with pytest.raises(UserError, match=r"updates_per_round=2: agent.kind=\w+ learns from each batch of unrolls"):
        override(build_config("CartPole-v1", recipe), ["schedule.updates_per_round=2"])


@pytest.mark.parametrize("recipe", ["ppo", "inline-vtrace", "seed-r2d2-small"])
def test_the_probe_is_refused_where_its_meters_mean_nothing(recipe: str) -> None:
    with pytest.raises(UserError, match=r"evaluation.probe_rows=2: .* leave --probe-envs out"):
        override(build_config("CartPole-v1", recipe), ["evaluation.probe_rows=2"])


def test_a_table_on_a_gpu_is_refused() -> None:
    with pytest.raises(UserError, match=r"device=cuda: a table is looked up on the CPU"):
        override(build_config("FrozenLake-v1", "tabular-q"), ["device=cuda"])


def test_a_batch_of_more_sequences_than_the_replay_holds_is_refused() -> None:
    with pytest.raises(UserError, match=r"agent.batch_size=4 > sequences.capacity_sequences=3: learning would never"):
        r2d2("sequences.capacity_sequences=3")


def test_evaluation_of_noisy_layers_is_billed_without_noise(tmp_path: Path) -> None:
    """The means alone: half of the training pass's products in the dense layers, and no deviations are read."""
    outcomes = [
        train(cartpole(*settings, *SENSITIVE, steps=100), tmp_path / str(k), Silent())
        for k, settings in enumerate(((), NOISY[:1]))
    ]
    plain, noisy = ({role: o.bill.find("flop", role).value for role in ("evaluation", "inference")} for o in outcomes)
    calls = [{role: o.bill.find("calls", role).value for role in plain} for o in outcomes]
    per_call = [{role: f[role] / c[role] for role in f} for f, c in zip((plain, noisy), calls, strict=True)]
    assert per_call[1]["evaluation"] == per_call[0]["evaluation"]
    assert per_call[1]["inference"] == 2 * per_call[0]["inference"]


def test_a_table_reads_only_its_rows(tmp_path: Path) -> None:
    outcome = train(table(), tmp_path / "run", Silent())
    moved, calls = (outcome.bill.find(name, "inference").value for name in ("bytes_min", "calls"))
    assert moved / calls == 4 * 4 + 8 + 4 * 4  # a row of four float32, its index, and the Q-values written


def test_a_counteractive_prefill_is_not_taken_for_the_mixture(tmp_path: Path) -> None:
    config = cartpole(MIXED, "explore.prefill=counteractive", "schedule.warmup_env_steps=300", steps=300)
    train(config, tmp_path / "run", Silent())
    assert all(line["slack"] is None for line in lines(tmp_path / "run", "theory"))


def test_a_table_for_an_environment_without_indices_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a tabular agent needs index observations"):
        train(override(build_config("CartPole-v1", "tabular-q"), []), tmp_path / "run", Silent())
