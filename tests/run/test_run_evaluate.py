from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, get_args

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from run_support import cartpole

from frugalrl.envs import PROTOCOLS, named_protocol
from frugalrl.math.explore import Actions
from frugalrl.policies.acting import Player
from frugalrl.policies.value import ValuePolicy
from frugalrl.recipes import build_config
from frugalrl.run import evaluator as evaluator_module
from frugalrl.run.assemble import network_builder
from frugalrl.run.config_io import override
from frugalrl.run.evaluate import Score, bootstrap_mean, evaluate
from frugalrl.run.evaluator import Evaluator, score_from_json, score_to_json
from frugalrl.types import Cost, EnvSpec, PolicySnapshot, UserError


class Lengths(gym.Env[Any, Any]):
    """An episode lasts as long as its seed says, 1 or 30 steps, and pays its length in steps of 5."""

    observation_space = Box(-1, 1, (1,), np.float32)
    action_space = Discrete(2)
    made = 0

    def __init__(self) -> None:
        Lengths.made += 1

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.length, self.time = (1, 30)[int(self.np_random.integers(2))], 0
        return np.zeros(1, np.float32), {}

    def step(self, action: int) -> Any:
        self.time += 1
        return np.zeros(1, np.float32), 5.0, self.time >= self.length, False, {}


@pytest.fixture(autouse=True)
def _lengths() -> Iterator[None]:
    gym.register("Lengths-v0", Lengths)
    Lengths.made = 0
    yield
    del gym.registry["Lengths-v0"]
    PROTOCOLS.pop("plain-clipped", None)


def still(obs: np.ndarray) -> np.ndarray:
    return np.tile(np.array([1.0, 0.0], np.float32), (len(obs), 1))


def score_of(episodes: int, rows: int, seed: int = 3, **changes: Any) -> Score:
    score, _ = evaluate(
        still, "Lengths-v0", named_protocol("plain"), episodes=episodes, rows=rows, seed=seed, **changes
    )
    assert score is not None
    return score


# -- one evaluation --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 4, 7, 10, 40])
def test_short_episodes_are_not_over_represented(rows: int) -> None:
    """Which episodes are played follows from their seeds alone, never from how soon they end."""
    from frugalrl.envs.rows import episode_seed

    score = score_of(10, rows)
    used = min(rows, 10)
    expected = []
    for row in range(used):
        for number in range(10 // used + (row < 10 % used)):
            draws = np.random.Generator(np.random.PCG64(np.random.SeedSequence(episode_seed(3, row, number))))
            expected.append((1, 30)[int(draws.integers(2))])
    assert list(score.lengths) == expected
    assert list(score.returns) == [5.0 * n for n in expected]
    assert score.episodes == 10
    assert Lengths.made == used


def test_first_come_first_served_would_be_wrong() -> None:
    many = score_of(400, 20)
    assert 0.4 < np.mean(np.array(many.lengths) == 1) < 0.6


def test_the_same_seed_gives_the_same_score_and_another_one_another() -> None:
    assert score_of(10, 5) == score_of(10, 5)
    assert score_of(10, 5).lengths != score_of(10, 5, seed=4).lengths


def test_reported_returns_are_raw_where_training_clips() -> None:
    PROTOCOLS["plain-clipped"] = replace(named_protocol("plain"), name="plain-clipped", clip_reward=True)
    score, _ = evaluate(still, "Lengths-v0", named_protocol("plain-clipped"), episodes=4, rows=2, seed=0)
    assert score is not None
    assert score.returns == tuple(5.0 * n for n in score.lengths)
    assert score.protocol == "plain-clipped"


def test_the_time_limit_of_the_protocol_holds() -> None:
    short = replace(named_protocol("plain"), eval_max_steps=7)
    score, _ = evaluate(still, "Lengths-v0", short, episodes=20, rows=4, seed=0)
    assert score is not None
    assert set(score.lengths) == {1, 7}


def test_the_evaluation_epsilon_is_the_protocol_s() -> None:
    seen: list[int] = []

    class Watched(Lengths):
        def step(self, action: int) -> Any:
            seen.append(int(action))
            return super().step(action)

    gym.register("Watched-v0", Watched)
    try:
        for eps, low, high in ((0.0, 0.0, 0.0), (0.5, 0.15, 0.35), (1.0, 0.4, 0.6)):
            seen.clear()
            score, _ = evaluate(
                still, "Watched-v0", replace(named_protocol("plain"), eval_epsilon=eps), episodes=40, rows=8, seed=0
            )
            assert score is not None
            assert score.epsilon == eps
            assert low <= np.mean(seen) <= high
    finally:
        del gym.registry["Watched-v0"]


def test_the_cost_counts_what_was_played() -> None:
    score, cost = evaluate(still, "Lengths-v0", named_protocol("plain"), episodes=3, rows=1, seed=3)
    assert score is not None
    steps = sum(score.lengths)
    assert (cost.env_steps, cost.frames, cost.calls) == (steps, steps, steps + 2)  # a reset between episodes


def test_an_interrupted_evaluation_has_no_score_but_a_cost() -> None:
    asked = iter([False] * 12 + [True] * 100)
    score, cost = evaluate(
        still, "Lengths-v0", named_protocol("plain"), episodes=50, rows=2, seed=0, stop=lambda: next(asked)
    )
    assert score is None
    assert cost.calls == 12


def test_the_interval() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(3.0, 2.0, 400)
    interval = bootstrap_mean(values, np.random.default_rng(1))
    assert interval is not None
    half = 1.96 * values.std() / math.sqrt(400)
    assert interval == pytest.approx((values.mean() - half, values.mean() + half), abs=0.05)
    assert bootstrap_mean(np.array([1.0]), rng) is None
    assert bootstrap_mean(np.array([2.0, 2.0]), rng) == (2.0, 2.0)
    assert bootstrap_mean(values, np.random.default_rng(1)) == interval


# -- the cadence -----------------------------------------------------------------------------------------------------

SPEC = EnvSpec(
    id="CartPole-v1", protocol="plain", obs_kind="vector", obs_shape=(4,), obs_dtype="float32", num_actions=2
)


def new_evaluator(*settings: str) -> Evaluator:
    config = cartpole("evaluation.every_env_steps=100", *settings)
    return Evaluator(config, SPEC, network_builder(config, SPEC), torch.device("cpu"))


def snapshot(seed: int = 0) -> PolicySnapshot:
    torch.manual_seed(seed)
    net = network_builder(cartpole(), SPEC)()
    return PolicySnapshot(version=1, parameters=dict(net.named_parameters()))


def fake(monkeypatch: pytest.MonkeyPatch, calls: list[dict[str, Any]]) -> None:
    def evaluated(q_values: Any, env_id: str, protocol: Any, **options: Any) -> Any:
        calls.append(options)
        score = Score(7.0, None, (7.0,), (9,), 0.0, protocol.name)
        return (None if options["stop"]() else score), Cost(calls=9, env_steps=9)

    monkeypatch.setattr(evaluator_module, "evaluate", evaluated)


def test_it_is_due_at_a_fixed_cadence(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []
    fake(monkeypatch, calls)
    evaluator, evaluated_at = new_evaluator(), []
    for step in range(0, 1_000, 7):
        if evaluator.due(step):
            evaluator.run(snapshot(), step)
            evaluated_at.append(step)
    assert [step // 100 for step in evaluated_at] == list(range(1, 10))
    assert all(step % 100 < 7 for step in evaluated_at)
    evaluator.run(snapshot(), 1_555)  # long after: no evaluation is made up for
    assert not evaluator.due(1_599)
    assert evaluator.due(1_600)
    assert (evaluator.last_step, evaluator.last is not None) == (1_555, True)


def test_every_evaluation_plays_the_same_episodes(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []
    fake(monkeypatch, calls)
    evaluator = new_evaluator("evaluation.episodes=6", "evaluation.rows=3", "evaluation.seed=55", "seed=9")
    for step in (100, 200):
        evaluator.run(snapshot(), step)
    assert [(c["seed"], c["episodes"], c["rows"]) for c in calls] == [(55, 6, 3)] * 2
    evaluator.run(snapshot(), 300, episodes=2, seed=1)
    assert (calls[-1]["seed"], calls[-1]["episodes"]) == (1, 2)
    assert new_evaluator("evaluation.episodes=None").episodes == named_protocol("plain").eval_episodes


def test_an_interrupted_evaluation_is_due_again(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []
    fake(monkeypatch, calls)
    evaluator = new_evaluator()
    score, cost = evaluator.run(snapshot(), 104, stop=lambda: True)
    assert score is None
    assert cost.calls == 9
    assert evaluator.due(104)
    assert evaluator.last is evaluator.last_step is None
    restored = new_evaluator()
    restored.load_state_dict(json.loads(json.dumps(evaluator.state_dict())))
    assert restored.due(104)
    restored.run(snapshot(), 104)
    assert not restored.due(104)


def test_flops_are_those_of_the_calls() -> None:
    evaluator = new_evaluator()
    score, cost = evaluator.run(snapshot(), 100)
    assert score is not None
    assert cost.calls is not None
    assert cost.flop == cost.calls * 2 * 2 * (4 * 16 + 16 * 2)  # two rows, hidden_units=16
    assert cost.env_steps == sum(score.lengths)


def test_it_scores_the_snapshot_it_is_given() -> None:
    evaluator, config = new_evaluator(), cartpole()
    policy = ValuePolicy(network_builder(config, SPEC), torch.device("cpu"))
    for seed in (0, 1):
        policy.load(snapshot(seed))
        mine, _ = evaluator.run(snapshot(seed), 100)
        settings = config.evaluation
        theirs, _ = evaluate(
            policy.q_values, "CartPole-v1", named_protocol("plain"), episodes=2, rows=2, seed=settings.seed
        )
        assert mine is not None
        assert replace(mine, cpu_s=None) == theirs
        assert mine.cpu_s is not None
        assert mine.cpu_s > 0


def test_the_state_comes_back_through_json() -> None:
    evaluator = new_evaluator()
    evaluator.run(snapshot(), 230)
    restored = new_evaluator()
    restored.load_state_dict(json.loads(json.dumps(evaluator.state_dict())))
    assert (restored.last, restored.last_step, restored.next_step) == (evaluator.last, 230, 300)
    one = Score(1.0, None, (1.0,), (3,), 0.1, "plain")
    for score in (one, replace(one, interval=(0.5, 1.5), cpu_s=2.0)):
        assert score_from_json(json.loads(json.dumps(score_to_json(score)))) == score


class Rewarded(Player):
    """Keeps the rewards that it was told of."""

    def __init__(self) -> None:
        self.told: list[float] = []

    def initial_state(self, rows: int) -> dict[str, Any]:
        return {"reward_tm1": np.zeros(rows, np.float32)}

    def values(self, obs: np.ndarray, state: Any, draw: int = 0) -> Any:
        self.told += state["reward_tm1"].tolist()
        return still(obs), state


def test_a_policy_that_remembers_rewards_is_told_the_clipped_ones_it_learned_from() -> None:
    """The raw rewards of 5 still make the score."""
    PROTOCOLS["plain-clipped"] = replace(named_protocol("plain"), name="plain-clipped", clip_reward=True)
    for name, seen in (("plain", {0.0, 5.0}), ("plain-clipped", {0.0, 1.0})):
        player = Rewarded()
        score, _ = evaluate(player, "Lengths-v0", named_protocol(name), episodes=4, rows=2, seed=3)
        assert set(player.told) == seen
        assert score is not None
        assert score.mean_return == score_of(4, 2).mean_return


class Paid(gym.Env[Any, Any]):
    """One step, which pays the number of its action."""

    observation_space = Box(-1, 1, (1,), np.float32)
    action_space = Discrete(3)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return np.zeros(1, np.float32), {}

    def step(self, action: int) -> Any:
        return np.zeros(1, np.float32), float(action), True, False, {}


def test_sampled_actions_score_the_policy_itself() -> None:
    """Of probabilities 0.5, 0.3, 0.2 the expected return is 0.7; the best action alone earns 0."""
    gym.register("Paid-v0", Paid)
    try:
        logits = np.log(np.array([0.5, 0.3, 0.2], np.float32))
        scores, protocol = {}, replace(named_protocol("plain"), eval_epsilon=0.0)
        for actions in get_args(Actions):
            score, _ = evaluate(
                lambda obs: np.tile(logits, (len(obs), 1)), "Paid-v0", protocol, episodes=2_000, rows=20, seed=1,
                actions=actions,
            )  # fmt: skip
            assert score is not None
            assert score_from_json(json.loads(json.dumps(score_to_json(score)))) == score
            scores[actions] = score
        assert scores["greedy"].mean_return == 0.0
        assert scores["sampled"].mean_return == pytest.approx(0.7, abs=4 * 0.78 / 2_000**0.5)
        assert (scores["sampled"].actions, scores["sampled"].epsilon) == ("sampled", 0.0)
        older = {k: v for k, v in score_to_json(scores["greedy"]).items() if k != "actions"}
        assert score_from_json(older) == scores["greedy"]
    finally:
        del gym.registry["Paid-v0"]


def test_who_can_be_sampled_from() -> None:
    for env_id, recipe in (("CartPole-v1", "ppo"), ("CartPole-v1", "seed-vtrace-small")):
        config = override(build_config(env_id, recipe), ["evaluation.actions=sampled"])
        assert config.evaluation.actions == "sampled"
    for env_id, recipe, says in (
        ("CartPole-v1", "classic-dqn", "Q-values and no policy"),
        ("CartPole-v1", "seed-r2d2-small", "Q-values and no policy"),
        ("lm:sort-digits", "grpo-tiny", "answers are always sampled"),
    ):
        with pytest.raises(UserError, match=says):
            override(build_config(env_id, recipe), ["evaluation.actions=sampled"])
