"""Exported actor-critics and recurrent policies: the right state in, the right state out."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from frugalrl.envs import RowEnv, episode_seed, make_env, named_protocol
from frugalrl.export import export_run as module
from frugalrl.export import formats
from frugalrl.export.check import compare_episodes
from frugalrl.export.describe import describe_state
from frugalrl.export.export_run import export_run
from frugalrl.export.file_player import FilePlayer
from frugalrl.export.formats import FORMATS, Played
from frugalrl.export.program import program_of
from frugalrl.policies.sequence import SequencePolicy
from frugalrl.recipes import build_config
from frugalrl.run.assemble import network_builder
from frugalrl.run.evaluate import evaluate
from frugalrl.run.last_policy import LastPolicy
from frugalrl.types import PolicySnapshot

HAS_ONNX = all(formats.find_spec(name) for name in FORMATS["onnx"].packages)
Make = Callable[..., LastPolicy]
TOOLS = Path(__file__).parents[2] / "docs" / "tools.md"


def made(env_id: str, recipe: str, lstm_units: int | None) -> LastPolicy:
    """A run of random weights, large and without biases, so that what is remembered decides."""
    config = build_config(env_id, recipe)
    net = replace(config.net, hidden_units=(16,), lstm_units=lstm_units)
    config = replace(config, net=net)
    protocol = named_protocol(config.env.protocol)
    env = make_env(env_id, protocol=protocol, num_rows=1, seed=0, training=False)
    env.close()
    torch.manual_seed(10)
    network = network_builder(config, env.spec)()
    parameters = {n: (0 if "bias" in n else 3) * p.detach() for n, p in network.named_parameters()}
    return LastPolicy(config, protocol, PolicySnapshot(version=9, parameters=parameters), 1234, ())


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes a run of random weights the last one."""

    def known(*args: Any, **kwargs: Any) -> LastPolicy:
        last = made(*args, **kwargs)
        monkeypatch.setattr(module, "last_policy", lambda folder: last)
        return last

    return known


# -- the comparison, without a file ----------------------------------------------------------------------------------


def opened(last: LastPolicy) -> tuple[RowEnv, SequencePolicy, Played, Callable[[Played], FilePlayer]]:
    """Environment, the run's policy, its program in place of a file, and what makes a player of a program."""
    env = last.env(rows=4, seed=3)
    policy = last.policy(env.spec)
    assert isinstance(policy, SequencePolicy)
    program = program_of(policy)

    def right(*inputs: np.ndarray) -> tuple[np.ndarray, ...]:
        with torch.inference_mode():
            return tuple(x.numpy() for x in program.module(*(torch.tensor(x) for x in inputs)))

    state = describe_state(policy, program.names, last.protocol)
    return env, policy, right, lambda played: FilePlayer(played, program.names, state)


WRONG = ("never carried", "never begun anew", "no last action", "no last reward", "swapped")


def spoilt(right: Played, how: str) -> Played:
    """The program, with one mistake in what it is told."""
    kept: dict[int, tuple[np.ndarray, ...]] = {}

    def wrong(obs: np.ndarray, h: np.ndarray, c: np.ndarray, action: np.ndarray, reward: np.ndarray) -> Any:
        if how == "never carried":
            h, c = 0 * h, 0 * c
        if how == "never begun anew":
            h, c = kept.get(len(obs), (h, c))
        if how == "no last action":
            action = np.full_like(action, -1)
        if how == "no last reward":
            reward = 0 * reward
        if how == "swapped":
            h, c = c, h
        out = right(obs, h, c, action, reward)
        kept[len(obs)] = out[2:]
        return out

    return wrong


@pytest.mark.parametrize(("env_id", "recipe"), [("CartPole-v1", "ppo-lstm"), ("CartPole-v1", "seed-r2d2-small")])
def test_the_comparison_sees_every_mistake_with_the_state(env_id: str, recipe: str) -> None:
    env, policy, right, player = opened(made(env_id, recipe, 8))
    limits = {"least": 24, "after": 8, "most": 200}
    found = compare_episodes(env, policy, player(right), 5, **limits)
    assert found.agrees
    assert (found.max_abs_difference < 1e-6, found.equal_actions) == (True, 1.0)
    assert found.episodes is not None
    assert found.episodes > 0
    for how in WRONG:
        assert not compare_episodes(env, policy, player(spoilt(right, how)), 5, **limits).agrees, how
    env.close()


@pytest.mark.parametrize(("least", "after", "most", "steps"), [(3, 2, 50, 11), (14, 2, 50, 14), (3, 2, 5, 5)])
def test_the_comparison_goes_past_an_end_where_there_is_one(least: int, after: int, most: int, steps: int) -> None:
    """Every episode of Catch has nine steps."""
    env, policy, right, player = opened(made("frugalrl/Catch-v0", "ppo-lstm", 4))
    found = compare_episodes(env, policy, player(right), 5, least=least, after=after, most=most)
    assert (found.observations, found.episodes) == (4 * steps, 0 if steps < 9 else 4)
    env.close()


# -- files -----------------------------------------------------------------------------------------------------------


def test_an_actor_critic_gives_logits(run: Make, tmp_path: Path) -> None:
    last = run("frugalrl/Catch-v0", "ppo", None)
    found = export_run(tmp_path, "torch")
    assert (found.preferences, found.checked.observations, found.checked.episodes) == ("logits", 256, None)
    about = json.loads(found.description.read_text())
    assert list(about["outputs"]) == ["logits", "action"]
    assert "state" not in about
    assert "softmax" in about["outputs"]["logits"]["meaning"]
    env = last.env(rows=3, seed=0)
    obs = env.reset().obs
    ours = last.policy(env.spec).values(obs, {})[0]
    logits, action = torch.export.load(found.path).module()(torch.tensor(obs))
    assert np.allclose(logits.numpy(), ours, atol=1e-5)
    assert np.array_equal(action.numpy(), ours.argmax(1))
    env.close()


def says_what_to_feed(about: dict[str, Any]) -> None:
    assert about["inputs"] == ["obs", "h", "c", "action_tm1", "reward_tm1"]
    assert list(about["outputs"]) == ["q", "action", "h_next", "c_next"]
    seen = {n: (s["shape"], s["dtype"], s["initial"]) for n, s in about["state"].items()}
    assert seen == {
        "h": (["batch", 8], "float32", 0.0),
        "c": (["batch", 8], "float32", 0.0),
        "action_tm1": (["batch"], "int64", -1),
        "reward_tm1": (["batch"], "float32", 0.0),
    }
    assert "first observation of an episode" in about["reset"]


def test_a_recurrent_file_that_does_not_agree_is_not_left(
    run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, right, _ = opened(run("CartPole-v1", "ppo-lstm", 8))
    wrong = replace(
        FORMATS["torch"],
        write=lambda program, inputs, path: path.write_bytes(b"a program"),
        read=lambda path, names: spoilt(right, "never begun anew"),
    )
    monkeypatch.setitem(FORMATS, "torch", wrong)
    with pytest.raises(module.RunFailed, match="a logit differs by"):
        export_run(tmp_path, "torch")
    assert list(tmp_path.iterdir()) == []


def the_documents_loop() -> str:
    (code,) = re.findall(r"```python\n(import json\n.*?)```", TOOLS.read_text(), re.DOTALL)
    return str(code)


@pytest.mark.skipif(not HAS_ONNX, reason="needs the extra onnx")
def test_the_loop_of_the_document_plays_what_an_evaluation_plays(run: Make, tmp_path: Path) -> None:
    """In a process without this package and without torch, and not with a state that is left as it was."""
    last = run("CartPole-v1", "seed-r2d2-small", 8)
    found = export_run(tmp_path, "onnx")
    assert found.checked.episodes
    says_what_to_feed(json.loads(found.description.read_text()))
    seeds = [episode_seed(7, 0, k) for k in range(4)]
    env = last.env(rows=1, seed=7)
    score, _ = evaluate(last.policy(env.spec), env.spec.id, last.protocol, episodes=4, rows=1, seed=7)
    env.close()
    assert score is not None
    loop = the_documents_loop()
    left = loop.replace("state = {\n", "ignored = {\n")
    assert left != loop
    code = 'import sys\nsys.modules["frugalrl"] = sys.modules["torch"] = None\n'
    for words in (loop, left):
        code += f"{words}\nprint([episode(seed) for seed in {seeds}])\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    answers = [tuple(json.loads(line)) for line in done.stdout.splitlines()[-2:]]
    assert answers[0] == score.returns
    assert answers[1] != score.returns, "this comparison does not see the state"
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(tmp_path / "policy.onnx")
    assert {x.shape[0] for x in (*session.get_inputs(), *session.get_outputs())} == {"batch"}
    the_sampler_of_onnx_runtime_is_the_file(last, env, session)


def the_sampler_of_onnx_runtime_is_the_file(last: LastPolicy, env: RowEnv, session: Any) -> None:
    """Its graph is written by hand, the file by PyTorch's exporter."""
    from frugalrl.policies.engines.onnx_runtime import OnnxRuntime

    engine = OnnxRuntime(network_builder(last.config, env.spec)().eval(), env.spec, int8=False)
    engine.load(last.snapshot.parameters)
    rng = np.random.default_rng(0)
    state = {n: rng.standard_normal(x.shape).astype(x.dtype) for n, x in engine.initial_state(5).items()}
    state["action_tm1"] = np.array([-1, 0, 1, 1, 0])
    obs = rng.standard_normal((5, *env.spec.obs_shape), dtype=np.float32)
    q, after = engine.step(obs, state)
    for mine, name in ((q, "q"), (after["h"], "h_next"), (after["c"], "c_next")):
        np.testing.assert_allclose(mine, session.run([name], {"obs": obs, **state})[0], rtol=1e-4, atol=1e-5)
