"""What is filmed is what an evaluation plays, and the pictures are of that game."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from frugalrl.envs import PROTOCOLS, Protocol, RowEnv, make_env, named_protocol
from frugalrl.envs.meanings import action_meanings
from frugalrl.nets.config import NetConfig
from frugalrl.nets.q_network import build_q_network
from frugalrl.policies.value import ValuePolicy
from frugalrl.recipes import build_config
from frugalrl.run.evaluate import evaluate
from frugalrl.run.last_policy import LastPolicy
from frugalrl.types import PolicySnapshot, RunFailed, Step
from frugalrl.watch.moments import Moment, play
from frugalrl.watch.readings import QReader
from frugalrl.watch.stages import Observed, Rendered, SecondEmulator, open_stage


@pytest.fixture
def protocol() -> Iterator[Any]:
    """Adds short, random evaluation episodes to a protocol."""
    added: list[str] = []

    def short(name: str, **changes: Any) -> Protocol:
        changed = replace(named_protocol(name), name=f"{name}-short", eval_epsilon=0.3, **changes)
        PROTOCOLS[changed.name] = changed
        added.append(changed.name)
        return changed

    yield short
    for name in added:
        del PROTOCOLS[name]


def policy_for(env: RowEnv) -> ValuePolicy:
    torch.manual_seed(0)
    net = build_q_network(env.spec, NetConfig(hidden_units=(8,)))
    policy = ValuePolicy(lambda: build_q_network(env.spec, NetConfig(hidden_units=(8,))), torch.device("cpu"))
    policy.load(PolicySnapshot(version=1, parameters=dict(net.named_parameters())))
    return policy


def last(env_id: str, protocol: Protocol, **kwargs: Any) -> LastPolicy:
    config = build_config(env_id, None)
    config = replace(config, env=replace(config.env, protocol=protocol.name, kwargs=kwargs))
    return LastPolicy(config, protocol, PolicySnapshot(version=0, parameters={}), 0, ())


def filmed(env: RowEnv, stage: Any, seed: int, episodes: int, max_steps: int = 10_000) -> list[Moment]:
    policy = policy_for(env)
    epsilon = env.protocol.eval_epsilon
    return list(play(policy, QReader(), env, stage, epsilon=epsilon, seed=seed, episodes=episodes, max_steps=max_steps))


@pytest.mark.parametrize("env_id", ["CartPole-v1", "frugalrl/Catch-v0", "MinAtar/Breakout-v1"])
def test_the_episodes_are_those_of_an_evaluation(env_id: str, protocol: Any) -> None:
    name = "minatar" if env_id.startswith("MinAtar") else "plain"
    short = protocol(name)
    env, stage, _ = open_stage(last(env_id, short), 5)
    ends = [m for m in filmed(env, stage, 5, 6) if m.ended]
    score, _ = evaluate(policy_for(env).q_values, env_id, short, episodes=6, rows=1, seed=5)
    assert score is not None
    assert tuple(m.return_so_far for m in ends) == score.returns
    assert tuple(m.step for m in ends) == score.lengths
    other, _ = evaluate(policy_for(env).q_values, env_id, short, episodes=6, rows=1, seed=6)
    assert other is not None
    assert (other.returns, other.lengths) != (score.returns, score.lengths), "this comparison sees nothing"


def test_moments_count_steps_and_returns(protocol: Any) -> None:
    env = make_env("CartPole-v1", protocol=protocol("plain"), num_rows=1, seed=1, training=False)
    moments = filmed(env, Observed.of(env), 1, 2, max_steps=30)
    assert [m.ended for m in moments if m.ended][-1] in ("cut", "game over")
    assert sum(m.bars is not None for m in moments) == 30
    for before, after in pairwise(moments):
        if before.ended is None:
            assert (after.episode, after.step, after.return_so_far) == (
                before.episode, before.step + 1, before.return_so_far + 1,
            )  # fmt: skip
        else:
            assert (after.episode, after.step, after.return_so_far) == (before.episode + 1, 0, 0)
    greedy = [m for m in moments if m.bars is not None and not m.explored]
    assert all(m.action == int(m.bars.argmax()) for m in greedy if m.bars is not None)
    assert any(m.explored for m in moments)


def test_a_limit_that_meets_the_end_of_an_episode_cuts_nothing(protocol: Any) -> None:
    short = protocol("plain")
    cases = ((9, 1, ["game over"]), (9, 2, ["game over", "cut"]), (10, 2, ["game over", "cut"]), (8, 2, ["cut"]))
    for limit, episodes, ended in cases:
        env = make_env("frugalrl/Catch-v0", protocol=short, num_rows=1, seed=1, training=False)
        moments = filmed(env, Observed.of(env), 1, episodes, max_steps=limit)
        assert [m.ended for m in moments if m.ended] == ended


def test_a_diverged_network_is_a_sentence(protocol: Any) -> None:
    env = make_env("frugalrl/Catch-v0", protocol=protocol("plain"), num_rows=1, seed=1, training=False)
    torch.manual_seed(0)
    net = build_q_network(env.spec, NetConfig())
    bad = {n: torch.full_like(p, torch.nan) for n, p in net.named_parameters()}
    policy = ValuePolicy(lambda: net, torch.device("cpu"))
    policy.load(PolicySnapshot(version=1, parameters=bad))
    with pytest.raises(RunFailed, match="diverged"):
        list(play(policy, QReader(), env, Observed.of(env), epsilon=0.0, seed=1, episodes=1, max_steps=9))


# -- Atari -----------------------------------------------------------------------------------------------------------


def resized(picture: np.ndarray, size: int) -> np.ndarray:
    from PIL import Image

    return np.asarray(Image.fromarray(picture).convert("L").resize((size, size), Image.Resampling.BOX), np.float64)


@pytest.mark.parametrize("base", ["ale-sticky", "atari100k"])
def test_the_second_emulator_shows_the_same_game(base: str, protocol: Any) -> None:
    """Sticky actions and no-ops are random: both emulators must draw alike, over several episodes."""
    short = protocol(base, eval_max_steps=25)
    env, stage, note = open_stage(last("ALE/Breakout-v5", short), 3)
    assert note is None
    seen: list[tuple[np.ndarray, np.ndarray]] = []

    class Kept:
        def __getattr__(self, name: str) -> Any:
            return getattr(stage, name)

        def picture(self, obs: np.ndarray) -> np.ndarray:
            picture = stage.picture(obs)
            seen.append((picture, obs[-1]))
            return picture

    moments = filmed(env, Kept(), 3, 3)
    assert [m.ended for m in moments if m.ended] == ["time limit"] * 3
    assert seen[0][0].shape == (210, 160, 3)
    # the emulator weighs the colours of its gray a little differently: 1.54 of 255 on a still picture
    assert max(np.abs(resized(picture, 84) - gray).mean() for picture, gray in seen) < 1.65
    late = [np.abs(resized(picture, 84) - gray).mean() for (picture, _), (_, gray) in pairwise(seen)]
    assert max(late) > 1.8, "this comparison does not even see a picture that is one step late"
    stage.close()
    env.close()


def test_emulators_that_part_are_noticed(protocol: Any) -> None:
    stage = SecondEmulator("ALE/Pong-v5", protocol("ale-sticky"))
    stage.reset(7)
    still = np.zeros(1, np.float32)
    no = np.zeros(1, np.bool_)
    step = Step(obs=None, reward=still, discount=still, last=no, valid=~no)
    stage.follow(0, step)
    for wrong in (replace(step, reward=still + 1), replace(step, last=~no)):
        with pytest.raises(RunFailed, match="parted from the first at step"):
            stage.follow(0, wrong)
    stage.close()


# -- pictures of other environments ----------------------------------------------------------------------------------


class Painted(gym.Env[Any, Any]):
    """Paints the number of steps; ``broken`` says how it fails to."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012
    observation_space = gym.spaces.Box(-1, 1, (3,), np.float32)
    action_space = gym.spaces.Discrete(2, start=5)

    def __init__(self, broken: str = "", render_mode: str | None = None) -> None:
        self.broken, self.render_mode, self.time = broken, render_mode, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.time = 0
        return np.zeros(3, np.float32), {}

    def step(self, action: int) -> Any:
        assert action in (5, 6)
        self.time += 1
        return np.zeros(3, np.float32), 1.0, self.time == 4, False, {}

    def render(self) -> Any:
        if self.broken == "raises":
            raise RuntimeError("no screen here.")
        if self.broken == "later" and self.time == 2:
            raise RuntimeError("no screen any more")
        return np.full((6, 8, 1 if self.broken == "gray" else 3), self.time, np.uint8)


@pytest.fixture
def _painted() -> Iterator[None]:
    gym.register("Painted-v0", Painted)
    yield
    del gym.registry["Painted-v0"]


@pytest.mark.usefixtures("_painted")
def test_an_environment_that_renders_is_shown_as_it_renders() -> None:
    env, stage, note = open_stage(last("Painted-v0", named_protocol("plain")), 3)
    assert isinstance(stage, Rendered)
    assert (note, stage.steps_per_s) == (None, 20.0)
    moments = filmed(env, stage, 3, 2)
    assert [int(m.picture[0, 0, 0]) for m in moments] == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]
    assert action_meanings(env) == ("0", "1")


@pytest.mark.usefixtures("_painted")
@pytest.mark.parametrize(("broken", "part"), [("raises", "no screen here;"), ("gray", "shape (6, 8, 1)")])
def test_an_environment_that_cannot_render_is_drawn(broken: str, part: str) -> None:
    env, stage, note = open_stage(last("Painted-v0", named_protocol("plain"), broken=broken), 3)
    assert isinstance(stage, Observed)
    assert part in str(note)
    assert str(note).endswith("; the observation is drawn instead")
    assert stage.steps_per_s == 20.0, "as fast as the environment says, whatever is shown"
    assert len(filmed(env, stage, 3, 1)) == 5


@pytest.mark.usefixtures("_painted")
def test_an_environment_that_says_no_speed_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Painted, "metadata", {"render_modes": ["rgb_array"]})
    for broken, kind in (("", Rendered), ("raises", Observed)):
        env, stage, _ = open_stage(last("Painted-v0", named_protocol("plain"), broken=broken), 3)
        assert (type(stage), stage.steps_per_s) == (kind, 10.0)
        env.close()


@pytest.mark.usefixtures("_painted")
def test_a_screen_that_breaks_later_ends_the_film() -> None:
    env, stage, _ = open_stage(last("Painted-v0", named_protocol("plain"), broken="later"), 3)
    with pytest.raises(RunFailed, match="no screen any more"):
        filmed(env, stage, 3, 1)


@pytest.mark.parametrize(
    ("env_id", "protocol_name", "names"),
    [
        ("ALE/Pong-v5", "atari100k", ("NOOP", "FIRE", "RIGHT", "LEFT", "RIGHTFIRE", "LEFTFIRE")),
        ("ALE/Pong-v5", "plain", ("NOOP", "FIRE", "RIGHT", "LEFT", "RIGHTFIRE", "LEFTFIRE")),
        ("MinAtar/Breakout-v1", "minatar", ("NOOP", "LEFT", "RIGHT")),
        ("MinAtar/Seaquest-v0", "minatar", ("NOOP", "LEFT", "UP", "RIGHT", "DOWN", "FIRE")),
        ("frugalrl/Catch-v0", "plain", ("LEFT", "STAY", "RIGHT")),
        ("frugalrl/DeepSea-v0", "plain", ("0", "1")),
        ("CartPole-v1", "plain", ("0", "1")),
    ],
)
def test_actions_have_their_names(env_id: str, protocol_name: str, names: tuple[str, ...]) -> None:
    env = make_env(env_id, protocol=named_protocol(protocol_name), num_rows=1, seed=0, training=False)
    assert action_meanings(env) == names
    env.close()
