"""Exported policies against the run's own, and loaded where this package does not exist."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn

from frugalrl.algos.agents import AgentConfig
from frugalrl.algos.dqn import DQNConfig
from frugalrl.algos.qrdqn import QRDQNConfig
from frugalrl.algos.rainbow import C51Config
from frugalrl.algos.tabular import TabularConfig
from frugalrl.envs import make_env, named_protocol
from frugalrl.export import export_run as module
from frugalrl.export import formats
from frugalrl.export.check import TOLERANCE, compare
from frugalrl.export.describe import first_action
from frugalrl.export.export_run import export_run
from frugalrl.export.formats import FORMATS
from frugalrl.nets.config import NetConfig
from frugalrl.nets.q_network import build_q_network
from frugalrl.recipes import build_config
from frugalrl.run import last_policy as reads
from frugalrl.run.last_policy import LastPolicy
from frugalrl.types import PolicySnapshot, RunFailed, UserError

HAS_ONNX = all(formats.find_spec(name) for name in FORMATS["onnx"].packages)
ONNX = pytest.param("onnx", marks=pytest.mark.skipif(not HAS_ONNX, reason="needs the extra onnx"))
Make = Callable[..., LastPolicy]
NETS: dict[str, tuple[str, NetConfig, AgentConfig]] = {
    "nature": ("ALE/Breakout-v5", NetConfig(hidden_units=(32,), dueling=True), DQNConfig()),
    "minatar": ("MinAtar/Breakout-v1", NetConfig(hidden_units=(16,)), DQNConfig()),
    "mlp": ("CartPole-v1", NetConfig(hidden_units=(16, 16)), DQNConfig()),
    "index": ("frugalrl/DeepSea-v0", NetConfig(hidden_units=(16,), dueling=True), DQNConfig()),
    "quantiles": ("CartPole-v1", NetConfig(hidden_units=(16,)), QRDQNConfig(quantiles=5)),
    "rainbow": (
        "MinAtar/Breakout-v1",
        NetConfig(hidden_units=(16,), dueling=True, noisy_sigma0=0.5),
        C51Config(atoms=5),
    ),
    "table": ("frugalrl/DeepSea-v0", NetConfig(), TabularConfig(init_std=1.0, double=True)),
}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes a run of random weights the last one."""

    def known(name: str, *, scale: float = 1.0) -> LastPolicy:
        env_id, net, agent = NETS[name]
        config = replace(build_config(env_id, None), net=net, agent=agent)
        protocol = named_protocol(config.env.protocol)
        env = make_env(env_id, protocol=protocol, num_rows=1, seed=0, training=False)
        torch.manual_seed(1)
        parameters = {n: scale * p.detach() for n, p in build_q_network(env.spec, net, agent.head()).named_parameters()}
        env.close()
        last = LastPolicy(config, protocol, PolicySnapshot(version=9, parameters=parameters), 1234, ("a note",))
        monkeypatch.setattr(module, "last_policy", lambda folder: last)
        return last

    return known


LOAD = {
    "torch": """
sys.modules["frugalrl"] = None
import numpy as np, torch
def load(path):
    policy = torch.export.load(path).module()
    return lambda obs: [out.detach().numpy() for out in policy(torch.from_numpy(obs))]
""",
    "onnx": """
sys.modules["frugalrl"] = sys.modules["torch"] = None
import numpy as np, onnxruntime
def load(path):
    session = onnxruntime.InferenceSession(path)
    return lambda obs: session.run(["q", "action"], {"obs": obs})
""",
}
ANSWER = """
for path in sys.argv[1:]:
    about, play = json.load(open(path + ".json"))["input"], load(path)
    for batch in (1, 5):
        draw = np.random.default_rng(batch).integers(0, about["num_indices"] or 2, (batch, *about["shape"][1:]))
        obs = draw.astype(about["dtype"])
        q, action = play(obs)
        np.savez(path + f"{batch}.npz", obs=obs, q=q, action=action)
"""


# an ONNX file is made from the same program, so of the programs themselves a few are enough for every day
FEW = ("minatar", "index", "quantiles")


@pytest.mark.parametrize(
    ("to", "nets"),
    [
        pytest.param("torch", FEW, id="torch"),
        pytest.param("torch", tuple(n for n in NETS if n not in FEW), id="torch-rest", marks=pytest.mark.slow),
        pytest.param("onnx", tuple(NETS), id="onnx", marks=ONNX.marks),
    ],
)
def test_policies_work_where_this_package_is_not(to: str, nets: tuple[str, ...], run: Make, tmp_path: Path) -> None:
    """Every kind of network is exported, described, and played in a process that cannot import this package."""
    paths = {net: tmp_path / f"{net}{FORMATS[to].suffix}" for net in nets}
    for net, path in paths.items():
        run(net)
        notes: list[str] = []
        found = export_run(tmp_path, to, path, note=notes.append)
        assert notes == ["a note"]
        assert found.checked.agrees
        assert (found.checked.observations, found.checked.equal_actions, found.env_steps) == (256, 1.0, 1234)
        about = json.loads(found.description.read_text())
        assert about["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert (about["checkpoint"]["updates"], about["env"]["id"]) == (9, NETS[net][0])
        assert len(about["actions"]["meanings"]) == about["outputs"]["q"]["shape"][1]
        for word in (b"torsos.py", str(Path(formats.__file__).parents[3]).encode()):
            assert word not in path.read_bytes(), "the file holds a path of this machine"
    written = [name for path in paths.values() for name in (path.name, f"{path.name}.json")]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(written)

    code = "import json, sys\n" + LOAD[to] + ANSWER
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, paths.values())], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for net, path in paths.items():
        last = run(net)
        env = last.env(rows=1, seed=0)
        policy = last.policy(env.spec)
        env.close()
        for batch in (1, 5):
            answer = np.load(f"{path}{batch}.npz")
            q = policy.q_values(answer["obs"])
            assert np.abs(answer["q"] - q).max() < 1e-5
            assert (answer["q"].dtype, answer["action"].dtype) == (np.float32, np.int64)
            assert np.array_equal(answer["action"], q.argmax(1))


def worse(network: nn.Module) -> nn.Module:
    """One weight is not what it should be."""
    with torch.no_grad():
        list(network.parameters())[-1].data = list(network.parameters())[-1] + 0.01
    return network


def test_a_file_that_does_not_agree_is_not_left(run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("mlp")
    right = FORMATS["torch"]
    wrong = replace(right, write=lambda program, *rest: (worse(program.module), right.write(program, *rest))[1])
    monkeypatch.setitem(FORMATS, "torch", wrong)
    (tmp_path / "policy.pt2").write_text("an older one")
    with pytest.raises(RunFailed, match="a Q-value differs by"):
        export_run(tmp_path, "torch")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("policy.pt2", "an older one")]


def test_a_network_that_cannot_be_exported_is_a_sentence(
    run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Odd(nn.Module):
        def forward(self, obs: torch.Tensor) -> torch.Tensor:
            return obs[:, : int(obs.sum().item())]

    run("mlp")
    right = FORMATS["torch"]
    wrong = replace(right, write=lambda program, *rest: right.write(replace(program, module=Odd()), *rest))
    monkeypatch.setitem(FORMATS, "torch", wrong)
    with pytest.raises(RunFailed, match="cannot be exported to torch: "):
        export_run(tmp_path, "torch")
    assert list(tmp_path.iterdir()) == []


def test_a_diverged_policy_is_not_exported(run: Make, tmp_path: Path) -> None:
    run("mlp", scale=float("nan"))
    with pytest.raises(RunFailed, match="diverged"):
        export_run(tmp_path, "torch")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("missing", FORMATS["onnx"].packages)
def test_a_missing_package_is_a_sentence(missing: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(formats, "find_spec", lambda name: None if name == missing else "found")
    with pytest.raises(UserError, match=rf"needs the package {missing}; run: pip install 'frugalrl\[onnx\]'"):
        export_run(tmp_path, "onnx")


def test_wrong_places_are_sentences(tmp_path: Path) -> None:
    (tmp_path / "dir.pt2").mkdir()
    for out, part in (("a.onnx", r"ends in \.pt2"), ("dir.pt2", "is a folder"), ("x/a.pt2", "there is no folder")):
        with pytest.raises(UserError, match=part):
            export_run(tmp_path, "torch", tmp_path / out)
    with pytest.raises(UserError, match="there is no run folder"):
        export_run(tmp_path / "gone", "torch")
    assert reads.last_policy is module.last_policy


def test_the_comparison_sees_values_actions_and_shapes() -> None:
    obs = np.zeros((10, 1), np.float32)
    q = np.tile(np.array([[0.0, 50.0]], np.float32), (10, 1))

    def ours(part: np.ndarray) -> np.ndarray:
        return q[: len(part)]

    good = compare(obs, ours, lambda part: (ours(part) + np.float32(4e-3), np.ones(len(part), np.int64)))
    assert good.agrees
    assert (good.allowed, good.equal_actions) == (TOLERANCE * 50, 1.0)
    off = compare(obs, ours, lambda part: (ours(part) - 1, np.zeros(len(part), np.int64)))
    assert not off.agrees
    assert (off.max_abs_difference, off.equal_actions) == (1.0, 0.0)
    assert not compare(obs, ours, lambda part: (ours(part) * np.nan, np.ones(len(part), np.int64))).agrees
    with pytest.raises(ValueError, match="answers with shapes"):
        compare(obs, ours, lambda part: (ours(part)[:, :1], np.ones(len(part), np.int64)))


def test_the_first_action_is_the_environments_own() -> None:
    class Late(gym.Env):  # type: ignore[type-arg]
        observation_space = gym.spaces.Box(-1, 1, (1,), np.float32)
        action_space = gym.spaces.Discrete(3, start=4)

    gym.register("Late-v0", Late)
    env = make_env("Late-v0", protocol=named_protocol("plain"), num_rows=1, seed=0, training=False)
    del gym.registry["Late-v0"]
    assert first_action(env) == 4
