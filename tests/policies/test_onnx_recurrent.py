"""An LSTM in ONNX Runtime against PyTorch: episodes of rows of different ages, and int8 against ORT's own tool."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from frugalrl.nets.actor_critic import build_actor_critic
from frugalrl.nets.config import NetConfig
from frugalrl.nets.heads import PolicyValue, Scalar
from frugalrl.nets.recurrent_q import build_sequence_q
from frugalrl.policies.acting import Player
from frugalrl.policies.sequence import SequencePolicy
from frugalrl.types import EnvSpec, PolicySnapshot

pytest.importorskip("onnxruntime")
from frugalrl.policies.engines.onnx_runtime import OnnxRuntime
from frugalrl.policies.engines.policy import EnginePolicy

ROWS, ACTIONS, TICKS = 6, 3, 60
Arrays = dict[str, np.ndarray]


def spec_of(kind: str, shape: tuple[int, ...], dtype: str) -> EnvSpec:
    indices = 7 if kind == "index" else None
    return EnvSpec(
        id="x", protocol="p", obs_kind=kind, obs_shape=shape, obs_dtype=dtype, num_actions=ACTIONS,  # type: ignore[arg-type]
        num_indices=indices,
    )  # fmt: skip


VECTOR, INDEX, FRAMES = (
    spec_of("vector", (5,), "float32"),
    spec_of("index", (), "int64"),
    spec_of("image", (4, 44, 44), "uint8"),
)
NETS: dict[str, tuple[EnvSpec, Callable[[], nn.Module]]] = {
    "actor-critic": (VECTOR, lambda: build_actor_critic(VECTOR, NetConfig(hidden_units=(8,), lstm_units=6))),
    "one-hot": (INDEX, lambda: build_actor_critic(INDEX, NetConfig(hidden_units=(8,), lstm_units=1))),
    "dueling": (VECTOR, lambda: build_sequence_q(VECTOR, NetConfig(hidden_units=(8, 8), dueling=True), 6)),
    "frames": (FRAMES, lambda: build_sequence_q(FRAMES, NetConfig(hidden_units=(8,)), 5)),
}


def observations(spec: EnvSpec, rows: int, rng: np.random.Generator) -> np.ndarray:
    if spec.obs_kind == "index":
        return rng.integers(0, 7, rows)
    if spec.obs_kind == "image":
        return rng.integers(0, 256, (rows, *spec.obs_shape)).astype(np.uint8)
    return rng.standard_normal((rows, *spec.obs_shape), dtype=np.float32)


def large(network: nn.Module) -> dict[str, torch.Tensor]:
    """Weights with which what is remembered decides."""
    return {n: (p if "bias" in n else 2 * p).detach() for n, p in network.named_parameters()}


def players(name: str, seed: int = 0, *, int8: bool = False) -> tuple[SequencePolicy, EnginePolicy, EnvSpec]:
    spec, build = NETS[name]
    head: Any = PolicyValue() if spec is INDEX or name == "actor-critic" else Scalar()
    torch.manual_seed(seed)
    snapshot = PolicySnapshot(version=4, parameters=large(build()))
    ours = SequencePolicy(build, head, torch.device("cpu"))
    engine = EnginePolicy(OnnxRuntime(build().eval(), spec, int8=int8), head)
    for policy in (ours, engine):
        policy.load(snapshot)
    return ours, engine, spec


def played(players: list[Player], spec: EnvSpec, seed: int = 0) -> list[Arrays]:
    """All values and states of each player, who see the same: at each tick some rows in some order, each with episodes
    of its own lengths, and with its own last actions and rewards."""
    rng = np.random.default_rng(seed)
    states = [player.initial_state(ROWS) for player in players]
    seen: list[list[Arrays]] = [[] for _ in players]
    ends = rng.integers(2, 12, ROWS)
    age = np.zeros(ROWS, np.int64)
    for tick in range(TICKS):
        rows = rng.permutation(ROWS)[: rng.integers(1, ROWS + 1)]
        begun = rows[age[rows] == ends[rows]]
        age[begun], ends[begun] = 0, rng.integers(2, 12, len(begun))
        obs = observations(spec, len(rows), rng)
        reward = rng.standard_normal(len(rows), dtype=np.float32)
        action = rng.integers(0, ACTIONS, len(rows))
        for player, state, mine in zip(players, states, seen, strict=True):
            first = player.initial_state(len(begun))
            if "reward_tm1" in state:
                state["reward_tm1"][rows] = np.where(age[rows] > 0, reward, 0)
            for name, array in first.items():
                state[name][begun] = array
            values, after = player.values(obs, {name: array[rows] for name, array in state.items()}, tick)
            for name, array in after.items():
                state[name][rows] = array
            mine.append({"values": values, **{n: np.array(x) for n, x in after.items()}})
            state["action_tm1"][rows] = action
        age[rows] += 1
    return [{n: np.concatenate([m[n] for m in mine]) for n in mine[0]} for mine in seen]


def gap(ours: Arrays, theirs: Arrays) -> float:
    assert ours.keys() == theirs.keys()
    assert all(ours[n].dtype == theirs[n].dtype for n in ours)
    return max(float(np.abs(ours[n] - theirs[n]).max()) for n in ours)


@pytest.mark.parametrize("name", NETS)
def test_whole_episodes_of_rows_of_different_ages_are_those_of_torch(name: str) -> None:
    ours, engine, spec = players(name)
    assert gap(*played([ours, engine], spec)) < 1e-5


class Spoilt:
    """The engine, with one mistake in what it is told or remembers."""

    def __init__(self, engine: EnginePolicy, how: str) -> None:
        self._engine, self._how = engine, how

    def initial_state(self, rows: int) -> Arrays:
        return {} if self._how == "not begun anew" and rows < ROWS else self._engine.initial_state(rows)

    def values(self, obs: np.ndarray, state: Any, draw: int = 0) -> tuple[np.ndarray, Any]:
        told = dict(state)
        if self._how == "h and c exchanged":
            told |= {"h": state["c"], "c": state["h"]}
        if self._how == "no last action":
            told["action_tm1"] = np.full_like(state["action_tm1"], -1)
        if self._how == "no last reward":
            told["reward_tm1"] = np.zeros_like(state["reward_tm1"])
        values, after = self._engine.values(obs, told, draw)
        after = {**after, "action_tm1": state["action_tm1"], "reward_tm1": state["reward_tm1"]}
        if self._how == "rows exchanged":
            after |= {"h": np.roll(after["h"], 1, 0)}
        return values, after


@pytest.mark.parametrize(
    "how", ["not begun anew", "rows exchanged", "h and c exchanged", "no last action", "no last reward"]
)
def test_the_comparison_sees_every_mistake_with_the_state(how: str) -> None:
    ours, engine, spec = players("actor-critic")
    assert gap(*played([ours, Spoilt(engine, how)], spec)) > 1e-2


def test_new_weights_are_written_into_the_same_graph() -> None:
    ours, engine, spec = players("dueling")
    torch.manual_seed(1)
    other = PolicySnapshot(version=5, parameters=large(NETS["dueling"][1]()))
    before = played([engine], spec)[0]
    ours.load(other)
    moved = engine.load(other)
    assert gap(*played([ours, engine], spec)) < 1e-5
    assert gap(before, played([engine], spec)[0]) > 1e-2
    assert moved > 2 * sum(p.nbytes for p in other.parameters.values())
    assert engine.version == 5


@pytest.mark.parametrize("name", ["actor-critic", "dueling"])
def test_int8_written_in_place_is_what_ort_makes_of_the_weights(name: str) -> None:
    from onnx import numpy_helper

    spec, build = NETS[name]
    torch.manual_seed(0)
    first, second = build().eval(), build().eval()
    written, anew = OnnxRuntime(first, spec, int8=True), OnnxRuntime(second, spec, int8=True)
    made = {i.name: numpy_helper.to_array(i) for i in anew._model.graph.initializer}
    written.load(dict(second.named_parameters()))
    for initial in written._model.graph.initializer:
        np.testing.assert_array_equal(numpy_helper.to_array(initial), made[initial.name], initial.name)
    kinds = {name: array.dtype for name, array in made.items()}
    assert {name for name in kinds if "lstm" in name and kinds[name] == np.int8 and "zero" not in name} == {
        "core.lstm.weight_ih_l0_quantized", "core.lstm.weight_hh_l0_quantized",
    }  # fmt: skip
    assert kinds["core.lstm.bias"] == np.float32
    assert "core.lstm.weight_hh_l0" not in kinds


def test_int8_is_near_and_not_the_same() -> None:
    ours, engine, spec = players("actor-critic", int8=True)
    exact, rough = played([ours, engine], spec)
    assert 1e-3 < gap(exact, rough) < 0.2


def test_int8_products_of_an_lstm_do_not_overflow() -> None:
    """Without VNNI pairs of products are added in 16 bits, where those of 8-bit weights saturate."""
    spec = spec_of("vector", (512,), "float32")
    net: Any = build_actor_critic(spec, NetConfig(hidden_units=(512,), lstm_units=2)).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        net.body[1].weight.copy_(torch.eye(512))
        net.core.lstm.weight_ih_l0[4:6] = 0.01  # the cell's gate sees the sum of all inputs
        net.core.lstm.bias_ih_l0[4:6] = -5.0
        net.core.lstm.bias_ih_l0[:4] = 10.0
        net.core.lstm.bias_ih_l0[6:] = 10.0
    engine = OnnxRuntime(net, spec, int8=True)
    engine.load(dict(net.named_parameters()))
    obs = np.ones((2, 512), np.float32)
    obs[0, 0] = 0.0
    after = engine.step(obs, engine.initial_state(2))[1]
    np.testing.assert_allclose(after["c"][1], np.tanh(5.12 - 5.0), atol=0.02)
