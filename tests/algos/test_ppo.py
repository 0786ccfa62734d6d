"""The PPO learner against a slow one; what a correction does to the expected gradient; batches that are refused."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from frugalrl.algos.ppo import PPOConfig, PPOLearner
from frugalrl.cost.meters import LapTimer
from frugalrl.math.importance import apply
from frugalrl.nets.actor_critic import build_actor_critic
from frugalrl.nets.config import NetConfig
from frugalrl.types import BadBatch, EnvSpec, NonFiniteLoss, ReplayedUnrolls, Unroll, UserError
from oracles.gae import slow_gae, slow_ppo_loss
from oracles.vtrace import trajectories

CPU = torch.device("cpu")
T, B, A = 5, 4, 3
VECTOR = EnvSpec(id="V", protocol="p", obs_kind="vector", obs_shape=(4,), obs_dtype="float32", num_actions=A)
EXACT: dict[str, Any] = {
    "precision": "fp64", "gae_lambda": 0.9, "clip_low": 0.1, "clip_high": 0.15, "dual_clip": 2.5, "value_clip": 0.2,
    "reward_scale": 1.5, "max_grad_norm": 0.3, "lr_decay_batches": 10, "correction": "token-tis:1.2",
}  # fmt: skip


def new(spec: EnvSpec = VECTOR, seed: int = 0, lstm_units: int | None = None, **changes: Any) -> PPOLearner:
    timer = LapTimer()
    timer.start()
    known = {"unroll_steps": T, "batch_unrolls": B, "epochs": 2, "minibatches": 2, "learning_rate": 1e-2}
    net = NetConfig(hidden_units=(8,), lstm_units=lstm_units)
    config = PPOConfig(**(known | changes))
    return PPOLearner(config, spec, lambda: build_actor_critic(spec, net), device=CPU, seed=seed, timer=timer)


def batch_of(learner: PPOLearner, seed: int = 0) -> ReplayedUnrolls:
    """Random unrolls with a time limit, a game over and a life loss, and garbage where the contract allows it."""
    rng = np.random.default_rng(seed)
    valid, last, discount = np.ones((T, B), np.bool_), np.zeros((T, B), np.bool_), np.ones((T, B), np.float32)
    last[1, 0] = last[3, 1] = True
    discount[3, 1] = discount[2, 2] = 0.0
    valid[2, 0] = valid[4, 1] = False
    log_mu = np.log(rng.uniform(0.1, 0.6, (T, B))).astype(np.float32)
    log_mu[~valid] = np.nan
    unroll = Unroll(
        obs=rng.normal(size=(T + 1, B, 4)).astype(np.float32),
        action=rng.integers(0, A, (T, B)),
        reward=rng.normal(size=(T, B)).astype(np.float32),
        discount=discount,
        last=last,
        valid=valid,
        log_mu=log_mu,
        version=np.full((T, B), learner.version) - rng.integers(0, 3, (T, B)),
        explored=np.zeros((T, B), np.bool_),
        state_at_start={k: v.numpy() for k, v in learner._net.initial_state(B).items()},
    )
    return ReplayedUnrolls(batch=unroll, keys=np.arange(B), weight=np.ones(B, np.float32))


def weights(learner: PPOLearner) -> dict[str, torch.Tensor]:
    return {name: p.clone() for name, p in learner.weights().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


class SlowLearner:
    """PPO step by step: the network sees one observation at a time, every transition is a term of its own."""

    def __init__(self, fast: PPOLearner, lstm_units: int | None, wrong: str = "") -> None:
        self.net = build_actor_critic(VECTOR, NetConfig(hidden_units=(8,), lstm_units=lstm_units)).double()
        self.net.load_state_dict(fast.state_dict()["online"])
        self.m = [torch.zeros_like(p) for p in self.net.parameters()]
        self.v = [torch.zeros_like(p) for p in self.net.parameters()]
        self.steps = 0
        self.config, self.updates, self.wrong, self.whole = fast.config, 0, wrong, lstm_units is not None
        self.rng = np.random.default_rng(0)

    def outputs(self, batch: Unroll) -> list[list[torch.Tensor]]:
        """[T+1][B] vectors [A + 1]."""
        state = {k: torch.as_tensor(v) for k, v in batch.state_at_start.items()}
        outs = []
        for t in range(T + 1):
            if t and state:
                state |= {"action_tm1": torch.tensor(batch.action[t - 1]),
                          "reward_tm1": torch.tensor(batch.reward[t - 1])}  # fmt: skip
                fresh = torch.tensor(~batch.valid[t - 1])
                for k, initial in self.net.initial_state(B).items():
                    state[k] = torch.where(fresh if initial.ndim == 1 else fresh[:, None], initial, state[k])
            out, state = self.net.step(torch.as_tensor(batch.obs[t]), state)
            outs.append(list(out))
        return outs

    def update(self, replayed: ReplayedUnrolls) -> None:
        batch, config = replayed.batch, self.config
        outs = self.outputs(batch)
        values = np.asarray([[float(x[-1].detach()) for x in row] for row in outs])
        log_old = np.asarray([[float(outs[t][b][:-1].detach().log_softmax(0)[batch.action[t, b]]) for b in range(B)]
                              for t in range(T)])  # fmt: skip
        advantage = slow_gae(
            config.reward_scale * batch.reward.astype(np.float64), config.gamma * batch.discount.astype(np.float64),
            values, batch.valid, batch.last, config.gae_lambda, config.gamma, self.wrong,
        )  # fmt: skip
        weight = np.minimum(np.exp(log_old - batch.log_mu.astype(np.float64)), 1.2)
        for _ in range(config.epochs):
            pool = np.arange(B) if self.whole else np.flatnonzero(batch.valid)
            for index in np.array_split(self.rng.permutation(pool), config.minibatches):
                cells = (
                    [divmod(int(i), B) for i in index] if not self.whole else [(t, b) for t in range(T) for b in index]
                )
                self.step([c for c in cells if batch.valid[c]], batch, values, log_old, advantage, weight)
        self.updates += 1

    def step(
        self, cells: list[tuple[int, int]], batch: Unroll, values: np.ndarray, log_old: np.ndarray, adv: np.ndarray,
        weight: np.ndarray,
    ) -> None:  # fmt: skip
        config, outs = self.config, self.outputs(batch)
        chosen = np.asarray([adv[c] for c in cells])
        chosen = (chosen - chosen.mean()) / (chosen.std(ddof=1) + 1e-8)
        rows = [{"action": batch.action[c], "log_below": log_old[c], "weight": weight[c], "advantage": a,
                 "target": adv[c] + values[c], "value_old": values[c]}
                for c, a in zip(cells, chosen, strict=True)]  # fmt: skip
        loss = slow_ppo_loss(
            [outs[t][b][:-1] for t, b in cells], [outs[t][b][-1] for t, b in cells], rows, clip_low=config.clip_low,
            clip_high=config.clip_high, dual_clip=config.dual_clip, value_clip=config.value_clip,
            baseline_cost=config.baseline_cost, entropy_cost=config.entropy_cost, log=torch.log,
        )  # fmt: skip
        self.net.zero_grad()
        loss.backward()
        gradients = [p.grad for p in self.net.parameters() if p.grad is not None]
        norm = math.sqrt(sum(float((g**2).sum()) for g in gradients))
        scale = min(1.0, (config.max_grad_norm or math.inf) / (norm + 1e-6))
        rate = config.learning_rate * (1 - self.updates / (config.lr_decay_batches or 1))
        self.steps += 1
        with torch.no_grad():
            for p, g, m, v in zip(self.net.parameters(), gradients, self.m, self.v, strict=True):
                m.mul_(0.9).add_(scale * g, alpha=0.1)
                v.mul_(0.999).add_((scale * g) ** 2, alpha=0.001)
                m_hat, v_hat = m / (1 - 0.9**self.steps), v / (1 - 0.999**self.steps)
                p -= rate * m_hat / (v_hat.sqrt() + config.adam_eps)


@pytest.mark.parametrize("wrong", ["", "time limits are terminal", "life losses are ignored"])
@pytest.mark.parametrize("lstm_units", [None, 5])
def test_updates_equal_the_slow_learner(lstm_units: int | None, wrong: str) -> None:
    fast = new(lstm_units=lstm_units, **EXACT)
    slow = SlowLearner(fast, lstm_units, wrong)
    for seed in range(2):
        replayed = batch_of(fast, seed)
        fast.update(replayed)
        slow.update(replayed)
    pairs = [(fast.weights()[name].numpy(), p.detach().numpy()) for name, p in slow.net.named_parameters()]
    assert all(np.allclose(a, b, rtol=1e-6, atol=1e-8) for a, b in pairs) == (not wrong)


# -- what it remembers and counts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("lstm_units", [None, 5])
def test_a_loaded_learner_goes_on_bit_for_bit(lstm_units: int | None) -> None:
    one, two = new(lstm_units=lstm_units), new(seed=1, lstm_units=lstm_units)
    for seed in range(2):
        one.update(batch_of(one, seed))
    two.load_state_dict(one.state_dict())
    # not ==, to which two NaN are equal only if they are one object
    np.testing.assert_equal(one.update(batch_of(one, 3)).metrics, two.update(batch_of(two, 3)).metrics)
    assert same(weights(one), weights(two))
    assert (one.version, two.version) == (3, 3)


def test_garbage_between_episodes_changes_nothing() -> None:
    for units in (None, 5):
        clean, dirty = new(lstm_units=units), new(lstm_units=units)
        replayed = batch_of(clean)
        one = clean.update(replayed)
        bad = ~replayed.batch.valid
        for name in ("reward", "discount"):
            getattr(replayed.batch, name)[bad] = np.nan
        replayed.batch.version[bad] = 10**12
        np.testing.assert_equal(one.metrics, dirty.update(replayed).metrics)
        assert same(weights(clean), weights(dirty))


def test_every_transition_is_read_once_in_each_epoch_and_booked_where_it_belongs() -> None:
    """By hand: 18 of 20 rows are transitions. Forward 2 (4 * 8 + 8 * 4), backward without the first input gradient."""
    plain, corrected, lstm = (
        new(epochs=3, minibatches=4),
        new(epochs=3, minibatches=4, correction="token-tis:2"),
        new(lstm_units=5, epochs=3, minibatches=2),
    )
    forward, learning = 2.0 * (32 + 32) * (T + 1) * B, 2.0 * (2 * 32 + 3 * 32) * 18 * 3
    one, two, three = (x.update(batch_of(x)) for x in (plain, corrected, lstm))
    assert (one.gradient_steps, two.gradient_steps, three.gradient_steps) == (12, 12, 6)
    assert one.costs["learner"].flop == forward + learning
    assert (two.costs["learner"].flop, two.costs["correction"].flop) == (learning, forward)
    assert set(one.costs) == {"learner"}
    assert plain.version == 1
    assert three.costs["learner"].flop > 3 * learning / 18 * 20


def test_a_large_kl_ends_the_epochs() -> None:
    learner = new(epochs=9, learning_rate=0.3, target_kl=0.01)
    updated = learner.update(batch_of(learner))
    assert updated.metrics["epochs"] < 9
    assert updated.metrics["approx_kl"] > 0.01
    assert updated.gradient_steps == 2 * updated.metrics["epochs"]


def test_metrics_are_those_of_their_names() -> None:
    learner = new(precision="fp64", epochs=1, minibatches=1, correction="token-tis:1.2")
    replayed = batch_of(learner)
    slow = SlowLearner(learner, None)
    outs, batch = slow.outputs(replayed.batch), replayed.batch
    values = np.asarray([[float(x[-1].detach()) for x in row] for row in outs])
    log_old = np.asarray([[float(outs[t][b][:-1].detach().log_softmax(0)[batch.action[t, b]]) for b in range(B)]
                          for t in range(T)])  # fmt: skip
    valid = batch.valid
    discount = 0.99 * batch.discount.astype(np.float64)
    advantage = slow_gae(batch.reward.astype(np.float64), discount, values, valid, batch.last, 0.95, 0.99)
    target = (advantage + values[:-1])[valid]
    metrics = learner.update(replayed).metrics
    assert metrics["explained_variance"] == pytest.approx(1 - np.var(advantage[valid]) / np.var(target), rel=1e-6)
    assert metrics["approx_kl"] == pytest.approx(0, abs=1e-12)
    assert metrics["clipped_share"] == 0
    ratio = np.exp(log_old - batch.log_mu)[valid]
    assert metrics["mismatch_ratio_mean"] == pytest.approx(ratio.mean(), rel=1e-5)
    assert metrics["lag_mean"] == pytest.approx(-batch.version[valid].mean())


# -- three policies --------------------------------------------------------------------------------------------------


def test_with_log_mu_of_the_learner_every_correction_leaves_all_as_it_is() -> None:
    found = []
    for correction in ("none", "token-tis:2", "sequence-mask:0.5,2", "vanilla", "ppo-denominator"):
        learner = new(correction=correction, precision="fp64")
        replayed = batch_of(learner)
        with torch.no_grad():
            batch = replayed.batch
            out = learner._net(torch.from_numpy(batch.obs[:-1]).double().flatten(0, 1)).view(T, B, A + 1)[..., :-1]
        log_pi = out.log_softmax(-1).gather(-1, torch.from_numpy(batch.action)[..., None])[..., 0].numpy()
        learner.update(replace(replayed, batch=replace(batch, log_mu=np.where(batch.valid, log_pi, np.nan))))
        found.append(weights(learner))
    assert all(same(found[0], other) for other in found[1:])


STATES = EnvSpec(id="M", protocol="p", obs_kind="index", obs_shape=(), obs_dtype="int64", num_actions=2, num_indices=2)
REWARD, TO = np.asarray([[0.0, 1.0], [2.0, -1.0]]), np.asarray([[0, 1], [1, 0]])
MU = np.asarray([[0.8, 0.2], [0.35, 0.65]])


def expected_gradient(correction: str, mu: np.ndarray | None, steps: int, lambda_: float, start: int = 0) -> np.ndarray:
    """Of the policy's part at the first gradient step, over all trajectories under mu (None: the learner's pi)."""
    learner = new(STATES, precision="fp64", epochs=1, minibatches=1, entropy_cost=0.0, baseline_cost=0.0,
                  normalise_advantages=False, max_grad_norm=None, gae_lambda=lambda_, unroll_steps=steps,
                  batch_unrolls=2**steps, correction=correction, learning_rate=1e-9)  # fmt: skip
    with torch.no_grad():
        pi = learner._net(torch.arange(2))[:, :-1].softmax(-1).numpy()
    acts = pi if mu is None else mu
    found = trajectories(acts, TO, start, steps)
    states, actions = np.asarray([s for _, s, _ in found]).T, np.asarray([a for _, _, a in found]).T
    shape = actions.shape
    unroll = Unroll(
        obs=states, action=actions, reward=REWARD[states[:-1], actions], discount=np.ones(shape),
        last=np.zeros(shape, np.bool_), valid=np.ones(shape, np.bool_), log_mu=np.log(acts[states[:-1], actions]),
        version=np.zeros(shape, np.int64), explored=np.zeros(shape, np.bool_),
    )  # fmt: skip
    probability = np.asarray([p for p, _, _ in found]) * len(found)
    learner.update(ReplayedUnrolls(batch=unroll, keys=np.arange(len(found)), weight=probability))
    return np.concatenate([p.grad.flatten().numpy() for p in learner._parameters.values() if p.grad is not None])


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


@pytest.mark.parametrize("start", [0, 1])
def test_on_a_bandit_a_weight_makes_the_expected_gradient_that_of_the_learner_s_policy(start: int) -> None:
    """One step from one state. Uncorrected it is that of another policy, truncated it is between."""
    right = expected_gradient("none", None, 1, 1.0, start)
    assert distance(expected_gradient("vanilla", MU, 1, 1.0, start), right) < 1e-10
    uncorrected = distance(expected_gradient("none", MU, 1, 1.0, start), right)
    truncated = distance(expected_gradient("token-tis:1.2", MU, 1, 1.0, start), right)
    assert uncorrected > 0.1
    assert 0.01 < truncated < uncorrected
    # the clip already cuts where pi/mu is outside of it
    assert distance(expected_gradient("ppo-denominator", MU, 1, 1.0, start), right) > 0.1


def test_over_three_steps_only_the_product_of_ratios_corrects_states_and_returns_too() -> None:
    right = expected_gradient("none", None, 3, 0.95)
    assert distance(expected_gradient("sequence-vanilla", MU, 3, 0.95), right) < 1e-10
    assert distance(expected_gradient("vanilla", MU, 3, 0.95), right) > 0.05
    assert distance(expected_gradient("none", MU, 3, 0.95), right) > 0.05


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("log_mu", "correction", "sentence"),
    [
        (0.5, "token-tis:2", "values above 0, the largest 0.5"),
        (-math.inf, "none", "log_mu is -inf for 18 sampled actions"),
        (math.nan, "none", r"log_mu is not known \(NaN\) for 18 of 18 transitions"),
        (0.0, "ppo-denominator", "log_mu is 0 for all 18 transitions .* the sampler is greedy or argmin"),
    ],
)
def test_what_no_sampler_can_have_meant_ends_before_the_weights_change(
    log_mu: float, correction: str, sentence: str
) -> None:
    learner = new(correction=correction)
    replayed = batch_of(learner)
    replayed.batch.log_mu[...] = log_mu
    before = weights(learner)
    with pytest.raises(BadBatch, match=f"the batch of update 1 cannot be used: .*{sentence}") as caught:
        learner.update(replayed)
    assert caught.value.replayed is replayed
    assert not isinstance(caught.value, NonFiniteLoss)
    assert same(before, weights(learner))


def test_a_batch_without_a_transition_is_refused() -> None:
    learner = new()
    replayed = batch_of(learner)
    replayed.batch.valid[...] = False
    with pytest.raises(BadBatch, match="leaves nothing"):
        learner.update(replayed)


def test_a_loss_that_is_not_finite_puts_everything_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the last gradient step of several; the update can then be made as if nothing had happened."""
    learner, twin = new(lstm_units=5), new(lstm_units=5)
    learner.update(batch_of(learner))
    twin.update(batch_of(twin))
    replayed, real, steps = batch_of(learner, 1), learner._optimizer.clip, [0]

    def clip(most: float) -> float:
        steps[0] += 1
        return math.nan if steps[0] == 4 else real(most)

    monkeypatch.setattr(learner._optimizer, "clip", clip)
    with pytest.raises(NonFiniteLoss, match="the gradient norm of update 2 is nan"):
        learner.update(replayed)
    monkeypatch.undo()
    assert learner.version == 1
    assert same(weights(learner), weights(twin))
    np.testing.assert_equal(learner.update(replayed).metrics, twin.update(replayed).metrics)
    assert same(weights(learner), weights(twin))


def test_rewards_that_are_not_finite_end_it() -> None:
    learner = new()
    replayed = batch_of(learner)
    replayed.batch.reward[0, 0] = np.inf
    with pytest.raises(NonFiniteLoss, match="the loss of update 1 is nan"):
        learner.update(replayed)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"correction": "token-tsi:2"}, "agent.correction: unknown correction 'token-tsi:2'; did you mean 'token-tis'"),
        ({"correction": "token-tis"}, "agent.correction: .*needs high"),
        ({"gae_lambda": 1.5}, r"agent.gae_lambda=1.5: must lie in \[0, 1\]"),
        ({"clip_low": 1.0}, "agent.clip_low=1.0: the ratio"),
        ({"dual_clip": 1.1}, "agent.dual_clip=1.1: must be more than"),
        ({"target_kl": 0.0}, "agent.target_kl=0.0: must be positive, or None"),
        ({"minibatches": 21}, "a batch holds 20 transitions"),
        ({"entropy_cost": -1.0}, "agent.entropy_cost=-1.0: must be at least 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        new(**change)


def test_a_recurrent_network_needs_whole_unrolls() -> None:
    with pytest.raises(UserError, match=r"agent.minibatches=8 > agent.batch_unrolls=4: a recurrent network"):
        new(lstm_units=5, minibatches=8)


def test_the_weight_is_the_one_of_the_importance_module() -> None:
    """Sequences run along the unroll, and the ends inside of it are not seen."""
    learner = new(correction="sequence-tis:1.5", precision="fp64")
    replayed = batch_of(learner)
    batch, _ = learner._began(replayed)
    part = batch.part
    log_mu = torch.from_numpy(replayed.batch.log_mu).double()
    expected = apply(learner._correction, part.log_old.T, log_mu.T, part.mask.T, axis=-1).weight.T
    np.testing.assert_array_equal(part.weight, expected)
    assert len({round(float(w), 6) for w in part.weight[part.mask[:, 0], 0]}) == 1
