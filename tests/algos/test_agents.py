"""Learners with other heads, noise and augmentation: one update against slow definitions, and exact state."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from frugalrl.algos.agents import LEARNERS, AgentConfig, Learner
from frugalrl.algos.augment import Augment
from frugalrl.algos.dqn import DQNConfig
from frugalrl.algos.qrdqn import QRDQNConfig
from frugalrl.algos.rainbow import C51Config
from frugalrl.algos.tabular import TabularConfig
from frugalrl.cost.meters import LapTimer
from frugalrl.nets.config import NetConfig
from frugalrl.nets.q_network import build_q_network
from frugalrl.types import EnvSpec, NonFiniteLoss, Replayed, Transition, UserError
from oracles.distributions import slow_cross_entropy, slow_project, slow_quantile_loss, softmax

CPU = torch.device("cpu")
BATCH, ACTIONS, STATES = 6, 3, 4
VECTOR = EnvSpec(id="V", protocol="p", obs_kind="vector", obs_shape=(5,), obs_dtype="float32", num_actions=ACTIONS)
INDEX = replace(VECTOR, obs_kind="index", obs_shape=(), obs_dtype="int64", num_indices=STATES)
IMAGE = replace(VECTOR, obs_kind="image", obs_shape=(4, 36, 36), obs_dtype="uint8", frame_stack=4)

COMMON: dict[str, Any] = {"batch_size": BATCH, "learning_rate": 1e-2, "target_period_updates": 3}
CONFIGS: dict[str, AgentConfig] = {
    "dqn": DQNConfig(**COMMON),
    "qrdqn": QRDQNConfig(quantiles=4, **COMMON),
    "c51": C51Config(atoms=7, v_min=-2.0, v_max=2.0, **COMMON),
    "tabular": TabularConfig(batch_size=BATCH, init_std=1.0),
    "tabular-double": TabularConfig(batch_size=BATCH, init_std=1.0, double=True),
}
NOISY = NetConfig(hidden_units=(8,), dueling=True, noisy_sigma0=0.5)


def new(config: AgentConfig, spec: EnvSpec = VECTOR, net: NetConfig | None = None, seed: int = 0) -> Learner:
    timer = LapTimer()
    timer.start()

    def build() -> Any:
        return build_q_network(spec, net or NetConfig(hidden_units=(8,)), config.head())

    return LEARNERS[type(config)](config, spec, build, device=CPU, seed=seed, timer=timer)


def spec_of(name: str) -> EnvSpec:
    return INDEX if name.startswith("tabular") else VECTOR


def batch_of(spec: EnvSpec, seed: int = 0) -> Replayed:
    rng = np.random.default_rng(seed)

    def obs() -> np.ndarray:
        if spec.obs_kind == "index":
            return rng.integers(STATES, size=BATCH)
        if spec.obs_kind == "image":
            return rng.integers(0, 256, (BATCH, *spec.obs_shape), dtype=np.uint8)
        return rng.normal(size=(BATCH, *spec.obs_shape)).astype(np.float32)

    batch = Transition(
        obs_tm1=obs(),
        a_tm1=rng.integers(0, ACTIONS, BATCH),
        r_t=rng.normal(size=BATCH).astype(np.float32),
        discount_t=np.where(rng.random(BATCH) < 0.3, 0, 0.9).astype(np.float32),
        obs_t=obs(),
        log_mu_tm1=np.zeros(BATCH, np.float32),
        version_tm1=np.zeros(BATCH, np.int64),
        explored_tm1=np.zeros(BATCH, np.bool_),
    )
    return Replayed(batch=batch, keys=np.arange(BATCH), weight=rng.uniform(0.1, 1, BATCH).astype(np.float32))


def assert_same(a: Any, b: Any) -> None:
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for name in a:
            assert_same(a[name], b[name])
    elif isinstance(a, torch.Tensor | np.ndarray):
        assert torch.equal(torch.as_tensor(a), torch.as_tensor(b))
    else:
        assert a == b


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("name", ["qrdqn", "c51"])
def test_loss_and_priorities_equal_the_slow_definitions(name: str, double: bool) -> None:
    learner = new(replace(CONFIGS[name], double=double))
    with torch.no_grad():  # online and target must differ, or double changes nothing
        for p in learner._target.parameters():
            p += 0.5 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1))
    online, target, head, config = learner._online, learner._target, learner._online.head, learner.config
    replayed = batch_of(VECTOR)
    batch = replayed.batch
    with torch.no_grad():
        out_tm1, out_t = online(torch.from_numpy(batch.obs_tm1)), target(torch.from_numpy(batch.obs_t))
        select = head.to_q(online(torch.from_numpy(batch.obs_t)) if double else out_t).argmax(1)
        q_t, q_tm1 = head.to_q(out_t), head.to_q(out_tm1)
    each, priorities, tds = [], [], []
    for i in range(BATCH):
        r, d, a, best = float(batch.r_t[i]), float(batch.discount_t[i]), int(batch.a_tm1[i]), int(select[i])
        here, there = out_tm1[i, a].tolist(), out_t[i, best].tolist()
        if name == "qrdqn":
            each.append(slow_quantile_loss(here, [r + d * y for y in there], config.kappa))
            priorities.append(each[-1])
        else:
            grid = np.linspace(config.v_min, config.v_max, config.atoms).tolist()
            goal = slow_project([r + d * z for z in grid], softmax(there), grid)
            each.append(slow_cross_entropy(here, goal))
            priorities.append(each[-1] + sum(p * np.log(p) for p in goal if p > 0))
        tds.append(r + d * float(q_t[i, best]) - float(q_tm1[i, a]))
    done = learner.update(replayed)
    assert done.metrics["loss"] == pytest.approx(float(np.mean(np.array(each) * replayed.weight)), rel=1e-4)
    np.testing.assert_allclose(done.priorities, priorities, rtol=1e-3, atol=1e-5)
    assert done.metrics["td_mean"] == pytest.approx(np.mean(tds), rel=1e-3, abs=1e-5)


def slow_tabular(q: np.ndarray, config: TabularConfig, replayed: Replayed, learns: int) -> None:
    """Entry by entry; all targets from the table before the update, as in a batch."""
    batch, before = replayed.batch, q.copy()
    other = 1 - learns if config.double else 0
    for i in range(BATCH):
        s, a, s_t = int(batch.obs_tm1[i]), int(batch.a_tm1[i]), int(batch.obs_t[i])
        best = int(before[learns, s_t].argmax())
        td = batch.r_t[i] + batch.discount_t[i] * before[other, s_t, best] - before[learns, s, a]
        q[learns, s, a] += config.step_size * replayed.weight[i] * td


@pytest.mark.parametrize("double", [False, True])
def test_a_table_learns_by_the_slow_definition(double: bool) -> None:
    config = TabularConfig(batch_size=BATCH, init_std=1.0, double=double)
    learner = new(config, INDEX)
    assert learner._q.shape == (2 if double else 1, STATES, ACTIONS)
    learnt = set()
    for number in range(20):
        replayed, before = batch_of(INDEX, number), learner._q.copy()
        learner.update(replayed)
        moved = [k for k in range(len(before)) if (learner._q[k] != before[k]).any()]
        assert len(moved) == 1
        slow_tabular(before, config, replayed, moved[0])
        np.testing.assert_allclose(learner._q, before, rtol=1e-5, atol=1e-6)
        learnt.add(moved[0])
    assert learnt == ({0, 1} if double else {0})


def test_a_table_that_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match="a tabular agent needs index observations"):
        new(CONFIGS["tabular"], VECTOR)


def test_a_table_that_diverges_says_so_and_keeps_its_values() -> None:
    learner = new(CONFIGS["tabular"], INDEX)
    replayed, before = batch_of(INDEX), learner._q.copy()
    bad = replace(replayed, batch=replace(replayed.batch, r_t=np.full(BATCH, np.nan, np.float32)))
    with pytest.raises(NonFiniteLoss, match="update 1"):
        learner.update(bad)
    np.testing.assert_array_equal(learner._q, before)


def copied(tensors: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: x.detach().clone().numpy() for name, x in tensors.items()}


@pytest.mark.parametrize("net", [None, NOISY], ids=["plain", "noisy"])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_state_goes_on_bit_for_bit(name: str, net: NetConfig | None) -> None:
    spec = spec_of(name)
    one, other = new(CONFIGS[name], spec, net), new(CONFIGS[name], spec, net, seed=0)
    for number in range(4):
        one.update(batch_of(spec, number))
    saved = one.state_dict()
    other.load_state_dict({k: copied(v) if isinstance(v, dict) else v for k, v in saved.items()})
    for number in range(4, 8):
        a, b = one.update(batch_of(spec, number)), other.update(batch_of(spec, number))
        assert a.metrics == b.metrics
    assert_same(one.state_dict(), other.state_dict())


def test_noise_is_new_in_each_update_and_a_function_of_the_seed() -> None:
    learner = new(CONFIGS["c51"], VECTOR, NOISY)
    seen = []
    for number in range(3):
        learner.update(batch_of(VECTOR, number))
        noise = [m.noise_in.clone() for m in learner._online.modules() if hasattr(m, "noise_in")]
        of_target = [m.noise_in for m in learner._target_net.modules() if hasattr(m, "noise_in")]
        assert not torch.equal(noise[0], of_target[0])
        seen.append(torch.cat(noise))
    assert not torch.equal(seen[0], seen[1])
    again = new(CONFIGS["c51"], VECTOR, NOISY)
    again.update(batch_of(VECTOR, 0))
    noise = torch.cat([m.noise_in for m in again._online.modules() if hasattr(m, "noise_in")])
    assert torch.equal(noise, seen[0])


def test_augmentation_changes_the_update_and_only_images_can_be_augmented() -> None:
    plain, shifted = new(CONFIGS["dqn"], IMAGE), new(replace(CONFIGS["dqn"], shift_pixels=4), IMAGE)
    replayed = batch_of(IMAGE)
    kept = replayed.batch.obs_tm1.copy()
    a, b = plain.update(replayed), shifted.update(replayed)
    assert a.metrics["loss"] != b.metrics["loss"]
    np.testing.assert_array_equal(replayed.batch.obs_tm1, kept)
    with pytest.raises(UserError, match="augmentation needs images, but V gives vector"):
        new(replace(CONFIGS["dqn"], intensity_scale=0.05), VECTOR)


def test_both_ends_of_a_transition_are_moved_on_their_own() -> None:
    augment = Augment(IMAGE, 4, 0.0, seed=0)
    obs = np.arange(36 * 36, dtype=np.uint8).reshape(1, 1, 36, 36).repeat(BATCH, 0).repeat(4, 1)
    obs_tm1, obs_t = augment(obs, obs, 0)
    assert not np.array_equal(obs_tm1, obs_t)
    assert not np.array_equal(augment(obs, obs, 1)[0], obs_tm1)
    np.testing.assert_array_equal(augment(obs, obs, 0)[0], obs_tm1)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: C51Config(v_min=1.0, v_max=1.0), "v_min < v_max"),
        (lambda: C51Config(atoms=1), "at least 2 atoms"),
        (lambda: QRDQNConfig(quantiles=1), "at least 2 quantiles"),
        (lambda: QRDQNConfig(gamma=1.5), r"agent.gamma=1.5"),
        (lambda: TabularConfig(step_size=0.0), r"agent.step_size=0.0"),
        (lambda: TabularConfig(gamma=-1.0), r"agent.gamma=-1.0"),
        (lambda: TabularConfig(init_std=-1.0), r"init_std=-1.0"),
        (lambda: DQNConfig(shift_pixels=-1), r"agent.shift_pixels=-1"),
        (lambda: NetConfig(noisy_sigma0=0.0), r"net.noisy_sigma0=0.0"),
    ],
)
def test_impossible_settings(make: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make()
