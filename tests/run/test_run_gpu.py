"""On a CUDA device: updates against those of the CPU, exact resume, the bill. Run with ``-m gpu``."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from run_support import Watcher, breakout, cartpole
from test_run_resume import assert_same_run

from frugalrl.algos.agents import LEARNERS, AgentConfig
from frugalrl.algos.dqn import DQNConfig, DQNLearner
from frugalrl.algos.qrdqn import QRDQNConfig
from frugalrl.algos.rainbow import C51Config
from frugalrl.cost.meters import LapTimer
from frugalrl.nets.config import NetConfig
from frugalrl.nets.gpu import Staged
from frugalrl.nets.q_network import build_q_network
from frugalrl.policies.value import ValuePolicy
from frugalrl.run.status import Silent
from frugalrl.run.train import resume, train
from frugalrl.types import EnvSpec, NonFiniteLoss, Replayed, Transition

pytestmark = pytest.mark.gpu

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
BATCH, ACTIONS = 6, 3
IMAGE = EnvSpec(
    id="I", protocol="p", obs_kind="image", obs_shape=(4, 84, 84), obs_dtype="uint8", num_actions=ACTIONS, frame_stack=4
)
INDEX = EnvSpec(
    id="N", protocol="p", obs_kind="index", obs_shape=(), obs_dtype="int64", num_actions=ACTIONS, num_indices=5
)
COMMON: dict[str, Any] = {"batch_size": BATCH, "learning_rate": 1e-3, "target_period_updates": 5}
AGENTS: dict[str, tuple[AgentConfig, NetConfig]] = {
    "dqn": (DQNConfig(**COMMON), NetConfig(hidden_units=(32,))),
    "dqn-clipped-single": (DQNConfig(double=False, max_grad_norm=0.1, **COMMON), NetConfig(hidden_units=(32,))),
    "qrdqn": (QRDQNConfig(quantiles=8, **COMMON), NetConfig(hidden_units=(32,))),
    "rainbow": (C51Config(max_grad_norm=1.0, **COMMON), NetConfig(hidden_units=(32,), dueling=True, noisy_sigma0=0.5)),
}


def new(agent: str, spec: EnvSpec = IMAGE, device: torch.device = CUDA, **changes: Any) -> DQNLearner:
    config, net = AGENTS[agent]
    config = type(config)(**{f: getattr(config, f) for f in config.__dataclass_fields__} | changes)
    timer = LapTimer()
    timer.start()

    def build() -> Any:
        return build_q_network(spec, net, config.head())

    learner = LEARNERS[type(config)](config, spec, build, device=device, seed=0, timer=timer)
    assert isinstance(learner, DQNLearner)
    return learner


def batch_of(spec: EnvSpec = IMAGE, seed: int = 0) -> Replayed:
    rng = np.random.default_rng(seed)

    def obs() -> np.ndarray:
        high = spec.num_indices or 256
        return rng.integers(0, high, (BATCH, *spec.obs_shape), dtype=spec.obs_dtype)

    batch = Transition(
        obs_tm1=obs(),
        a_tm1=rng.integers(0, ACTIONS, BATCH),
        r_t=rng.normal(size=BATCH).astype(np.float32),
        discount_t=np.where(rng.random(BATCH) < 0.2, 0, 0.9).astype(np.float32),
        obs_t=obs(),
        log_mu_tm1=np.zeros(BATCH, np.float32),
        version_tm1=np.zeros(BATCH, np.int64),
        explored_tm1=np.zeros(BATCH, np.bool_),
    )
    return Replayed(batch=batch, keys=np.arange(BATCH), weight=rng.uniform(0.5, 1, BATCH).astype(np.float32))


def largest_difference(a: DQNLearner, b: DQNLearner) -> float:
    other = b.weights()
    return max(float((w.cpu() - other[n].cpu()).abs().max()) for n, w in a.weights().items())


def state_of(learner: DQNLearner) -> dict[str, torch.Tensor]:
    state = learner.state_dict()
    return {f"{g}/{n}": t.clone() for g in ("online", "target", "optimizer") for n, t in state[g].items()}


@pytest.mark.parametrize("spec", [IMAGE, INDEX], ids=["image", "index"])
@pytest.mark.parametrize("agent", AGENTS)
def test_updates_equal_those_of_the_cpu_in_float64(agent: str, spec: EnvSpec) -> None:
    """Twelve: the first run as they are, the others as recorded."""
    there, here = (new(agent, spec, device, precision="fp64") for device in (CUDA, CPU))
    for seed in range(12):
        theirs, ours = there.update(batch_of(spec, seed)), here.update(batch_of(spec, seed))
        assert theirs.metrics == pytest.approx(ours.metrics, rel=1e-7, abs=1e-9)
        np.testing.assert_allclose(theirs.priorities, ours.priorities, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(theirs.seen.q_tm1, ours.seen.q_tm1, rtol=1e-6, atol=1e-9)
    assert largest_difference(there, here) < 1e-7
    assert largest_difference(there, new(agent, spec, CPU, precision="fp64")) > 1e-4
    assert theirs.costs["learner"].gpu_s > 0
    assert theirs.costs["target"].gpu_s > 0


def test_a_batch_that_stays_on_the_host_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wrong variant: recorded work that reads the batch before."""
    there, here = (new("dqn", INDEX, device, precision="fp64") for device in (CUDA, CPU))
    for seed in range(12):
        if seed == 8:
            monkeypatch.setattr(Staged, "put", lambda self, arrays: None)
        there.update(batch_of(INDEX, seed))
        here.update(batch_of(INDEX, seed))
    assert largest_difference(there, here) > 1e-5


@pytest.mark.parametrize("agent", ["dqn", "dqn-clipped-single"])
@pytest.mark.parametrize("after", [1, 8])
def test_a_loss_that_is_not_finite_changes_nothing(agent: str, after: int) -> None:
    """Neither weights nor moments nor step counts, and the updates after it are as if it had not been."""
    learner, other = new(agent, INDEX), new(agent, INDEX)
    for seed in range(after):
        learner.update(batch_of(INDEX, seed))
        other.update(batch_of(INDEX, seed))
    before, bad = state_of(learner), batch_of(INDEX, 100)
    bad.batch.r_t[2] = np.nan
    with pytest.raises(NonFiniteLoss, match=f"update {after + 1} is nan"):
        learner.update(bad)
    assert all(torch.equal(before[name], tensor) for name, tensor in state_of(learner).items())
    assert learner.version == after
    for seed in range(100, 108):
        learner.update(batch_of(INDEX, seed))
        other.update(batch_of(INDEX, seed))
    assert largest_difference(learner, other) == 0.0


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_the_policy_acts_with_the_newest_weights(precision: str, share: bool) -> None:
    learner, other = new("dqn", precision=precision), new("dqn", precision=precision)
    _, net = AGENTS["dqn"]
    policy = ValuePolicy(lambda: build_q_network(IMAGE, net), CUDA, precision, share=share)
    rng = np.random.default_rng(0)
    for seed in range(10):
        learner.update(batch_of(seed=seed))
        teacher = other if seed == 9 else learner  # of whom it was never told
        policy.load(teacher.snapshot())
        obs = rng.integers(0, 256, (2, *IMAGE.obs_shape), dtype=np.uint8)
        with torch.no_grad():
            want = teacher._online(torch.from_numpy(obs).to(CUDA)).cpu().numpy()
        tolerance = {"fp32": 1e-5, "tf32": 3e-3, "bf16": 3e-2}[precision]
        np.testing.assert_allclose(policy.q_values(obs), want, rtol=tolerance, atol=tolerance)
    assert policy.gpu_s


@pytest.mark.parametrize(
    "settings",
    [
        (),
        (
            "net.dueling=true",
            "net.noisy_sigma0=0.5",
            "explore.epsilon.start=0",
            "schedule.lag_blocks=1",
        ),
        ("replay.kind=prioritized", "env.rows=3", "agent.max_grad_norm=1"),
        ("schedule.lag_blocks=1",),
        ("agent.precision=bf16",),
        ("agent.precision=tf32",),
    ],
    ids=["serial", "noisy-pipelined", "prioritized-3-rows", "pipelined", "bf16", "tf32"],
)
def test_cartpole_interrupted_and_resumed_ends_with_the_same_bits(settings: tuple[str, ...], tmp_path: Path) -> None:
    config = cartpole(*settings, "device=cuda")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(config, whole, Silent())
    stopped = train(config, cut, Watcher(at_step=240, act=lambda: os.kill(os.getpid(), signal.SIGTERM)))
    assert not stopped.completed
    assert resume(cut, Silent()).completed
    assert_same_run(whole, cut)


def test_breakout_with_convolutions_and_resume(tmp_path: Path) -> None:
    config = breakout("device=cuda", "replay.kind=prioritized")
    train(config, tmp_path / "whole", Silent())
    train(config, tmp_path / "cut", Watcher(at_step=100, act=lambda: os.kill(os.getpid(), signal.SIGTERM)))
    resume(tmp_path / "cut", Silent())
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_the_bill_has_the_device(tmp_path: Path) -> None:
    config = cartpole("device=cuda", "explore.epsilon.kind=constant", "explore.epsilon.start=0.1")
    bill = train(config, tmp_path / "run", Silent()).bill
    for role in ("learner", "target", "inference"):
        row = bill.find("gpu_s", role)
        assert row.how == "measured"
        assert 0 < row.value < 60
    assert bill.find("peak_gpu_memory").value > 1e6
    assert bill.machine["gpus"]
    joules = bill.find("gpu_j")
    assert joules.value > 0
