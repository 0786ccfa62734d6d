"""Actor-critics and recurrent policies: what is filmed is what an evaluation plays, with what is remembered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from frugalrl.envs import PROTOCOLS, Protocol, make_env, named_protocol
from frugalrl.math.explore import Actions
from frugalrl.policies.sequence import SequencePolicy
from frugalrl.recipes import build_config
from frugalrl.run.assemble import acting_policy, network_builder
from frugalrl.run.evaluate import evaluate
from frugalrl.sampling.row_policy import Remembering
from frugalrl.types import PolicySnapshot
from frugalrl.watch import moments as module
from frugalrl.watch.moments import Moment, play
from frugalrl.watch.panel import Panel
from frugalrl.watch.readings import PolicyReader, QReader, policy_scale, probabilities, reader_of
from frugalrl.watch.stages import Observed

CASES = [("CartPole-v1", "ppo", None), ("CartPole-v1", "ppo-lstm", 8), ("CartPole-v1", "seed-r2d2-small", 8)]


@pytest.fixture
def protocol() -> Iterator[Protocol]:
    """Random actions in an evaluation, too, so that draws are compared."""
    changed = replace(named_protocol("plain"), name="plain-random", eval_epsilon=0.3)
    PROTOCOLS[changed.name] = changed
    yield changed
    del PROTOCOLS[changed.name]


def policy_for(env_id: str, recipe: str, lstm_units: int | None) -> SequencePolicy:
    """Random weights, large and without biases, so that what is remembered decides."""
    config = build_config(env_id, recipe)
    config = replace(config, net=replace(config.net, hidden_units=(16,), lstm_units=lstm_units))
    env = make_env(env_id, protocol=named_protocol("plain"), num_rows=1, seed=0, training=False)
    env.close()
    build = network_builder(config, env.spec)
    torch.manual_seed(10)
    policy = acting_policy(config, build, torch.device("cpu"))
    assert isinstance(policy, SequencePolicy)
    policy.load(PolicySnapshot(1, {n: (0 if "bias" in n else 3) * p.detach() for n, p in build().named_parameters()}))
    return policy


def filmed(
    policy: SequencePolicy, env_id: str, protocol: Protocol, episodes: int = 4, actions: Actions = "greedy"
) -> list[Moment]:
    env = make_env(env_id, protocol=protocol, num_rows=1, seed=5, training=False)
    epsilon = protocol.eval_epsilon
    stage, reader = Observed.of(env), reader_of(policy, actions)
    shown = list(
        play(policy, reader, env, stage, epsilon=epsilon, seed=5, episodes=episodes, max_steps=10_000, actions=actions)
    )
    env.close()
    return shown


def outcome(shown: list[Moment]) -> tuple[tuple[float, ...], tuple[int, ...]]:
    ends = [m for m in shown if m.ended]
    return tuple(m.return_so_far for m in ends), tuple(m.step for m in ends)


@pytest.mark.parametrize(("env_id", "recipe", "lstm_units"), CASES)
def test_the_episodes_are_those_of_an_evaluation(
    env_id: str, recipe: str, lstm_units: int | None, protocol: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = policy_for(env_id, recipe, lstm_units)
    score, _ = evaluate(policy, env_id, protocol, episodes=4, rows=1, seed=5)
    assert score is not None
    assert outcome(filmed(policy, env_id, protocol)) == (score.returns, score.lengths)
    if lstm_units is None:
        return

    class Forgetful(Remembering):
        """Remembers nothing from one step to the next."""

        def values(self, obs: Any) -> Any:
            self.state = self._initial
            return super().values(obs)

    class Endless(Remembering):
        """Does not begin anew."""

        def arrive(self, step: Any) -> None:
            super().arrive(replace(step, valid=np.ones_like(step.valid)))

    for wrong in (Forgetful, Endless):
        monkeypatch.setattr(module, "row_policy", wrong)
        assert outcome(filmed(policy, env_id, protocol)) != (score.returns, score.lengths), wrong


@pytest.mark.parametrize(("env_id", "recipe", "lstm_units"), CASES[:2])
def test_sampled_episodes_are_those_of_an_evaluation_that_samples(
    env_id: str, recipe: str, lstm_units: int | None, protocol: Protocol
) -> None:
    policy = policy_for(env_id, recipe, lstm_units)
    score, _ = evaluate(policy, env_id, protocol, episodes=4, rows=1, seed=5, actions="sampled")
    assert score is not None
    shown = filmed(policy, env_id, protocol, actions="sampled")
    assert outcome(shown) == (score.returns, score.lengths)
    assert outcome(shown) != outcome(filmed(policy, env_id, protocol))
    assert any(m.action != int(np.argmax(m.bars)) for m in shown if m.bars is not None)
    assert "one is drawn" in reader_of(policy, "sampled").scale.bars


@pytest.mark.parametrize(("env_id", "recipe", "lstm_units"), CASES)
def test_bars_and_curve_are_those_of_a_whole_unroll(
    env_id: str, recipe: str, lstm_units: int | None, protocol: Protocol
) -> None:
    """Step by step with state, against the network's own pass over the episode at once."""
    policy = policy_for(env_id, recipe, lstm_units)
    network: Any = policy.network
    seen: list[np.ndarray] = []

    class Kept(Observed):
        def picture(self, obs: np.ndarray) -> np.ndarray:
            seen.append(obs)
            return super().picture(obs)

    env = make_env(env_id, protocol=protocol, num_rows=1, seed=5, training=False)
    playing = play(policy, reader_of(policy), env, Kept(None), epsilon=0.3, seed=5, episodes=1, max_steps=1_000)
    shown = [m for m in playing if m.bars is not None]
    obs = torch.tensor(np.array(seen[: len(shown)]))[:, None]
    action = torch.tensor([[m.action] for m in shown[:-1]])
    reset = torch.zeros((len(shown), 1), dtype=torch.bool)
    with torch.inference_mode():
        out = network.unroll(obs, action, torch.ones(len(shown) - 1, 1), reset, network.initial_state(1))[:, 0].numpy()
    bars, points = np.array([m.bars for m in shown]), np.array([m.point for m in shown])
    if recipe == "seed-r2d2-small":
        expected, heights = out, out.max(1)
    else:
        expected, heights = np.array([probabilities(row) for row in out[:, :-1]]), out[:, -1]
        assert np.allclose(bars.sum(1), 1.0)
    assert len(shown) > 5
    assert np.allclose(bars, expected, atol=1e-5)
    assert np.allclose(points, heights, atol=1e-4)
    assert all(m.explored or m.action == int(np.argmax(m.bars)) for m in shown if m.bars is not None)
    assert any(m.explored for m in shown)


def test_readers_belong_to_what_a_network_answers() -> None:
    readers = [reader_of(policy_for(*case)) for case in CASES]
    assert [type(reader) for reader in readers] == [PolicyReader, PolicyReader, QReader]


def test_probabilities_of_huge_logits() -> None:
    assert np.allclose(probabilities(np.array([1e4, 1e4, -1e4], np.float32)), [0.5, 0.5, 0.0])


def test_a_bar_of_full_width_is_probability_one() -> None:
    """The same probability has the same width whatever came before, and widths go with probabilities."""
    panel = Panel("a game", (), ["A", "B", "C"], policy_scale("greedy"))
    picture = np.full((210, 160, 3), 90, np.uint8)

    def widths(*shares: float) -> list[int]:
        image = np.asarray(panel.draw(Moment(picture, 0, 3, 1.5, np.array(shares), 0.5, 0)))
        tops = range(116 + 8, 116 + 3 * 30, 30)  # above the mark of the chosen one, which has its colour, too
        colours = ((92, 200, 130), (86, 122, 178), (226, 92, 84))
        return [max(int((image[top] == colour).all(-1).sum()) for colour in colours) for top in tops]

    first = widths(0.6, 0.3, 0.1)
    assert first[0] == pytest.approx(2 * first[1], abs=3)
    assert first[0] == pytest.approx(6 * first[2], abs=6)
    certain = widths(1.0, 0.0, 0.0)
    assert certain[0] == pytest.approx(first[0] / 0.6, abs=3)
    assert widths(0.6, 0.3, 0.1) == first
