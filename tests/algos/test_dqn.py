from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from frugalrl.algos.dqn import DQNConfig, DQNLearner
from frugalrl.cost.meters import LapTimer
from frugalrl.nets.config import NetConfig
from frugalrl.nets.q_network import build_q_network
from frugalrl.replay import Replay, ReplayConfig
from frugalrl.run.checkpoint import Checkpoints
from frugalrl.types import EnvSpec, NonFiniteLoss, Replayed, Transition

CPU = torch.device("cpu")
BATCH, ACTIONS = 6, 3
VECTOR = EnvSpec(id="V", protocol="p", obs_kind="vector", obs_shape=(5,), obs_dtype="float32", num_actions=ACTIONS)
IMAGE = EnvSpec(
    id="I", protocol="p", obs_kind="image", obs_shape=(4, 36, 36), obs_dtype="uint8", num_actions=ACTIONS, frame_stack=4
)


def new(spec: EnvSpec = VECTOR, seed: int = 0, dueling: bool = False, **changes: Any) -> DQNLearner:
    timer = LapTimer()
    timer.start()
    config = DQNConfig(**({"batch_size": BATCH, "learning_rate": 1e-2, "target_period_updates": 5} | changes))
    net = NetConfig(hidden_units=(8,), dueling=dueling)
    return DQNLearner(config, spec, lambda: build_q_network(spec, net), device=CPU, seed=seed, timer=timer)


def batch_of(spec: EnvSpec = VECTOR, seed: int = 0, weight: Any = None, scale: float = 1.0) -> Replayed:
    rng = np.random.default_rng(seed)

    def obs() -> np.ndarray:
        if spec.obs_dtype == "uint8":
            return rng.integers(0, 256, (BATCH, *spec.obs_shape), dtype=np.uint8)
        return rng.normal(size=(BATCH, *spec.obs_shape)).astype(np.float32)

    batch = Transition(
        obs_tm1=obs(),
        a_tm1=rng.integers(0, ACTIONS, BATCH),
        r_t=(scale * rng.normal(size=BATCH)).astype(np.float32),
        discount_t=np.where(rng.random(BATCH) < 0.2, 0, 0.9).astype(np.float32),
        obs_t=obs(),
        log_mu_tm1=np.zeros(BATCH, np.float32),
        version_tm1=np.zeros(BATCH, np.int64),
        explored_tm1=np.zeros(BATCH, np.bool_),
    )
    ones = np.ones(BATCH, np.float32)
    return Replayed(batch=batch, keys=np.arange(BATCH), weight=ones if weight is None else weight)


def weights(learner: DQNLearner) -> dict[str, torch.Tensor]:
    return {name: p.clone() for name, p in learner.weights().items()}


def moments(learner: DQNLearner) -> dict[str, torch.Tensor]:
    return {k: v.clone() for k, v in learner.state_dict()["optimizer"].items()}


def assert_equal(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(torch.as_tensor(a[name]), torch.as_tensor(b[name])), name


# -- one update against a slow one -----------------------------------------------------------------------------------


class SlowLearner:
    """Double DQN with Huber loss and Adam, transition by transition and parameter by parameter."""

    def __init__(self, fast: DQNLearner, spec: EnvSpec, dueling: bool = False) -> None:
        net = NetConfig(hidden_units=(8,), dueling=dueling)
        self.online, self.target = build_q_network(spec, net), build_q_network(spec, net)
        self.online.load_state_dict(fast.state_dict()["online"])
        self.target.load_state_dict(fast.state_dict()["target"])
        self.m = [torch.zeros_like(p) for p in self.online.parameters()]
        self.v = [torch.zeros_like(p) for p in self.online.parameters()]
        self.config, self.updates = fast.config, 0

    def update(self, replayed: Replayed) -> tuple[float, list[float]]:
        batch, config = replayed.batch, self.config
        loss, tds = torch.zeros(()), []
        for i in range(BATCH):
            obs_tm1, obs_t = (torch.from_numpy(x[i : i + 1]) for x in (batch.obs_tm1, batch.obs_t))
            with torch.no_grad():
                chooser = self.online if config.double else self.target
                best = int(chooser(obs_t)[0].argmax())
                target = batch.r_t[i] + batch.discount_t[i] * self.target(obs_t)[0, best]
            td = target - self.online(obs_tm1)[0, int(batch.a_tm1[i])]
            tds.append(float(td.detach()))
            if config.huber_delta is None or abs(float(td.detach())) <= config.huber_delta:
                one = 0.5 * td * td
            else:
                one = config.huber_delta * (td.abs() - 0.5 * config.huber_delta)
            loss = loss + float(replayed.weight[i]) * one / BATCH
        self.online.zero_grad()
        loss.backward()
        self.step()
        return float(loss.detach()), tds

    def step(self) -> None:
        config = self.config
        gradients = [p.grad for p in self.online.parameters() if p.grad is not None]
        norm = torch.sqrt(sum(((g**2).sum() for g in gradients), torch.zeros(())))
        scale = 1.0 if config.max_grad_norm is None else min(1.0, config.max_grad_norm / (float(norm) + 1e-6))
        self.updates += 1
        with torch.no_grad():
            for p, g, m, v in zip(self.online.parameters(), gradients, self.m, self.v, strict=True):
                g = g * scale
                m.mul_(0.9).add_(g, alpha=0.1)
                v.mul_(0.999).add_(g * g, alpha=0.001)
                m_hat, v_hat = m / (1 - 0.9**self.updates), v / (1 - 0.999**self.updates)
                p -= config.learning_rate * m_hat / (v_hat.sqrt() + config.adam_eps)
        if self.updates % config.target_period_updates == 0:
            self.target.load_state_dict(self.online.state_dict())


@pytest.mark.parametrize("spec", [VECTOR, IMAGE], ids=["vector", "image"])
@pytest.mark.parametrize(
    "changes",
    [
        {"double": True, "huber_delta": 1.0},
        {"double": False, "huber_delta": 1.0},
        {"double": True, "huber_delta": None},
        {"double": True, "huber_delta": 0.1, "max_grad_norm": 0.05},
        {"double": True, "dueling": True},
    ],
    ids=["double", "plain", "squared", "clipped", "dueling"],
)
def test_updates_equal_the_slow_definition(spec: EnvSpec, changes: dict[str, Any]) -> None:
    fast = new(spec, **changes)
    with torch.no_grad():  # online and target must differ, or double and plain are the same
        for p in fast._target.parameters():
            p += 0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1))
    slow = SlowLearner(fast, spec, changes.get("dueling", False))
    rng = np.random.default_rng(2)
    for number in range(7):  # across one copy into the target
        replayed = batch_of(spec, seed=number, weight=rng.uniform(0.1, 1.0, BATCH).astype(np.float32))
        done = fast.update(replayed)
        loss, tds = slow.update(replayed)
        assert done.metrics["loss"] == pytest.approx(loss, rel=1e-4, abs=1e-6)
        assert done.priorities is not None
        np.testing.assert_allclose(done.priorities, np.abs(tds), rtol=1e-3, atol=1e-5)
        for name, p in slow.online.named_parameters():
            torch.testing.assert_close(fast.weights()[name], p.detach(), rtol=1e-4, atol=2e-6)


def test_the_slow_definition_is_not_blind_to_who_selects() -> None:
    fast = new(double=True)
    with torch.no_grad():
        for p in fast._target.parameters():
            p += torch.randn(p.shape, generator=torch.Generator().manual_seed(1))
    slow = SlowLearner(fast, VECTOR)
    slow.config = DQNConfig(batch_size=BATCH, learning_rate=1e-2, double=False)
    fast.update(batch_of())
    slow.update(batch_of())
    assert not torch.allclose(fast.weights()["1.weight"], slow.online.get_parameter("1.weight"), atol=1e-5)


# -- what an update changes ------------------------------------------------------------------------------------------


def test_the_target_is_copied_at_its_period_and_only_then() -> None:
    learner = new(target_period_updates=3)
    first = {k: v.clone() for k, v in learner._target.state_dict().items()}
    assert_equal(first, dict(learner._online.state_dict()))
    for number in range(1, 10):
        learner.update(batch_of(seed=number))
        now = learner._target.state_dict()
        if number % 3 == 0:
            assert_equal(dict(now), dict(learner._online.state_dict()))
            first = {k: v.clone() for k, v in now.items()}
        else:
            assert_equal(dict(now), first)
            assert not torch.equal(now["1.weight"], learner._online.state_dict()["1.weight"])
    assert not any(p.requires_grad for p in learner._target.parameters())


def gradients(weight: list[float]) -> dict[str, torch.Tensor]:
    learner = new()
    learner.update(batch_of(weight=np.array(weight, np.float32)))
    return {name: p.grad.clone() for name, p in learner._online.named_parameters() if p.grad is not None}


def test_the_weight_reaches_the_gradient() -> None:
    ones, halves = gradients([1.0] * BATCH), gradients([0.5] * BATCH)
    singles = [gradients([float(i == j) for j in range(BATCH)]) for i in range(BATCH)]
    for name in ones:
        torch.testing.assert_close(halves[name], ones[name] / 2)
        torch.testing.assert_close(torch.stack([single[name] for single in singles]).sum(0), ones[name])
    assert not torch.allclose(singles[0]["2.weight"], singles[1]["2.weight"])
    assert not any(g.any() for g in gradients([0.0] * BATCH).values())


def test_the_gradient_norm_is_limited() -> None:
    learner = new(max_grad_norm=0.01, adam_eps=1.0)
    learner.update(batch_of(scale=100.0))
    norm = torch.sqrt(sum(((p.grad**2).sum() for p in learner._online.parameters()), torch.zeros(())))
    assert float(norm) == pytest.approx(0.01, rel=1e-3)


def test_what_an_update_says() -> None:
    learner = new()
    replayed = batch_of()
    with torch.no_grad():
        q = learner._online(torch.from_numpy(replayed.batch.obs_tm1))
    done = learner.update(replayed)
    assert set(done.metrics) == {"loss", "td_mean", "td_abs", "q_mean"}
    assert all(type(v) is float for v in done.metrics.values())
    assert done.metrics["q_mean"] == pytest.approx(float(q.mean()), rel=1e-5)
    assert done.priorities is not None
    assert done.metrics["td_abs"] == pytest.approx(done.priorities.mean(), rel=1e-6)
    assert abs(done.metrics["td_mean"]) <= done.metrics["td_abs"]
    assert (done.costs["learner"].updates, done.costs["learner"].calls, done.costs["target"].calls) == (1, 1, 2)
    assert new(double=False).update(replayed).costs["target"].calls == 1
    assert learner.version == learner.snapshot().version == 1


def test_flops_of_an_update_equal_a_hand_count() -> None:
    costs = new().update(batch_of()).costs
    forward = 2 * BATCH * (5 * 8 + 8 * ACTIONS)
    # backward: every weight once, every layer's input but the first, which is data
    backward = 2 * BATCH * (5 * 8 + 8 * ACTIONS) + 2 * BATCH * 8 * ACTIONS
    assert costs["learner"].flop == forward + backward
    assert costs["target"].flop == 2 * forward


def test_a_batch_is_not_written_to() -> None:
    replayed = batch_of()
    before = {k: getattr(replayed.batch, k).copy() for k in ("obs_tm1", "a_tm1", "r_t", "discount_t", "obs_t")}
    new().update(replayed)
    for name, array in before.items():
        np.testing.assert_array_equal(getattr(replayed.batch, name), array)


# -- not finite ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("max_grad_norm", [None, 10.0])
def test_a_loss_that_is_not_finite_stops_before_the_weights_change(bad: float, max_grad_norm: float | None) -> None:
    learner = new(max_grad_norm=max_grad_norm)
    for number in range(3):
        learner.update(batch_of(seed=number))
    online, optimizer = weights(learner), moments(learner)
    replayed = batch_of(seed=9)
    replayed.batch.r_t[2] = bad
    with pytest.raises(NonFiniteLoss, match=r"the loss of update 4 is (nan|inf)") as caught:
        learner.update(replayed)
    assert caught.value.replayed is replayed
    assert_equal(weights(learner), online)
    assert_equal(moments(learner), optimizer)
    assert learner.version == 3
    learner.update(batch_of(seed=10))


def test_a_gradient_that_is_not_finite_stops_before_the_weights_change() -> None:
    learner = new(max_grad_norm=10.0, huber_delta=None)
    with torch.no_grad():  # the squares of these gradients overflow, the loss itself does not
        learner._online.get_parameter("2.weight").mul_(1e18)
    online = weights(learner)
    with pytest.raises(NonFiniteLoss, match=r"the gradient norm of update 1 is (nan|inf)"):
        learner.update(batch_of())
    assert_equal(weights(learner), online)
    assert learner.version == 0


# -- saving ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [VECTOR, IMAGE], ids=["vector", "image"])
@pytest.mark.parametrize("before", [0, 1, 8])
def test_after_a_round_trip_through_a_checkpoint_updates_are_equal_bit_for_bit(
    tmp_path: Path, spec: EnvSpec, before: int
) -> None:
    learner = new(spec, max_grad_norm=1.0)
    for number in range(before):
        learner.update(batch_of(spec, seed=number))
    replay = Replay(ReplayConfig(), VECTOR, 1, 0.9, np.random.default_rng(0))
    Checkpoints(tmp_path).save(0, learner.state_dict(), replay)
    other = new(spec, seed=77, max_grad_norm=1.0)
    other.update(batch_of(spec, seed=99))
    other.load_state_dict(Checkpoints(tmp_path).load(None).state)
    for number in range(before, before + 20):
        one, two = learner.update(batch_of(spec, seed=number)), other.update(batch_of(spec, seed=number))
        assert one.metrics == two.metrics
        np.testing.assert_array_equal(one.priorities, two.priorities)
    assert_equal(weights(learner), weights(other))
    assert_equal(moments(learner), moments(other))
    assert_equal(dict(learner._target.state_dict()), dict(other._target.state_dict()))
    assert learner.version == other.version == before + 20


def test_restored_moments_have_the_layout_of_their_parameters() -> None:
    learner, other = new(IMAGE), new(IMAGE, seed=1)
    learner.update(batch_of(IMAGE))
    state = learner.state_dict()
    state["optimizer"] = {k: v.contiguous() for k, v in state["optimizer"].items()}
    other.load_state_dict(state)
    kept = other.state_dict()["optimizer"]
    for name, parameter in other._parameters.items():
        assert kept[f"{name}/exp_avg"].stride() == kept[f"{name}/exp_avg_sq"].stride() == parameter.stride()
        assert kept[f"{name}/step"].dtype == torch.float32


def test_a_restored_learner_shares_nothing_with_the_state() -> None:
    learner, other = new(), new(seed=1)
    learner.update(batch_of())
    state = learner.state_dict()
    other.load_state_dict(state)
    before = weights(learner), moments(learner)
    other.update(batch_of(seed=5))
    assert_equal(weights(learner), before[0])
    assert_equal(moments(learner), before[1])


def test_same_seed_same_weights_whatever_was_drawn_before() -> None:
    one = new(seed=4)
    torch.rand(7)
    assert torch.equal(weights(one)["1.weight"], weights(new(seed=4))["1.weight"])
    assert not torch.equal(weights(one)["1.weight"], weights(new(seed=5))["1.weight"])
    assert_equal(dict(one._online.state_dict()), dict(one._target.state_dict()))


def test_bf16_keeps_weights_and_moments_in_float32() -> None:
    exact, rough = new(IMAGE), new(IMAGE, precision="bf16")
    for number in range(3):
        exact.update(batch_of(IMAGE, seed=number))
        rough.update(batch_of(IMAGE, seed=number))
    assert {p.dtype for p in [*weights(rough).values(), *moments(rough).values()]} == {torch.float32}
    for name, p in weights(exact).items():
        torch.testing.assert_close(weights(rough)[name], p, rtol=0.1, atol=0.05)
    assert not torch.equal(weights(rough)["1.weight"], weights(exact)["1.weight"])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("gamma", 1.1), ("gamma", -0.1), ("batch_size", 0), ("target_period_updates", 0), ("learning_rate", 0.0),
        ("adam_eps", -1.0), ("huber_delta", 0.0), ("max_grad_norm", 0.0),
    ],
)  # fmt: skip
def test_impossible_settings_are_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"agent.{field}={value}"):
        DQNConfig(**{field: value})  # type: ignore[arg-type]


def test_the_state_is_arrays_and_json() -> None:
    learner = new()
    learner.update(batch_of())

    def plain(tree: Any) -> Any:
        if isinstance(tree, dict):
            return {k: plain(v) for k, v in tree.items()}
        return None if isinstance(tree, torch.Tensor) else tree

    json.dumps(plain(learner.state_dict()))
    assert isinstance(learner._online, nn.Module)
