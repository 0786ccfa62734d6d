"""The hooks in Stable-Baselines3 itself: ``scripts/trainer_env sb3``, then ``pytest -m sb3 -n 0``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

pytest.importorskip("stable_baselines3", reason="the environment of scripts/trainer_env sb3")

import torch
from gymnasium import spaces
from sb3_contrib import QRDQN, MaskablePPO, RecurrentPPO
from scipy import stats
from stable_baselines3 import A2C, DQN, PPO, SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import FakeImageEnv
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.utils import set_random_seed

import frugalrl.envs.toys  # noqa: F401  (registers Catch)
from frugalrl.integrations.sb3 import CorrectedPPO, CounteractiveDQN, Counteracts, SamplesFromCopy
from frugalrl.types import UserError

pytestmark = [pytest.mark.sb3, pytest.mark.filterwarnings("ignore")]


class CounteractiveQRDQN(Counteracts, QRDQN):
    """Q is the mean over quantiles."""


class DrawnQ(CounteractiveDQN):  # type: ignore[misc]
    """With Q-values that a test sets."""

    q: Any = None

    def _q_values(self, observation: Any) -> tuple[Any, bool]:
        return self.q, True


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def observations(rows: int) -> Any:
    return np.random.default_rng(0).normal(size=(rows, 4)).astype(np.float32)


@pytest.mark.parametrize("kind", [CounteractiveDQN, CounteractiveQRDQN])
def test_it_explores_with_argmin(kind: Any) -> None:
    model = kind("MlpPolicy", "CartPole-v1", seed=0)
    obs = observations(64)
    with torch.no_grad():
        x = torch.as_tensor(obs)
        q = (model.policy.q_net(x) if kind is CounteractiveDQN else model.policy.quantile_net(x).mean(1)).numpy()
    model.exploration_rate = 1.0
    action, _ = model.predict(obs)
    assert action.tolist() == q.argmin(1).tolist()
    assert model.predict(obs[0])[0] == q[0].argmin()
    assert model.predict(obs, deterministic=True)[0].tolist() == q.argmax(1).tolist()
    model.exploration_rate = 0.0
    assert model.predict(obs)[0].tolist() == q.argmax(1).tolist()


def explored_together(model: Any, rows: int, steps: int) -> int:
    """Steps in which all rows did the same: argmin, or argmax."""
    model.exploration_rate = 0.5
    taken = [model.predict(observations(rows))[0] for _ in range(steps)]
    return sum(len(set(action.tolist())) == 1 for action in taken)


def test_each_environment_decides_for_itself() -> None:
    """Stable-Baselines3's own rule draws once for all of them, and must fail this."""
    model = DrawnQ("MlpPolicy", "CartPole-v1", seed=0)
    model.q = np.tile([1.0, 0.0], (8, 1))
    assert explored_together(model, 8, 200) < 10
    own = DQN("MlpPolicy", "CartPole-v1", seed=0)
    own.policy.predict = lambda observation, *_: (np.zeros(len(observation), np.int64), None)
    assert explored_together(own, 8, 200) > 60


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_shares_and_ties(share: float) -> None:
    model = DrawnQ("MlpPolicy", "CartPole-v1", seed=1, uniform_share=share)
    rows, eps = 40_000, 0.3
    model.q, model.exploration_rate = np.tile([2.0, 1.0, 1.0, 1.5], (rows, 1)), eps
    counts = np.bincount(model.predict(None)[0], minlength=4)
    expected = eps * (share * np.full(4, 0.25) + (1 - share) * np.array([0, 0.5, 0.5, 0])) + [1 - eps, 0, 0, 0]
    possible = expected > 0
    assert counts[~possible].sum() == 0
    assert stats.chisquare(counts[possible], rows * expected[possible]).pvalue > 1e-3


def test_it_solves_catch() -> None:
    """The optimum is 1; the last policy over 100 episodes, with either way of exploring."""
    for share in (0.0, 1.0):
        model = CounteractiveDQN(
            "MlpPolicy", make_vec_env("frugalrl/Catch-v0", n_envs=4, seed=0), seed=0, learning_rate=1e-3,
            learning_starts=500, train_freq=1, gradient_steps=4, batch_size=64, target_update_interval=200,
            exploration_fraction=0.3, policy_kwargs={"net_arch": [64]}, uniform_share=share, buffer_size=20_000,
        )  # fmt: skip
        model.learn(12_000)
        score = evaluate_policy(model, gymnasium.make("frugalrl/Catch-v0"), n_eval_episodes=100)[0]
        assert score >= 0.95, share


def test_a_saved_model_goes_on(tmp_path: Path) -> None:
    model = CounteractiveDQN("MlpPolicy", "CartPole-v1", seed=0, learning_starts=50, uniform_share=0.25)
    model.learn(200)
    model.save(tmp_path / "model")
    again = CounteractiveDQN.load(tmp_path / "model", env=make_vec_env("CartPole-v1"))
    assert again.uniform_share == 0.25
    obs = observations(256)
    again.exploration_rate = model.exploration_rate = 0.5
    drawn = []
    for each in (model, again):
        each.set_random_seed(1)
        drawn.append(each.predict(obs)[0].tolist())
    assert drawn[0] == drawn[1]
    again.learn(100, reset_num_timesteps=False)


@pytest.mark.parametrize("kind", [DQN, CounteractiveDQN])
def test_seeds_are_those_of_stable_baselines(kind: Any) -> None:
    """Its own DQN must pass this as well."""

    def drawn(model: Any) -> list[int]:
        model.exploration_rate = 0.5
        return [int(model.predict(observations(1)[0])[0]) for _ in range(64)]

    def of_global_seed(before: int, **given: Any) -> list[int]:
        set_random_seed(before)
        model = kind("MlpPolicy", "CartPole-v1", **given)
        model.action_space.seed(0)
        return drawn(model)

    model = kind("MlpPolicy", "CartPole-v1", seed=5)
    runs = []
    for seed in (3, 3, 4):
        model.set_random_seed(seed)
        runs.append(drawn(model))
    assert runs[0] == runs[1] != runs[2]
    assert of_global_seed(0) == of_global_seed(0) != of_global_seed(1)
    assert of_global_seed(0, seed=2) == of_global_seed(1, seed=2)


class Kept(CorrectedPPO):  # type: ignore[misc]
    """Keeps what one update was given."""

    def train(self) -> None:
        buffer = self.rollout_buffer
        self.advantages, self.log_mu = buffer.advantages.copy(), buffer.log_probs.copy()
        self.learner = {k: v.clone() for k, v in self.policy.state_dict().items()}
        obs, actions = (torch.as_tensor(x).flatten(0, 1) for x in (buffer.observations, buffer.actions))
        with torch.no_grad():
            log_pi = self.policy.evaluate_actions(obs, actions.flatten())[1]
        self.log_pi = log_pi.numpy().reshape(self.log_mu.shape)
        rows = buffer.get
        self.normalized_again = False

        def get(*args: Any) -> Any:
            self.normalized_again |= self.normalize_advantage
            return rows(*args)

        buffer.get = get
        super().train()
        del buffer.get
        # swapped and flattened by PPO's minibatches: [n_envs * n_steps, 1]
        self.given = buffer.advantages.reshape(buffer.n_envs, -1).T
        self.below_the_line = buffer.log_probs.reshape(buffer.n_envs, -1).T


def one_update(correction: str, **settings: Any) -> Any:
    env = make_vec_env("CartPole-v1", n_envs=2, seed=0)
    model = Kept(
        "MlpPolicy", env, n_steps=64, seed=0, learning_rate=3e-2, sampler_transform="int3", correction=correction,
        **settings,
    )  # fmt: skip
    return model.learn(256)


@pytest.mark.parametrize("normalize", [True, False])
def test_weights_are_truncated_ratios_of_what_really_acted(normalize: bool) -> None:
    model = one_update("token-tis:1.01", normalize_advantage=normalize)
    ratio = np.exp(model.log_pi - model.log_mu)
    weight = np.minimum(ratio, 1.01)
    assert ratio.max() > 1.01
    a = model.advantages
    if normalize:
        a = (a - a.mean()) / (a.std() + 1e-8)
    np.testing.assert_allclose(model.given, a * weight, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(model.below_the_line, model.log_pi, atol=1e-6)
    assert not np.allclose(model.given, a, rtol=1e-3)
    logged = model.logger.name_to_value
    assert logged["mismatch/ratio_max"] == pytest.approx(ratio.max(), rel=1e-4)
    assert logged["mismatch/k3"] == pytest.approx((ratio - 1 - np.log(ratio)).mean(), rel=1e-2)


@pytest.mark.parametrize("kind", [PPO, CorrectedPPO])
@pytest.mark.parametrize("normalize", [True, False])
def test_a_loaded_model_normalises_as_it_was_told_and_before_the_weight(
    kind: Any, normalize: bool, tmp_path: Path
) -> None:
    """A weight of 0.1 or less leads elsewhere than one of 1, unless PPO normalises what was weighted once more."""
    env = make_vec_env("CartPole-v1", n_envs=2, seed=0)
    # every setting in its place, as in PPO: normalize_advantage is the 11th
    positional = (3e-4, 64, 64, 1, 0.99, 0.95, 0.2, None, not normalize)
    kind("MlpPolicy", env, *positional, seed=0).save(tmp_path / "model")
    model = Kept.load(
        tmp_path / "model", env=env, sampler_transform="none", correction="token-tis:0.1", normalize_advantage=normalize
    )
    model.learn(128)
    a = model.advantages
    if normalize:
        a = (a - a.mean()) / (a.std() + 1e-8)
    np.testing.assert_allclose(model.given, a * 0.1, rtol=1e-4, atol=1e-6)
    assert not model.normalized_again
    model.save(tmp_path / "again")
    assert PPO.load(tmp_path / "again").normalize_advantage is normalize


def test_controls() -> None:
    none = one_update("none", normalize_advantage=False)
    assert np.allclose(none.given, none.advantages)
    assert np.allclose(none.below_the_line, none.log_pi)
    control = one_update("ppo-denominator", normalize_advantage=False)
    assert np.allclose(control.given, control.advantages)
    assert np.allclose(control.below_the_line, control.log_mu)


def test_without_mismatch_nothing_changes() -> None:
    model = one_update("token-tis:1")
    exact = CorrectedPPO("MlpPolicy", make_vec_env("CartPole-v1", n_envs=2, seed=0), n_steps=64, seed=0,
                         sampler_transform="none").learn(256)  # fmt: skip
    assert exact.logger.name_to_value["mismatch/k3"] == pytest.approx(0, abs=1e-9)
    assert model.logger.name_to_value["mismatch/k3"] > 1e-5


@pytest.mark.parametrize("transform", ["int8", "int4", "bf16", "int8-dynamic", "stale:2", "noise:0.1"])
def test_every_transform_acts(transform: str, tmp_path: Path) -> None:
    model = CorrectedPPO(
        "MlpPolicy", "CartPole-v1", n_steps=64, seed=0, learning_rate=1e-2, sampler_transform=transform
    )
    model.learn(256)
    logged = model.logger.name_to_value
    assert 0 < logged["mismatch/k3"] < 0.5
    assert 0 < logged["mismatch/ess"] <= 1
    assert next(model.policy.parameters()).dtype == torch.float32
    model.save(tmp_path / "model")
    again = CorrectedPPO.load(tmp_path / "model", env=make_vec_env("CartPole-v1"))
    assert (again.sampler_transform, again.rollouts) == (transform, model.rollouts)
    again.learn(64, reset_num_timesteps=False)


def test_an_age_counts_rollouts() -> None:
    ages = []

    class Watched(CorrectedPPO):  # type: ignore[misc]
        def _sampler(self, learner: Any) -> Any:
            sampler = super()._sampler(learner)
            ages.append(self.rollouts - self._transformer.version)
            return sampler

    Watched("MlpPolicy", "CartPole-v1", n_steps=32, sampler_transform="stale:2").learn(32 * 5)
    assert ages == [0, 1, 2, 2, 2]


def test_images_and_continuous_actions() -> None:
    images = FakeImageEnv(screen_height=40, screen_width=40, n_channels=1, discrete=True)
    settings: dict[str, Any] = {"n_steps": 32, "batch_size": 16, "n_epochs": 1, "sampler_transform": "int4"}
    small = {"features_extractor_kwargs": {"features_dim": 16}}
    CorrectedPPO("CnnPolicy", images, policy_kwargs=small, **settings).learn(32)
    dqn = {"learning_starts": 8, "buffer_size": 50, "batch_size": 8, "policy_kwargs": small}
    CounteractiveDQN("CnnPolicy", images, **dqn).learn(32)
    model = CorrectedPPO("MlpPolicy", "Pendulum-v1", **settings).learn(64)
    assert 0 < model.logger.name_to_value["mismatch/k3"] < 0.5


class Maskable(SamplesFromCopy, MaskablePPO):
    """Actions that the environment does not allow are masked in the copy and in the learner."""


class Random(gymnasium.Env[Any, Any]):
    """Draws observations from any space; action 1 is never allowed."""

    def __init__(self, observation_space: Any, action_space: Any) -> None:
        self.observation_space, self.action_space, self.steps = observation_space, action_space, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        return self.observation_space.sample(), 1.0, False, self.steps == 8, {}

    def action_masks(self) -> Any:
        return np.array([True, False, True])


class Fixed(BaseFeaturesExtractor):
    """Running means in buffers, and an embedding."""

    def __init__(self, space: Any) -> None:
        super().__init__(space, 8)
        self.dense, self.norm, self.table = torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Embedding(4, 8)
        self.norm.running_mean = 10 * torch.randn(8)

    def forward(self, x: Any) -> Any:
        return self.norm(self.dense(x)) + self.table(x.argmax(-1))


class Narrow(ActorCriticPolicy):
    """Has an argument of its own."""

    def __init__(self, *args: Any, width: int = 8, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "net_arch": [width]})


BOX, DISCRETE = spaces.Box(-1, 1, (4,), np.float32), spaces.Discrete(3)
SMALL = {"n_steps": 32, "batch_size": 32, "n_epochs": 1, "seed": 0}


@pytest.mark.parametrize(
    ("policy", "env", "settings"),
    [
        ("MultiInputPolicy", Random(spaces.Dict(a=BOX, b=DISCRETE), DISCRETE), {}),
        ("MlpPolicy", Random(BOX, spaces.MultiDiscrete([2, 3])), {}),
        ("MlpPolicy", Random(BOX, spaces.MultiBinary(3)), {}),
        ("MlpPolicy", Random(BOX, spaces.Box(-1, 1, (2,))), {"use_sde": True}),
        ("MlpPolicy", Random(BOX, DISCRETE), {"policy_kwargs": {"features_extractor_class": Fixed}}),
        (Narrow, Random(BOX, DISCRETE), {"policy_kwargs": {"width": 24}}),
    ],
    ids=["dict", "multidiscrete", "multibinary", "gsde", "buffers", "argument"],
)
def test_an_unchanged_copy_is_the_learner_whatever_the_spaces_and_the_policy(
    policy: Any, env: Any, settings: dict[str, Any]
) -> None:
    model = CorrectedPPO(policy, env, sampler_transform="none", **SMALL, **settings).learn(64)
    assert model.logger.name_to_value["mismatch/ratio_max"] == pytest.approx(1.0, abs=1e-5)


def test_masks_of_actions_hold_in_the_correction_too() -> None:
    model = Maskable("MlpPolicy", Random(BOX, DISCRETE), sampler_transform="none", **SMALL).learn(64)
    assert model.logger.name_to_value["mismatch/ratio_max"] == pytest.approx(1.0, abs=1e-5)


def test_a_compiled_policy_and_an_embedding_in_bf16_have_copies() -> None:
    policy = {"policy_kwargs": {"features_extractor_class": Fixed}}
    model = CorrectedPPO("MlpPolicy", Random(BOX, DISCRETE), sampler_transform="bf16", **SMALL, **policy)
    model.policy = torch.compile(model.policy, backend="eager")
    model.learn(64)
    assert 1.0 < model.logger.name_to_value["mismatch/ratio_max"] < 1.1


@pytest.mark.parametrize("gsde", [False, True])
def test_continuous_actions_in_bf16_have_a_rounded_spread(gsde: bool) -> None:
    env = Random(BOX, spaces.Box(-1, 1, (2,)))
    model = CorrectedPPO("MlpPolicy", env, sampler_transform="bf16", use_sde=gsde, learning_rate=1e-2, **SMALL)
    model.learn(32 * 4)
    assert 1.0 < model.logger.name_to_value["mismatch/ratio_max"] < 1.2
    with torch.no_grad():
        model.policy.log_std.fill_(-0.123456)
    acting = model._sampler(model.policy).log_std
    assert acting.dtype == torch.float32
    assert torch.equal(acting, torch.full_like(acting, -0.123456).bfloat16().float())
    assert model.policy.log_std.unique().tolist() == pytest.approx([-0.123456])


class Saves(BaseCallback):
    """Saves the model in the middle of a rollout."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def _on_step(self) -> bool:
        if self.n_calls == 20:
            self.model.save(self.path)
        return True


def test_what_a_callback_saves_is_the_learner(tmp_path: Path) -> None:
    model = CorrectedPPO("MlpPolicy", "CartPole-v1", sampler_transform="int3", **SMALL).learn(32)
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    model.learn(32, callback=Saves(tmp_path / "model"))
    saved = CorrectedPPO.load(tmp_path / "model", env=make_vec_env("CartPole-v1"), correction="none")
    assert all(torch.equal(saved.policy.state_dict()[name], value) for name, value in before.items())
    assert saved.policy.optimizer.state_dict()["state"]
    saved.learn(32)  # with the correction that load() was given


@pytest.mark.parametrize("base", [A2C, RecurrentPPO])
def test_an_algorithm_that_is_no_ppo_on_single_steps_is_refused(base: Any) -> None:
    policy = "MlpLstmPolicy" if base is RecurrentPPO else "MlpPolicy"
    with pytest.raises(UserError, match="Mine is no PPO on single steps"):
        type("Mine", (SamplesFromCopy, base), {})(policy, "CartPole-v1")


@pytest.mark.parametrize("base", [PPO, SAC])
def test_an_algorithm_without_a_q_value_of_each_action_is_refused(base: Any) -> None:
    mine = type("Mine", (Counteracts, base), {})
    env = "Pendulum-v1" if base is SAC else "CartPole-v1"
    with pytest.raises(UserError, match=r"the policy of Mine \(\w+\) has no Q-value of each action"):
        mine("MlpPolicy", env)
    unset = mine("MlpPolicy", env, _init_setup_model=False)
    with pytest.raises(UserError, match="has no Q-value of each action"):
        unset._setup_model()


@pytest.mark.parametrize(
    ("kind", "given", "said"),
    [
        (CounteractiveDQN, {"uniform_share": 2}, "uniform_share"),
        (CorrectedPPO, {"correction": "sequence-tis:2"}, "one of steps"),
        (CorrectedPPO, {"correction": None}, "correction=None"),
        (CorrectedPPO, {"sampler_transform": "bf61"}, "sampler_transform='bf61'"),
    ],
)
def test_load_checks_what_it_is_given(kind: Any, given: dict[str, Any], said: str, tmp_path: Path) -> None:
    kind("MlpPolicy", "CartPole-v1").save(tmp_path / "model")
    with pytest.raises(UserError, match=said):
        kind.load(tmp_path / "model", **given)
